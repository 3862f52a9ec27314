package fsm

// slab gives out pieces of arrays: the collector sees one object where there would
// be many. Whoever keeps a piece keeps its neighbours, and must let go of it before
// the slab is used again.
type slab[T any] struct {
	pieces []T
	used   int
	given  int // since the last reset, of arrays before this one, too
}

const (
	// slabMin bounds what is made at once for commands that may be of another kind.
	slabMin = 16
	// slabMax bounds what is kept for the next batch.
	slabMax = 1024
)

// one gives a piece; more is how many may be asked for yet.
func (s *slab[T]) one(more int) *T { return &s.some(1, more)[0] }

// some gives n pieces in a row; more is how often so many may be asked for yet.
func (s *slab[T]) some(n, more int) []T {
	if n == 0 {
		return nil
	}
	s.given += n
	if len(s.pieces)-s.used < n {
		// Pieces given out stay where they are.
		s.pieces, s.used = make([]T, max(n, min(n*(more+1), max(slabMin, 2*len(s.pieces))))), 0
	}
	p := s.pieces[s.used : s.used+n : s.used+n]
	s.used += n
	return p
}

// reset makes all pieces free again, and empty, and makes room for as many as were
// given since the last: batches are mostly as large as the one before.
func (s *slab[T]) reset() {
	switch most := min(s.given, slabMax); {
	case len(s.pieces) > slabMax, len(s.pieces) < most:
		s.pieces = make([]T, most)
	default:
		clear(s.pieces[:s.used])
	}
	s.used, s.given = 0, 0
}
