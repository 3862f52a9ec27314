package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
)

// memberFaults change who leads and who is a node, as operators do, under load.
var memberFaults = []Fault{
	{
		Name: "transfer-leader", Kind: "member", Weight: 2,
		Doc:    "hand leadership over to another node",
		Inject: transferLeader,
	},
	{
		Name: "rolling-restart", Kind: "member", Alone: true,
		Doc:    "stop and start one node after the other in order (SIGTERM), the leader last",
		Inject: rollingRestart,
	},
	{
		Name: "replace-node", Kind: "member", Alone: true,
		Doc:    "a node's disk is lost: remove it and join a new one with an empty directory, as docs/operating.md says",
		Inject: replaceNode,
	},
	toggledKill("kill-at-removal", "kill the leader when a removal is applied and not answered, then finish the replacement",
		"member-changed@remove=kill"),
	toggledKill("kill-at-promotion", "kill the leader when a promotion is about to be proposed, then finish the replacement",
		"member-change@promote=kill"),
}

func transferLeader(ctx context.Context, env *Env) (*Injection, error) {
	from := env.ClaimLeader(ctx)
	if from == nil {
		return nil, nil
	}
	before, err := from.Status(ctx)
	if err != nil {
		env.Release(from)
		return nil, nil
	}
	at := env.Now()
	// Another fault may take the quorum away in between: then it fails, and nothing
	// was handed over.
	transferErr := env.Cluster.TransferLeader(ctx, nil)
	after := before.GetTerm()
	if transferErr == nil {
		after = nextTerm(ctx, env, after)
	}
	return &Injection{
		Target: titled(from, true), At: at,
		Heal: func(context.Context) error {
			env.Release(from)
			return nil
		},
		Evidence: func() (string, error) {
			if transferErr != nil {
				return fmt.Sprintf("refused: %v", transferErr), nil
			}
			if after == before.GetTerm() {
				return "", errors.New("the term has not changed")
			}
			return fmt.Sprintf("term %d to %d", before.GetTerm(), after), nil
		},
	}, nil
}

// nextTerm waits for a leader of a later term, and returns its term; the same
// term when there is none in time.
func nextTerm(ctx context.Context, env *Env, term uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, serviceMax)
	defer cancel()
	for ctx.Err() == nil {
		if leader := env.Leader(ctx); leader != nil {
			if status, err := leader.Status(ctx); err == nil && status.GetTerm() > term {
				return status.GetTerm()
			}
		}
	}
	return term
}

// claimAll claims every node, or none.
func claimAll(env *Env) bool {
	var claimed []*cluster.Node
	for _, n := range env.Cluster.Nodes() {
		if !env.Claim(n) {
			for _, n := range claimed {
				env.Release(n)
			}
			return false
		}
		claimed = append(claimed, n)
	}
	return true
}

func releaseAll(env *Env) {
	for _, n := range env.Cluster.Nodes() {
		env.Release(n)
	}
}

func rollingRestart(ctx context.Context, env *Env) (*Injection, error) {
	leader := env.Leader(ctx)
	if leader == nil || !claimAll(env) {
		return nil, nil
	}
	var order []*cluster.Node
	for _, n := range env.Cluster.Nodes() {
		if n != leader {
			order = append(order, n)
		}
	}
	restarted := 0
	return &Injection{
		Target: "all, " + leader.Name + " last",
		Heal: func(ctx context.Context) error {
			defer releaseAll(env)
			for _, n := range append(order, leader) {
				if err := restartInOrder(ctx, env, n); err != nil {
					return err
				}
				restarted++
			}
			return nil
		},
		Evidence: func() (string, error) {
			return fmt.Sprintf("%d nodes restarted in order", restarted), nil
		},
	}, nil
}

// restartInOrder stops a node as an operator does and waits until the cluster is
// whole again before the next.
func restartInOrder(ctx context.Context, env *Env, n *cluster.Node) error {
	defer env.Expect(n)()
	if err := n.Stop(ctx); err != nil {
		return err
	}
	if code := n.ExitCode(); code != 0 {
		env.Surprise("%s ended with %d when asked to stop; see %s", n.Name, code, n.LogPath)
	}
	if err := n.Restart(ctx); err != nil {
		return err
	}
	return env.Cluster.WaitWhole(ctx)
}

func replaceNode(ctx context.Context, env *Env) (*Injection, error) {
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
	r := &replacement{env: env, node: n}
	return &Injection{
		Target: titled(n, leads), Leader: leads, At: at,
		Heal: func(ctx context.Context) error {
			defer env.Release(n)
			defer done()
			return r.run(ctx)
		},
		Evidence: r.evidence,
	}, nil
}

