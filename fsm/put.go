package fsm

import "math"

// noDeadline parks a transaction that time must not end.
const noDeadline = math.MaxUint64

// put stores next in place of old, which is nil for a new record: the one place
// where a transaction's record changes. A record that breaks an invariant is
// not stored: the old one is, quarantined. put returns what now stands.
func (s *State) put(old, next *transaction) *transaction {
	for _, b := range next.branches {
		if b.draft != nil {
			b.draft = nil // from now on it is shared
		}
	}
	breach := next.breach
	if breach == "" {
		breach = s.checkRecord(old, next)
	}
	if breach != "" {
		next = quarantine(old, next, breach)
	}
	next.filedMS, next.unhashedAt = 0, 0
	filed := next.droppable()
	if filed {
		next.filedMS = s.now.clockMS
	}
	next.survey()

	if old != nil {
		s.unlink(old, next, filed)
	}
	if filed {
		next.hash = hashRecord(s.stubs.file(next.gid, next.filedMS, func(b []byte) []byte { return appendTransaction(b, next) }))
		s.rememberFiled(next)
		s.counts.Finished++
	} else {
		s.live[next.gid] = next
	}
	s.link(old, next, filed)
	s.tell(old, next)
	return next
}

// quarantine marks what stands, so that every further command on the GID is
// answered QUARANTINED until an operator decides. Where nothing stood, what
// was to be made is kept undecided, as evidence.
func quarantine(old, next *transaction, breach string) *transaction {
	var q *transaction
	if old != nil {
		q = old.clone()
	} else {
		q = next.clone()
		q.state, q.decision, q.finished, q.decided = StateActive, DecisionNone, nil, nil
		for i, b := range q.branches {
			if b.idle {
				busy := *b
				busy.idle = false
				q.branches[i] = &busy
			}
		}
	}
	q.quarantined = true
	q.detail = "quarantined: " + breach
	return q
}

// unlink takes a record out of every index that its successor does not keep it
// in. A record that is dropped has no successor: next is nil.
func (s *State) unlink(old, next *transaction, filed bool) {
	s.unhash(old)
	s.account(old, -1)
	s.age(old)
	if old.filedMS != 0 {
		s.stubs.remove(old.gid)
		s.counts.Finished--
	} else if next == nil || filed {
		delete(s.live, old.gid)
		s.unfiled.remove(old.order())
	}
	if onHeap(old) && (next == nil || !onHeap(next)) {
		s.deadlines.remove(old.gid)
	}
	if next == nil {
		s.begun.remove(old.order())
		if text := old.begin.GetKey(); text != "" {
			delete(s.keys, key{old.begin.GetNamespace(), text})
		}
	}
}

// link puts a record into every index it belongs to and its predecessor, nil for
// none, did not.
func (s *State) link(old, t *transaction, filed bool) {
	s.account(t, +1)
	s.age(t)
	if filed {
		s.records = s.records.plus(t.hash)
	} else {
		s.hashLater(t)
		s.unfiled.put(t.order(), t)
	}
	if onHeap(t) && (old == nil || !onHeap(old) || heapTime(old) != heapTime(t)) {
		s.deadlines.put(heapKey{timeMS: heapTime(t), order: t.order()})
	}
	if old != nil {
		return
	}
	s.begun.add(t.order())
	if text := t.begin.GetKey(); text != "" {
		s.keys[key{t.begin.GetNamespace(), text}] = t.gid
	}
}

// onHeap says that time may end the transaction, or may once an operator has
// let go of it.
func onHeap(t *transaction) bool {
	return t.undecided() && !t.quarantined && t.deadlineMS != noDeadline
}

// heapTime is when. Withheld ones stand last, so that they never block others.
func heapTime(t *transaction) uint64 {
	if t.withheld {
		return noDeadline
	}
	return t.deadlineMS
}

// drop removes a record for good.
func (s *State) drop(t *transaction) {
	s.unlink(t, nil, false)
	s.tell(t, nil)
}
