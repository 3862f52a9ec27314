package fsm

import (
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// The five properties of atomic commitment, as docs and GUARANTEES state them
// (S1-S5), on the state machine alone. search_test.go looks for a
// counter-example in every reachable state; these tests tell the story.

// AC1: "no two processes (node, client, participant) ever hold different
// decisions for one GID".
func TestAC1_NoTwoDecisions(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	g := testGID(testStartMS, 1)
	log := []*logpb.Command{
		explicit(g), enlist(g, spec("1")), enlist(g, spec("2")),
		vote(g, spec("1"), votePrepared), commit(g), clientRollback(g), vote(g, spec("2"), votePrepared),
		commit(g), rollback(g, participant), driver(g, 1, 1), report(g, "1", rolledBack), report(g, "2", rolledBack),
	}
	heard := map[Decision]bool{}
	for _, c := range log {
		for _, r := range []Result{a.do(c), b.do(c)} {
			if r.Decision != DecisionNone {
				heard[r.Decision] = true
			}
			if r.Verdict == VerdictCommit {
				heard[DecisionCommit] = true
			}
		}
		if a.s.Digest() != b.s.Digest() {
			t.Fatalf("two nodes differ after %v", c)
		}
	}
	if len(heard) != 1 || !heard[DecisionRollback] {
		t.Fatalf("heard %v, want rollback and nothing else", heard)
	}
}

// AC2: "a decision never changes within an incarnation: not by retention,
// upgrade, or an operator".
func TestAC2_DecisionsAreIrrevocable(t *testing.T) {
	for _, decision := range []Decision{DecisionCommit, DecisionRollback} {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(explicit(g))
		w.must(enlist(g, spec("1")))
		w.must(vote(g, spec("1"), votePrepared))
		if decision == DecisionCommit {
			w.must(commit(g))
		} else {
			w.must(clientRollback(g))
		}
		index := w.index
		against := []*logpb.Command{
			commit(g), commit(g, "1"), driver(g, 1, 1), clientRollback(g), rollback(g, participant), rollback(g, operator),
			maybe(g, spec("1")), report(g, "1", rolledBack), report(g, "1", committed), report(g, "1", hazard),
			resolve(g, "1", rolledBack), resolve(g, "1", committed), submit(explicitBegin(g), specs("1")), tick(), named(g),
		}
		for round := range 2 {
			for _, c := range against {
				w.do(c)
				tx := w.get(g)
				if tx.GetDecision() != decision || tx.GetDecided().GetIndex() != index {
					t.Fatalf("round %d: %v changed %v of index %d to %v of index %d",
						round, c, decision, index, tx.GetDecision(), tx.GetDecided().GetIndex())
				}
			}
			w.leap(w.clock + 10*testTimeoutMS)
		}
	}
}

// AC3: "in two-phase mode commit implies: every enlisted branch voted prepared
// or read-only, and the branch set was sealed before".
func TestAC3_CommitNeedsEveryVoteOfASealedSet(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(explicit(g))
	for _, id := range []string{"1", "2", "3"} {
		w.must(enlist(g, spec(id)))
	}
	w.must(commit(g))
	w.want(Sealed, enlist(g, spec("4")))
	for i, c := range []*logpb.Command{vote(g, spec("1"), votePrepared), vote(g, spec("2"), voteReadOnly)} {
		w.must(c)
		w.must(commit(g))
		w.must(driver(g, 1, 1)) // nor may the driver's word replace a vote
		if got := w.get(g).GetDecision(); got != DecisionNone {
			t.Fatalf("decided %v with %d of 3 votes", got, i+1)
		}
	}
	w.must(vote(g, spec("3"), votePrepared))
	tx := w.get(g)
	if tx.GetDecision() != DecisionCommit || !tx.GetSealed() {
		t.Fatalf("not committed with every vote in: %v", tx)
	}
	if sealed, decided := tx.GetSealedAt().GetIndex(), tx.GetDecided().GetIndex(); sealed >= decided {
		t.Fatalf("sealed at %d, decided at %d", sealed, decided)
	}
}

// AC4: "no fault, all prepared, no timeout, no rollback asked: commit".
func TestAC4_AllPreparedCommits(t *testing.T) {
	g := testGID(testStartMS, 1)
	for name, log := range map[string][]*logpb.Command{
		"explicit, votes first": {
			explicit(g), enlist(g, spec("1")), enlist(g, spec("2")),
			vote(g, spec("1"), votePrepared), vote(g, spec("2"), votePrepared), commit(g),
		},
		"explicit, commit first": {
			explicit(g), enlist(g, spec("1")), enlist(g, spec("2")), commit(g, "1", "2"),
			vote(g, spec("1"), votePrepared), vote(g, spec("2"), votePrepared),
		},
		"named, votes first": {
			named(g), vote(g, spec("1"), votePrepared), vote(g, spec("2"), voteReadOnly), commit(g, "1", "2"),
		},
		"named, commit first": {
			named(g), vote(g, spec("1"), votePrepared), commit(g, "1", "2"), vote(g, spec("2"), votePrepared),
		},
		"submit, all votes":  {submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...)},
		"submit, then votes": {submit(namedBegin(g), specs("1", "2?")), vote(g, spec("2"), votePrepared), vote(g, spec("1"), votePrepared)},
		"held": {
			explicit(g), enlist(g, spec("1!")), enlist(g, spec("2")),
			vote(g, spec("1!"), votePrepared), vote(g, spec("2"), votePrepared), commit(g), driver(g, 1, 1),
		},
		"held, its vote last": {
			explicit(g), enlist(g, spec("1!")), enlist(g, spec("2")), vote(g, spec("2"), votePrepared),
			commit(g), vote(g, spec("1!"), votePrepared), driver(g, 1, 1),
		},
		"nothing to do": {explicit(g), commit(g)},
	} {
		w := newWorld(t)
		w.clock += testTimeoutMS - 1 // even in the last instant: only the Tick ends it
		for _, c := range log {
			w.must(c)
		}
		if got := w.get(g).GetDecision(); got != DecisionCommit {
			t.Errorf("%s: decided %v", name, got)
		}
		for _, d := range w.s.DueOf(g) {
			if d.Verdict != VerdictCommit {
				t.Errorf("%s: branch %s is told %v", name, d.Branch.GetId(), d.Verdict)
			}
		}
	}
}

