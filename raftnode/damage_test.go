package raftnode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/testkit"
)

// damaged makes a stopped node with 100 entries, and one whose directory the
// test may damage.
func damaged(t *testing.T, store string) (*cluster, *member) {
	t.Helper()
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		cfg.LogStore = store
		cfg.EntryCommandsMax = 1
		cfg.TrailingEntries = 3
	})
	for i := range 100 {
		c.set(fmt.Sprintf("register-%03d", i), "the value")
	}
	return c, c.members[0]
}

// refuses checks that the node does not start and says why, where, and what to do.
func refuses(t *testing.T, c *cluster, m *member, file string) {
	t.Helper()
	err := c.open(m)
	if err == nil {
		t.Fatal("a node with damaged data has started")
	}
	for _, say := range []string{file, "remove its data directory", "--join"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("the error does not say %q: %v", say, err)
		}
	}
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("%v is not ErrDamaged", err)
	}
}

// flip changes one bit of the first place in any of the files that holds text.
func flip(t *testing.T, pattern, text string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		if at := bytes.LastIndex(content, []byte(text)); at >= 0 {
			content[at] ^= 0x10
			must(t, os.WriteFile(file, content, 0o600))
			return
		}
	}
	t.Fatalf("%q stands in none of %v", text, files)
}

// "A flipped bit on one node is detected: the node stops; never a wrong answer,
// never an election won with a damaged log." (S18)
func TestDamage_ALogEntry(t *testing.T) {
	for store, files := range map[string]string{LogStoreBolt: "log.db", LogStoreWAL: "wal/*.wal"} {
		t.Run(store, func(t *testing.T) {
			c, m := damaged(t, store)
			c.stop(m)
			flip(t, filepath.Join(m.cfg.DataDir, files), "register-050")
			refuses(t, c, m, filepath.Dir(files + "/x")[:3])
		})
	}
}

// The same in a node that runs: what it reads is verified, too.
func TestDamage_ALogEntryOfARunningNode(t *testing.T) {
	var d damagedLog
	c := newCluster(t, 3, func(i int, cfg *Config) {
		if i == 0 {
			cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore { d.LogStore = inner; return &d }
		}
	})
	c.set("x", "1")
	m := c.members[0]
	d.damaged.Store(true)
	apart(func() { _ = m.stores.log.GetLog(1, new(raft.Log)) })
	if err := m.stopped(t); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "log entry 1") {
		t.Fatalf("it stopped for %v", err)
	}
	c.stop(m)
	c.set("x", "2")
}

// damagedLog gives other bytes than were written.
type damagedLog struct {
	raft.LogStore
	damaged atomic.Bool
}

func (d *damagedLog) GetLog(index uint64, l *raft.Log) error {
	err := d.LogStore.GetLog(index, l)
	if d.damaged.Load() && len(l.Data) > 0 {
		l.Data = bytes.Clone(l.Data)
		l.Data[len(l.Data)/2] ^= 1
	}
	return err
}

// An entry that is gone, at either place. In raft-wal no entry can go by itself.
func TestDamage_AMissingEntry(t *testing.T) {
	for name, index := range map[string]uint64{"in the middle": 50, "at the beginning": 1} {
		t.Run(name, func(t *testing.T) {
			c, m := damaged(t, LogStoreBolt)
			c.stop(m)
			db, err := bbolt.Open(filepath.Join(m.cfg.DataDir, "log.db"), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("logs")).Delete([]byte{0, 0, 0, 0, 0, 0, 0, byte(index)})
			}))
			must(t, db.Close())
			refuses(t, c, m, "log.db")
		})
	}
}

// storeFiles are the files in which a log store keeps what a node relies on, as
// patterns below the data directory.
var storeFiles = map[string][]string{
	LogStoreBolt: {"log.db"},
	LogStoreWAL:  {"wal/*.wal", "wal/wal-meta.db"},
}

// stableAt is where a log store keeps term and vote, in a file of bbolt's.
var stableAt = map[string]struct{ file, bucket string }{
	LogStoreBolt: {"log.db", "conf"},
	LogStoreWAL:  {"wal/wal-meta.db", "stable"},
}

// one returns the one file that a pattern names.
func (m *member) one(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.cfg.DataDir, pattern))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("%s: %v", pattern, files)
	}
	return files[0]
}

