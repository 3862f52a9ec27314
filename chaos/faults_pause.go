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
		Name: "pause-leader", Kind: "pause", Weight: 1, Hold: Range{100 * time.Millisecond, 3 * time.Second},
		Doc:    "SIGSTOP the leader, mostly beyond its lease, then SIGCONT",
		Inject: pauseLeader,
	},
}

func pauseLeader(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimLeader(ctx)
	if n == nil {
		return nil, nil
	}
	injection, err := pauseNode(env, n)
	if injection != nil {
		injection.Target = n.Name + " (leader)"
	}
	return injection, err
}

// pauseNode pauses a claimed node.
func pauseNode(env *Env, n *cluster.Node) (*Injection, error) {
	if err := n.Pause(); err != nil {
		env.Release(n)
		return nil, err
	}
	began := time.Now()
	stopped := processState(n.Pid())
	var lasted time.Duration
	return &Injection{
		Target: n.Name,
		Heal: func(context.Context) error {
			defer env.Release(n)
			if now := processState(n.Pid()); now != "" {
				stopped = now
			}
			lasted = time.Since(began)
			return n.Resume()
		},
		Evidence: func() (string, error) {
			if stopped != "T" {
				return "", fmt.Errorf("%s was in state %q, not stopped", n.Name, stopped)
			}
			return fmt.Sprintf("stopped for %v", lasted.Round(time.Millisecond)), nil
		},
	}, nil
}

// processState is the kernel's letter for a process (T: stopped), empty where
// there is no /proc.
func processState(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name before the state may hold anything, parentheses too.
	_, rest, _ := cut(string(text), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// cut is strings.Cut at the last separator.
func cut(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
