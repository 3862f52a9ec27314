package coordinator

// list is a doubly linked list of deliveries through links that they carry, so
// that leaving one costs nothing and needs no search. A delivery is in at most
// one list of each kind.
type list struct {
	of          linkKind
	first, last *delivery
	length      int
}

type linkKind uint8

const (
	// queueLink: waiting for something, or in flight, by lane or resource.
	queueLink linkKind = iota
	// dueLink: every due branch, in the order in which they became due.
	dueLink
	linkKinds
)

type link struct {
	in         *list
	prev, next *delivery
}

func (l *list) push(d *delivery) {
	d.links[l.of] = link{in: l, prev: l.last}
	if l.last != nil {
		l.last.links[l.of].next = d
	} else {
		l.first = d
	}
	l.last = d
	l.length++
}

func (l *list) next(d *delivery) *delivery { return d.links[l.of].next }

// leave takes d out of the list of this kind that it is in, if any.
func (d *delivery) leave(kind linkKind) {
	at := d.links[kind]
	l := at.in
	if l == nil {
		return
	}
	if at.prev != nil {
		at.prev.links[kind].next = at.next
	} else {
		l.first = at.next
	}
	if at.next != nil {
		at.next.links[kind].prev = at.prev
	} else {
		l.last = at.prev
	}
	l.length--
	d.links[kind] = link{}
}

// all returns the list's deliveries, so that they can be moved while ranging.
func (l *list) all() []*delivery {
	out := make([]*delivery, 0, l.length)
	for d := l.first; d != nil; d = l.next(d) {
		out = append(out, d)
	}
	return out
}