// A file that was cut off: mapped pages fault on access.
func TestDamage_ATruncatedFile(t *testing.T) {
	for store, files := range storeFiles {
		for _, pattern := range files {
			for _, bytes := range []int64{100, 2 * 4096} {
				t.Run(fmt.Sprint(pattern, " to ", bytes), func(t *testing.T) {
					c, m := damaged(t, store)
					c.stop(m)
					must(t, os.Truncate(m.one(t, pattern), bytes))
					refuses(t, c, m, filepath.Dir(pattern + "/x")[:3])
				})
			}
		}
	}
}

// Pages of a file that hold something else.
func TestDamage_OverwrittenPages(t *testing.T) {
	for store, files := range storeFiles {
		for _, pattern := range files {
			for _, page := range []int64{0, 2, 5} {
				t.Run(fmt.Sprint(pattern, " from page ", page), func(t *testing.T) {
					c, m := damaged(t, store)
					c.stop(m)
					path := m.one(t, pattern)
					size, held := held(t, path)
					if page*4096 >= held {
						t.Logf("nothing stands there: the file holds %d bytes", held)
						return
					}
					f, err := os.OpenFile(path, os.O_WRONLY, 0)
					must(t, err)
					_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size-page*4096)), page*4096)
					must(t, err)
					must(t, f.Close())
					refuses(t, c, m, filepath.Dir(pattern + "/x")[:3])
				})
			}
		}
	}
}

// held returns a file's size, and up to where it holds anything but zeros.
func held(t *testing.T, path string) (size, held int64) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return int64(len(content)), int64(len(bytes.TrimRight(content, "\x00")))
}

// A file that is gone. raft-wal takes a log without the file that says which
// segments there are for a new one, and removes them; they must still be there.
func TestDamage_AMissingFile(t *testing.T) {
	for store, files := range storeFiles {
		for _, pattern := range files {
			t.Run(pattern, func(t *testing.T) {
				c, m := damaged(t, store)
				c.stop(m)
				must(t, os.Remove(m.one(t, pattern)))
				refuses(t, c, m, filepath.Dir(pattern + "/x")[:3])
				for _, other := range files {
					if other != pattern {
						m.one(t, other)
					}
				}
			})
		}
	}
}

// Term and vote: with a damaged vote a node might vote twice.
func TestDamage_TheVote(t *testing.T) {
	for _, key := range []string{keyVote, "CurrentTerm"} {
		t.Run(key, func(t *testing.T) {
			for store, at := range stableAt {
				c, m := damaged(t, store)
				c.stop(m)
				db, err := bbolt.Open(filepath.Join(m.cfg.DataDir, at.file), 0o600, nil)
				must(t, err)
				must(t, db.Update(func(tx *bbolt.Tx) error {
					b := tx.Bucket([]byte(at.bucket))
					value := bytes.Clone(b.Get([]byte(key)))
					value[7] ^= 1
					return b.Put([]byte(key), value)
				}))
				must(t, db.Close())
				refuses(t, c, m, at.file[:3])
			}
		})
	}
}

// The library would go back to an older snapshot, which the log does not reach.
func TestDamage_ASnapshot(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"a flipped bit": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, contentFile), "register-050") },
		"truncated":     func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, contentFile), 100)) },
		"no content":    func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, contentFile))) },
		"another note":  func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "state.bin"), noteMagic) },
		"a short note":  func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "state.bin"), 10)) },
		"no note":       func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "state.bin"))) },
		"no meta":       func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "meta.json"))) },
		"empty meta":    func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "meta.json"), 0)) },
		"another index": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "meta.json"), `Index":`) },
		"another sum": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, metaSumFile), []byte("00000000"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, m := damaged(t, LogStoreDefault)
			must(t, m.Snapshot(c.ctx()))
			c.set("x", "1")
			must(t, m.Snapshot(c.ctx())) // two are kept
			c.stop(m)
			names, err := m.stores.snapshots.names()
			must(t, err)
			if len(names) != 2 {
				t.Fatalf("snapshots: %v", names)
			}
			damage(t, filepath.Join(m.cfg.DataDir, "snapshots", names[0]))
			refuses(t, c, m, names[0])
		})
	}
}

