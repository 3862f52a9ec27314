package fsm

import (
	"fmt"
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// The fifteen invariants of PROTOCOL.md, section 3. checkRecord holds those of
// one record against each change, always. CheckInvariants looks at everything.

// checkRecord says what is wrong with storing next in place of old, "" for
// nothing.
func (s *State) checkRecord(old, next *transaction) string {
	if old == nil {
		// (10) created implies horizon < born <= clock. What an operator lets
		// go of after a recovery may be older.
		born := next.gid.BornMS()
		held := s.holdBeforeMS != 0 && s.holdHorizonMS < born && born <= s.holdBeforeMS
		if !held && (born <= s.horizonMS || born > s.clockMS) {
			return fmt.Sprintf("created with born %d outside of (%d, %d]", born, s.horizonMS, s.clockMS)
		}
		return next.check()
	}
	if breach := checkChange(old, next); breach != "" {
		return breach
	}
	return next.check()
}

// checkChange is what a change must keep.
func checkChange(old, next *transaction) string {
	switch {
	case old.gid != next.gid || old.began.value() != next.began.value():
		return "the record became another one"
	// (1) the decision is written once, exactly on leaving A or S.
	case old.decision != DecisionNone && (old.decision != next.decision || old.decided.value() != next.decided.value()):
		return fmt.Sprintf("decision %v overwritten by %v", old.decision, next.decision)
	case old.state == StateSealed && next.state == StateActive:
		return "sealed became active"
	case old.stopped && !next.stopped:
		return "stopped no more"
	case old.ended() && !next.ended():
		return fmt.Sprintf("%v became %v", old.state, next.state)
	// (4) after the seal the set never grows.
	case old.sealed && (!next.sealed || !sameMembers(old, next)):
		return "the sealed set changed"
	// (13) a tombstone gains no branches.
	case old.tombstone && (!next.tombstone || !sameMembers(old, next)):
		return "a tombstone's branches changed"
	}
	for i, b := range old.branches {
		// Mostly none has joined since, and it stands where it stood.
		if i >= len(next.branches) || next.branches[i] != b && next.branches[i].compare(b) != 0 {
			var ok bool
			if i, ok = next.findStep(b.spec.GetId(), b.operation()); !ok {
				return fmt.Sprintf("branch %q left", b.spec.GetId())
			}
		}
		after := next.branches[i]
		switch {
		// (5) the first vote never changes.
		case b.vote != voteNone && (b.vote != after.vote || b.maybePrepared != after.maybePrepared || b.voted.value() != after.voted.value()):
			return fmt.Sprintf("branch %q: vote %v overwritten by %v", b.spec.GetId(), b.vote, after.vote)
		}
	}
	return ""
}

func sameMembers(a, b *transaction) bool {
	if len(a.branches) != len(b.branches) {
		return false
	}
	for i := range a.branches {
		if a.branches[i].compare(b.branches[i]) != 0 {
			return false
		}
	}
	return true
}

// compare orders branches by what names them.
func (b *branch) compare(other *branch) int {
	if mine, its := b.spec.GetId(), other.spec.GetId(); mine != its {
		return strings.Compare(mine, its)
	}
	return strings.Compare(b.operation(), other.operation())
}

// check is what must hold of a record at any time.
func (t *transaction) check() string {
	for i, b := range t.branches {
		if i > 0 && t.branches[i-1].compare(b) >= 0 {
			return "branches are not sorted by unique ids"
		}
	}
	if t.stopped && !t.ended() {
		return "stopped and not ended"
	}
	rules := t.rules()
	if !rules.votes {
		if breach := t.checkCalled(rules); breach != "" {
			return breach
		}
	}
	switch t.state {
	case StateActive, StateSealed:
		if t.decision != DecisionNone || t.finished != nil || t.tombstone {
			return fmt.Sprintf("%v with decision %v", t.state, t.decision)
		}
		for _, b := range t.branches {
			if b.vote == voteRefused && !rules.records || b.own != ownNone || b.resolved != logpb.Outcome_OUTCOME_UNSPECIFIED {
				return fmt.Sprintf("%v though branch %q has ended", t.state, b.spec.GetId())
			}
		}
		if t.sealed != (t.state == StateSealed) {
			return fmt.Sprintf("%v with sealed %v", t.state, t.sealed)
		}
		// (3) S implies a vote missing or a held branch in the set.
		if t.state == StateSealed && t.allVoted() && !t.anyHeld() {
			return "sealed though every vote is in and no branch is held"
		}
	case StateCommitting, StateCommitted:
		// (2) C implies sealed, every vote prepared or read-only.
		if t.decision != DecisionCommit || !t.sealed || !t.allVoted() || t.tombstone {
			return "committed without every vote of a sealed set"
		}
	case StateRollingBack, StateRolledBack:
		if t.decision != DecisionRollback {
			return fmt.Sprintf("%v with decision %v", t.state, t.decision)
		}
	default:
		return fmt.Sprintf("no state %d", t.state)
	}
	// (6) C+ and R+ if and only if decided and every branch terminal.
	if t.decision != DecisionNone && t.ended() != t.allTerminal() {
		return fmt.Sprintf("%v though all branches terminal is %v", t.state, t.allTerminal())
	}
	return ""
}

// checkCalled is what must hold of a record whose branches are called.
func (t *transaction) checkCalled(rules *modeRules) string {
	switch {
	case t.state == StateActive && !rules.begins, t.state == StateSealed && rules.phaseOne == 0:
		return fmt.Sprintf("a %s in %v", rules.name, t.state)
	}
	for _, b := range t.branches {
		switch {
		case b.hint || b.spec.GetHeld():
			return fmt.Sprintf("branch %q would vote", b.spec.GetId())
		case b.vote != voteNone && !rules.waits && !rules.records:
			return fmt.Sprintf("branch %q has voted", b.spec.GetId())
		case b.vote != voteNone && rules.waits && !t.callable(b):
			return fmt.Sprintf("branch %q was answered before it could be called", b.spec.GetId())
		case b.operation() != "" && !rules.records:
			return fmt.Sprintf("branch %q was recorded", b.spec.GetId())
		case t.ended() && len(b.spec.GetPayload()) > 0:
			return fmt.Sprintf("ended with the payload of branch %q", b.spec.GetId())
		}
	}
	return ""
}

// checkDrop is invariant (9): what section 1 asks of a record before it goes.
func (s *State) checkDrop(t *transaction) string {
	switch {
	case !t.droppable():
		return "dropped though a branch's own word is missing"
	case t.gid.BornMS() > s.horizonMS || t.finished.value().clockMS > s.horizonMS:
		return "dropped before the horizon was raised"
	}
	return ""
}

// CheckInvariants looks at the whole state and returns what it finds wrong,
// wrapped in ErrInvariant. It costs time in proportion to the state: tests call
// it after every step, and so does Apply under the build tag "invariants".
func (s *State) CheckInvariants() error {
	for _, check := range []func() error{
		s.checkRecords, s.checkClock, s.checkLists,
	} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvariant, err)
		}
	}
	return nil
}

