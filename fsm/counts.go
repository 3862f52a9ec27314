package fsm

// Counts are for metrics. They are kept as records change, so that nothing waits for
// who asks, however much there is.
type Counts struct {
	// Open counts, by mode and state, transactions that have not ended.
	Open [len(modes)][StateRolledBack + 1]int
	// Live counts records that retention does not wait for yet.
	Live int
	// Finished counts filed records: they have ended and wait for retention.
	Finished int
	// Tombstones counts rollbacks of GIDs that were never begun, until dropped.
	Tombstones int
	// InDoubt counts branches that are prepared and have not ended.
	InDoubt int
	// OldestInDoubtMS is the cluster clock of the oldest such vote, 0 for none.
	OldestInDoubtMS uint64
	// Due counts transactions with a branch to be told.
	Due         int
	Quarantined int
	Withheld    int
	// Heuristics counts branches whose own word is contrary, mixed or a hazard.
	Heuristics int
}

// Counts returns the current figures.
func (s *State) Counts() Counts {
	c := s.counts
	c.Live, c.Due = len(s.live), s.unfiled.dues
	if c.InDoubt > 0 {
		c.OldestInDoubtMS = s.oldestInDoubtMS()
	}
	return c
}

// oldestInDoubtMS is the clock of the oldest vote of a branch in doubt. Votes are
// ordered by index as by clock.
func (s *State) oldestInDoubtMS() uint64 {
	t := s.unfiled.oldestDoubt()
	if t == nil {
		return 0
	}
	for _, b := range t.branches {
		if b.inDoubt() && b.voted.value().index == t.doubtIndex {
			return b.voted.value().clockMS
		}
	}
	return 0
}

// account adds a record to the figures, or takes it out.
func (s *State) account(t *transaction, sign int) {
	c := &s.counts
	if !t.ended() {
		c.Open[t.begin.GetMode()][t.state] += sign
	}
	if t.tombstone {
		c.Tombstones += sign
	}
	if t.quarantined {
		c.Quarantined += sign
	}
	if t.withheld {
		c.Withheld += sign
	}
	c.InDoubt += sign * int(t.doubts)
	c.Heuristics += sign * int(t.heuristics)
}
