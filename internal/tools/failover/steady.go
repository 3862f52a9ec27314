package main

import (
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/cluster"
)

// stays is red when a cluster that nothing is done to changes its term within d,
// at half of what it can do.
func stays(ctx context.Context, binary, dir, profile string, d time.Duration) error {
	c, load, stop, err := start(ctx, binary, dir, profile)
	if err != nil {
		return err
	}
	defer stop()
	capacity := load.closedLoop(ctx, capacityCallers, capacityTime)
	before, err := term(ctx, c)
	if err != nil {
		return err
	}
	begun, acknowledged := time.Now(), load.acknowledged()
	load.openLoop(capacity * steadyShare)
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err()
	}
	rate := float64(load.acknowledged()-acknowledged) / time.Since(begun).Seconds()
	after, err := term(ctx, c)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("the term went from %d to %d within %v, at %.0f decisions a second of %.0f possible", before, after, d, rate, capacity)
	}
	fmt.Printf("%s: %v at %.0f decisions a second of %.0f possible, in term %d from its start to its end\n", profile, d, rate, capacity, after)
	return nil
}

// term is the leader's.
func term(ctx context.Context, c *cluster.Cluster) (uint64, error) {
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return 0, err
	}
	return status.GetTerm(), nil
}
