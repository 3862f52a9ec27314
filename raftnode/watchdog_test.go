package raftnode

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdogTellsAStalledDiskFromAStoppedProcess: a node whose process was
// stopped for longer than the limit, in the middle of a write, ended itself when
// it went on: "the disk does not answer".
func TestWatchdogTellsAStalledDiskFromAStoppedProcess(t *testing.T) {
	const limit = 10 * time.Second
	from := time.Now()
	w := &watchdog{max: limit, slice: limit / watchSlices, last: from}
	if w.count(from.Add(time.Second)) || w.count(from.Add(time.Hour)) {
		t.Fatal("an hour in which the process did not run was counted")
	}
	at := from.Add(time.Hour)
	for n := 1; ; n++ {
		at = at.Add(time.Second)
		if late := w.count(at); late {
			if n != 7 { // 1 s before the stop, 2 s for it
				t.Errorf("late after %d s more, want 7", n)
			}
			return
		}
		if n > 10 {
			t.Fatal("a disk that stalls is never noticed")
		}
	}
}

func TestWatchdogBarksInTimeAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		barked := make(chan time.Duration, 10)
		w := watch(10*time.Second, func() { barked <- time.Since(began) })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if len(barked) != 0 {
			t.Fatalf("barked after %v", <-barked)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(barked) != 1 {
			t.Fatalf("barked %d times, want once", len(barked))
		}
		if after := <-barked; after != 10*time.Second {
			t.Errorf("barked after %v, want 10 s", after)
		}
		w.stop()

		quiet := watch(10*time.Second, func() { t.Error("a stopped watchdog barked") })
		time.Sleep(5 * time.Second)
		quiet.stop()
		time.Sleep(time.Minute)
	})
}
