package raftnode

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// toldFile is a file that notes what it is asked for, and fails where it is told to.
type toldFile struct {
	writtenFile
	asked []string
	fails map[string]error // once each
	part  int              // of what a failing write is given is written
}

func (f *toldFile) ask(what string) error {
	f.asked = append(f.asked, what)
	err := f.fails[what]
	delete(f.fails, what)
	return err
}

func (f *toldFile) Write(b []byte) (int, error) {
	if err := f.ask("write"); err != nil {
		n, _ := f.writtenFile.Write(b[:min(f.part, len(b))])
		return n, err
	}
	return f.writtenFile.Write(b)
}

func (f *toldFile) Truncate(n int64) error {
	return errors.Join(f.ask("truncate"), f.writtenFile.Truncate(n))
}
func (f *toldFile) Sync() error  { return errors.Join(f.ask("sync"), f.writtenFile.Sync()) }
func (f *toldFile) Close() error { return errors.Join(f.ask("close"), f.writtenFile.Close()) }

// TestContent_ReadsAsItWasWritten: whatever its length, past the page cache and through
// it, also where a file system refuses the former only once it is written to.
func TestContent_ReadsAsItWasWritten(t *testing.T) {
	random := rand.NewChaCha8([32]byte{7})
	all := make([]byte, 3*contentBufferBytes+17)
	_, err := random.Read(all)
	must(t, err)
	for way, prepare := range map[string]func(w *contentWriter){
		"as it comes":   func(*contentWriter) {},
		"through":       func(w *contentWriter) { w.direct = false; must(t, throughCache(w.f)) },
		"refused later": func(w *contentWriter) { w.f.(*toldFile).fails = map[string]error{"write": syscall.EOPNOTSUPP} },
		"refused in the midst": func(w *contentWriter) {
			told := w.f.(*toldFile)
			told.fails, told.part = map[string]error{"write": syscall.EINVAL}, contentAlign
		},
	} {
		for _, size := range []int{
			0, 1, contentAlign - 1, contentAlign, contentAlign + 1,
			contentBufferBytes - 1, contentBufferBytes, contentBufferBytes + 1, len(all),
		} {
			dir := t.TempDir()
			w, err := createContent(dir)
			must(t, err)
			w.f = &toldFile{writtenFile: w.f}
			prepare(w)
			for rest := all[:size]; len(rest) > 0; {
				n := min(len(rest), 1+int(random.Uint64()%200_000))
				if got, err := w.Write(rest[:n]); got != n || err != nil {
					t.Fatalf("%s, of %d bytes: %d of %d were written, %v", way, size, got, n, err)
				}
				rest = rest[n:]
			}
			n, err := w.finish()
			must(t, err)
			content, err := openContent(dir, n)
			if err != nil {
				t.Fatalf("%s, of %d bytes: %v", way, size, err)
			}
			got, err := io.ReadAll(content)
			must(t, errors.Join(err, content.Close()))
			if !bytes.Equal(got, all[:size]) || n.bytes != int64(size) {
				t.Errorf("%s: %d bytes were written, %d noted, and others read, %d", way, size, n.bytes, len(got))
			}
		}
	}
}

// TestContent_IsDurableBeforeItIsNoted: nothing is asked of the file after its last sync,
// and what fails on the way makes no note.
func TestContent_IsDurableBeforeItIsNoted(t *testing.T) {
	for _, fails := range []string{"", "write", "truncate", "sync", "close"} {
		w, err := createContent(t.TempDir())
		must(t, err)
		told := &toldFile{writtenFile: w.f, fails: map[string]error{fails: errors.New("the disk says no")}}
		w.f = told
		_, err = w.Write(make([]byte, contentBufferBytes/2))
		must(t, err)
		_, err = w.finish()
		if (err == nil) != (fails == "") {
			t.Errorf("where %q fails: %v", fails, err)
		}
		if want := []string{"write", "truncate", "sync", "close"}; fails == "" && !slices.Equal(told.asked, want) {
			t.Errorf("the file is asked for %v, want %v", told.asked, want)
		}
		if !slices.Contains(told.asked, "close") {
			t.Errorf("where %q fails the file stays open", fails)
		}
	}
}