// checkRecords recomputes the digest (15), the figures and the keys.
func (s *State) checkRecords() error {
	fresh := New()
	count := 0
	for at := range s.begun.all() {
		t := s.find(at.GID)
		if t == nil {
			return fmt.Errorf("%s is listed and missing", at.GID)
		}
		count++
		if breach := t.check(); breach != "" && !t.quarantined {
			return fmt.Errorf("%s: %s", at.GID, breach)
		}
		if filed := t.filedMS != 0; filed != t.droppable() {
			return fmt.Errorf("%s: filed is %v", at.GID, filed)
		}
		if s.spare.has(t) {
			return fmt.Errorf("%s stands in memory that the next record is made in", at.GID)
		}
		if w := t.written; w != "" && w != string(appendBegin(nil, t.begin)) {
			return fmt.Errorf("%s: its begin is written otherwise than it was", at.GID)
		}
		h := hashRecord(appendTransaction(nil, t))
		if t.unhashedAt == 0 && h != t.hash {
			return fmt.Errorf("%s: its hash is %s, kept as %s", at.GID, h, t.hash)
		}
		if i := int(t.unhashedAt); i > len(s.unhashed) || i > 0 && s.unhashed[i-1] != t {
			return fmt.Errorf("%s: it is not among the unhashed at %d", at.GID, i)
		}
		fresh.records = fresh.records.plus(h)
		fresh.account(t, +1)
		if text := t.begin.GetKey(); text != "" {
			fresh.keys[key{t.begin.GetNamespace(), text}] = t.gid
			if s.keys[key{t.begin.GetNamespace(), text}] != t.gid {
				return fmt.Errorf("%s: key %q stands for another", at.GID, text)
			}
		}
		for _, b := range t.branches {
			if b.idle != (t.decision != DecisionNone && t.idleBranch(b)) {
				return fmt.Errorf("%s: branch %q is idle: %v", at.GID, b.spec.GetId(), b.idle)
			}
		}
		// (12) no verdict commit outside the set.
		if t.verdict("\x00nobody") == VerdictCommit {
			return fmt.Errorf("%s: a stranger would commit", at.GID)
		}
	}
	fresh.counts.Finished = s.stubs.len()
	switch {
	case count != len(s.live)+s.stubs.len():
		return fmt.Errorf("%d records listed, %d live and %d filed", count, len(s.live), s.stubs.len())
	case fresh.records != s.allRecords():
		return fmt.Errorf("digest of the records is %s, kept as %s", fresh.records, s.allRecords())
	case s.hashSettings() != s.settings:
		return fmt.Errorf("hash of the settings is not what is kept")
	case fresh.counts != s.counts:
		return fmt.Errorf("figures are %+v, kept as %+v", fresh.counts, s.counts)
	case len(fresh.keys) != len(s.keys):
		return fmt.Errorf("%d keys, kept %d", len(fresh.keys), len(s.keys))
	}
	return nil
}

