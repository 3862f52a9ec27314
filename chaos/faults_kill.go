package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate/internal/cluster"
)

// killFaults end processes with SIGKILL.
var killFaults = []Fault{
	{
		Name: "kill-leader", Kind: "kill", Weight: 3,
		Doc:    "kill -9 the leader, half of the time at a phase of the protocol, and start it again",
		Inject: killLeader,
	},
	{
		Name: "kill-follower", Kind: "kill", Weight: 3,
		Doc:    "kill -9 a follower, and start it again",
		Inject: killFollower,
	},
}

func killLeader(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimLeader(ctx)
	if n == nil {
		return nil, nil
	}
	injection, err := killNodes(ctx, env, n)
	if injection != nil {
		injection.Target, injection.Leader = n.Name+" (leader)", true
	}
	return injection, err
}

func killFollower(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimFollower(ctx)
	if n == nil {
		return nil, nil
	}
	return killNodes(ctx, env, n)
}

// killNodes kills claimed nodes, all at once.
func killNodes(_ context.Context, env *Env, nodes ...*cluster.Node) (*Injection, error) {
	var done []func()
	target := ""
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		done = append(done, env.Expect(n))
		if target += n.Name; i < len(nodes)-1 {
			target += ", "
		}
		wg.Go(func() { errs[i] = n.Kill() })
	}
	wg.Wait()
	pids := make([]int, len(nodes))
	for i, n := range nodes {
		pids[i] = n.Pid()
	}
	return &Injection{
		Target: target,
		Heal: func(ctx context.Context) error {
			err := restartAll(ctx, nodes)
			for i, n := range nodes {
				done[i]()
				env.Release(n)
			}
			return err
		},
		Evidence: func() (string, error) {
			for i, n := range nodes {
				if n.Pid() == pids[i] {
					return "", fmt.Errorf("%s still runs as pid %d", n.Name, pids[i])
				}
			}
			return fmt.Sprintf("pid %v gone by SIGKILL", pids), nil
		},
	}, errors.Join(errs...)
}

// restartAll starts ended nodes again, all at once, and waits until they serve.
func restartAll(ctx context.Context, nodes []*cluster.Node) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.Restart(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
