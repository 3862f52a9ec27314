package fsm

import (
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// Bugs that other coordinators shipped, each as a test of this one.
// docs/history.md lists them all.

// permutations calls f with every order of the numbers below n.
func permutations(n int, f func(order []int)) {
	var extend func(order []int, used int)
	extend = func(order []int, used int) {
		if len(order) == n {
			f(order)
			return
		}
		for i := range n {
			if used&(1<<i) == 0 {
				extend(append(order, i), used|1<<i)
			}
		}
	}
	extend(nil, 0)
}

// Seata #7004, #5404: the timeout's thread and the initiator's commit both
// changed the global status, and branches heard both. Here whoever comes first in
// the log decides, and everybody hears the same.
func TestHistory_Seata7004And5404_TwoDeciders(t *testing.T) {
	deciders := []string{"commit", "timeout", "client's rollback", "participant's rollback", "report"}
	permutations(len(deciders), func(order []int) {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(explicit(g))
		for _, id := range []string{"1", "2"} {
			w.must(enlist(g, spec(id)))
			w.must(vote(g, spec(id), votePrepared))
		}
		var first Decision
		for _, i := range order {
			switch deciders[i] {
			case "commit":
				w.do(commit(g))
			case "timeout":
				w.leap(testStartMS + testTimeoutMS + 1)
				w.must(tick())
			case "client's rollback":
				w.do(clientRollback(g))
			case "participant's rollback":
				w.do(rollback(g, logpb.Origin_ORIGIN_PARTICIPANT))
			case "report":
				w.do(report(g, "1", rolledBack))
			}
			now := w.get(g).GetDecision()
			if first == DecisionNone {
				first = now
			}
			want := VerdictRollback
			if first == DecisionCommit {
				want = VerdictCommit
			}
			if now != first || w.get(g).GetQuarantined() || w.s.Inquire(g, "2").Verdict != want {
				t.Fatalf("order %v: at %s it is %v for branch 2 %v, decided was %v", order, deciders[i], now, w.s.Inquire(g, "2").Verdict, first)
			}
		}
	})
}

// Seata #3220, #4969: a branch that registered after the global rollback had begun
// was never rolled back. Here it is refused, and what it prepared is told to roll
// back, at every stage of the rollback and of its tombstone.
func TestHistory_Seata3220And4969_BranchRegistersAfterTheRollback(t *testing.T) {
	for name, prepare := range map[string]func(w *world, g GID){
		"rolling back": func(w *world, g GID) {
			w.must(named(g))
			w.must(vote(g, spec("1"), votePrepared))
			w.must(clientRollback(g))
			w.state(g, StateRollingBack)
		},
		"rolled back": func(w *world, g GID) {
			w.must(named(g))
			w.must(clientRollback(g))
			w.state(g, StateRolledBack)
		},
		"timed out": func(w *world, g GID) {
			w.must(named(g))
			w.leap(testStartMS + testTimeoutMS + 1)
			w.must(tick())
		},
		"a tombstone": func(w *world, g GID) { w.must(clientRollback(g)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := testGID(testStartMS, 1)
			prepare(w, g)
			members := len(w.get(g).GetBranches())
			for _, late := range []*logpb.Command{enlist(g, spec("2")), vote(g, spec("2"), votePrepared), vote(g, spec("2"), voteReadOnly)} {
				if r := w.want(AlreadyDecided, late); r.Verdict != VerdictRollback {
					t.Errorf("%v: the late branch hears %v", late, r.Verdict)
				}
			}
			if q := w.s.Inquire(g, "2"); q.Verdict != VerdictRollback {
				t.Errorf("it asks, and hears %v", q.Verdict)
			}
			if now := len(w.get(g).GetBranches()); now != members {
				t.Errorf("it joined: %d branches of %d", now, members)
			}
		})
	}
}

// DTM: a process that had held a 10 s lease for longer executed what another one
// had taken over. Here a driver's word carries its epoch, and the log refuses an
// older one's, however late it comes.
func TestHistory_DTM_LeaseWithoutAFence(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(explicit(g))
	w.must(enlist(g, spec("1!")))
	w.must(vote(g, spec("1!"), votePrepared))
	w.must(commit(g))
	w.state(g, StateSealed)
	incarnation := w.s.Clock().Incarnation
	w.term = 3 // another leads by now
	w.want(Stale, driver(g, incarnation, 2))
	late := rollback(g, logpb.Origin_ORIGIN_DRIVER)
	late.GetDecide().Epoch = &logpb.Epoch{Incarnation: incarnation, Term: 2}
	w.want(Stale, late)
	w.state(g, StateSealed)
	w.must(driver(g, incarnation, 3))
	w.state(g, StateCommitting)
}

// DTM found branches by the prefix of their transaction's id, so that those of
// order-1 and order-10 hid each other. Here no name is a prefix of anything.
func TestHistory_DTM_Order1AndOrder10(t *testing.T) {
	w := newWorld(t)
	keys := []string{"order-1", "order-10", "order", "order-1-1"}
	for i, k := range keys {
		b := beginOf(testGID(testStartMS, uint64(i+1)), logpb.Entry_ENTRY_EXPLICIT)
		b.Key = k
		w.must(begin(b))
	}
	first, second := testGID(testStartMS, 1), testGID(testStartMS, 2)
	for _, id := range []string{"1", "10", "1.0"} {
		w.must(enlist(first, spec(id)))
		w.must(vote(first, spec(id), votePrepared))
	}
	w.must(enlist(second, spec("1")))
	w.must(clientRollback(second))
	for i, k := range keys {
		if gid, ok := w.s.Lookup("default", k); !ok || gid != testGID(testStartMS, uint64(i+1)) {
			t.Errorf("key %s stands for %s, %v", k, gid, ok)
		}
	}
	w.must(commit(first))
	if due := w.s.DueOf(first); len(due) != 3 {
		t.Errorf("%d branches are due, three were prepared", len(due))
	}
	w.must(report(first, "1", committed))
	if due := w.s.DueOf(first); len(due) != 2 || due[0].Branch.GetId() != "1.0" || due[1].Branch.GetId() != "10" {
		t.Errorf("after the report of branch 1 due are %v", due)
	}
	w.state(testGID(testStartMS, 3), StateActive)
	w.state(testGID(testStartMS, 4), StateActive)
}

// Kafka KIP-890: the end of a transaction that came late ended the next one of
// the same producer. Here a request names its own transaction: the next one with
// the same key is another, which nothing late can touch.
func TestHistory_KafkaKIP890_LateEndActsOnTheNextOne(t *testing.T) {
	w := newWorld(t)
	const k = "producer-1"
	keyed := func(gid GID) *logpb.Begin {
		b := beginOf(gid, logpb.Entry_ENTRY_NAMED)
		b.Key = k
		return b
	}
	old := testGID(testStartMS, 1)
	w.must(begin(keyed(old)))
	w.must(clientRollback(old))
	// While the old one stands, its key stands for it.
	if r := w.must(begin(keyed(testGID(testStartMS, 2)))); r.GID != old || r.Created {
		t.Fatalf("the key stands for %s", r.GID)
	}
	w.leap(testStartMS + w.s.Limits().GetRetentionMs() + 10)
	w.must(tick())
	next := testGID(w.s.ClockMS(), 3)
	if r := w.must(begin(keyed(next))); !r.Created {
		t.Fatal("the key was not freed")
	}
	w.must(vote(next, spec("1"), votePrepared))
	for _, late := range []*logpb.Command{
		commit(old, "1"), clientRollback(old), begin(keyed(old)),
		submit(keyed(old), specs("1"), ballot(spec("1"), votePrepared)),
		vote(old, spec("1"), voteRefused), resolve(old, "1", rolledBack),
	} {
		w.want(Expired, late)
		w.state(next, StateActive)
	}
	w.must(report(old, "1", rolledBack))
	w.state(next, StateActive)
	w.must(commit(next, "1"))
	w.state(next, StateCommitting)
}
