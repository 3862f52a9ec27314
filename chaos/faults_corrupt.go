package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/cluster"
)

// corruptFaults damage the data of a node that is down.
var corruptFaults = []Fault{
	{
		Name: "corrupt-node", Kind: "corrupt",
		Doc:    "kill -9 a node and damage its log, vote, snapshot or identity before it starts again: it must refuse, or be as the others",
		Inject: corruptNode,
	},
}

func corruptNode(ctx context.Context, env *Env) (*Injection, error) {
	n, leads := claimEither(ctx, env, 0.3)
	if n == nil {
		return nil, nil
	}
	done := env.Expect(n)
	at := env.Now()
	if err := n.Kill(); err != nil {
		done()
		env.Release(n)
		return nil, err
	}
	c := corruption{env: env, node: n}
	c.pick()
	return &Injection{
		Target: titled(n, leads), At: at, Leader: leads,
		Heal: func(ctx context.Context) error {
			defer env.Release(n)
			defer done()
			return c.restart(ctx)
		},
		Evidence: func() (string, error) { return c.outcome, c.err },
	}, nil
}

// corruption is what was done to a node's data and what the node did about it.
type corruption struct {
	env     *Env
	node    *cluster.Node
	trial   *disks.Trial
	outcome string
	err     error
}

// pick draws a damage that the directory has something for.
func (c *corruption) pick() {
	random := c.env.NewRand()
	saved := filepath.Join(c.env.Dir, "corrupted", c.node.Name)
	for {
		damage := disks.Damages[random.IntN(len(disks.Damages))]
		part := disks.Parts[random.IntN(len(disks.Parts))]
		if damage == disks.StaleCopy {
			continue // there is no older copy of a running cluster's files
		}
		c.trial, c.err = disks.Try(random, c.node.DataDir, "", saved, damage, part)
		if !errors.Is(c.err, disks.ErrNothing) {
			return
		}
	}
}

// corruptMax is how long a damaged node may take to refuse, or to be whole.
const corruptMax = 30 * time.Second

// restart starts the damaged node, judges what becomes of it, and brings it back
// with its data as it was where it refused them.
func (c *corruption) restart(ctx context.Context) error {
	if c.trial == nil {
		return errors.Join(c.err, c.node.Restart(ctx))
	}
	offset := saidSoFar(c.node)
	if err := c.node.Start(); err != nil {
		return err
	}
	if c.settles(ctx) {
		c.judgeRunning(ctx)
		return nil
	}
	if c.node.Running() {
		c.env.Surprise("S18: %s neither refuses nor serves after a %v", c.node.Name, c.trial.Corruption)
		if err := c.node.Kill(); err != nil {
			return err
		}
	} else if err := c.trial.Refusal(tail(saidSince(c.node, offset), 4000)); err != nil {
		c.env.Surprise("S18: %s: %v", c.node.Name, err)
	}
	c.outcome = fmt.Sprintf("detected: %v", c.trial.Corruption)
	if err := c.trial.Undo(); err != nil {
		return err
	}
	return c.node.Restart(ctx)
}

// settles waits until the node has ended, or is a healthy voter: true.
func (c *corruption) settles(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, corruptMax)
	defer cancel()
	for ctx.Err() == nil {
		if exitsWithin(ctx, c.node, 20*time.Millisecond) {
			return false
		}
		if c.healthy(ctx) {
			return c.node.Running()
		}
	}
	return false
}

// healthy says whether the leader hears from the node, and it has caught up.
func (c *corruption) healthy(ctx context.Context) bool {
	leader := c.env.Leader(ctx)
	if leader == nil {
		return false
	}
	status, err := leader.Status(ctx)
	own, ownErr := c.node.Status(ctx)
	if err != nil || ownErr != nil {
		return false
	}
	for _, node := range status.GetNodes() {
		if node.GetName() == c.node.Name && node.GetVoter() && (node.GetHealthy() || node.GetLeader()) {
			return own.GetHeader().GetAppliedIndex() >= status.GetHeader().GetAppliedIndex()
		}
	}
	return false
}

// judgeRunning says whether a node that serves had lost nothing, or has it again.
// Its log is compared with the others' at the end of the run, its state now.
func (c *corruption) judgeRunning(ctx context.Context) {
	if c.trial.Changed == "" {
		c.outcome = fmt.Sprintf("harmless: %v", c.trial.Corruption)
		return
	}
	c.outcome = fmt.Sprintf("repaired: %v (%s)", c.trial.Corruption, c.trial.Changed)
	leader := c.env.Leader(ctx)
	if leader == nil {
		return // compared at the end
	}
	own, err := c.node.Status(ctx)
	if err != nil {
		return
	}
	theirs, err := leader.StatusAt(ctx, own.GetHeader().GetAppliedIndex())
	if err == nil && theirs.GetDigestAt() == own.GetHeader().GetAppliedIndex() && theirs.GetDigest() != own.GetDigest() {
		c.env.Surprise("S18: %s serves another state after a %v (%s)", c.node.Name, c.trial.Corruption, c.trial.Changed)
	}
}

// tail is the end of a text.
func tail(text string, bytes int) string {
	return text[max(0, len(text)-bytes):]
}
