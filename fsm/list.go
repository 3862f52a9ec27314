package fsm

import (
	"iter"

	"github.com/quorate/quorate/fsm/logpb"
)

// Cursor is a place in the stable order of records: begin index, then GID.
type Cursor struct {
	Index uint64
	GID   GID
}

// How much one List reads when the query does not say.
const (
	ListLimitDefault = 100
	ListScanDefault  = 10_000
)

// ListQuery says what List reads.
type ListQuery struct {
	// Finished ones too; without it, only those that retention does not wait
	// for yet.
	Finished bool
	// Keep chooses; nil keeps all. It must not change its argument.
	Keep func(*logpb.Transaction) bool
	// LimitMax is how many are returned at most.
	LimitMax int
	// ScanMax is how many are looked at at most.
	ScanMax int
}

// ListPage is a page; while More, the next one is read after Next.
type ListPage struct {
	Transactions []*logpb.Transaction
	Next         Cursor
	More         bool
}

// List reads a page of what stands after a cursor. A bounded scan may return
// fewer than LimitMax, even none, with More set.
func (s *State) List(after Cursor, q ListQuery) ListPage {
	limit, scan := q.LimitMax, q.ScanMax
	if limit <= 0 {
		limit = ListLimitDefault
	}
	if scan <= 0 {
		scan = ListScanDefault
	}
	page := ListPage{Next: after}
	from := &s.unfiled
	if q.Finished {
		from = &s.begun
	}
	for at := range from.after(after) {
		if len(page.Transactions) >= limit || scan == 0 {
			page.More = true
			break
		}
		scan--
		page.Next = at
		if t := s.find(at.GID).proto(); q.Keep == nil || q.Keep(t) {
			page.Transactions = append(page.Transactions, t)
		}
	}
	return page
}

// Unfiled appends to gids up to most of the records after a cursor that are not
// filed, in their stable order; while more, the next ones are read after next.
func (s *State) Unfiled(after Cursor, most int, gids []GID) (page []GID, next Cursor, more bool) {
	next = after
	for at := range s.unfiled.after(after) {
		if most == 0 {
			return gids, next, true
		}
		most--
		gids, next = append(gids, at.GID), at
	}
	return gids, next, false
}

// Active walks the records that are not filed, in their stable order: what is
// undecided, what is not told everywhere, and what waits for a branch's own
// word or for an operator.
func (s *State) Active() iter.Seq[*logpb.Transaction] {
	return func(yield func(*logpb.Transaction) bool) {
		for at := range s.unfiled.all() {
			if !yield(s.live[at.GID].proto()) {
				return
			}
		}
	}
}
