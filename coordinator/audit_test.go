package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// peersFunc is Peers.
type peersFunc func(index uint64) (map[string]fsm.Digest, int, error)

func (f peersFunc) DigestsAt(_ context.Context, index uint64) (map[string]fsm.Digest, int, error) {
	return f(index)
}

// GUARANTEES.md S17: "equal index, equal digest on all nodes; a node that differs
// from the majority stops, loudly".
func TestVerdictOnDigests(t *testing.T) {
	a, b, x := fsm.Digest{1}, fsm.Digest{2}, fsm.Digest{3}
	for name, c := range map[string]struct {
		others           map[string]fsm.Digest
		voters, differ   int
		agreed, minority bool
	}{
		"alone":                      {nil, 1, 0, true, false},
		"all equal":                  {map[string]fsm.Digest{"2": a, "3": a}, 3, 0, true, false},
		"one differs":                {map[string]fsm.Digest{"2": a, "3": b}, 3, 1, true, false},
		"one is not heard":           {map[string]fsm.Digest{"2": a}, 3, 0, true, false},
		"nobody is heard":            {nil, 3, 0, false, false},
		"the leader differs":         {map[string]fsm.Digest{"2": b, "3": b}, 3, 2, false, true},
		"everybody differs":          {map[string]fsm.Digest{"2": b, "3": x}, 3, 2, false, false},
		"one differs, one is silent": {map[string]fsm.Digest{"2": b}, 3, 1, false, false},
		"two of five differ alike":   {map[string]fsm.Digest{"2": b, "3": b, "4": a, "5": a}, 5, 2, true, false},
		"three of five differ alike": {map[string]fsm.Digest{"2": b, "3": b, "4": b, "5": a}, 5, 3, false, true},
		"and one by itself":          {map[string]fsm.Digest{"2": b, "3": b, "4": b, "5": x}, 5, 4, false, true},
	} {
		for range 30 { // in whatever order they are looked at
			v := verdictOn(a, c.others, c.voters)
			if len(v.differ) != c.differ || v.agreed != c.agreed || v.minority != c.minority || !slices.IsSorted(v.differ) {
				t.Errorf("%s: %+v", name, v)
			}
		}
	}
}

func TestAuditPutsIntoTheLogWhatAQuorumAgreesOn(t *testing.T) {
	var mu sync.Mutex
	var n *node
	answer := func(mine fsm.Digest) (map[string]fsm.Digest, int, error) {
		return map[string]fsm.Digest{"2": mine, "3": mine}, 3, nil
	}
	fatal := make(chan error, 1)
	asked := 0
	n = newNode(t, func(c *Config) {
		c.Settings.AuditInterval = 5 * time.Millisecond
		c.Fatal = func(err error) { fatal <- err }
		c.Peers = peersFunc(func(index uint64) (map[string]fsm.Digest, int, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			var mine fsm.Digest
			c.Log.View(func(s *fsm.State) { mine, _ = s.DigestAt(index) })
			return answer(mine)
		})
	})
	checks := make(chan *logpb.CheckDigest, 100)
	n.log.meet(func(commands []*logpb.Command) error {
		for _, c := range commands {
			if d := c.GetCheckDigest(); d != nil {
				checks <- d
			}
		}
		return nil
	}, nil)
	became := func(f func(mine fsm.Digest) (map[string]fsm.Digest, int, error)) {
		mu.Lock()
		defer mu.Unlock()
		answer, asked = f, 0
	}
	rounds := func(k int) {
		t.Helper()
		testkit.Eventually(t, 10*time.Second, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return asked >= k
		}, "%d rounds", k)
	}
	rounds(3)
	if len(checks) != 0 {
		t.Error("everybody agrees, and the log was told")
	}
	became(func(fsm.Digest) (map[string]fsm.Digest, int, error) { return nil, 0, errors.New("no route") })
	rounds(2)
	became(func(mine fsm.Digest) (map[string]fsm.Digest, int, error) {
		return map[string]fsm.Digest{"2": mine, "3": {9}}, 3, nil
	})
	select {
	case d := <-checks:
		if d.GetIndex() == 0 || len(d.GetDigest()) != len(fsm.Digest{}) {
			t.Errorf("check %v", d)
		}
	case <-n.ctx.Done():
		t.Fatal("a node differs, and the log was not told")
	}
	became(func(fsm.Digest) (map[string]fsm.Digest, int, error) {
		return map[string]fsm.Digest{"2": {9}, "3": {9}}, 3, nil
	})
	select {
	case err := <-fatal:
		if !errors.Is(err, ErrMinority) {
			t.Errorf("stopped by %v", err)
		}
	case <-n.ctx.Done():
		t.Fatal("a leader in the minority goes on")
	}
}
