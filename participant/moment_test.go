package participant_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// TestWitnessSeesThatAPrepareIsUnsure: before the refusal is sent, whatever becomes of it.
func TestWitnessSeesThatAPrepareIsUnsure(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	steps := make(chan participant.Moment, 8)
	client := dial(t, c, participant.WithWitness(func(m participant.Moment) { steps <- m }))
	serve(t, client, "r")
	b := start(t, client, begin(t, client), "r")
	if _, err := b.Vote(t.Context(), participant.Vote{Kind: participant.VoteRefused, MaybePrepared: true}); err != nil {
		t.Fatal(err)
	}
	if m := <-steps; m.Step != participant.StepUnsure || m.Vote != participant.VoteRefused || m.Branch != b.Ref() {
		t.Errorf("the first step was %+v", m)
	}
	m := <-steps
	for m.Step == participant.StepHeard || m.Step == participant.StepEnded { // the delivery may overtake the answer
		m = <-steps
	}
	if m.Step != participant.StepVoted {
		t.Errorf("then came %+v", m)
	}
}

// TestWitnessSeesEachStepInItsOrder: a step is told before what follows it can be
// seen from outside, so whoever dies in the witness dies between the two.
func TestWitnessSeesEachStepInItsOrder(t *testing.T) {
	for _, commit := range []bool{true, false} {
		c := participanttest.NewCluster(t, 1)
		initiator := dial(t, c)
		var mu sync.Mutex
		var seen []participant.Moment
		server := dial(t, c, participant.WithWitness(func(m participant.Moment) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, m)
		}))
		store := bankAt(t, server, "bank", filepath.Join(t.TempDir(), "bank.db"))
		tx := begin(t, initiator)
		if err := put(tx.Context(context.Background()), store, "k", "1"); err != nil {
			t.Fatal(err)
		}
		verdict, outcome := participant.VerdictRollback, participant.OutcomeRolledBack
		if commit {
			verdict, outcome = participant.VerdictCommit, participant.OutcomeCommitted
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else if err := tx.Rollback(t.Context(), "asked"); err != nil {
			t.Fatal(err)
		}
		moments := func() []participant.Moment {
			mu.Lock()
			defer mu.Unlock()
			return append([]participant.Moment(nil), seen...)
		}
		testkit.Eventually(t, patience, func() bool { return len(moments()) >= 4 }, "the branch to end")
		got := moments()
		delivered := got[2]
		if delivered.Term == 0 || delivered.Attempt == 0 {
			t.Errorf("the delivery has no epoch, or no number: %+v", delivered)
		}
		of := func(step participant.Step) participant.Moment {
			return participant.Moment{Step: step, Branch: participant.BranchRef{GID: tx.GID(), ID: "1"}, Resource: "bank"}
		}
		prepared, voted, heard := of(participant.StepPrepared), of(participant.StepVoted), of(participant.StepHeard)
		prepared.Vote, voted.Vote, voted.Verdict = participant.VotePrepared, participant.VotePrepared, participant.VerdictWait
		heard.Verdict, heard.Incarnation, heard.Term, heard.Attempt = verdict, delivered.Incarnation, delivered.Term, delivered.Attempt
		ended := heard
		ended.Step, ended.Outcome = participant.StepEnded, outcome
		if diff := cmp.Diff([]participant.Moment{prepared, voted, heard, ended}, got[:4]); diff != "" {
			t.Errorf("commit %v (-want +got):\n%s", commit, diff)
		}
	}
}
