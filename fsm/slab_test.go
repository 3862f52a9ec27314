package fsm

import "testing"

// Batches are mostly as large as the one before: a slab that was too small for one has
// room for the next, however the first was asked for.
func TestSlabHasRoomForTheSameAgain(t *testing.T) {
	for _, count := range []int{1, 16, 17, 64, 100, 500} {
		var s slab[int]
		first := s.some(2, count-1)
		for left := count - 2; left >= 0; left-- {
			s.some(2, left)
		}
		s.reset()
		room := &s.some(2, count-1)[0]
		for left := count - 2; left >= 0; left-- {
			for _, v := range s.some(2, left) {
				if v != 0 {
					t.Fatalf("%d: a piece is not empty", count)
				}
			}
		}
		if &s.pieces[0] != room || s.used != 2*count {
			t.Errorf("%d: another array was made for as many again", count)
		}
		first[0] = 7 // who has a piece of before does no harm
		s.reset()
		if s.some(1, 0)[0] != 0 {
			t.Errorf("%d: a piece that is kept was given out again", count)
		}
	}
	var s slab[int]
	s.some(3*slabMax, 0)
	if s.reset(); len(s.pieces) > slabMax {
		t.Errorf("%d pieces are kept", len(s.pieces))
	}
}
