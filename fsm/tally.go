package fsm

import "iter"

// tally says what is special in a chunk of live records, so that whoever looks for
// that passes most chunks by, and a record that changes costs a look at itself.
type tally struct {
	dues, doubts int // records with something due, and with a branch in doubt
	// Bounds, which do not rise when who set them goes: doubtIndex is no later than the
	// oldest vote in doubt, bornMS than the birth of any that has not ended.
	doubtIndex, bornMS uint64
}

func tallyOf(records []*transaction) tally {
	m := tally{bornMS: noneBornMS}
	for _, t := range records {
		if t != nil {
			m.take(t)
		}
	}
	return m
}

func (m *tally) take(t *transaction) {
	if t.due {
		m.dues++
	}
	if t.doubtIndex != 0 {
		if m.doubts == 0 || t.doubtIndex < m.doubtIndex {
			m.doubtIndex = t.doubtIndex
		}
		m.doubts++
	}
	if !t.ended() {
		m.bornMS = min(m.bornMS, t.gid.BornMS())
	}
}

func (m *tally) letGo(t *transaction) {
	if t.due {
		m.dues--
	}
	if t.doubtIndex != 0 {
		m.doubts--
	}
}

// joined and left keep the tallies: of a record that takes its place in a chunk, and
// of one that goes, or is replaced.
func (q *sequence) joined(c *chunk, t *transaction) {
	c.take(t)
	if t.due {
		q.dues++
	}
}

func (q *sequence) left(c *chunk, t *transaction) {
	if t == nil {
		return // a sequence without records
	}
	c.letGo(t)
	if t.due {
		q.dues--
	}
}

// due walks the records with something due, in order.
func (q *sequence) due() iter.Seq[*transaction] {
	return func(yield func(*transaction) bool) {
		for _, c := range q.chunks {
			if c.dues == 0 {
				continue
			}
			for _, t := range c.records {
				if t != nil && t.due && !yield(t) {
					return
				}
			}
		}
	}
}

// oldestDoubt is the record with the oldest vote in doubt, nil for none.
func (q *sequence) oldestDoubt() (oldest *transaction) {
	for _, c := range q.chunks {
		if c.doubts == 0 || oldest != nil && c.doubtIndex >= oldest.doubtIndex {
			continue
		}
		for _, t := range c.records {
			if t != nil && t.doubtIndex != 0 && (oldest == nil || t.doubtIndex < oldest.doubtIndex) {
				oldest = t
			}
		}
	}
	return oldest
}

// oldestBornMS is when the oldest was born that has not ended, if that was at or below
// most; else noneBornMS.
func (q *sequence) oldestBornMS(most uint64) uint64 {
	oldest := uint64(noneBornMS)
	for _, c := range q.chunks {
		if c.bornMS > most || c.bornMS >= oldest {
			continue
		}
		c.bornMS = noneBornMS
		for _, t := range c.records {
			if t != nil && !t.ended() {
				c.bornMS = min(c.bornMS, t.gid.BornMS())
			}
		}
		if c.bornMS <= most {
			oldest = min(oldest, c.bornMS)
		}
	}
	return oldest
}
