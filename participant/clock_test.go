package participant

import (
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// "Epoch = (incarnation of the cluster, term), compared in order": after a restore
// or a forced recovery terms may begin lower than they were, and the word of the
// incarnation before is older all the same.
func TestEpochsAreComparedInOrder(t *testing.T) {
	ascending := []epoch{{0, 1}, {0, 9}, {1, 2}, {1, 3}, {2, 1}}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := a.less(b); got != (i < j) {
				t.Errorf("%v before %v: %v", a, b, got)
			}
		}
	}
}

// A transaction is young while its evidence cannot have been swept: it was made less than
// youngMax ago, by a clock that was heard just now.
func TestYoungByTheClockAsHeard(t *testing.T) {
	c := realClient{&Client{}}
	heard := func(clockMS uint64, ago time.Duration) {
		t.Helper()
		c.clock = clock{}
		if err := c.clock.hear(&quoratev1.ResponseHeader{ClockMs: clockMS}); err != nil {
			t.Fatal(err)
		}
		c.clock.at = time.Now().Add(-ago)
	}
	max := uint64(youngMax.Milliseconds())
	for name, test := range map[string]struct {
		now  uint64
		ago  time.Duration
		want bool
	}{
		"just made":                       {bornMS, 0, true},
		"made by a clock not yet heard":   {bornMS - 1000, 0, true},
		"nearly too old":                  {bornMS + max - 1000, 0, true},
		"too old":                         {bornMS + max, 0, false},
		"too old since the clock's time":  {bornMS + max - 1000, 2 * time.Second, false},
		"a clock that was heard long ago": {bornMS, heardFresh, false},
		"no clock was heard":              {0, 0, true},
	} {
		heard(test.now, test.ago)
		if name == "no clock was heard" {
			c.clock, test.want = clock{}, false
		}
		_, gid := globalBorn(t, bornMS)
		if got := c.young(gid); got != test.want {
			t.Errorf("%s: young %t", name, got)
		}
	}
}
