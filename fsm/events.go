package fsm

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

// Events returns what happened after an index, in order: whole entries, and
// after at least most events no further one. oldest is the smallest index to
// go on from; ok is false when after is older, so that events are missing.
func (s *State) Events(after uint64, most int) (events []Event, oldest uint64, ok bool) {
	r := &s.events
	if after < r.gone {
		return nil, r.gone, false
	}
	for i := r.search(after); i < r.count; i++ {
		n := r.at(i)
		if len(events) >= most && n.at.index != events[len(events)-1].Index {
			break
		}
		events = n.appendTo(events)
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
	for i := r.search(after); i < r.count; i++ {
		n := r.at(i)
		if n.dropped() || len(gids) > 0 && gids[len(gids)-1] == n.gid {
			continue
		}
		gids = append(gids, n.gid)
	}
	return gids, true
}

// tell adds the events that the change from old to next made. A record that
// was not there before is nil, and so is one that is dropped.
func (s *State) tell(old, next *transaction) {
	if next == nil {
		s.emit(old, append(s.events.room(), happened{kind: EventDropped}))
		return
	}
	all := s.events.room()
	if old == nil {
		old = new(transaction)
		if !next.tombstone {
			all = append(all, happened{kind: EventBegun})
		}
	}
	before, none := old.branches, branch{}
	for _, b := range next.branches {
		// Both lists are sorted and members never leave: walk them together.
		was := &none
		if len(before) > 0 && before[0].compare(b) == 0 {
			was, before = before[0], before[1:]
		}
		if was == b {
			continue
		}
		id := b.spec.GetId()
		if !b.hint && (was.spec == nil || was.hint) {
			all = append(all, happened{EventEnlisted, id})
		}
		if was.vote != b.vote {
			all = append(all, happened{EventVoted, id})
		}
		if was.own != b.own {
			all = append(all, happened{EventReported, id})
		}
		if was.resolved != b.resolved {
			all = append(all, happened{EventResolved, id})
		}
	}
	if !old.sealed && next.sealed {
		all = append(all, happened{kind: EventSealed})
	}
	if old.decision != next.decision {
		all = append(all, happened{kind: EventDecided})
	}
	if !old.ended() && next.ended() {
		all = append(all, happened{kind: EventFinished})
	}
	if !old.quarantined && next.quarantined {
		all = append(all, happened{kind: EventQuarantined})
	}
	s.emit(next, all)
}

// emit adds what happened to t, if anything.
func (s *State) emit(t *transaction, all []happened) {
	if len(all) == 0 {
		return
	}
	s.events.add(news{
		at: s.stamped(), gid: t.gid, namespace: t.begin.GetNamespace(), all: s.events.shared(all),
		state: uint8(t.state), decision: uint8(t.decision),
	})
}
