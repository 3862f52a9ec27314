package chaos

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate/chaos/links"
)

// partitionFaults cut the ways between processes. What is sent into a cut is
// held; when the cut is healed it mostly arrives, late, and sometimes the
// connections end instead.
var partitionFaults = []Fault{
	{
		Name: "partition-leader", Kind: "partition", Weight: 2, Hold: partitionHold, Prepare: prepareLinks,
		Doc:    "cut the leader off from all other nodes, half of the time from clients and participants as well",
		Inject: partitionLeader,
	},
	{
		Name: "partition-split", Kind: "partition", Weight: 2, Hold: partitionHold, Prepare: prepareLinks,
		Doc:    "cut a minority, drawn at random, off from the majority",
		Inject: partitionSplit,
	},
	{
		Name: "partition-one-way", Kind: "partition", Weight: 2, Hold: partitionHold, Prepare: prepareLinks,
		Doc:    "cut one direction between one node, half of the time the leader, and the others",
		Inject: partitionOneWay,
	},
	{
		Name: "partition-bridge", Kind: "partition", Weight: 2, Hold: partitionHold, Prepare: prepareLinks,
		Doc:    "cut two halves off from each other that one node still reaches both of",
		Inject: partitionBridge,
	},
	{
		Name: "partition-flap", Kind: "partition", Weight: 2, Hold: Range{time.Second, 3 * time.Second}, Prepare: prepareLinks,
		Doc:    "cut and mend the ways between one node, half of the time the leader, and the others, again and again",
		Inject: partitionFlap,
	},
	{
		Name: "partition-participant", Kind: "partition", Weight: 1, Hold: partitionHold, Prepare: prepareLinks,
		Doc:    "cut one machine of clients and participants off from all nodes",
		Inject: partitionParticipant,
	},
	{
		Name: "partition-initiator", Kind: "partition", Weight: 1, Hold: partitionHold, Prepare: prepareLinks,
		Doc:    "cut one machine of clients and participants off from the leader alone, half of the time one way",
		Inject: partitionInitiator,
	},
}

var (
	// partitionHold goes from below the heartbeat's timeout to beyond a session's grace.
	partitionHold = Range{200 * time.Millisecond, 3 * time.Second}
	// flapRange is the time between two turns of a flapping partition.
	flapRange = Range{20 * time.Millisecond, 500 * time.Millisecond}
)

const (
	// forgottenShare of the partitions outlast TCP's patience: what they held is
	// lost with its connections.
	forgottenShare = 0.3
	// somethingSentMax is how long a heal waits until something was sent into the cut.
	somethingSentMax = 2 * time.Second
)

func partitionLeader(ctx context.Context, env *Env) (*Injection, error) {
	leader := env.Leader(ctx)
	if leader == nil {
		return nil, nil
	}
	others := links.Without(env.nodeNames(), leader.Name)
	target := leader.Name + " (leader)"
	if env.Chance(0.5) {
		others = append(others, env.outsiders()...)
		target += ", from clients too"
	}
	injection := partition(env, links.Both([]string{leader.Name}, others))
	injection.Target, injection.Leader = target, true
	return injection, nil
}

func partitionSplit(ctx context.Context, env *Env) (*Injection, error) {
	leader := leaderName(env.Leader(ctx))
	nodes := env.shuffled(env.nodeNames())
	minority := nodes[:1+env.IntN((len(nodes)-1)/2)]
	injection := partition(env, links.Both(minority, nodes[len(minority):]))
	injection.Target = describe(leader, minority...)
	return injection, nil
}

func partitionOneWay(ctx context.Context, env *Env) (*Injection, error) {
	one, leader := env.oneNode(ctx)
	others := links.Without(env.nodeNames(), one)
	ways, target := links.OneWay([]string{one}, others), "from "
	if env.Chance(0.5) {
		ways, target = links.OneWay(others, []string{one}), "to "
	}
	injection := partition(env, ways)
	injection.Target = target + describe(leader, one)
	return injection, nil
}

func partitionBridge(ctx context.Context, env *Env) (*Injection, error) {
	// Not around the leader: followers have nothing to say to each other.
	bridge := env.pick(links.Without(env.nodeNames(), leaderName(env.Leader(ctx))))
	injection := partition(env, links.Bridge(env.shuffled(env.nodeNames()), bridge))
	injection.Target = "around " + bridge
	return injection, nil
}

func partitionFlap(ctx context.Context, env *Env) (*Injection, error) {
	one, leader := env.oneNode(ctx)
	p := env.Links.Partition(links.Both([]string{one}, links.Without(env.nodeNames(), one)))
	random, stop := env.NewRand(), make(chan struct{})
	var turns int
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-time.After(flapRange.Min + time.Duration(random.Int64N(int64(flapRange.Max-flapRange.Min)))):
				p.Flap()
				turns++
			case <-stop:
				return
			}
		}
	})
	injection := healing(env, p)
	heal := injection.Heal
	injection.Heal = func(ctx context.Context) error {
		close(stop)
		wait.Wait()
		return heal(ctx)
	}
	evidence := injection.Evidence
	injection.Evidence = func() (string, error) {
		text, err := evidence()
		return plural(turns+1, "turn") + ", " + text, err
	}
	injection.Target = describe(leader, one)
	return injection, nil
}

func partitionParticipant(_ context.Context, env *Env) (*Injection, error) {
	one := env.pick(env.outsiders())
	if one == "" {
		return nil, nil
	}
	injection := partition(env, links.Both([]string{one}, env.nodeNames()))
	injection.Target = one
	return injection, nil
}

func partitionInitiator(ctx context.Context, env *Env) (*Injection, error) {
	one, leader := env.pick(env.outsiders()), env.Leader(ctx)
	if one == "" || leader == nil {
		return nil, nil
	}
	ways, target := links.Both([]string{one}, []string{leader.Name}), one+" and the leader"
	switch {
	case env.Chance(0.25):
		ways, target = ways[:1], one+" to the leader"
	case env.Chance(1.0 / 3):
		ways, target = ways[1:], "the leader to "+one
	}
	injection := partition(env, ways)
	injection.Target = target
	return injection, nil
}

// oneNode draws the leader half of the time, any other running node otherwise.
func (e *Env) oneNode(ctx context.Context) (one, leader string) {
	leader = leaderName(e.Leader(ctx))
	if leader != "" && e.Chance(0.5) {
		return leader, leader
	}
	return e.pick(links.Without(e.nodeNames(), leader)), leader
}

// partition cuts ways.
func partition(env *Env, ways []links.Way) *Injection {
	return healing(env, env.Links.Partition(ways))
}

// healing is the injection of a partition that was made. It is not healed before
// something was sent into it.
func healing(env *Env, p *links.Partition) *Injection {
	forget := env.Chance(forgottenShare)
	return &Injection{
		Heal: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, somethingSentMax)
			defer cancel()
			for ctx.Err() == nil {
				if _, err := p.Evidence(); err == nil {
					break
				}
				pause(ctx, 10*time.Millisecond)
			}
			p.Heal(forget)
			return nil
		},
		Evidence: p.Evidence,
	}
}
