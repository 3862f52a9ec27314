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
// digests. Where a later version writes something else, it adds another beside
// it: v2 holds the modes whose branches are called, with their commands, and v3
// packed commands and the levels of nodes.
//
//	go test ./fsm -run TestFormat -update-format
//
// writes files that are missing and refuses to touch those that are there.
var updateFormat = flag.Bool("update-format", false, "write the files of testdata/format that are missing")

const formatDir = "testdata/format/v1"

const formatDir2 = "testdata/format/v2"

const formatDir3 = "testdata/format/v3"

func TestFormatV1(t *testing.T) { testFormat(t, formatDir, formatScenario) }

func TestFormatV2(t *testing.T) { testFormat(t, formatDir2, formatScenario2) }

func TestFormatV3(t *testing.T) { testFormat(t, formatDir3, formatScenario3) }

func testFormat(t *testing.T, dir string, scenario func(*testing.T) (*world, []byte)) {
	if *updateFormat {
		writeFormat(t, dir, scenario)
	}
	digests := readDigests(t, dir)
	s := New()
	last := uint64(0)
	for _, e := range readLog(t, dir) {
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

	snapshot := readFile(t, dir, "snapshot")
	restored := New()
	if err := restored.Restore(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	at := restored.Clock().AppliedIndex
	if got := restored.Digest().String(); got != digests[at] {
		t.Fatalf("the snapshot's digest is %s, was %s", got, digests[at])
	}
	for _, e := range readLog(t, dir) {
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
func writeFormat(t *testing.T, dir string, scenario func(*testing.T) (*world, []byte)) {
	w, middle := scenario(t)
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
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"log": log.Bytes(), "snapshot": middle, "digests.txt": []byte(digests.String()),
	} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			t.Logf("%s is there and must never change: write another version beside it", path)
			continue
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

// formatScenario2 is of every mode whose branches are called, with every field
// that they have.
func formatScenario2(t *testing.T) (*world, []byte) {
	w := newWorld(t)
	gid := func(n uint64) GID { return testGID(w.clock, n) }
	w.must(setLimits(&logpb.Limits{TopicsMax: 9, SubscribersPerTopicMax: 8, HeadersMax: 7, TransactionBytesMax: 1 << 16}))
	w.must(&logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: &logpb.PutTopic{
		Namespace: "default", Name: "orders", Change: logpb.PutTopic_CHANGE_SUBSCRIBE,
		Subscriber: &logpb.Subscriber{Endpoint: "http://a", Remark: "accounts"},
	}}})
	w.must(subscribe("orders", "http://b"))
	w.must(subscribe("orders", "http://c"))
	w.must(unsubscribe("orders", "http://c"))
	w.must(subscribe("gone", "http://c"))
	w.must(deleteTopic("gone"))

	plan := &logpb.Plan{
		Retry:    &logpb.Retry{IntervalMs: 100, IntervalMaxMs: 9_000, AttemptsMax: 5, CallTimeoutMs: 3_000},
		Callback: "http://ask", CallbackPayload: []byte("who"), CallbackAfterMs: 3_000, ConcurrencyMax: 3, DelayMs: 10,
		Headers: []*logpb.Label{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}},
		Dialect: logpb.Dialect_DIALECT_DTM_GRPC, DialectMode: "msg", DialectData: []byte("{}"), Workflow: "order",
	}
	whole := beginMode(gid(1), logpb.Mode_MODE_SAGA, plan)
	whole.Key, whole.TimeoutMs, whole.Holder = "order-1", 5_000, []byte(testHolder)
	set := steps("1", "2<1", "3-<1", "4<2,3")
	set[0].AttemptsMax, set[0].CallTimeoutMs, set[0].Resource = 3, 2_000, "orders"
	w.must(submit(whole, set))
	w.must(done(gid(1), "1"))
	w.must(done(gid(1), "3"))
	w.must(refusedMaybe(gid(1), "2"))
	w.must(report(gid(1), "2", rolledBack))
	w.must(saga(gid(2), "1", "2"))
	w.batch(done(gid(2), "1"), done(gid(2), "2"))
	w.must(saga(gid(3), "1", "2"))
	w.must(answerOf(gid(3), "1", answerGaveUp))
	w.must(answerOf(gid(3), "2", answerRefused))
	w.must(report(gid(3), "1", hazard))
	w.must(saga(gid(4), chain(3)...))

	w.must(begin(beginMode(gid(5), logpb.Mode_MODE_TCC, plan)))
	w.must(enlist(gid(5), step("1")))
	w.must(enlist(gid(5), step("1.1<1")))
	w.must(commit(gid(5)))
	w.must(report(gid(5), "1", committed))
	w.must(begin(beginMode(gid(6), logpb.Mode_MODE_TCC, nil)))
	w.must(enlist(gid(6), step("1")))

	both := []*logpb.BranchSpec{to("01", "topic://orders"), to("02", "http://d", "01")}
	prepared := beginMode(gid(7), modeMessage, plan)
	prepared.Branches = both
	w.must(begin(prepared))
	w.must(submit(beginMode(gid(8), modeMessage, plan), both))
	w.must(report(gid(8), "01-02", committed))
	w.must(message(gid(9), both...))
	w.must(driverDecides(gid(9), DecisionRollback, w.term))
	w.must(submitNotify(gid(10)))
	w.must(report(gid(10), "1", logpb.Outcome_OUTCOME_GAVE_UP))
	w.must(beginWorkflow(gid(11)))
	w.must(record(gid(11), "1", "action", "one"))
	w.must(recordFailed(gid(11), "2", "action"))
	w.must(begin(beginMode(gid(12), modeWorkflow, plan)))
	w.must(record(gid(12), "1", "action", "one"))
	w.must(commitWith("all")(gid(12)))
	w.must(saga(gid(13), "1", "2"))
	w.must(stop(gid(13)))
	middle := snapshotOf(t, w.s)

	first := testGID(w.clock, 0)
	w.term = 2
	w.leap(w.clock + 5_000) // 6 times out, and 1 has decided before
	at := func(n uint64) GID { return testGID(first.BornMS(), n) }
	w.must(report(at(1), "1", rolledBack))
	w.must(report(at(3), "1", rolledBack)) // no hazard any more
	w.must(stop(at(4)))
	w.must(report(at(5), "1.1", committed))
	w.must(driverDecides(at(7), DecisionCommit, w.term))
	w.must(commitWith("late")(at(11)))
	w.leap(w.clock + w.s.Limits().GetRetentionMs())
	return w, middle
}

// formatScenario3 is a cluster whose nodes are upgraded one by one, and then pack
// what branches say.
func formatScenario3(t *testing.T) (*world, []byte) {
	w := newWorldAt(t, 2)
	w.clock = testStartMS
	for w.s.ClockMS() < testStartMS {
		w.logAt(2, tick())
	}
	gid := func(n uint64) GID { return testGID(testStartMS, n) }
	for _, id := range []string{"a", "b", "c"} {
		w.logAt(2, nodeOf(id, 0))
	}
	w.logAt(2, nodeOf("a", 3))
	w.logAt(2, nodeOf("b", 3), nodeOf("c", 4))
	w.logAt(2, reportsAll(gid(1), committed, "1", "2")) // nobody knows it yet
	for n := range uint64(4) {
		w.logAt(2, submit(beginOf(gid(n), logpb.Entry_ENTRY_NAMED), specs("1", "2"), ballots(votePrepared, "1", "2")...))
	}
	w.logAt(w.s.NextFeatureLevel(), tick())
	w.must(reportsAll(gid(1), committed, "1", "2"))
	w.must(reportsOf(gid(2), reported("2", hazard), reported("9", rolledBack), reported("1", rolledBack)))
	full := &logpb.Report{Branch: "2", Outcome: committed, Detail: "at last", Attempts: 7, Holder: []byte(testHolder)}
	w.must(reportsOf(gid(2), reported("1", 0), full, reported("1", committed)))
	w.want(NotFound, reportsAll(gid(99), rolledBack, "1"))
	w.must(saga(gid(10), "1", "2", "3<1,2"))
	w.must(answersOf(gid(10), said("2", answerDone), &logpb.Answer{Branch: "1", Kind: answerDone, Detail: "d", Attempts: 2}))
	w.must(answersOf(gid(10), said("3", answerDone)))
	w.must(saga(gid(11), "1", "2", "3<1,2"))
	w.must(answersOf(gid(11), said("1", answerDone), &logpb.Answer{Branch: "2", Kind: answerRefused, MaybeDone: true}, said("3", answerDone)))
	middle := snapshotOf(t, w.s)
	w.must(reportsAll(gid(11), rolledBack, "2", "1"))
	w.must(begin(beginMode(gid(12), logpb.Mode_MODE_TCC, nil)))
	w.must(enlist(gid(12), step("1")))
	w.must(enlist(gid(12), step("2")))
	w.want(Undecided, reportsAll(gid(12), committed, "1", "2"))
	w.must(commit(gid(12)))
	w.must(reportsAll(gid(12), committed, "1", "2"))
	w.must(explicit(gid(13)))
	w.must(enlist(gid(13), spec("1")))
	w.must(reportsAll(gid(13), rolledBack, "1")) // before the decision, and so decides
	w.must(nodeOf("b", 5))
	w.must(reportsOf(gid(3), reported("1", committed)))
	w.leap(w.clock + w.s.Limits().GetRetentionMs())
	return w, middle
}

// logAt is applyAt, and keeps the entry.
func (w *world) logAt(level uint32, commands ...*logpb.Command) {
	w.t.Helper()
	w.log = append(w.log, logged{w.index + 1, w.term, EncodeEntry(nil, &logpb.Batch{ClockMs: w.clock, FeatureLevel: level, Commands: commands})})
	w.applyAt(level, commands...)
}

func readFile(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readLog(t testing.TB, dir string) (log []logged) {
	t.Helper()
	for b := readFile(t, dir, "log"); len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[16:])
		log = append(log, logged{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), b[20 : 20+n]})
		b = b[20+n:]
	}
	return log
}

func readDigests(t *testing.T, dir string) map[uint64]string {
	t.Helper()
	digests := map[uint64]string{}
	for line := range strings.Lines(string(readFile(t, dir, "digests.txt"))) {
		var index uint64
		var digest string
		if _, err := fmt.Sscanf(line, "%d %s", &index, &digest); err != nil {
			t.Fatalf("digests.txt: %q: %v", line, err)
		}
		digests[index] = digest
	}
	return digests
}
