package raftnode

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/testkit"
)

// keepsLittle fails the test where the kernel has more than most of a file in memory. A
// file that nobody lets go of comes first: where it does not stay, or cannot be let go of
// (a file system in memory), the answer would mean nothing.
func keepsLittle(t *testing.T, path string, most int64) {
	t.Helper()
	const canaryBytes = 4 << 20
	canary := filepath.Join(filepath.Dir(path), "canary-of-cached")
	f, err := os.Create(canary)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(canary)
	defer f.Close()
	if _, err := f.Write(make([]byte, canaryBytes)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	stayed, ok := testkit.CachedBytes(t, canary)
	if !ok {
		return
	}
	forget(f, 0, canaryBytes)
	left, _ := testkit.CachedBytes(t, canary)
	if stayed < canaryBytes || left > 0 {
		t.Logf("not possible here: of %d bytes that were written %d stay in memory, and %d once they were let go of", canaryBytes, stayed, left)
		return
	}
	if n, _ := testkit.CachedBytes(t, path); n > most {
		t.Errorf("%s: %d bytes are in memory, more than %d", path, n, most)
	}
}

// TestForget_ALogThatGrows: a segment of the log keeps in memory what is about to be
// written and little else, and reads as it was written.
func TestForget_ALogThatGrows(t *testing.T) {
	const size = 16 << 20
	path := filepath.Join(t.TempDir(), "segment")
	f, err := newZeroAheadFS().Create(filepath.Dir(path), filepath.Base(path), size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []byte
	for i := range 1500 { // of 10 MB
		b := bytes.Repeat([]byte{byte(i%251) + 1}, 6_999)
		if _, err := f.WriteAt(b, int64(len(want))); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		want = append(want, b...)
	}
	keepsLittle(t, path, forgetBytes+2*zeroAheadBytes)
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got[:len(want)], want) {
		t.Errorf("the segment does not hold what was written, %v", err)
	}
}

// TestForget_ASnapshot: nor does one that was written stay in memory.
func TestForget_ASnapshot(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.members[0]
	for i := range 40 {
		c.set(fmt.Sprintf("r%d", i), strings.Repeat("x", 200<<10))
	}
	c.must(node.Snapshot(c.ctx()))
	files, err := filepath.Glob(filepath.Join(node.cfg.DataDir, "snapshots", "*", contentFile))
	if err != nil || len(files) == 0 {
		t.Fatalf("a snapshot of %v, %v", files, err)
	}
	keepsLittle(t, files[len(files)-1], contentBufferBytes)
}
