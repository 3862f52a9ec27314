package fsm

import (
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

func keyed(g GID, k string, entry logpb.Entry) *logpb.Begin {
	b := beginOf(g, entry)
	b.Key = k
	return b
}

// PROTOCOL.md, section 1: "The log's order gives a key to the first GID created
// with it. Begin, or a Submit without votes, whose key stands for another GID is
// answered as if it named that GID, with its gid and created=false."
func TestKeyStandsForTheFirstGID(t *testing.T) {
	w := newWorld(t)
	first, second := testGID(testStartMS, 1), testGID(testStartMS, 2)
	if r := w.must(begin(keyed(first, "order-1", logpb.Entry_ENTRY_NAMED))); !r.Created || r.GID != first {
		t.Fatalf("first: %+v", r)
	}
	if r := w.must(begin(keyed(second, "order-1", logpb.Entry_ENTRY_NAMED))); r.Created || r.GID != first {
		t.Fatalf("second: %+v", r)
	}
	if r := w.want(GIDConflict, begin(longer(keyed(second, "order-1", logpb.Entry_ENTRY_NAMED)))); r.GID != first {
		t.Fatalf("second with other content: %+v", r)
	}
	if _, ok := w.s.Get(second); ok {
		t.Fatal("a key made two transactions")
	}
	if g, ok := w.s.Lookup("default", "order-1"); !ok || g != first {
		t.Fatalf("lookup: %v %v", g, ok)
	}
	for _, miss := range [][2]string{{"default", "order-2"}, {"other", "order-1"}, {"default", ""}} {
		if g, ok := w.s.Lookup(miss[0], miss[1]); ok {
			t.Errorf("lookup of %v finds %v", miss, g)
		}
	}
	// A Submit without votes is as if it named the first: it seals it.
	if r := w.must(submit(keyed(second, "order-1", logpb.Entry_ENTRY_NAMED), specs("1"))); r.Created || r.GID != first || r.State != StateSealed {
		t.Fatalf("submit by key: %+v", r)
	}
}

// "A Submit with votes: KEY_CONFLICT {gid, decision}, =; the SDK rolls back its
// own GID."
func TestSubmitWithVotesNeverAnswersForAnotherGID(t *testing.T) {
	w := newWorld(t)
	first, second := testGID(testStartMS, 1), testGID(testStartMS, 2)
	set, votes := specs("1"), ballots(votePrepared, "1")
	w.must(submit(keyed(first, "k", logpb.Entry_ENTRY_NAMED), set, votes...))
	r := w.want(KeyConflict, submit(keyed(second, "k", logpb.Entry_ENTRY_NAMED), set, votes...))
	if r.GID != first || r.Decision != DecisionCommit {
		t.Fatalf("%+v", r)
	}
	// The GID's own Submit, repeated, is no conflict.
	w.must(submit(keyed(first, "k", logpb.Entry_ENTRY_NAMED), set, votes...))
}

// "A key never answers for a GID", and "a key is freed only when its
// transaction is dropped (a rolled-back one keeps it too); repeated later it is
// a new transaction".
func TestKeyIsFreedByRetentionOnly(t *testing.T) {
	w := newWorld(t)
	first, second := testGID(testStartMS, 1), testGID(testStartMS, 2)
	w.must(begin(keyed(first, "k", logpb.Entry_ENTRY_EXPLICIT)))
	w.must(begin(keyed(second, "other", logpb.Entry_ENTRY_EXPLICIT)))
	if r := w.want(GIDConflict, begin(keyed(second, "k", logpb.Entry_ENTRY_EXPLICIT))); r.GID != second {
		t.Fatalf("the key answered for a GID that stands: %+v", r)
	}
	w.must(clientRollback(first))
	if r := w.must(begin(keyed(testGID(testStartMS, 3), "k", logpb.Entry_ENTRY_EXPLICIT))); r.GID != first || r.Decision != DecisionRollback {
		t.Fatalf("after rollback: %+v", r)
	}
	at, _ := w.s.NextRetentionMS()
	w.leap(at - 1)
	later := testGID(w.clock, 4)
	if r := w.must(begin(keyed(later, "k", logpb.Entry_ENTRY_EXPLICIT))); r.Created {
		t.Fatalf("freed early: %+v", r)
	}
	w.leap(at)
	if r := w.must(begin(keyed(later, "k", logpb.Entry_ENTRY_EXPLICIT))); !r.Created || r.GID != later {
		t.Fatalf("not freed: %+v", r)
	}
}

// A key is unique in its namespace only.
func TestKeysOfNamespacesAreApart(t *testing.T) {
	w := newWorld(t)
	a, b := keyed(testGID(testStartMS, 1), "k", logpb.Entry_ENTRY_EXPLICIT), keyed(testGID(testStartMS, 2), "k", logpb.Entry_ENTRY_EXPLICIT)
	b.Namespace = "other"
	w.must(begin(a))
	if r := w.must(begin(b)); !r.Created {
		t.Fatalf("%+v", r)
	}
}

// A tombstone takes no key: a late Begin finds its GID decided.
func TestTombstoneTakesNoKey(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(clientRollback(g))
	w.want(AlreadyDecided, begin(keyed(g, "k", logpb.Entry_ENTRY_EXPLICIT)))
	if _, ok := w.s.Lookup("default", "k"); ok {
		t.Fatal("a refused Begin took the key")
	}
	if r := w.must(begin(keyed(testGID(testStartMS, 2), "k", logpb.Entry_ENTRY_EXPLICIT))); !r.Created {
		t.Fatalf("%+v", r)
	}
}

// An expired GID is expired even where its key stands for another one.
func TestKeyDoesNotReviveAnExpiredGID(t *testing.T) {
	w := newWorld(t)
	old := testGID(testStartMS, 1)
	w.leap(testStartMS + w.s.Limits().GetRetentionMs())
	w.must(begin(keyed(testGID(w.clock, 2), "k", logpb.Entry_ENTRY_EXPLICIT)))
	w.want(Expired, begin(keyed(old, "k", logpb.Entry_ENTRY_EXPLICIT)))
}
