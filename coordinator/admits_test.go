package coordinator

import "testing"

// TestEachShareOfThePoolEndsWhereItSays: of a pool of 64, an eighth is 8. What is
// in flight is one below each bound, then at it.
func TestEachShareOfThePoolEndsWhereItSays(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.CallsMax = 64 })
	c := w.core
	called := &resource{calls: 1}
	newcomer := &resource{}
	slow := &resource{hanging: 1, answered: true}
	failing := &resource{failures: 1}
	failingCalled := &resource{failures: 1, calls: 1}
	well := &resource{answered: true}
	for _, test := range []struct {
		name string
		r    *resource
		h    host
		set  func(h *host, n int)
		most int
		want standing
	}{
		{"the pool", well, host{}, func(_ *host, n int) { c.calls = n }, 64, standingWell},
		{"vouched for, calls of the host", newcomer, host{answered: true}, func(h *host, n int) { h.calls = n }, 32, standingVouched},
		{"new, what is new", newcomer, host{}, func(_ *host, n int) { c.unproven = n }, 16, standingUnproven},
		{"new, what is new or doubtful", newcomer, host{}, func(_ *host, n int) { c.unproven, c.doubtful = 10, n-10 }, 40, standingUnproven},
		{"new and called, what is new or doubtful", called, host{}, func(_ *host, n int) { c.unproven, c.doubtful = 3, n-3 }, 8, standingUnproven},
		{"new, what is new of the host", newcomer, host{}, func(h *host, n int) { h.unproven = n }, 8, standingUnproven},
		{"new, what is new or doubtful of the host", newcomer, host{}, func(h *host, n int) { h.unproven, h.doubtful = 4, n-4 }, 16, standingUnproven},
		{"slow, what is doubtful", slow, host{}, func(_ *host, n int) { c.doubtful = n }, 32, standingSlow},
		{"failing, what is repeated", failing, host{}, func(_ *host, n int) { c.repeated = n }, 16, standingFailing},
		{"failing, what is repeated of the host", failing, host{}, func(h *host, n int) { h.repeated = n }, 8, standingFailing},
		{"failing and called, what is doubtful", failingCalled, host{}, func(_ *host, n int) { c.doubtful = n }, 32, standingFailing},
	} {
		for _, n := range []int{test.most - 1, test.most} {
			h := test.h
			test.r.host = &h
			c.calls, c.unproven, c.doubtful, c.repeated = 0, 0, 0, 0
			test.set(&h, n)
			if got := test.r.standing(); got != test.want {
				t.Errorf("%s: it stands at %d, want %d", test.name, got, test.want)
			}
			if got := c.admits(test.r); got != (n < test.most) {
				t.Errorf("%s: with %d of %d a call is admitted: %v", test.name, n, test.most, got)
			}
		}
	}
	// One of many that fail is called again however much is in doubt.
	failing.host = &host{}
	c.calls, c.unproven, c.doubtful, c.repeated = 0, 0, 60, 0
	if !c.admits(failing) {
		t.Error("what failed has no turn while others hang")
	}
	c.calls, c.doubtful = 0, 0
}