// Bytes as they were written, that the machine cannot read: from a later
// version, for example. No older snapshot takes its place.
func TestDamage_ASnapshotThatTheMachineCannotRead(t *testing.T) {
	for says, content := range map[string]string{
		"later version": "QRTSNAP9........",
		"its head":      "QRT",
		"invalid":       snapshotMagic + "\x00\x00\x00\x00\x00\x00\x00\x09nonsense",
	} {
		t.Run(says, func(t *testing.T) {
			c, m := damaged(t, LogStoreDefault)
			must(t, m.Snapshot(c.ctx()))
			write := func() {
				sink, err := m.stores.snapshots.inner.Create(1, m.raft().LastIndex()+1, m.raft().CurrentTerm(), m.raft().GetConfiguration().Configuration(), 1, m.trans)
				must(t, err)
				_, err = sink.Write([]byte(content))
				must(t, err)
				must(t, sink.Close())
			}
			write()
			joining := c.add()
			must(t, m.AddNonvoter(c.ctx(), joining.Identity().NodeID, joining.cfg.Address, joining.Identity().ClusterID))
			if err := joining.stopped(t); !strings.Contains(err.Error(), says) {
				t.Errorf("the node that was sent it stopped for %v", err)
			}
			c.stop(joining)
			c.stop(m)
			if err := c.open(m); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("the node that has it: %v", err)
			}
		})
	}
}

// All snapshots gone: the log begins too late.
func TestDamage_NoSnapshot(t *testing.T) {
	for store, files := range storeFiles {
		c, m := damaged(t, store)
		must(t, m.Snapshot(c.ctx()))
		c.stop(m)
		must(t, os.RemoveAll(filepath.Join(m.cfg.DataDir, "snapshots")))
		refuses(t, c, m, files[0][:3])
	}
}

// A snapshot that turns out damaged when a node is to be sent it.
func TestDamage_ASnapshotOfARunningNode(t *testing.T) {
	c, m := damaged(t, LogStoreDefault)
	must(t, m.Snapshot(c.ctx()))
	flip(t, filepath.Join(m.cfg.DataDir, "snapshots", "*", contentFile), "register-050")
	joining := c.add()
	// It may stop before it has answered for the new node.
	if err := m.AddNonvoter(c.ctx(), joining.Identity().NodeID, joining.cfg.Address, joining.Identity().ClusterID); err != nil && !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	if err := m.stopped(t); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "snapshots") {
		t.Fatalf("it stopped for %v", err)
	}
}

