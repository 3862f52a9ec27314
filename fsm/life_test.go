package fsm

import (
	"bytes"
	"testing"
)

func TestLifeOfACommit(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	if r := w.must(explicit(g)); !r.Created || r.State != StateActive {
		t.Fatalf("begin: %+v", r)
	}
	w.must(enlist(g, spec("1")))
	w.must(enlist(g, spec("2")))
	if r := w.must(vote(g, spec("1"), votePrepared)); r.Verdict != VerdictWait {
		t.Fatalf("vote: %+v", r)
	}
	if r := w.must(commit(g)); r.State != StateSealed || r.Decision != DecisionNone {
		t.Fatalf("commit: %+v", r)
	}
	r := w.must(vote(g, spec("2"), votePrepared))
	if r.State != StateCommitting || r.Verdict != VerdictCommit || r.Index != w.index {
		t.Fatalf("last vote: %+v", r)
	}
	if due := w.s.DueOf(g); len(due) != 2 || due[0].Verdict != VerdictCommit {
		t.Fatalf("due: %+v", due)
	}
	w.must(report(g, "1", committed))
	if r := w.must(report(g, "2", committed)); r.State != StateCommitted {
		t.Fatalf("last report: %+v", r)
	}
	w.state(g, StateCommitted)
	if c := w.s.Counts(); c.Finished != 1 || c.Live != 0 {
		t.Fatalf("counts: %+v", c)
	}
	if got := reborn(t, w.s); got.Digest() != w.s.Digest() || !bytes.Equal(snapshotOf(t, got), snapshotOf(t, w.s)) {
		t.Fatal("a restored state differs")
	}
	at, ok := w.s.NextRetentionMS()
	if !ok {
		t.Fatal("nothing waits for retention")
	}
	w.leap(at - 1)
	w.state(g, StateCommitted)
	w.leap(at)
	if _, ok := w.s.Get(g); ok {
		t.Fatal("still there after retention")
	}
	if r := w.want(Expired, explicit(g)); r.Decision != DecisionNone {
		t.Fatalf("expired: %+v", r)
	}
}
