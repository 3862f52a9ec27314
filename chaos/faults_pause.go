package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/cluster"
)

// pauseFaults stop processes where they stand (SIGSTOP) and let them go on
// (SIGCONT): what they believed may be long over by then.
var pauseFaults = []Fault{
	{
		Name: "pause-leader", Kind: "pause", Weight: 4, Hold: Range{100 * time.Millisecond, 1500 * time.Millisecond},
		Doc:    "SIGSTOP the leader, half of the time at a phase of the protocol, mostly beyond its lease, then SIGCONT",
		Inject: pauseLeader,
	},
	{
		Name: "pause-follower", Kind: "pause", Weight: 3, Hold: Range{100 * time.Millisecond, 1500 * time.Millisecond},
		Doc:    "SIGSTOP a follower, then SIGCONT",
		Inject: pauseFollower,
	},
	{
		Name: "pause-leader-long", Kind: "pause", Weight: 1, Hold: Range{3 * time.Second, 6 * time.Second},
		Doc:    "SIGSTOP the leader for several seconds, beyond timeouts of transactions",
		Inject: pauseLeader,
	},
}

func pauseLeader(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimLeader(ctx)
	if n == nil {
		return nil, nil
	}
	i, err := pauseOne(ctx, env, n, append([]string{storeWrittenLog}, leaderPhases...))
	if i != nil {
		i.Target += " (leader)"
	}
	return i, err
}

func pauseFollower(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimFollower(ctx)
	if n == nil {
		return nil, nil
	}
	return pauseOne(ctx, env, n, []string{storeWrittenLog})
}

// pauseOne pauses a claimed node, perhaps at one of the phases.
func pauseOne(ctx context.Context, env *Env, n *cluster.Node, phases []string) (*Injection, error) {
	struck, phase, err := strike(ctx, env, n, "stop", phases)
	if struck == nil {
		struck = n
	}
	i := paused(env, struck)
	i.Phase = phase
	return i, err
}

// paused is the injection of a claimed node that was stopped.
func paused(env *Env, n *cluster.Node) *Injection {
	began, pid := time.Now(), n.Pid()
	state := ""
	var lasted time.Duration
	return &Injection{
		Target: n.Name,
		Heal: func(context.Context) error {
			defer env.Release(n)
			state, lasted = processState(pid), time.Since(began)
			return n.Resume()
		},
		Evidence: func() (string, error) {
			if state != "T" && state != unknownState {
				return "", fmt.Errorf("%s was in state %q, not stopped", n.Name, state)
			}
			return fmt.Sprintf("stopped for %v", lasted.Round(time.Millisecond)), nil
		},
	}
}

// unknownState stands where a machine does not tell a process' state.
const unknownState = "?"

// processState is the kernel's letter for a process (T: stopped).
func processState(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if _, err := os.Stat("/proc/self/stat"); err != nil {
			return unknownState
		}
		return "gone"
	}
	// The name before the state may hold anything, parentheses too.
	line := string(text)
	rest := strings.Fields(line[strings.LastIndex(line, ")")+1:])
	if len(rest) == 0 {
		return unknownState
	}
	return rest[0]
}