// What a crash leaves of a snapshot is swept away.
func TestDamage_AnUnfinishedSnapshotIsRemoved(t *testing.T) {
	c, m := damaged(t, LogStoreDefault)
	c.stop(m)
	left := filepath.Join(m.cfg.DataDir, "snapshots", "2-50-1000.tmp")
	must(t, os.MkdirAll(left, 0o700))
	c.start(m)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// A crash between the installed snapshot and the old log's end leaves both.
func TestDamage_ACrashBeforeTheOldLogIsDropped(t *testing.T) {
	for name, at := range map[string]struct{ index, term uint64 }{
		"the log had diverged": {60, 99},
		"the log was behind":   {1000, 99},
	} {
		t.Run(name, func(t *testing.T) {
			c, m := damaged(t, LogStoreDefault)
			state := newRegisters()
			state.state.Index = at.index
			snapshot := &pinned{state: state.Pin(), index: at.index}
			configuration := m.raft().GetConfiguration().Configuration()
			c.stop(m)
			store, err := raft.NewFileSnapshotStoreWithLogger(m.cfg.DataDir, 2, libraryLogger(m.cfg.Logger, "test"))
			must(t, err)
			sink, err := store.Create(1, at.index, at.term, configuration, 1, m.trans)
			must(t, err)
			must(t, snapshot.Persist(sink))
			writeTerm(t, m, at.term) // taken with the leader's first message
			c.start(m)
			c.leader()
			first, err := m.stores.log.FirstIndex()
			if err != nil || first != at.index+1 {
				t.Errorf("the log begins at %d (%v), the snapshot ends at %d", first, err, at.index)
			}
		})
	}
}

// A data directory belongs to one node of one cluster, and to one process.
func TestDirectory(t *testing.T) {
	c := newCluster(t, 1, nil)
	m := c.members[0]
	second := m.cfg
	second.Address = fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	if _, err := Open(second, newRegisters()); !errors.Is(err, ErrDirectoryLocked) {
		t.Errorf("two processes share a directory: %v", err)
	}
	c.stop(m)
	for _, test := range []struct {
		name   string
		change func(cfg *Config)
		want   error
		says   string
	}{
		{"another node", func(cfg *Config) { cfg.NodeID = newUUID() }, ErrOtherNode, m.cfg.DataDir},
		{"another log store", func(cfg *Config) { cfg.LogStore = LogStoreBolt }, nil, `holds wal, so it was made with the log store "wal"`},
		{"an unreadable identity", func(cfg *Config) { rewrite(t, cfg, "{") }, ErrDamaged, "identity.json"},
		{"no node id", func(cfg *Config) { rewrite(t, cfg, "{}") }, ErrDamaged, "identity.json"},
		{"a wrong checksum", func(cfg *Config) { rewrite(t, cfg, `{"node_id":"`+newUUID()+`","checksum":"00000000"}`) }, ErrDamaged, "checksum"},
		{"a bad cluster id", func(cfg *Config) { rewrite(t, cfg, `{"node_id":"`+newUUID()+`","cluster_id":"x"}`) }, ErrDamaged, "cluster id"},
		{"no identity", func(cfg *Config) { must(t, os.Remove(filepath.Join(cfg.DataDir, "identity.json"))) }, ErrDamaged, "no identity.json"},
	} {
		cfg := m.cfg
		test.change(&cfg)
		_, err := Open(cfg, newRegisters())
		if err == nil || (test.want != nil && !errors.Is(err, test.want)) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	cfg := testConfig(t)
	cfg.NodeID = "n1"
	if _, err := Open(cfg, newRegisters()); err == nil || !strings.Contains(err.Error(), "is no UUID") {
		t.Errorf("a node id that is no UUID: %v", err)
	}
	cfg = testConfig(t)
	must(t, os.WriteFile(cfg.DataDir, nil, 0o600))
	if _, err := Open(cfg, newRegisters()); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func rewrite(t *testing.T, cfg *Config, identity string) {
	must(t, os.WriteFile(filepath.Join(cfg.DataDir, "identity.json"), []byte(identity), 0o600))
}

// A digit of meta.json that is another digit is JSON as good as before: only its
// sum tells. A snapshot without a sum is one of an earlier version.
func TestDamage_ADigitOfASnapshotsMeta(t *testing.T) {
	c, m := damaged(t, LogStoreDefault)
	must(t, m.Snapshot(c.ctx()))
	c.stop(m)
	names, err := m.stores.snapshots.names()
	must(t, err)
	dir := filepath.Join(m.cfg.DataDir, "snapshots", names[0])
	meta, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	must(t, err)
	at := bytes.Index(meta, []byte(`"Term":`)) + len(`"Term":`)
	digit := meta[at]
	meta[at] = digit ^ 0x01
	must(t, os.WriteFile(filepath.Join(dir, "meta.json"), meta, 0o600))
	refuses(t, c, m, metaSumFile)

	meta[at] = digit
	must(t, os.WriteFile(filepath.Join(dir, "meta.json"), meta, 0o600))
	must(t, os.Remove(filepath.Join(dir, metaSumFile)))
	must(t, c.open(m))
}

// A checksum covers all that an entry says, and where it stands: an entry of another
// term, at another place, or of another kind (a command taken for a no-op is never
// applied) is as wrong as one with other bytes.
func TestDamage_AnyFieldOfAnEntry(t *testing.T) {
	whole := raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("the value")}
	sum := checksum(&whole)
	for name, damage := range map[string]func(*raft.Log){
		"nothing": func(*raft.Log) {},
		"index":   func(l *raft.Log) { l.Index ^= 1 << 40 },
		"term":    func(l *raft.Log) { l.Term ^= 1 << 63 },
		"type":    func(l *raft.Log) { l.Type = raft.LogNoop },
		"data":    func(l *raft.Log) { l.Data[0] ^= 1 },
		"end":     func(l *raft.Log) { l.Data = l.Data[:len(l.Data)-1] },
		"sum":     func(l *raft.Log) { l.Extensions[3] ^= 1 },
		"no sum":  func(l *raft.Log) { l.Extensions = nil },
	} {
		l := whole
		l.Data, l.Extensions = bytes.Clone(whole.Data), bytes.Clone(sum)
		damage(&l)
		if err := verifyEntry(l.Index, &l); errors.Is(err, ErrDamaged) == (name == "nothing") {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
}

// A data directory keeps the log store that it was made with, whatever is the
// default of a new one.
func TestDirectory_KeepsItsLogStore(t *testing.T) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL, ""} {
		c, m := damaged(t, store)
		want := store
		if want == "" {
			want = LogStoreDefault
		}
		for range 2 {
			if got := m.Status().LogStore; got != want {
				t.Fatalf("made with %q, it has %q", want, got)
			}
			c.stop(m)
			m.cfg.LogStore = ""
			c.start(m)
			c.leader()
		}
		if m.get("register-050") != "the value" {
			t.Errorf("%q: it does not hold what it held", store)
		}
	}
}
