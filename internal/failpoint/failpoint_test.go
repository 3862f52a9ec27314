package failpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// record replaces what ends the process by a list of what was done.
func record(t *testing.T) *[]string {
	t.Helper()
	var did []string
	k, e, s, st := kill, exit, sleep, stop
	kill = func() { did = append(did, "kill") }
	stop = func() { did = append(did, "stop") }
	exit = func(code int) {
		if code != ExitCode {
			t.Errorf("exit(%d), want %d", code, ExitCode)
		}
		did = append(did, "exit")
	}
	sleep = func(d time.Duration) { did = append(did, "pause "+d.String()) }
	t.Cleanup(func() {
		kill, exit, sleep, stop = k, e, s, st
		armed.Store(nil)
	})
	return &did
}

func TestHitFiresOnlyWhatIsArmed(t *testing.T) {
	did := record(t)
	if Armed() || Hit(Begun, "k") != nil {
		t.Fatal("something fires before anything is armed")
	}
	if err := Arm("begun@k1=kill; enlisted=exit;before-decision=pause(20ms);at-decision@k=error"); err != nil {
		t.Fatal(err)
	}
	if !Armed() {
		t.Fatal("armed and does not say so")
	}
	for _, name := range Names() {
		for _, key := range []string{"", "k1", "k2"} {
			if err := Hit(name, key); err != nil {
				t.Errorf("Hit(%s, %q): %v", name, key, err)
			}
		}
	}
	want := "kill,exit,exit,exit,pause 20ms,pause 20ms,pause 20ms"
	if got := strings.Join(*did, ","); got != want {
		t.Errorf("fired %s, want %s", got, want)
	}
	if err := Hit(AtDecision, "k"); !errors.Is(err, ErrInjected) {
		t.Errorf("error action: %v", err)
	}
	if err := Arm(""); err != nil || Armed() {
		t.Errorf("disarm: %v, armed %v", err, Armed())
	}
}

// A key that ends in a star is every one that begins so, a branch's too, and no other.
func TestKeysThatBeginAlike(t *testing.T) {
	did := record(t)
	if err := Arm("begun@modes-saga-*=kill"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"modes-saga-7", "modes-saga-7#01", "modes-sagas", "modes-saga", "x-modes-saga-7", ""} {
		if err := Hit(Begun, key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	if len(*did) != 2 {
		t.Errorf("fired %d times, want for the first two keys", len(*did))
	}
}

// A note does nothing and is counted: it tells that a place was passed.
func TestNotesAndStops(t *testing.T) {
	did := record(t)
	hits := filepath.Join(t.TempDir(), "hits")
	if err := Arm("voted=note,hits=" + hits + ";begun=stop"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := Hit(Voted, "k"); err != nil {
			t.Fatal(err)
		}
	}
	_ = Hit(Begun, "k")
	if got := strings.Join(*did, ","); got != "stop" {
		t.Errorf("did %q, want one stop", got)
	}
	text, err := os.ReadFile(hits)
	if err != nil || strings.Count(string(text), "\n") != 3 {
		t.Errorf("counted %q, %v: want three lines", text, err)
	}
}

func TestOnceFiresOnceAcrossProcesses(t *testing.T) {
	did := record(t)
	file := filepath.Join(t.TempDir(), "fired")
	if err := Arm("all-reported=kill,once=" + file); err != nil {
		t.Fatal(err)
	}
	_ = Hit(AllReported, "a")
	_ = Hit(AllReported, "b")
	if len(*did) != 1 {
		t.Errorf("fired %d times, want once", len(*did))
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "all-reported pid=") {
		t.Errorf("the file says %q, %v", text, err)
	}
}

// A fault that begins and ends in a running process, and tells how often it was met.
func TestWhenFiresWhileItsFileExists(t *testing.T) {
	did := record(t)
	dir := t.TempDir()
	when, hits := filepath.Join(dir, "slow"), filepath.Join(dir, "hits")
	if err := Arm("store-write@log=pause(1s),when=" + when + ",hits=" + hits); err != nil {
		t.Fatal(err)
	}
	_ = Hit(StoreWrite, KeyLog)
	if err := os.WriteFile(when, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = Hit(StoreWrite, KeyLog)
	_ = Hit(StoreWrite, KeyLog)
	_ = Hit(StoreWrite, KeyStable)
	if err := os.Remove(when); err != nil {
		t.Fatal(err)
	}
	_ = Hit(StoreWrite, KeyLog)
	if len(*did) != 2 {
		t.Errorf("it fired %d times, want twice", len(*did))
	}
	if text, err := os.ReadFile(hits); err != nil || strings.Count(string(text), "store-write pid=") != 2 {
		t.Errorf("hits: %q, %v", text, err)
	}
}

// Pauses tells of what holds up whoever passes, at the places asked for alone.
func TestPauses(t *testing.T) {
	record(t)
	for spec, want := range map[string]bool{
		"begun=kill;voted=note;voted=error": false, "store-write=pause(1s)": false, "begun=note;voted@k=pause(1s)": true,
	} {
		if err := Arm(spec); err != nil {
			t.Fatal(err)
		}
		if Pauses(Begun, Voted) != want {
			t.Errorf("%s: pauses is not %v", spec, want)
		}
	}
	if err := Arm(""); err != nil || Pauses(Begun) {
		t.Errorf("nothing is armed, and it pauses: %v", err)
	}
}

func TestErrorsOfADisk(t *testing.T) {
	record(t)
	if err := Arm("store-write@log=error(ENOSPC);store-read=error(EIO)"); err != nil {
		t.Fatal(err)
	}
	if err := Hit(StoreWrite, KeyLog); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrInjected) {
		t.Errorf("a full disk: %v", err)
	}
	if err := Hit(StoreRead, KeyStable); !errors.Is(err, syscall.EIO) {
		t.Errorf("a bad block: %v", err)
	}
	if err := Hit(StoreWrite, KeyStable); err != nil {
		t.Errorf("the other store: %v", err)
	}
}

func TestArmRefusesWhatItDoesNotKnow(t *testing.T) {
	record(t)
	for spec, why := range map[string]string{
		"begun":                     "no action",
		"begin=kill":                "no failpoint is named",
		"begun=explode":             "unknown action",
		"begun=pause(soon)":         "positive duration",
		"begun=pause(-1s)":          "positive duration",
		"begun=pause(1s":            "unknown action",
		"begun=kill,twice=f":        "unknown option",
		"begun=kill,once=":          "unknown option",
		"begun=kill,once=f,when":    "unknown option",
		"begun=error(EBUSY)":        "EIO or ENOSPC",
		"begun=kill(1s)":            "unknown action",
		"begun=kill;enlisted@x=run": "unknown action",
	} {
		if err := Arm(spec); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Arm(%q) = %v, want it to say %q", spec, err, why)
		}
		if Armed() {
			t.Errorf("Arm(%q) armed something", spec)
		}
	}
}

func BenchmarkHitUnarmed(b *testing.B) {
	for b.Loop() {
		_ = Hit(AtDecision, "k")
	}
}
