package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/failpoint"
)

// duplicateFaults have messages come twice, late, out of order, or take effect
// unheard: what a zombie says, and what a client repeats that heard nothing.
var duplicateFaults = []Fault{
	{
		Name: "duplicate-calls", Kind: "duplicate", Weight: 2, Hold: Range{time.Second, 4 * time.Second}, Prepare: prepareRelays,
		Doc:    "a tenth of all calls, votes, reports and deliveries is sent twice, again late and through other nodes, overtaken, or not answered",
		Inject: duplicateCalls,
	},
	{
		Name: "duplicate-raft", Kind: "duplicate", Weight: 1, Hold: Range{time.Second, 4 * time.Second}, Prepare: echoes.prepare,
		Doc:    "a tenth of the nodes' messages to each other, and every request for a vote, is sent twice, some of them seconds later",
		Inject: duplicateRaft,
	},
}

const (
	// meddledShare of all messages.
	meddledShare = 0.1
	// lateMax is how late a copy comes at most: later than a failover.
	lateMax = 5 * time.Second
	// overtakenMax is how long a message is held at most for others to overtake it.
	overtakenMax = 150 * time.Millisecond
)

// prepareRelays puts a proxy that knows calls before each node's gRPC, behind
// the links.
func prepareRelays(e *Env) (done func() error, err error) {
	linksDone, err := e.useLinks()
	if err != nil || e.Relays != nil {
		return linksDone, err
	}
	e.Relays = links.NewRelays(e.Options.Seed, e.Links.Suspect)
	e.Links.Intercept(func(_, port, address string) (string, error) {
		if port != links.GRPC {
			return address, nil
		}
		return e.Relays.Before(address)
	})
	return func() error {
		e.Relays.Close()
		if linksDone == nil {
			return nil
		}
		return linksDone()
	}, nil
}

func duplicateCalls(_ context.Context, env *Env) (*Injection, error) {
	before := env.Relays.Counts()
	env.Relays.Set(links.Mischief{Share: meddledShare, LateMax: lateMax, DelayMax: overtakenMax})
	since := func() links.Meddled { return env.Relays.Counts().Minus(before) }
	return &Injection{
		Target: "all nodes",
		Heal: func(ctx context.Context) error {
			env.await(ctx, func() bool { return since().All() > 0 })
			env.Relays.Set(links.Mischief{})
			return nil
		},
		Evidence: func() (string, error) {
			m := since()
			if m.All() == 0 {
				return "", fmt.Errorf("nothing was done with any of %d messages", m.Messages)
			}
			return m.String(), nil
		},
	}, nil
}

// echoes has every node repeat itself.
var echoes = toggle{name: "echoes", spec: failpoint.RaftSent + "=error"}

func duplicateRaft(_ context.Context, env *Env) (*Injection, error) {
	nodes := env.Cluster.Nodes()
	before := 0
	var errs []error
	for _, n := range nodes {
		before += echoes.hits(env, n)
		errs = append(errs, echoes.on(env, n))
	}
	since := func() int {
		now := 0
		for _, n := range nodes {
			now += echoes.hits(env, n)
		}
		return now - before
	}
	return &Injection{
		Target: "all nodes",
		Heal: func(ctx context.Context) error {
			env.await(ctx, func() bool { return since() > 0 })
			var errs []error
			for _, n := range nodes {
				errs = append(errs, echoes.off(env, n))
			}
			return errors.Join(errs...)
		},
		Evidence: func() (string, error) {
			if since() == 0 {
				return "", errors.New("no message was sent again")
			}
			return plural(since(), "message") + " between nodes sent again", nil
		},
	}, errors.Join(errs...)
}
