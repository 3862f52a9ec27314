package raftnode

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// What the stores take for a crash, and is none: an end that was damaged, or an
// older file, and the snapshots and the identity as they were.
func TestHighwater_TheEndOfTheLogIsLost(t *testing.T) {
	for name, test := range map[string]struct {
		store  string
		damage func(t *testing.T, dir, older string)
	}{
		"bbolt: the newest meta page": {LogStoreBolt, func(t *testing.T, dir, _ string) {
			// The pages take turns; without the newer one it is the state before.
			path := filepath.Join(dir, "log.db")
			content, err := os.ReadFile(path)
			must(t, err)
			newest := 0
			if txid(content[4096:]) > txid(content) {
				newest = 4096
			}
			overwrite(t, path, int64(newest), make([]byte, 512))
		}},
		"bbolt: an older file": {LogStoreBolt, func(t *testing.T, dir, older string) {
			must(t, os.Rename(filepath.Join(older, "log.db"), filepath.Join(dir, "log.db")))
		}},
		"bbolt: no file": {LogStoreBolt, func(t *testing.T, dir, _ string) {
			must(t, os.Remove(filepath.Join(dir, "log.db")))
		}},
		"wal: the last file is cut off": {LogStoreWAL, func(t *testing.T, dir, _ string) {
			must(t, os.Truncate(tail(t, dir), 4000))
		}},
		"wal: a page in the middle of the last file": {LogStoreWAL, func(t *testing.T, dir, _ string) {
			overwrite(t, tail(t, dir), 4096, make([]byte, 4096))
		}},
		"wal: an older directory": {LogStoreWAL, func(t *testing.T, dir, older string) {
			must(t, os.RemoveAll(filepath.Join(dir, "wal")))
			must(t, os.Rename(filepath.Join(older, "wal"), filepath.Join(dir, "wal")))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, m := damaged(t, test.store)
			c.stop(m)
			older := filepath.Join(t.TempDir(), "older")
			must(t, os.CopyFS(older, os.DirFS(m.cfg.DataDir)))
			c.start(m)
			c.set("later", "1")
			c.stop(m)
			test.damage(t, m.cfg.DataDir, older)
			refuses(t, c, m, m.cfg.DataDir)
		})
	}
}

// txid reads the transaction of a meta page of bbolt's.
func txid(page []byte) (id uint64) {
	for i := 7; i >= 0; i-- { // after the page's head of 16 bytes and 48 of the meta
		id = id<<8 | uint64(page[16+48+i])
	}
	return id
}

func tail(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	must(t, err)
	return files[len(files)-1]
}

func overwrite(t *testing.T, path string, at int64, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(content, at)
	must(t, errors.Join(err, f.Close()))
}

// The mark itself: damaged it is refused; empty, as a power loss may leave a new
// one, or missing, as in directories of older versions, it says nothing.
func TestHighwater_TheMarkItself(t *testing.T) {
	c, m := damaged(t, LogStoreBolt)
	path := filepath.Join(m.cfg.DataDir, highwaterFile)
	for _, change := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.Truncate(path, 0) },
		func() error { return os.WriteFile(path, make([]byte, highwaterBytes), 0o600) },
	} {
		c.stop(m)
		must(t, change())
		c.start(m)
		c.set("x", "1")
	}
	c.stop(m)
	overwrite(t, path, 12, []byte{0xff})
	refuses(t, c, m, highwaterFile)
}

// Entries that a new leader's replace are not lost ones, also when the process
// ends between the two.
func TestHighwater_IsLoweredBeforeEntriesAreDeleted(t *testing.T) {
	c, m := damaged(t, LogStoreBolt)
	last := m.raft().LastIndex()
	c.stop(m)
	high, err := openHighwater(m.cfg.DataDir)
	must(t, err)
	if high.now.last != last || high.now.term == 0 || high.now.voteTerm == 0 {
		t.Errorf("the mark is %+v, the log ends at %d", high.now, last)
	}
	must(t, high.f.Close())
	fail := newFailStop(func(error) {})
	stores, err := openStores(&m.cfg, fail, new(histogram))
	must(t, err)
	stores.log.inner = failingDelete{stores.log.inner}
	if err := stores.log.DeleteRange(last-1, last); err == nil {
		t.Fatal("the deletion was to fail")
	}
	must(t, stores.close())
	c.start(m)
	c.set("x", "1")
}

type failingDelete struct{ raft.LogStore }

func (failingDelete) DeleteRange(_, _ uint64) error { return errors.New("the process ends here") }

// A term or a vote from before.
func TestHighwater_Vote(t *testing.T) {
	h := &highwater{path: "high", now: mark{term: 7, voteTerm: 6, vote: 1}}
	for _, test := range []struct {
		term, voteTerm uint64
		vote           uint32
		ok             bool
	}{
		{7, 6, 1, true}, {9, 8, 2, true}, {6, 6, 1, false}, {7, 5, 1, false}, {7, 6, 2, false}, {0, 0, 0, false},
	} {
		err := h.verifyVote(test.term, test.voteTerm, test.vote)
		if (err == nil) != test.ok || err != nil && !strings.Contains(err.Error(), "high") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
