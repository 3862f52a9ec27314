package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/branchbank"
)

// ModeReport is what a run showed of one mode.
type ModeReport struct {
	// Committed and RolledBack are transactions, by the cluster's decision.
	Committed  int64 `json:"committed"`
	RolledBack int64 `json:"rolled_back"`
	// Calls are those of its branches that were done, CalledAgain those of them that had
	// been done before: the report of the first was lost.
	Calls       int64 `json:"calls"`
	CalledAgain int64 `json:"called_again"`
	// LeaderDied counts, by place, how often the leader was killed just as a transaction
	// of the mode passed there.
	LeaderDied map[string]int `json:"leader_died"`
}

// stepsFrom is the length from which a run must have killed the leader under each mode.
const stepsFrom = 10 * time.Minute

// report makes the modes' reports, and adds what they count to the run's counts.
func (w *modesWorkload) report() (map[string]ModeReport, error) {
	reports := map[string]ModeReport{}
	w.env.steps.mu.Lock()
	for _, mode := range w.o.Modes {
		reports[mode] = ModeReport{
			Committed: w.counts["decided_"+mode+"_commit"], RolledBack: w.counts["decided_"+mode+"_rollback"],
			LeaderDied: maps.Clone(w.env.steps.died[mode]),
		}
	}
	w.env.steps.mu.Unlock()
	for _, b := range w.banks {
		called, err := branchbank.ReadCalls(b.config.CallsPath)
		if err != nil {
			return nil, fmt.Errorf("count the calls of %s: %w", b.Name(), err)
		}
		for key, calls := range called {
			r, ok := reports[modeOf(key)]
			if !ok {
				continue
			}
			for _, times := range calls {
				r.Calls, r.CalledAgain = r.Calls+int64(times), r.CalledAgain+int64(times-1)
			}
			reports[modeOf(key)] = r
		}
	}
	for mode, r := range reports {
		w.counts["done_"+mode] = r.Calls - r.CalledAgain
		w.counts["called_again_"+mode], w.counts["leader_died_"+mode] = r.CalledAgain, int64(sum(r.LeaderDied))
	}
	return reports, nil
}

// bankDoubts says in which databases nothing took effect, and whether best effort was
// mostly in vain.
func (w *modesWorkload) bankDoubts(counts map[string]int64) (doubts []string) {
	for _, b := range w.banks {
		if counts["effects_at_"+b.Name()] == 0 {
			doubts = append(doubts, "modes: nothing took effect at "+b.Name())
		}
	}
	if done, of := counts["done_"+modeNotify], counts["decided_"+modeNotify+"_commit"]; 2*done < of {
		doubts = append(doubts, fmt.Sprintf("modes: of %d transactions of best effort %d took effect", of, done))
	}
	return doubts
}

// stepDoubts says under which modes no leader died, in a run that is long enough and
// was to kill them there.
func (w *modesWorkload) stepDoubts(counts map[string]int64) (doubts []string) {
	chosen, err := Select(w.o.Faults)
	if err != nil || w.o.Duration < stepsFrom || !slices.ContainsFunc(chosen, func(f Fault) bool { return f.Kind == "step" }) {
		return nil
	}
	for _, mode := range w.o.Modes {
		if counts["leader_died_"+mode] == 0 {
			doubts = append(doubts, "modes: no leader died at a step of a transaction of mode "+mode)
		}
	}
	return doubts
}

// writeModes prints a line a mode, and one of the places where leaders died.
func (v *Verdict) writeModes(line func(name, format string, args ...any)) {
	for _, mode := range sortedNames(v.Modes) {
		r := v.Modes[mode]
		line(mode, "%d committed, %d rolled back; %d calls done, %d of them again after a lost report", r.Committed, r.RolledBack, r.Calls, r.CalledAgain)
		var died []string
		for _, phase := range sortedNames(r.LeaderDied) {
			died = append(died, fmt.Sprintf("%s %d", phase, r.LeaderDied[phase]))
		}
		if len(died) > 0 {
			line("", "the leader died %d times: %s", sum(r.LeaderDied), strings.Join(died, ", "))
		}
	}
}
