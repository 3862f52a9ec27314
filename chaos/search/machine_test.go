package search

import (
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/fsm"
)

// TestMergedStatesBehaveAlike: a world holds the number of a machine's state, and
// states that differ only in what no rule may depend on have one number. So two
// logs that lead to one number must be continued alike: each letter answered
// alike, and led to one number again.
func TestMergedStatesBehaveAlike(t *testing.T) {
	for _, mode := range []Mode{Explicit, Named, Fast} {
		t.Run(string(mode), func(t *testing.T) {
			m, err := newMachines(smallest(mode))
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, uint64(len(mode))))
			merged := 0
			for range 3000 {
				path, at := randomPath(m, random)
				first := m.all[at].path
				if len(first) == len(path) {
					continue // most likely the same letters
				}
				merged++
				l := randomLetter(m, random, path[len(path)-1].clock)
				n1, r1 := continued(t, m, first, l)
				n2, r2 := continued(t, m, path, l)
				if n1 != n2 || r1.Code != r2.Code || r1.Decision != r2.Decision || r1.Verdict != r2.Verdict || r1.State != r2.State {
					t.Fatalf("%v\nand\n%v\nare one state, but %v leads to %d and %d, and is answered\n%+v\n%+v", first, path, l, n1, n2, r1, r2)
				}
			}
			if merged < 500 {
				t.Errorf("only %d pairs were compared", merged)
			}
		})
	}
}

// randomPath applies some letters and returns where they lead.
func randomPath(m *machines, random *rand.Rand) (path []letter, at uint32) {
	clock := uint8(0)
	for range 1 + random.IntN(14) {
		l := randomLetter(m, random, clock)
		clock = l.clock
		path = append(path, l)
		at, _ = m.apply(at, l)
	}
	return path, at
}

func randomLetter(m *machines, random *rand.Rand, clock uint8) letter {
	for {
		c := command(random.IntN(letterCount))
		if m.commands[c] == nil {
			continue
		}
		if random.IntN(6) == 0 && int(clock) < clocksMax-1 {
			clock++
		}
		return letter{c, clock}
	}
}

func continued(t *testing.T, m *machines, path []letter, l letter) (uint32, fsm.Result) {
	t.Helper()
	s, err := m.replay(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.feed(s, uint64(len(path)+2), l)
	if err != nil {
		t.Fatal(err)
	}
	return m.intern(s, append(path[:len(path):len(path)], l)), r
}

func TestKeySet(t *testing.T) {
	s := newKeySet()
	random := rand.New(rand.NewPCG(1, 2))
	keys := make([]stateKey, 200_000) // beyond the first size, so that it grows
	for i := range keys {
		keys[i] = stateKey{random.Uint64N(1 << 20), random.Uint64N(1 << 10)}
	}
	known := map[stateKey]bool{{}: true}
	if !s.add(stateKey{}) || s.add(stateKey{}) {
		t.Error("the zero key is not taken in once")
	}
	for _, k := range keys {
		if s.add(k) == known[k] {
			t.Fatalf("%v: added %v", k, known[k])
		}
		known[k] = true
	}
	if s.len() != len(known) {
		t.Errorf("%d keys, want %d", s.len(), len(known))
	}
}
