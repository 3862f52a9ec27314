package fsm

import "sort"

// EventKind says what happened to a transaction. The numbers are those of the
// API.
type EventKind uint8

// The kinds of events.
const (
	EventBegun EventKind = iota + 1
	EventEnlisted
	EventVoted
	EventSealed
	EventDecided
	EventReported
	EventResolved
	EventFinished
	EventDropped
	EventQuarantined
)

// EventsKept is how many of the latest events can be read.
const EventsKept = 65536

// Event is one thing that happened to a transaction. Events are not part of the
// replicated state: they are told from the change of a record, and are gone
// after a restart.
type Event struct {
	Index, Term, ClockMS, WallMS uint64
	GID                          GID
	Namespace                    string
	Kind                         EventKind
	// Branch is "" for what happened to the whole transaction.
	Branch   string
	State    TxState
	Decision Decision
}

// event is an Event as it is kept: what it has in common with others of its entry
// stands once.
type event struct {
	at                *stamp
	gid               GID
	namespace, branch string
	kind              EventKind
	state, decision   uint8
}

func (e *event) told() Event {
	return Event{
		Index: e.at.index, Term: e.at.term, ClockMS: e.at.clockMS, WallMS: e.at.wallMS,
		GID: e.gid, Namespace: e.namespace, Kind: e.kind, Branch: e.branch,
		State: TxState(e.state), Decision: Decision(e.decision),
	}
}

// eventRing holds the latest events, oldest first from start on.
type eventRing struct {
	ring  []event
	start int
	// stamps are places for those of later entries; now is that of the latest event.
	stamps []stamp
	now    *stamp
	// gone is the newest index of which an event was let go.
	gone uint64
}

func (r *eventRing) add(e event) {
	if len(r.ring) < EventsKept {
		r.ring = append(r.ring, e)
		return
	}
	r.gone = r.ring[r.start].at.index
	r.ring[r.start] = e
	r.start = (r.start + 1) % EventsKept
}

func (r *eventRing) at(i int) *event { return &r.ring[(r.start+i)%len(r.ring)] }

// stamp is where and when the next events happen, once for all of an entry.
func (r *eventRing) stamp(now stamp) *stamp {
	if r.now != nil && *r.now == now {
		return r.now
	}
	if len(r.stamps) == 0 {
		r.stamps = make([]stamp, 64)
	}
	r.now, r.stamps = &r.stamps[0], r.stamps[1:]
	*r.now = now
	return r.now
}

// stamped is where and when what is made now happens: the same for all of an entry.
func (s *State) stamped() *stamp { return s.events.stamp(s.now) }

// search finds the first event after an index.
func (r *eventRing) search(after uint64) int {
	return sort.Search(len(r.ring), func(i int) bool { return r.at(i).at.index > after })
}

// Events returns what happened after an index, in order: whole entries, and
// after at least most events no further one. oldest is the smallest index to
// go on from; ok is false when after is older, so that events are missing.
func (s *State) Events(after uint64, most int) (events []Event, oldest uint64, ok bool) {
	r := &s.events
	if after < r.gone {
		return nil, r.gone, false
	}
	n := len(r.ring)
	for i := r.search(after); i < n; i++ {
		e := r.at(i)
		if len(events) >= most && e.at.index != events[len(events)-1].Index {
			break
		}
		events = append(events, e.told())
	}
	return events, r.gone, true
}

// Touched appends to gids those of the transactions that something happened to after
// an index, in the order in which it did, and may repeat them. It leaves out what only
// dropped them. ok is false where events are missing.
func (s *State) Touched(after uint64, gids []GID) (touched []GID, ok bool) {
	r := &s.events
	if after < r.gone {
		return gids, false
	}
	n := len(r.ring)
	for i := r.search(after); i < n; i++ {
		e := r.at(i)
		if e.kind == EventDropped || len(gids) > 0 && gids[len(gids)-1] == e.gid {
			continue
		}
		gids = append(gids, e.gid)
	}
	return gids, true
}

// tell adds the events that the change from old to next made. A record that
// was not there before is nil, and so is one that is dropped.
func (s *State) tell(old, next *transaction) {
	if next == nil {
		s.emit(old, EventDropped, "")
		return
	}
	if old == nil {
		old = new(transaction)
		if !next.tombstone {
			s.emit(next, EventBegun, "")
		}
	}
	before, none := old.branches, branch{}
	for _, b := range next.branches {
		// Both lists are sorted and members never leave: walk them together.
		was := &none
		if len(before) > 0 && before[0].compare(b) == 0 {
			was, before = before[0], before[1:]
		}
		id := b.spec.GetId()
		if !b.hint && (was.spec == nil || was.hint) {
			s.emit(next, EventEnlisted, id)
		}
		if was.vote != b.vote {
			s.emit(next, EventVoted, id)
		}
		if was.own != b.own {
			s.emit(next, EventReported, id)
		}
		if was.resolved != b.resolved {
			s.emit(next, EventResolved, id)
		}
	}
	if !old.sealed && next.sealed {
		s.emit(next, EventSealed, "")
	}
	if old.decision != next.decision {
		s.emit(next, EventDecided, "")
	}
	if !old.ended() && next.ended() {
		s.emit(next, EventFinished, "")
	}
	if !old.quarantined && next.quarantined {
		s.emit(next, EventQuarantined, "")
	}
}

func (s *State) emit(t *transaction, kind EventKind, branch string) {
	s.events.add(event{
		at: s.stamped(), gid: t.gid, namespace: t.begin.GetNamespace(), kind: kind, branch: branch,
		state: uint8(t.state), decision: uint8(t.decision),
	})
}
