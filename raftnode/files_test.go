package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A directory whose names did not get to the disk is an error, and so is one that is gone:
// what was just written there may be lost with the power.
func TestNamesThatAreNotSyncedAreAnError(t *testing.T) {
	dir := t.TempDir()
	must(t, syncDir(dir))
	if err := syncDir(filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	const unsyncable = "/proc" // no file system for files: its fsync is refused
	if _, err := os.Stat(unsyncable); err == nil {
		if err := syncDir(unsyncable); err == nil {
			t.Error("a directory that cannot be synced passes for one that was")
		}
	}
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first, and longer", "second"} {
		must(t, writeFile(path, []byte(content)))
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q, %v, want %q", got, err, content)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := writeFile(filepath.Join(dir, "gone", "file"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into a directory that is not there: %v", err)
	}
}

// A cluster whose nodes are all restarted, and again before they have done anything, has
// lost nothing, and forgotten nothing that it had said: what a first start leaves is as
// good a start as what it found. With a snapshot below the log, and without.
func TestTwoRestartsInARow(t *testing.T) {
	for _, store := range []string{LogStoreWAL, LogStoreBolt} {
		for _, snapshot := range []bool{false, true} {
			t.Run(fmt.Sprint(store, ", snapshot ", snapshot), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.LogStore = store })
				c.fill("x", 40)
				index := c.set("last", "1")
				c.converge("last", "1")
				if snapshot {
					for _, m := range c.members {
						must(t, m.Snapshot(c.ctx()))
					}
					index = c.set("last", "2")
					c.converge("last", "2")
				}
				term := c.leader().Status().Term
				want := c.members[0].get("last")
				for range 2 {
					for _, m := range c.members {
						c.stop(m)
					}
					for _, m := range c.members {
						c.start(m)
					}
				}
				if next := c.set("after", "1"); next <= index {
					t.Errorf("the next command got index %d, after %d", next, index)
				}
				c.converge("after", "1")
				for _, m := range c.members {
					if m.get("last") != want || m.get("x39") != "x" {
						t.Errorf("node %s holds last=%q x39=%q", m.self, m.get("last"), m.get("x39"))
					}
				}
				if got := c.leader().Status().Term; got <= term {
					t.Errorf("term %d after restarts, %d before", got, term)
				}
			})
		}
	}
}
