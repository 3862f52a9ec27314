package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/cluster"
)

// powerFaults cut the power of nodes: the process is killed, what its kernel had
// not flushed is lost, the file system replays its journal. A pair of files on
// each disk shows that something was lost, and that what was synced was not.
var powerFaults = []Fault{
	{
		Name: "power-node", Kind: "power", Weight: 2, Possible: volumesPossible, Prepare: mountVolumes,
		Doc: "cut the power of one node, its process killed at a random moment",
		Inject: func(ctx context.Context, env *Env) (*Injection, error) {
			n, leads := claimEither(ctx, env, 0.5)
			if n == nil {
				return nil, nil
			}
			injection, err := cutPower(env, n)
			if injection != nil {
				injection.Leader, injection.Target = leads, titled(n, leads)
			}
			return injection, err
		},
	},
	{
		Name: "power-all", Kind: "power", Alone: true, Possible: volumesPossible, Prepare: mountVolumes,
		Doc: "cut the power of all nodes at one moment",
		Inject: func(_ context.Context, env *Env) (*Injection, error) {
			var all []*cluster.Node
			for _, n := range env.Cluster.Nodes() {
				if !env.Claim(n) {
					for _, claimed := range all {
						env.Release(claimed)
					}
					return nil, nil
				}
				all = append(all, n)
			}
			injection, err := cutPower(env, all...)
			if injection != nil {
				injection.Leader, injection.Unavailable = true, true
			}
			return injection, err
		},
	},
}

// cutPower cuts the power of claimed nodes at one moment and brings the disks,
// not the processes, back.
func cutPower(env *Env, nodes ...*cluster.Node) (*Injection, error) {
	cuts := make([]*powerCut, len(nodes))
	names := make([]string, len(nodes))
	for i, n := range nodes {
		cuts[i] = &powerCut{node: n, volume: env.Volumes[n.Name], done: env.Expect(n)}
		names[i] = n.Name
	}
	err := errors.Join(each(cuts, (*powerCut).plant), each(cuts, (*powerCut).kill))
	at := env.Now()
	err = errors.Join(err, each(cuts, (*powerCut).cut))
	return &Injection{
		Target: strings.Join(names, ", "), At: at,
		Heal: func(ctx context.Context) error {
			err := restartAll(ctx, nodes)
			for i, n := range nodes {
				cuts[i].done()
				env.Release(n)
			}
			return err
		},
		Evidence: func() (string, error) {
			for _, c := range cuts {
				if c.evidence != nil {
					return "", fmt.Errorf("%s: %w", c.node.Name, c.evidence)
				}
			}
			return fmt.Sprintf("%d of %d canaries lost, the synced ones kept", len(cuts), len(cuts)), nil
		},
	}, err
}

// powerCut is one node whose power is cut.
type powerCut struct {
	node     *cluster.Node
	volume   *disks.Volume
	done     func()
	canary   *disks.Canary
	evidence error // why the cut was none, nil when it was one
}

func (c *powerCut) plant() (err error) {
	c.canary, err = disks.PlantCanary(c.volume.Dir)
	return err
}

func (c *powerCut) kill() error { return c.node.Kill() }

func (c *powerCut) cut() error {
	if c.canary == nil {
		c.evidence = errors.New("no canary was planted")
		return nil
	}
	if err := c.volume.Cut(); err != nil {
		c.evidence = err
		return err
	}
	c.evidence = c.canary.Check()
	return nil
}

// each calls f for all at once.
func each(cuts []*powerCut, f func(*powerCut) error) error {
	errs := make([]error, len(cuts))
	var wg sync.WaitGroup
	for i, c := range cuts {
		wg.Go(func() { errs[i] = f(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
