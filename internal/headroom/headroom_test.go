package headroom

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

func TestBytesFollowTheMemoryThatThereIs(t *testing.T) {
	for memory, want := range map[uint64]uint64{0: BytesMax, 1 << 40: BytesMax, 8 << 30: BytesMax, 4 << 30: 128 << 20, 512 << 20: 16 << 20} {
		if got := Bytes(memory); got != want {
			t.Errorf("of %d MiB: %d MiB, want %d", memory>>20, got>>20, want>>20)
		}
	}
}

func TestPercentIsTheHeadroomsOrGosOwn(t *testing.T) {
	for _, c := range []struct {
		bytes, marked uint64
		want          int
	}{
		{256 << 20, 16 << 20, 1600}, {256 << 20, 256 << 20, 100}, {256 << 20, 10 << 30, 100}, {256 << 20, 0, 6400}, {256 << 20, 3 << 20, 6400},
		{300, 5 << 20, 100}, {100 << 20, 30 << 20, 334},
	} {
		if got := percentFor(c.bytes, c.marked); got != c.want {
			t.Errorf("%d bytes over %d: %d %%, want %d", c.bytes, c.marked, got, c.want)
		}
	}
}

// goal is the size of the heap at which the next collection ends.
func goal() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// percentage reads what SetGCPercent set, without setting it.
func percentage() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// TestTheGoalIsAHeadroomAboveWhatLives, follows what lives up and down, and is Go's own
// once that is more than the headroom. What was set before comes back.
func TestTheGoalIsAHeadroomAboveWhatLives(t *testing.T) {
	const room = 32 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	stop := keep(room)
	roomy := func() bool {
		runtime.GC()
		live := marked()
		return goal() > live+room*8/10 && goal() < live+room*13/10
	}
	testkit.Eventually(t, 10*time.Second, roomy)
	var keptAlive [][]byte
	for range 64 {
		keptAlive = append(keptAlive, make([]byte, 1<<20))
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		runtime.GC()
		return percentage() == percentLeast
	})
	runtime.KeepAlive(keptAlive)
	testkit.Eventually(t, 10*time.Second, roomy)
	stop()
	if got := percentage(); got != 100 {
		t.Errorf("%d %% afterwards, want 100", got)
	}
}

func TestTheUsersWordStands(t *testing.T) {
	t.Setenv(Variable, "77")
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	var log strings.Builder
	stop := Keep(slog.New(slog.NewTextHandler(&log, nil)))
	runtime.GC()
	if percentage() != 77 || !strings.Contains(log.String(), "GOGC=77") {
		t.Errorf("%d %%, %s", percentage(), &log)
	}
	stop()
	if percentage() != 77 {
		t.Errorf("%d %% afterwards", percentage())
	}
}

func TestAvailableIsTheLeastThatIsKnown(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got := readMeminfo(file("MemFree: 5 kB\nMemTotal:       24576 kB\n")); got != 24<<20 {
		t.Errorf("meminfo: %d", got)
	}
	if got := readLimit(file("1048576\n")); got != 1<<20 {
		t.Errorf("a limit: %d", got)
	}
	if readLimit(file("max\n")) != 0 || readLimit("/nowhere") != 0 || readMeminfo("/nowhere") != 0 {
		t.Error("what is not known is 0")
	}
	if least(0, 7, 0, 5) != 5 || least(0, 0) != 0 {
		t.Error("the least of those that are known")
	}
}
