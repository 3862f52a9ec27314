package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
)

// switchesDir is where the switches of the nodes' failpoints lie, below the run's
// directory.
const switchesDir = "switches"

// toggle is a failpoint of every node that a fault switches on and off while the
// node runs: it fires only while a file of the node's own exists, and notes each
// time that it did.
type toggle struct {
	name string // of the files
	spec string // point and action, such as store-write@log=error(EIO)
}

// prepare arms the toggle at every start of every node.
func (t toggle) prepare(env *Env) (func() error, error) {
	if err := os.MkdirAll(filepath.Join(env.Dir, switchesDir), 0o700); err != nil {
		return nil, err
	}
	env.AddNodeEnv(func(node string, _ int) []string {
		return []string{fmt.Sprintf("%s=%s,when=%s,hits=%s", failpoint.Variable, t.spec, t.file(env, node, "on"), t.file(env, node, "hits"))}
	})
	return nil, nil
}

func (t toggle) file(env *Env, node, what string) string {
	return filepath.Join(env.Dir, switchesDir, node+"."+t.name+"."+what)
}

func (t toggle) on(env *Env, n *cluster.Node) error {
	return os.WriteFile(t.file(env, n.Name, "on"), nil, 0o600)
}

func (t toggle) off(env *Env, n *cluster.Node) error {
	err := os.Remove(t.file(env, n.Name, "on"))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// hits counts how often a node has fired it so far.
func (t toggle) hits(env *Env, n *cluster.Node) int {
	text, err := os.ReadFile(t.file(env, n.Name, "hits"))
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}

// exitsWithin waits for a node's process to end by itself.
func exitsWithin(ctx context.Context, n *cluster.Node, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-n.Exited():
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// saidSince returns what a node has written to its log from an offset on.
func saidSince(n *cluster.Node, offset int64) string {
	text, err := os.ReadFile(n.LogPath)
	if err != nil || offset > int64(len(text)) {
		return ""
	}
	return string(text[offset:])
}

// saidSoFar is the offset for saidSince.
func saidSoFar(n *cluster.Node) int64 {
	info, err := os.Stat(n.LogPath)
	if err != nil {
		return 0
	}
	return info.Size()
}

// claimEither claims the leader with the probability, otherwise a follower; leads
// says which it was.
func claimEither(ctx context.Context, env *Env, leader float64) (n *cluster.Node, leads bool) {
	if env.Chance(leader) {
		if n := env.ClaimLeader(ctx); n != nil {
			return n, true
		}
	}
	return env.ClaimFollower(ctx), false
}

// titled is a node's name, with its role where it leads.
func titled(n *cluster.Node, leads bool) string {
	if leads {
		return n.Name + " (leader)"
	}
	return n.Name
}