// toggledKill is a replacement during which the leader is killed at a place of
// the change.
func toggledKill(name, doc, spec string) Fault {
	t := toggle{name: name, spec: spec}
	return Fault{
		Name: name, Kind: "member", Alone: true, Doc: doc, Prepare: t.prepare,
		Inject: func(ctx context.Context, env *Env) (*Injection, error) {
			n := env.ClaimFollower(ctx)
			if n == nil {
				return nil, nil
			}
			done := env.Expect(n)
			if err := n.Kill(); err != nil {
				done()
				env.Release(n)
				return nil, err
			}
			r := &replacement{env: env, node: n, kill: &t}
			return &Injection{
				// Two of three are away once the leader is killed.
				Target: n.Name, Unavailable: true,
				Heal: func(ctx context.Context) error {
					defer env.Release(n)
					defer done()
					return r.run(ctx)
				},
				Evidence: r.evidence,
			}, nil
		},
	}
}

// replacement is a node whose disk is lost and that comes back as a new one.
type replacement struct {
	env      *Env
	node     *cluster.Node
	kill     *toggle // at which the leader is killed, or nil
	old, new string  // ids
	killed   int
}

// run does what docs/operating.md says about a damaged node, and repeats what
// was interrupted, as an operator would.
func (r *replacement) run(ctx context.Context) (err error) {
	// Whatever leads may be killed meanwhile, and is started again.
	for _, n := range r.env.Cluster.Nodes() {
		defer r.env.Expect(n)()
	}
	err = r.retry(ctx, "know the cluster", func(ctx context.Context) error {
		r.old, err = r.idOf(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := emptyDir(r.node.DataDir); err != nil {
		return err
	}
	if r.kill != nil {
		for _, n := range r.env.Cluster.Nodes() {
			if err := r.kill.on(r.env, n); err != nil {
				return err
			}
		}
	}
	if err := r.retry(ctx, "remove "+r.old, r.remove); err != nil {
		return err
	}
	if err := r.node.Join(); err != nil {
		return err
	}
	if err := r.retry(ctx, "whole with a new "+r.node.Name, r.env.Cluster.IsWhole); err != nil {
		return err
	}
	if err := r.disarm(); err != nil {
		return err
	}
	return r.retry(ctx, "know the cluster", func(ctx context.Context) error {
		r.new, err = r.idOf(ctx)
		return err
	})
}

// retry repeats a step until it succeeds; a node that a toggle has killed is
// started again, once the toggle has fired. The heal's patience bounds it.
func (r *replacement) retry(ctx context.Context, what string, step func(context.Context) error) error {
	for {
		err := step(ctx)
		if err == nil {
			return nil
		}
		for _, n := range r.env.Cluster.Nodes() {
			if r.kill != nil && !n.Running() && r.kill.hits(r.env, n) > 0 && n != r.node {
				r.killed++
				if err := errors.Join(r.disarm(), n.Start()); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// disarm ends the toggle on all nodes: one kill is enough.
func (r *replacement) disarm() error {
	if r.kill == nil {
		return nil
	}
	var errs []error
	for _, n := range r.env.Cluster.Nodes() {
		errs = append(errs, r.kill.off(r.env, n))
	}
	return errors.Join(errs...)
}

// remove takes the old node out. That it is out already is no error.
func (r *replacement) remove(ctx context.Context) error {
	id, err := r.idOf(ctx)
	if err != nil {
		return err
	}
	if id != r.old {
		return nil
	}
	return r.env.Cluster.AskLeader(ctx, func(s quoratev1.ClusterServiceClient) error {
		_, err := s.Remove(ctx, &quoratev1.RemoveRequest{Node: r.old})
		return err
	})
}

// idOf returns the id under which the cluster knows the node, "" for none.
func (r *replacement) idOf(ctx context.Context) (id string, err error) {
	leader := r.env.Leader(ctx)
	if leader == nil {
		return "", errors.New("no node leads")
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, node := range status.GetNodes() {
		if node.GetRaftAddress() == r.node.Raft {
			id = node.GetId()
		}
	}
	return id, nil
}

func (r *replacement) evidence() (string, error) {
	if r.old == "" || r.new == "" || r.old == r.new {
		return "", fmt.Errorf("%s was %q and is %q", r.node.Name, r.old, r.new)
	}
	text := fmt.Sprintf("%s… out, %s… in", r.old[:8], r.new[:8])
	if r.kill != nil {
		if r.killed == 0 {
			return "", fmt.Errorf("%s, but no leader passed %s", text, r.kill.spec)
		}
		text += fmt.Sprintf(", %d leader killed in between", r.killed)
	}
	return text, nil
}

// emptyDir removes what a directory holds, not itself: it may be a mount.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if entry.Name() != "lost+found" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(errs...)
}
