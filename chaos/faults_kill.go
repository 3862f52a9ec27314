package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
)

// killFaults end processes with SIGKILL.
var killFaults = []Fault{
	{
		Name: "kill-leader", Kind: "kill", Weight: 8,
		Doc:    "kill -9 the leader, half of the time at a phase of the protocol, and start it again",
		Inject: killLeader,
	},
	{
		Name: "kill-follower", Kind: "kill", Weight: 6,
		Doc:    "kill -9 a follower, half of the time between its disk and its answer, and start it again",
		Inject: killFollower,
	},
	{
		Name: "kill-voter", Kind: "kill", Weight: 1, Alone: true,
		Doc:    "kill -9 the leader, and a follower as soon as its vote for the next one is on its disk",
		Inject: killVoter,
	},
	{
		Name: "kill-majority", Kind: "kill", Weight: 1, Alone: true,
		Doc:    "kill -9 the leader and as many more as take the quorum away",
		Inject: killMajority,
	},
	{
		Name: "kill-all", Kind: "kill", Weight: 1, Alone: true,
		Doc:    "kill -9 every node at once",
		Inject: killAll,
	},
	{
		Name: "crash-loop", Kind: "kill", Weight: 2, Hold: Range{50 * time.Millisecond, 100 * time.Millisecond},
		Doc:    "kill -9 a node three to five times, each time as soon as it has started",
		Inject: crashLoop,
	},
}

func killLeader(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimLeader(ctx)
	if n == nil {
		return nil, nil
	}
	i, err := killOne(ctx, env, n, append([]string{storeWrittenLog}, leaderPhases...))
	if i != nil {
		i.Target, i.Leader = i.Target+" (leader)", true
	}
	return i, err
}

// storeWrittenLog: entries are on this node's disk, and nobody knows.
const storeWrittenLog = failpoint.StoreWritten + "@" + failpoint.KeyLog

func killFollower(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimFollower(ctx)
	if n == nil {
		return nil, nil
	}
	return killOne(ctx, env, n, []string{storeWrittenLog, failpoint.StoreWrite + "@" + failpoint.KeyLog, failpoint.SnapshotBegun})
}

// killOne kills a claimed node, perhaps at one of the phases.
func killOne(ctx context.Context, env *Env, n *cluster.Node, phases []string) (*Injection, error) {
	struck, phase, err := strike(ctx, env, n, "kill", phases)
	if struck == nil {
		struck = n
	}
	i := killed(env, struck)
	i.Phase = phase
	return i, err
}

// killVoter kills the leader, and then a follower at the moment when its vote is
// durable and not sent: whether the vote counts, nobody but its disk knows.
func killVoter(ctx context.Context, env *Env) (*Injection, error) {
	leader := env.ClaimLeader(ctx)
	if leader == nil {
		return nil, nil
	}
	voter := env.ClaimFollower(ctx)
	if voter == nil {
		env.Release(leader)
		return nil, nil
	}
	defer env.Expect(voter)()
	phase := failpoint.StoreWritten + "@" + failpoint.KeyStable
	shot, err := env.sights.aim(voter.Name, phase, "kill")
	if err != nil {
		return nil, err
	}
	err = killTogether(env, leader)
	if shot.wait(ctx, aimMax) == 0 {
		phase = "" // another one won before it was asked
		err = errors.Join(err, killTogether(env, voter))
	} else {
		env.Doom(voter)
		<-voter.Exited()
	}
	i := killed(env, leader, voter)
	i.Target, i.Times, i.Phase, i.Leader, i.Unavailable = leader.Name+" (leader), "+voter.Name, 2, phase, true, len(env.Cluster.Nodes()) < 5
	return i, err
}

func killMajority(ctx context.Context, env *Env) (*Injection, error) {
	leader := env.ClaimLeader(ctx)
	if leader == nil {
		return nil, nil
	}
	nodes := []*cluster.Node{leader}
	for len(nodes) <= len(env.Cluster.Nodes())/2 {
		n := env.ClaimFollower(ctx)
		if n == nil {
			break
		}
		nodes = append(nodes, n)
	}
	return killMany(env, nodes)
}

func killAll(_ context.Context, env *Env) (*Injection, error) {
	var nodes []*cluster.Node
	for _, n := range env.Cluster.Nodes() {
		if n.Running() && env.Claim(n) {
			nodes = append(nodes, n)
		}
	}
	return killMany(env, nodes)
}

func killMany(env *Env, nodes []*cluster.Node) (*Injection, error) {
	err := killTogether(env, nodes...)
	i := killed(env, nodes...)
	i.Times, i.Leader, i.Unavailable = len(nodes), true, true
	return i, err
}

// crashLoop kills a node again and again while it starts.
func crashLoop(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimFollower(ctx)
	if n == nil {
		return nil, nil
	}
	times := 3 + env.IntN(3)
	err := killTogether(env, n)
	for k := 1; k < times && err == nil; k++ {
		if err = n.Start(); err == nil {
			pause(ctx, env.Between(Range{20 * time.Millisecond, 250 * time.Millisecond}))
			err = killTogether(env, n)
		}
	}
	i := killed(env, n)
	i.Times = times
	return i, err
}

// killTogether kills nodes at once.
func killTogether(env *Env, nodes ...*cluster.Node) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		env.Doom(n)
		wg.Go(func() { errs[i] = n.Kill() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// killed is the injection of claimed nodes that were killed: they are started
// again, and their processes must be gone.
func killed(env *Env, nodes ...*cluster.Node) *Injection {
	pids, targets := make([]int, len(nodes)), make([]string, len(nodes))
	for i, n := range nodes {
		pids[i], targets[i] = n.Pid(), n.Name
	}
	return &Injection{
		Target: strings.Join(targets, ", "),
		Heal: func(ctx context.Context) error {
			defer func() {
				for _, n := range nodes {
					env.Release(n)
				}
			}()
			return restartAll(ctx, nodes)
		},
		Evidence: func() (string, error) {
			for i, n := range nodes {
				if n.Pid() == pids[i] {
					return "", fmt.Errorf("%s still runs as pid %d", n.Name, pids[i])
				}
			}
			return fmt.Sprintf("pid %s gone by SIGKILL", strings.Trim(fmt.Sprint(pids), "[]")), nil
		},
	}
}

// restartAll starts ended nodes again, all at once, and waits until they serve.
func restartAll(ctx context.Context, nodes []*cluster.Node) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			if !n.Running() {
				errs[i] = n.Restart(ctx)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
