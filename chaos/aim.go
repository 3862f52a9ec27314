package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
)

// leaderPhases are the places that only a leader passes, so that whoever passes
// one of them is the leader.
var leaderPhases = []string{
	failpoint.BeforeBegin, failpoint.Begun, failpoint.BeforeEnlist, failpoint.Enlisted, failpoint.BeforeVote, failpoint.Voted,
	failpoint.BeforeDecision, failpoint.AtDecision, failpoint.AfterDecision, failpoint.PartlyDone, failpoint.BeforeReport, failpoint.AfterReport, failpoint.BeforeAnswer, failpoint.AfterAnswer, failpoint.AllReported,
}

// nodePhases are places of a node's disk that every node passes: on the leader an
// entry is on its own disk alone, on a follower it is there and not confirmed.
var nodePhases = []string{
	failpoint.StoreWrite + "@" + failpoint.KeyLog, failpoint.StoreWritten + "@" + failpoint.KeyLog,
	failpoint.StoreWrite + "@" + failpoint.KeyStable, failpoint.StoreWritten + "@" + failpoint.KeyStable,
	failpoint.SnapshotBegun, failpoint.SnapshotWritten,
}

// aimActions are what an aim can do to the process that passes.
var aimActions = []string{"kill", "stop"}

// aimMax is how long an aim waits for somebody to pass.
const aimMax = 700 * time.Millisecond

// sights is the directory through which running nodes are aimed at: each node is
// armed at its start to die, or to stop, at each place, but only while a file
// exists, and once for each time that it is made.
type sights struct{ dir string }

// newSights makes the directory; arm is the nodes' environment.
func newSights(dir string, nodes int) (*sights, error) {
	s := &sights{dir: dir}
	scopes := []string{anyNode}
	for i := range nodes {
		scopes = append(scopes, fmt.Sprintf("n%d", i+1))
	}
	for _, scope := range scopes {
		if err := os.MkdirAll(filepath.Join(dir, scope), 0o700); err != nil {
			return nil, fmt.Errorf("aim: %w", err)
		}
	}
	return s, os.MkdirAll(filepath.Join(dir, "passed"), 0o700)
}

// anyNode is the scope of an aim at whoever passes first.
const anyNode = "any"

// arm is the environment of a node.
func (s *sights) arm(node string, _ int) []string {
	var points []string
	add := func(phase, scope string) {
		for _, action := range aimActions {
			points = append(points, fmt.Sprintf("%s=%s,when=%s,once=%s", phase, action, s.file(scope, phase, action, "armed"), s.file(scope, phase, action, "fired")))
		}
	}
	for _, phase := range leaderPhases {
		points = append(points, fmt.Sprintf("%s=note,hits=%s", phase, filepath.Join(s.dir, "passed", phase)))
		add(phase, anyNode)
	}
	for _, phase := range nodePhases {
		add(phase, node)
	}
	return []string{failpoint.Variable + "=" + strings.Join(points, ";")}
}

func (s *sights) file(scope, phase, action, suffix string) string {
	return filepath.Join(s.dir, scope, strings.ReplaceAll(phase, "@", "-")+"."+action+"."+suffix)
}

// shot is an aim that waits for somebody to pass.
type shot struct{ armed, fired string }

// aim arms one; a node's name, or anyNode.
func (s *sights) aim(scope, phase, action string) (*shot, error) {
	h := &shot{armed: s.file(scope, phase, action, "armed"), fired: s.file(scope, phase, action, "fired")}
	if err := os.Remove(h.fired); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return h, os.WriteFile(h.armed, nil, 0o600)
}

// wait waits until it has fired and returns the pid of who passed; 0 when nobody
// did in time. Either way it is disarmed.
func (h *shot) wait(ctx context.Context, most time.Duration) int {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for h.pid() == 0 && ctx.Err() == nil {
		pause(ctx, 2*time.Millisecond)
	}
	_ = os.Remove(h.armed)
	if pid := h.pid(); pid != 0 {
		return pid
	}
	// Who looked at the armed file just before it went may be firing now.
	pause(context.WithoutCancel(ctx), 5*time.Millisecond)
	return h.pid()
}

func (h *shot) pid() (pid int) {
	_, _ = fmt.Sscan(h.field("pid="), &pid)
	return pid
}

// key is that of the transaction, or of the branch, under which it was passed.
func (h *shot) key() string { return h.field("key=") }

// field is one of what who fired has left.
func (h *shot) field(name string) string {
	text, err := os.ReadFile(h.fired)
	if err != nil {
		return ""
	}
	for _, field := range strings.Fields(string(text)) {
		if value, ok := strings.CutPrefix(field, name); ok {
			return value
		}
	}
	return ""
}

// passed counts how often each place was passed, on all nodes.
func (s *sights) passed() map[string]int64 {
	counts := map[string]int64{}
	for _, phase := range leaderPhases {
		if info, err := os.Stat(filepath.Join(s.dir, "passed", phase)); err == nil {
			counts[phase] = info.Size() // a byte each time
		}
	}
	return counts
}

// strike does something to a claimed node, half of the time when it passes a
// phase of the protocol: kill or stop. It returns the node that was struck, which
// is another one where leadership moved meanwhile, and the phase, empty when
// nobody passed or nothing was aimed.
func strike(ctx context.Context, env *Env, n *cluster.Node, action string, phases []string) (*cluster.Node, string, error) {
	if len(phases) > 0 && env.Chance(aimedShare) {
		phase, scope := phases[env.IntN(len(phases))], n.Name
		if slices.Contains(leaderPhases, phase) {
			scope = anyNode
		}
		struck, err := aimedAt(ctx, env, n, scope, action, phase, aimMax)
		if struck != nil || err != nil {
			return struck, phase, err
		}
	}
	if action == "stop" {
		return n, "", n.Pause()
	}
	return n, "", killTogether(env, n)
}

// aimedShare of the kills and pauses wait for a phase.
const aimedShare = 0.5

// aimedAt waits for a node to pass the phase and be struck, which is claimed then in
// place of n; nil when none did.
func aimedAt(ctx context.Context, env *Env, n *cluster.Node, scope, action, phase string, most time.Duration) (*cluster.Node, error) {
	for _, other := range env.Cluster.Nodes() {
		defer env.Expect(other)() // whoever passes may end
	}
	h, err := env.sights.aim(scope, phase, action)
	if err != nil {
		return nil, err
	}
	pid := h.wait(ctx, most)
	for _, other := range env.Cluster.Nodes() {
		if pid == 0 || other.Pid() != pid {
			continue
		}
		if other != n {
			env.Release(n)
			env.Claim(other)
		}
		if action == "kill" {
			env.Doom(other)
			<-other.Exited()
			env.steps.dead(h.key(), phase)
		}
		return other, nil
	}
	return nil, nil
}