// snapshotsOf opens the snapshots of an empty directory, and tells what ends the node.
func snapshotsOf(t *testing.T) (s *snapshotStore, failed chan error, create func(index uint64) *snapshotSink) {
	t.Helper()
	failed = make(chan error, 1)
	cfg := &Config{DataDir: t.TempDir(), SnapshotsKept: 2, Logger: slog.New(slog.DiscardHandler)}
	s, err := openSnapshots(cfg, newFailStop(func(err error) { failed <- err }))
	must(t, err)
	_, trans := raft.NewInmemTransport("here")
	return s, failed, func(index uint64) *snapshotSink {
		t.Helper()
		sink, err := s.Create(1, index, 3, raft.Configuration{}, 1, trans)
		must(t, err)
		return sink.(*snapshotSink)
	}
}

// TestContent_ThatCannotBeWrittenEndsTheNode, and the snapshot has no name.
func TestContent_ThatCannotBeWrittenEndsTheNode(t *testing.T) {
	for _, fails := range []string{"write", "sync"} {
		s, failed, create := snapshotsOf(t)
		sink := create(7)
		sink.content.f = &toldFile{writtenFile: sink.content.f, fails: map[string]error{fails: errors.New("the disk says no")}}
		_, err := sink.Write(make([]byte, contentBufferBytes))
		if err == nil {
			err = sink.Close()
		} else {
			must(t, sink.Cancel())
		}
		if err == nil || <-failed == nil {
			t.Errorf("where %q fails the node goes on", fails)
		}
		if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
			t.Errorf("where %q fails there is left %v, %v", fails, left, err)
		}
	}
}

// TestContent_OfAnEarlierVersion: a snapshot that the library was given whole is read.
func TestContent_OfAnEarlierVersion(t *testing.T) {
	s, _, _ := snapshotsOf(t)
	_, trans := raft.NewInmemTransport("here")
	for i, text := range []string{"", "Q", snapshotMagic + "........and so on"} {
		sink, err := s.inner.Create(1, uint64(i+1), 3, raft.Configuration{}, 1, trans)
		must(t, err)
		_, err = io.WriteString(sink, text)
		must(t, err)
		must(t, sink.Close())
		meta, content, err := s.Open(sink.ID())
		must(t, err)
		got, err := io.ReadAll(content)
		must(t, errors.Join(err, content.Close()))
		if string(got) != text || meta.Size != int64(len(text)) {
			t.Errorf("%q is read as %q of %d bytes", text, got, meta.Size)
		}
	}
}

// TestContent_AnEndLeavesNoFileOpen: neither a snapshot that is finished nor one that is
// given up.
func TestContent_AnEndLeavesNoFileOpen(t *testing.T) {
	s, _, create := snapshotsOf(t)
	kept, dropped := create(7), create(8)
	for _, sink := range []*snapshotSink{kept, dropped} {
		_, err := sink.Write([]byte("state"))
		must(t, err)
	}
	must(t, kept.Close())
	must(t, dropped.Cancel())
	for _, sink := range []*snapshotSink{kept, dropped} {
		if err := sink.content.f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the file was left open: %v", err)
		}
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "*", contentFile))
	if err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
}

// writesSink counts what the library is given.
type writesSink struct {
	raft.SnapshotSink
	writes int
}

func (s *writesSink) Write(b []byte) (int, error) {
	s.writes++
	return s.SnapshotSink.Write(b)
}

// TestContent_HasADurableNameBeforeItIsNoted: a note whose content a power cut has taken
// would be a damaged snapshot. Here the directory of the name cannot be synced, for it is
// gone.
func TestContent_HasADurableNameBeforeItIsNoted(t *testing.T) {
	_, failed, create := snapshotsOf(t)
	sink := create(7)
	library := &writesSink{SnapshotSink: sink.SnapshotSink}
	sink.SnapshotSink = library
	must(t, os.RemoveAll(sink.path()+unfinished))
	if err := sink.Close(); err == nil || <-failed == nil || library.writes > 0 {
		t.Errorf("%d notes were made of a content without a name, %v", library.writes, err)
	}
}
