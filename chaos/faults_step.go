package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/failpoint"
)

// stepFaults kill the leader at a place of the protocol that a transaction of a mode
// drawn in turn passes.
var stepFaults = []Fault{
	{
		Name: "kill-leader-at-step", Kind: "step", Possible: needsModes, Prepare: armSteps,
		Doc:    "kill -9 the leader as a transaction of a mode passes a place of the protocol, each mode and each place in turn",
		Inject: killLeaderAtStep,
	},
}

// stepMax is how long an aim waits for a transaction to pass: some places are rare.
const stepMax = 2 * time.Second

// steps counts, by mode and place, at which leaders were aimed and at which they died.
type steps struct {
	mu          sync.Mutex
	tried, died map[string]map[string]int
}

// modeScope is the scope of an aim at transactions of a mode.
func modeScope(mode string) string { return "mode-" + mode }

// modeKeys are the keys of a mode's transactions.
func modeKeys(mode string) string { return keyPrefixModes + mode + "-" }

// modeOf is the mode of a key of the workload, or of one of its branches; empty: it is
// none.
func modeOf(key string) string {
	rest, ok := strings.CutPrefix(key, keyPrefixModes)
	if !ok {
		return ""
	}
	mode, _, _ := strings.Cut(rest, "-")
	return mode
}

// armSteps arms every node to die at each place under each mode, while a file is there,
// and to note who passes.
func armSteps(env *Env) (func() error, error) {
	var points []string
	for _, mode := range env.Options.Modes {
		if err := os.MkdirAll(filepath.Join(env.sights.dir, modeScope(mode)), 0o700); err != nil {
			return nil, err
		}
		for _, phase := range leaderPhases {
			at, file := phase+"@"+modeKeys(mode)+"*=", func(action, suffix string) string { return env.sights.file(modeScope(mode), phase, action, suffix) }
			points = append(points, at+"note,hits="+file("note", "passed"),
				at+"kill,when="+file("kill", "armed")+",once="+file("kill", "fired"))
		}
	}
	env.AddNodeEnv(func(string, int) []string { return []string{failpoint.Variable + "=" + strings.Join(points, ";")} })
	return nil, nil
}

// next is where the leader dies next: under the mode under which it died least, at the
// place that was tried least of those that the mode has passed.
func (s *steps) next(env *Env) (mode, phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range env.shuffled(env.Options.Modes) {
		at := ""
		for _, p := range env.shuffled(leaderPhases) {
			info, err := os.Stat(env.sights.file(modeScope(m), p, "note", "passed"))
			if err == nil && info.Size() > 0 && (at == "" || s.tried[m][p] < s.tried[m][at]) {
				at = p
			}
		}
		if at != "" && (mode == "" || sum(s.died[m]) < sum(s.died[mode])) {
			mode, phase = m, at
		}
	}
	return mode, phase
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func (s *steps) try(mode, phase string) { s.add(&s.tried, mode, phase) }

// dead notes that the leader died at a place under a transaction with a key, whatever
// fault aimed at it.
func (s *steps) dead(key, phase string) {
	if mode := modeOf(key); mode != "" {
		s.add(&s.died, mode, phase)
	}
}

func (s *steps) add(to *map[string]map[string]int, mode, phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *to == nil {
		*to = map[string]map[string]int{}
	}
	if (*to)[mode] == nil {
		(*to)[mode] = map[string]int{}
	}
	(*to)[mode][phase]++
}

func killLeaderAtStep(ctx context.Context, env *Env) (*Injection, error) {
	mode, phase := env.steps.next(env)
	if mode == "" {
		return nil, nil // nobody has passed anything yet
	}
	leader := env.ClaimLeader(ctx)
	if leader == nil {
		return nil, nil
	}
	env.steps.try(mode, phase)
	struck, err := aimedAt(ctx, env, leader, modeScope(mode), "kill", phase, stepMax)
	if struck == nil {
		env.Release(leader)
		return nil, err
	}
	i := killed(env, struck)
	i.At = env.Now()
	i.Target, i.Phase, i.Leader = fmt.Sprintf("%s (leader), under a transaction of mode %s", struck.Name, mode), phase, true
	return i, err
}
