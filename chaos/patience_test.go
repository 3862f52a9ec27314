package chaos

import (
	"strings"
	"testing"
)

// A heal goes on while some node comes nearer. One that stands still, that swings with
// the load, or that was only just met makes no progress.
func TestProgress(t *testing.T) {
	p := progress{}
	for i, step := range []struct {
		behind uint64
		nearer bool
	}{{100_000, false}, {100_000, false}, {99_900, false}, {99_700, true}, {120_000, false}, {99_650, false}, {3, true}, {0, true}, {500, false}, {0, false}} {
		if got := p.made([]distance{{"a", "n1", 0, 256}, {"b", "n3", step.behind, 256}}); got != step.nearer {
			t.Errorf("step %d, %d behind: nearer %t, want %t", i, step.behind, got, step.nearer)
		}
	}
	// A new node under an old name has a way of its own.
	if p.made([]distance{{"c", "n3", 400_000, 256}}) || !p.made([]distance{{"c", "n3", 399_000, 256}}) {
		t.Error("a node that joined anew is measured by the one that it replaces")
	}
	if text := p.String(); !strings.Contains(text, "n3 (c): 399000") {
		t.Errorf("it says %q", text)
	}
}
