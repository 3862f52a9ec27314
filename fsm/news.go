package fsm

import (
	"slices"
	"sort"
)

// A change of a record makes several events, and those of most transactions are alike but
// for the GID. So they are kept by the change, with what happened as a list that many have in
// common: a command writes some dozen words into the ring instead of a hundred.

// news is what one change of a record made.
type news struct {
	at        *stamp
	gid       GID
	namespace string
	// all is what happened, in order, at least one thing. It is shared.
	all             *[]happened
	state, decision uint8
}

// happened is one thing, and the branch that it happened to: "" for the whole transaction.
type happened struct {
	kind   EventKind
	branch string
}

// appendTo appends the events.
func (n *news) appendTo(events []Event) []Event {
	for _, h := range *n.all {
		events = append(events, Event{
			Index: n.at.index, Term: n.at.term, ClockMS: n.at.clockMS, WallMS: n.at.wallMS,
			GID: n.gid, Namespace: n.namespace, Kind: h.kind, Branch: h.branch,
			State: TxState(n.state), Decision: Decision(n.decision),
		})
	}
	return events
}

// dropped says that the record is gone, which is told alone.
func (n *news) dropped() bool { return (*n.all)[0].kind == EventDropped }

// eventRing holds the latest events, EventsKept at most, by the changes that made them.
type eventRing struct {
	ring []news // count of them from start on, oldest first
	// start is the place of the oldest, and count how many there are.
	start, count int
	// events is how many events they make.
	events int
	// stamps are places for those of later entries; now is that of the latest event.
	stamps []stamp
	now    *stamp
	// gone is the newest index of which an event was let go.
	gone uint64
	// draft is memory for what happens now, and known are lists that many have in common.
	draft []happened
	known [knownLists]*[]happened
}

// knownLists is a power of two: lists choose their places by what is in them, and one that
// pushes another out is made again when it comes again.
const knownLists = 64

// ringMin is how many changes there is room for at first.
const ringMin = 64

// add takes the latest change in, and lets go of the oldest for it.
func (r *eventRing) add(n news) {
	for r.events += len(*n.all); r.events > EventsKept && r.count > 0; {
		oldest := r.at(0)
		r.gone = oldest.at.index
		r.events -= len(*oldest.all)
		*oldest = news{}
		r.start, r.count = (r.start+1)%len(r.ring), r.count-1
	}
	if r.count == len(r.ring) {
		ring := make([]news, max(ringMin, 2*len(r.ring)))
		copy(ring[copy(ring, r.ring[r.start:]):], r.ring[:r.start])
		r.ring, r.start = ring, 0
	}
	r.count++
	*r.at(r.count - 1) = n
}

// at is the i-th of the changes, from the oldest.
func (r *eventRing) at(i int) *news {
	if i += r.start; i >= len(r.ring) {
		i -= len(r.ring)
	}
	return &r.ring[i]
}

// room is where the next list of what happened is made.
func (r *eventRing) room() []happened { return r.draft[:0] }

// shared is a list with the same in it as all, which was made in room: it is used again.
func (r *eventRing) shared(all []happened) *[]happened {
	r.draft = all
	place := uint(len(all))
	for _, h := range all {
		place = place*31 + uint(h.kind) + uint(len(h.branch))
	}
	known := &r.known[place%knownLists]
	if *known == nil || !slices.Equal(**known, all) {
		list := slices.Clone(all)
		*known = &list
	}
	return *known
}

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

// search finds the first change after an index.
func (r *eventRing) search(after uint64) int {
	return sort.Search(r.count, func(i int) bool { return r.at(i).at.index > after })
}
