package demo

import (
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Kill is a leader that was killed.
type Kill struct {
	Phase  Phase
	Node   string
	Victim string // key of the transfer that set it off
	At     time.Time
	// Term in which it led.
	Term uint64
}

// Failovers returns, for each kill, how long clients waited: from the kill
// until one of them was told a commit decided in a later term, in milliseconds.
// A kill after which none was told is left out. Decisions of the dead leader
// whose answers were still on their way do not count.
func Failovers(kills []Kill, attempts []Attempt, log []*quoratev1.Transaction) []float64 {
	decidedIn := map[string]uint64{}
	for _, tx := range log {
		decidedIn[tx.GetKey()] = tx.GetDecided().GetTerm()
	}
	out := []float64{}
	for _, k := range kills {
		var first time.Time
		for _, a := range attempts {
			if a.Heard != HeardCommit || a.Unanswered || a.At.Before(k.At) || decidedIn[a.Transfer.Key()] <= k.Term {
				continue
			}
			if first.IsZero() || a.At.Before(first) {
				first = a.At
			}
		}
		if !first.IsZero() {
			out = append(out, round1(first.Sub(k.At)))
		}
	}
	return out
}

// TermAt is the newest term that had written anything by then: the term of the leader
// that was killed. The victim's own stamps do not tell: killed before its Submit, it
// begins under the next leader.
func TermAt(at time.Time, log []*quoratev1.Transaction) (term uint64) {
	for _, tx := range log {
		for _, s := range []*quoratev1.Stamp{tx.GetBegan(), tx.GetDecided()} {
			if s != nil && !s.GetWallTime().AsTime().After(at) {
				term = max(term, s.GetTerm())
			}
		}
	}
	return term
}

// round1 is d in milliseconds with one decimal.
func round1(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}