// AC5: "once faults heal (quorum and participants up) every transaction ends
// on every branch within a bound, untouched by hands".
func TestAC5_EverythingEnds(t *testing.T) {
	g := testGID(testStartMS, 1)
	for name, log := range map[string][]*logpb.Command{
		"begun and forgotten":       {explicit(g)},
		"enlisted and forgotten":    {explicit(g), enlist(g, spec("1"))},
		"prepared and forgotten":    {explicit(g), enlist(g, spec("1")), vote(g, spec("1"), votePrepared)},
		"sealed, a vote missing":    {explicit(g), enlist(g, spec("1")), commit(g)},
		"sealed, a hint in the set": {named(g), commit(g, "1")},
		"sealed, held":              {explicit(g), enlist(g, spec("1!")), vote(g, spec("1!"), votePrepared), commit(g)},
		"committed, not told":       {explicit(g), enlist(g, spec("1")), vote(g, spec("1"), votePrepared), commit(g)},
		"refused, maybe prepared":   {explicit(g), enlist(g, spec("1")), enlist(g, spec("2")), maybe(g, spec("1"))},
		"a tombstone with branches": {clientRollback(g, specs("1", "2?")...)},
		"submitted with a refusal":  {submit(namedBegin(g), specs("1", "2", "3?"), ballots(voteRefused, "2")...)},
		"reported too early":        {explicit(g), enlist(g, spec("1")), enlist(g, spec("2")), report(g, "1", committed)},
	} {
		w := newWorld(t)
		for _, c := range log {
			w.must(c)
		}
		if at, ok := w.s.NextDeadlineMS(); ok {
			w.leap(at)
		}
		reportAll(w, g)
		tx := w.get(g)
		if tx.GetFinished() == nil || tx.GetState() != StateCommitted && tx.GetState() != StateRolledBack {
			t.Errorf("%s: still in %v", name, tx.GetState())
		}
		for range w.s.Due() {
			t.Errorf("%s: something is still due", name)
		}
		at, ok := w.s.NextRetentionMS()
		if !ok {
			t.Errorf("%s: does not wait for retention", name)
			continue
		}
		w.leap(at)
		if _, ok := w.s.Get(g); ok {
			t.Errorf("%s: never dropped", name)
		}
	}
}
