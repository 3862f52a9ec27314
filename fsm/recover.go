package fsm

import (
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// recoverCommand opens a new incarnation after a restore or a forced recovery.
// Entries after the restored state may be lost, and with them decisions that
// clients and participants have heard. So the clock rises to what clients may
// have heard of it, and whatever may have been decided in the gap is withheld
// for an operator: every undecided transaction, and every unseen GID born in it.
func (s *State) recoverCommand(c *logpb.Recover) Result {
	hold := c.GetHoldBeforeMs()
	switch {
	case hold > MaxBornMS:
		return invalid("hold_before_ms", "is %d: no clock is later than %d", hold, uint64(MaxBornMS))
	case hold == 0:
		return invalid("hold_before_ms", "is 0")
	case c.GetIncarnation() == s.incarnation && hold == s.holdBeforeMS:
		return Result{Code: OK}
	case c.GetIncarnation() <= s.incarnation:
		return Result{Code: Stale, Detail: "the incarnation must rise"}
	}
	if s.holdBeforeMS == 0 {
		s.holdHorizonMS = s.horizonMS
	}
	s.incarnation = c.GetIncarnation()
	s.clockMS = max(s.clockMS, hold)
	// An earlier recovery's gap stays withheld with this one's.
	s.holdBeforeMS = max(s.holdBeforeMS, hold)
	s.now.clockMS = s.clockMS
	s.withholdUndecided()
	return Result{Code: OK, Changed: true}
}

func (s *State) withholdUndecided() {
	for _, at := range slices.Collect(s.unfiled.all()) {
		t := s.live[at.GID]
		if t.undecided() && !t.withheld {
			next := t.clone()
			next.withheld = true
			s.put(t, next)
		}
	}
}
