package fsm

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// The log and the snapshot in testdata/format/v1 were written by the first
// version and stay as they are: every later one must read them to the same
// digests. Where a later version writes something else, it adds v2 beside it.
//
//	go test ./fsm -run TestFormat -update-format
//
// writes files that are missing and refuses to touch those that are there.
var updateFormat = flag.Bool("update-format", false, "write the files of testdata/format that are missing")

const formatDir = "testdata/format/v1"

func TestFormatV1(t *testing.T) {
	if *updateFormat {
		writeFormat(t)
	}
	digests := readDigests(t)
	s := New()
	last := uint64(0)
	for _, e := range readLog(t) {
		if _, err := s.ApplyEntry(e.index, e.term, e.entry); err != nil {
			t.Fatal(err)
		}
		if err := s.CheckInvariants(); err != nil {
			t.Fatalf("after index %d: %v", e.index, err)
		}
		if got := s.Digest().String(); got != digests[e.index] {
			t.Fatalf("digest after index %d is %s, was %s", e.index, got, digests[e.index])
		}
		last = e.index
	}
	if last < 30 || len(digests) != int(last) {
		t.Fatalf("%d digests for %d entries", len(digests), last)
	}

	snapshot := readFile(t, "snapshot")
	restored := New()
	if err := restored.Restore(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	at := restored.Clock().AppliedIndex
	if got := restored.Digest().String(); got != digests[at] {
		t.Fatalf("the snapshot's digest is %s, was %s", got, digests[at])
	}
	for _, e := range readLog(t) {
		if e.index <= at {
			continue
		}
		if _, err := restored.ApplyEntry(e.index, e.term, e.entry); err != nil {
			t.Fatal(err)
		}
	}
	if restored.Digest() != s.Digest() {
		t.Fatal("the snapshot and the rest of the log lead elsewhere than the log")
	}
}

// writeFormat drives a log that holds every command and most states.
func writeFormat(t *testing.T) {
	w, middle := formatScenario(t)
	var log bytes.Buffer
	var digests strings.Builder
	for _, e := range w.log {
		var head [20]byte
		binary.LittleEndian.PutUint64(head[:], e.index)
		binary.LittleEndian.PutUint64(head[8:], e.term)
		binary.LittleEndian.PutUint32(head[16:], uint32(len(e.entry)))
		log.Write(head[:])
		log.Write(e.entry)
		d, ok := w.s.DigestAt(e.index)
		if !ok {
			t.Fatalf("no digest at %d", e.index)
		}
		fmt.Fprintf(&digests, "%d %s\n", e.index, d)
	}
	if err := os.MkdirAll(formatDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"log": log.Bytes(), "snapshot": middle, "digests.txt": []byte(digests.String()),
	} {
		path := filepath.Join(formatDir, name)
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("%s is there and must never change: write another version beside it", path)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// formatScenario returns the world at its end, and a snapshot from before it.
func formatScenario(t *testing.T) (*world, []byte) {
	w := newWorld(t)
	gid := func(n uint64) GID { return testGID(w.clock, n) }
	w.must(&logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{
		Id: "node-1", Name: "n1", RaftAddress: "n1:36792", GrpcAddress: "n1:36790", HttpAddress: "n1:36789", Version: "0.1.0"}}}})
	w.must(&logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{Id: "node-2"}}}})
	w.must(&logpb.Command{Kind: &logpb.Command_RemoveNode{RemoveNode: &logpb.RemoveNode{Id: "node-2"}}})
	w.must(setLimits(&logpb.Limits{BranchesPerTransactionMax: 100}))

	whole := beginOf(gid(1), logpb.Entry_ENTRY_EXPLICIT)
	whole.Key, whole.Traceparent, whole.Initiator = "order-1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "checkout"
	whole.Labels = []*logpb.Label{{Name: "a", Value: "1"}, {Name: "b", Value: "two"}}
	w.must(begin(whole))
	full := &logpb.BranchSpec{Id: "1.2", Resource: "orders", Endpoint: "https://orders:8080/x", Held: true, Holder: []byte(testHolder)}
	w.must(enlist(gid(1), full))
	w.must(enlist(gid(1), spec("2")))
	w.must(vote(gid(1), full, votePrepared))
	w.must(vote(gid(1), spec("2"), voteReadOnly))
	w.must(commit(gid(1), "1.2", "2"))
	w.must(driver(gid(1), 1, 1))

	w.batch(named(gid(2)), vote(gid(2), spec("1"), votePrepared), commit(gid(2), "1", "2"), vote(gid(2), spec("2"), votePrepared),
		report(gid(2), "1", committed), report(gid(2), "2", rolledBack))
	w.must(submit(beginOf(gid(3), logpb.Entry_ENTRY_NAMED), specs("1", "2"), ballots(votePrepared, "1", "2")...))
	w.must(resolve(gid(3), "1", committed))
	w.must(report(gid(3), "2", hazard))
	w.must(submit(beginOf(gid(4), logpb.Entry_ENTRY_NAMED), specs("1", "2", "3?"), ballots(voteRefused, "1")...))
	w.must(clientRollback(gid(5), specs("1", "2?")...))
	w.must(rollback(gid(6), participant))
	w.must(explicit(gid(7)))
	w.must(enlist(gid(7), spec("1")))
	w.must(maybe(gid(7), spec("1")))
	w.must(explicit(gid(8)))
	w.must(enlist(gid(8), spec("1")))
	w.must(commit(gid(8)))
	w.must(explicit(gid(9)))
	w.leap(w.clock + testTimeoutMS) // 8 and 9 time out
	w.must(explicit(gid(10)))
	w.must(enlist(gid(10), spec("1")))
	w.must(report(gid(10), "1", committed))
	w.must(report(testGID(testStartMS, 2), "1", rolledBack)) // late, now mixed: filed anew
	middle := snapshotOf(t, w.s)

	d, _ := w.s.DigestAt(w.index)
	w.must(&logpb.Command{Kind: &logpb.Command_CheckDigest{CheckDigest: &logpb.CheckDigest{Index: w.index, Digest: d[:]}}})
	w.term = 2
	w.leap(w.clock + w.s.Limits().GetRetentionMs()) // drops what is filed
	restored := gid(11)
	w.must(explicit(restored))
	w.must(recovery(2, w.clock+5_000))
	w.clock += 5_000
	w.must(rollback(restored, operator))
	w.want(Withheld, clientRollback(testGID(w.clock-1, 12)))
	w.must(rollback(testGID(w.clock-1, 12), operator))
	return w, middle
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(formatDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readLog(t testing.TB) (log []logged) {
	t.Helper()
	for b := readFile(t, "log"); len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[16:])
		log = append(log, logged{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), b[20 : 20+n]})
		b = b[20+n:]
	}
	return log
}

func readDigests(t *testing.T) map[uint64]string {
	t.Helper()
	digests := map[uint64]string{}
	for line := range strings.Lines(string(readFile(t, "digests.txt"))) {
		var index uint64
		var digest string
		if _, err := fmt.Sscanf(line, "%d %s", &index, &digest); err != nil {
			t.Fatalf("digests.txt: %q: %v", line, err)
		}
		digests[index] = digest
	}
	return digests
}
