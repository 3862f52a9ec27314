package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bench"
	"github.com/quorate/quorate/internal/failpoint"
)

// measureNodes has clusters of three and of five nodes take turns at quorate bench's
// scenario decide.
func measureNodes(ctx context.Context, o *options, out *results) error {
	binary, err := o.program(ctx)
	if err != nil {
		return err
	}
	rows := map[int][]bench.Row{}
	for range o.rounds {
		for _, nodes := range []int{3, 5} {
			b := bench.NewOptions()
			b.Scenarios, b.Callers, b.Duration, b.Runs = []string{"decide"}, []int{o.callers}, o.duration, 1
			b.LogStore, b.Nodes, b.NoFloor, b.Binary = o.logStore, nodes, true, binary
			report, err := bench.Run(ctx, b)
			if err != nil {
				return fmt.Errorf("%d nodes: %w", nodes, err)
			}
			rows[nodes] = append(rows[nodes], report.Rows[0])
		}
	}
	for _, nodes := range []int{3, 5} {
		of := func(value func(bench.Row) float64) float64 {
			var values []float64
			for _, r := range rows[nodes] {
				values = append(values, value(r))
			}
			return median(values)
		}
		out.add("nodes", fmt.Sprintf("%d nodes", nodes),
			figure{"per_second", of(func(r bench.Row) float64 { return r.PerSecond })},
			figure{"p50_ms", of(func(r bench.Row) float64 { return r.P50MS })},
			figure{"p99_ms", of(func(r bench.Row) float64 { return r.P99MS })},
			figure{"leader_cpu_us_per_tx", of(func(r bench.Row) float64 {
				if r.LeaderUS == nil {
					return 0
				}
				return *r.LeaderUS
			})})
	}
	return nil
}

// slowBy is how much longer the slow follower's writes take.
const slowBy = 500 * time.Millisecond

// measureSlow decides in a closed loop while all three nodes are well, and while one
// follower's disk takes long, by turns.
func measureSlow(ctx context.Context, o *options, out *results) (err error) {
	flags := map[string]flagFile{}
	for _, name := range []string{"n1", "n2", "n3"} {
		flags[name] = o.flagFile("slow-" + name)
	}
	c, err := startCluster(ctx, o, 3, func(node string, _ int) []string {
		return []string{fmt.Sprintf("%s=%s@%s=pause(%v),when=%s", failpoint.Variable, failpoint.StoreWrite, failpoint.KeyLog, slowBy, flags[node])}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return err
	}
	before, err := leader.Status(ctx)
	if err != nil {
		return err
	}
	slow := c.Nodes()[0]
	if slow == leader {
		slow = c.Nodes()[1]
	}
	conn, err := grpc.NewClient(leader.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	operate := func(ctx context.Context) error {
		return submitTo(ctx, conn, []string{"nobody-a", "nobody-b"}, quoratev1.Vote_VOTE_READ_ONLY, quoratev1.Wait_WAIT_DECISION)
	}
	if _, err := closedLoop(ctx, o.callers, time.Second, operate); err != nil {
		return err
	}
	sides := [2]loaded{}
	var took [2]time.Duration
	for range o.rounds {
		for i := range sides {
			if i == 1 {
				if err := flags[slow.Name].set(); err != nil {
					return err
				}
			}
			load, err := closedLoop(ctx, o.callers, o.duration, operate)
			if err != nil {
				return err
			}
			sides[i].each = append(sides[i].each, load.each...)
			took[i] += time.Since(load.began)
		}
		if err := flags[slow.Name].clear(); err != nil {
			return err
		}
		if err := c.WaitWhole(ctx); err != nil { // it has caught up
			return err
		}
	}
	after, err := leader.Status(ctx)
	if err != nil {
		return err
	}
	for i, name := range []string{"three well", "one follower +500 ms"} {
		out.add("slow", name,
			figure{"per_second", float64(len(sides[i].each)) / took[i].Seconds()},
			figure{"p50_ms", sides[i].each.quantile(0.5)}, figure{"p99_ms", sides[i].each.quantile(0.99)}, figure{"max_ms", sides[i].each.max()})
	}
	out.add("slow", "with it / without", figure{"p99_ratio", sides[1].each.quantile(0.99) / sides[0].each.quantile(0.99)},
		figure{"terms_passed", float64(after.GetTerm() - before.GetTerm())})
	return nil
}

// flagFile turns a fault on while it is there.
type flagFile string

func (o *options) flagFile(name string) flagFile { return flagFile(filepath.Join(o.dir, name)) }

func (f flagFile) set() error   { return os.WriteFile(string(f), nil, 0o600) }
func (f flagFile) clear() error { return os.Remove(string(f)) }
