package raftnode

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	walfs "github.com/hashicorp/raft-wal/fs"
)

// TestZeroAhead_TheFileIsTheSame: what raft-wal appends, over zeros that were written
// ahead, over what a crash left behind, and up to the file's end and beyond it, reads
// as it does in a file without them.
func TestZeroAhead_TheFileIsTheSame(t *testing.T) {
	const size = 3*zeroAheadBytes + 5000
	dir := t.TempDir()
	plain, err := walfs.New().Create(dir, "plain", size)
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := newZeroAheadFS().Create(dir, "ahead", size)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ahead.(*zeroAheadFile); !ok {
		t.Fatalf("raft-wal's files are %T: nothing is written ahead in them", ahead)
	}
	at := int64(0)
	add := func(length int) {
		t.Helper()
		b := bytes.Repeat([]byte{byte(at%251) + 1}, length)
		for _, f := range []interface {
			WriteAt([]byte, int64) (int, error)
			Sync() error
		}{plain, ahead} {
			if n, err := f.WriteAt(b, at); n != length || err != nil {
				t.Fatalf("%d bytes of %d at %d: %v", n, length, at, err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		at += int64(length)
	}
	compare := func() {
		t.Helper()
		a, err := os.ReadFile(filepath.Join(dir, "plain"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "ahead"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("the files differ, of %d and %d bytes", len(a), len(b))
		}
	}
	add(32)
	for range 40 {
		add(700)
	}
	compare()
	add(zeroAheadBytes + 17)
	compare()

	if err := ahead.Close(); err != nil {
		t.Fatal(err)
	}
	if ahead, err = newZeroAheadFS().OpenWriter(dir, "ahead"); err != nil {
		t.Fatal(err)
	}
	add(900)
	compare()
	for at < size {
		add(70_000)
		compare()
	}
	add(70_000) // raft-wal's last batch may pass the limit
	compare()
}

// TestZeroAhead_BlocksAreWrittenAhead: behind each write stand written zeros, up to the
// file's end, whatever stood there before.
func TestZeroAhead_BlocksAreWrittenAhead(t *testing.T) {
	const size = 2*zeroAheadBytes + 100
	torn := bytes.Repeat([]byte("torn"), size/4)
	path := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := newZeroAheadFS().OpenWriter(filepath.Split(path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, step := range []struct{ at, length, upTo int }{
		{1000, 500, 1500 + zeroAheadBytes},
		{1500, 100, 1500 + zeroAheadBytes}, // there is room yet
		{1600, zeroAheadBytes, size},
	} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{1}, step.length), int64(step.at)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		end := step.at + step.length
		if behind := content[end:step.upTo]; len(bytes.Trim(behind, "\x00")) > 0 {
			t.Errorf("after %d bytes at %d there are no zeros up to %d", step.length, step.at, step.upTo)
		}
		if !bytes.Equal(content[step.upTo:], torn[step.upTo:]) {
			t.Errorf("after %d bytes at %d more was written than up to %d", step.length, step.at, step.upTo)
		}
	}
}
