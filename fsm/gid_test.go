package fsm

import (
	"errors"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"
)

// Our reading of a ULID is that of the reference implementation.
func TestGIDIsAULID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var random [10]byte
		copy(random[:], rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "random"))
		born := rapid.Uint64Max(MaxBornMS).Draw(t, "born")
		g := NewGID(born, random)
		u := ulid.ULID(g)
		if u.Time() != born || g.BornMS() != born || u.String() != g.String() || [10]byte(u.Entropy()) != random {
			t.Fatalf("%s is not %s", g, u)
		}
		for _, text := range []string{g.String(), strings.ToLower(g.String())} {
			back, err := ParseGID(text)
			if err != nil || back != g {
				t.Fatalf("%s reads as %s: %v", text, back, err)
			}
		}
		back, err := GIDFromBytes(g.Bytes())
		if err != nil || back != g {
			t.Fatalf("bytes: %v", err)
		}
	})
	if g := NewGID(MaxBornMS+1, [10]byte{}); g.BornMS() != 0 || !g.IsZero() {
		t.Errorf("cut to %d", g.BornMS())
	}
	if (GID{15: 1}).IsZero() {
		t.Error("not zero")
	}
}

func TestGIDRefusesGarbage(t *testing.T) {
	good := "01JD9S7KQ0ABCDEFGHJKMNPQRS"
	if g, err := ParseGID(good); err != nil || g.String() != good {
		t.Fatalf("%s: %v", g, err)
	}
	for _, bad := range []string{
		"", good[1:], good + "0", "8" + good[1:], "Z" + good[1:], "~" + good[1:], good[:25] + "I", good[:25] + "L", good[:25] + "O", good[:25] + "U",
		good[:25] + " ", good[:25] + "-", good[:25] + "i", good[:24] + "é", strings.Repeat("x", 1000), "1.2",
	} {
		if _, err := ParseGID(bad); !errors.Is(err, ErrGID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for n := range 40 {
		if _, err := GIDFromBytes(make([]byte, n)); (err == nil) != (n == 16) || err != nil && !errors.Is(err, ErrGID) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