// checkLists compares heap and list with what they should hold: (7), (8).
func (s *State) checkLists() error {
	live, onDeadline, oldest := 0, 0, uint64(noneBornMS)
	for at := range s.unfiled.all() {
		t := s.live[at.GID]
		if t == nil {
			return fmt.Errorf("%s is listed as live and is not", at.GID)
		}
		live++
		if i, ok := s.deadlines.place[t.gid]; ok != onHeap(t) {
			return fmt.Errorf("%s in state %v: in the deadline heap is %v", at.GID, t.state, ok)
		} else if ok {
			onDeadline++
			if s.deadlines.items[i] != (heapKey{heapTime(t), t.order()}) {
				return fmt.Errorf("%s: its deadline in the heap is wrong", at.GID)
			}
		}
		if born := t.gid.BornMS(); !t.ended() && born <= s.horizonMS {
			oldest = min(oldest, born)
		}
		if t.due != t.anyDue() {
			return fmt.Errorf("%s: is due is %v", at.GID, t.due)
		}
		if t.doubtIndex != t.oldestDoubt() {
			return fmt.Errorf("%s: its oldest vote in doubt is of entry %d, kept as %d", at.GID, t.oldestDoubt(), t.doubtIndex)
		}
	}
	switch {
	case live != len(s.live):
		return fmt.Errorf("%d live records listed of %d", live, len(s.live))
	case onDeadline != s.deadlines.len():
		return fmt.Errorf("the heap holds %d, should hold %d", s.deadlines.len(), onDeadline)
	case !s.aged && oldest != s.oldestMS:
		return fmt.Errorf("the oldest that has not ended is born at %d, kept as %d", oldest, s.oldestMS)
	}
	if err := s.checkChunks(); err != nil {
		return err
	}
	return s.checkHeap(&s.deadlines)
}

// checkChunks compares what chunks hold and sum up with the live records.
func (s *State) checkChunks() error {
	dues := 0
	for _, c := range s.unfiled.chunks {
		for i, p := range c.places {
			if t := c.records[i]; !p.gone && t != s.live[p.at.GID] || p.gone && t != nil {
				return fmt.Errorf("%s: the record in order is another one", p.at.GID)
			}
		}
		want := tallyOf(c.records)
		if c.dues != want.dues || c.doubts != want.doubts || want.doubts > 0 && c.doubtIndex > want.doubtIndex || c.bornMS > want.bornMS {
			return fmt.Errorf("a chunk is summed up as %+v, holds %+v", c.tally, want)
		}
		dues += c.dues
	}
	if dues != s.unfiled.dues {
		return fmt.Errorf("%d transactions are due, counted %d", dues, s.unfiled.dues)
	}
	return nil
}

func (s *State) checkHeap(heaps ...*heap) error {
	for _, h := range heaps {
		for i, k := range h.items {
			if i > 0 && k.less(h.items[(i-1)/2]) {
				return fmt.Errorf("a heap is out of order at %s", k.order.GID)
			}
			if h.place[k.order.GID] != i {
				return fmt.Errorf("a heap has lost %s", k.order.GID)
			}
		}
	}
	return nil
}

// checkClock: (11); that neither falls is asserted where they are set, by max.
func (s *State) checkClock() error {
	if s.horizonMS > s.clockMS {
		return fmt.Errorf("horizon %d is after the clock %d", s.horizonMS, s.clockMS)
	}
	if s.stubs.len() > 0 {
		gid, _ := s.stubs.oldest()
		if t := s.find(gid); t == nil || t.filedMS != s.stubs.headMS {
			return fmt.Errorf("the oldest filed record is not %s", gid)
		}
	}
	return nil
}
