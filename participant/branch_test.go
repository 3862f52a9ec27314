package participant_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// branchOf is the cluster's record of a branch.
func branchOf(t testing.TB, c *participanttest.Cluster, ref participant.BranchRef) *quoratev1.Branch {
	t.Helper()
	for _, b := range c.Transaction(string(ref.GID)).GetBranches() {
		if b.GetSpec().GetId() == ref.ID {
			return b
		}
	}
	return nil
}

func TestBranchesNeedATransaction(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	if _, err := client.StartBranch(t.Context(), "r"); !errors.Is(err, participant.ErrNoTransaction) {
		t.Errorf("a branch of nothing: %v", err)
	}
	tx := begin(t, client)
	if _, err := client.StartBranch(tx.Context(t.Context()), "elsewhere"); !errors.Is(err, participant.ErrNotAttached) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("a branch of a resource without a manager: %v", err)
	}
	foreign, err := participant.Join(t.Context(), participant.Info{GID: tx.GID(), Path: "1", Cluster: "01JD9S7KQZZZZZZZZZZZZZZZZZ"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.StartBranch(foreign, "r"); !errors.Is(err, participant.ErrOtherCluster) {
		t.Errorf("a branch of another cluster's transaction: %v", err)
	}
}

func TestABranchKnowsItself(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client, participant.WithTimeout(1500*time.Millisecond))
	b := start(t, client, tx, "r")
	if b.GID() != tx.GID() || b.ID() != "1" || b.Resource() != "r" || b.Cluster() != c.ID() || b.Timeout() != 2*time.Second {
		t.Errorf("%v %v %v %v %v", b.GID(), b.ID(), b.Resource(), b.Cluster(), b.Timeout())
	}
	want := participant.Prepared{BranchRef: b.Ref(), Cluster: c.ID(), Timeout: 2 * time.Second}
	if got := b.Prepared(); got != want {
		t.Errorf("its record is %v, want %v", got, want)
	}
	if got := b.Ref().String(); got != string(tx.GID())+"/1" {
		t.Errorf("its name is %s", got)
	}
	if next := start(t, client, tx, "r"); next.ID() != "2" {
		t.Errorf("the next branch is %s, want 2", next.ID())
	}
}

// "A second BeginTx of a prepared branch is refused and the first vote repeated."
func TestARepeatedCallIsTheSameBranch(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	f := serve(t, client, "r")
	tx := begin(t, client)
	again := func() context.Context { // the same call, once more
		ctx, err := participant.Join(t.Context(), participant.Info{GID: tx.GID(), Path: "1", Cluster: c.ID(), Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	first, err := client.StartBranch(again(), "r")
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() != "1.1" {
		t.Errorf("the branch is %s, want 1.1", first.ID())
	}
	if _, err := client.StartBranch(again(), "r"); !errors.Is(err, participant.ErrBranchActive) {
		t.Errorf("the call repeated while its branch is worked on: %v", err)
	}
	hook, seen := failing("Session/Vote", 0, nil)
	c.Before(hook)
	votes(t, first, participant.VotePrepared)
	if _, err := first.Vote(t.Context(), participant.Vote{Kind: participant.VoteRefused}); !errors.Is(err, participant.ErrVoted) {
		t.Errorf("a second vote: %v", err)
	}
	if _, err := client.StartBranch(again(), "r"); !errors.Is(err, participant.ErrVoted) {
		t.Errorf("the call repeated after its branch has voted: %v", err)
	}
	if seen.Load() != 2 {
		t.Errorf("the vote was said %d times, want once and repeated once", seen.Load())
	}
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	if h := slices.Compact(f.heard()); len(h) != 1 { // at least once, and nothing else
		t.Errorf("the manager was told %v", h)
	}
}

// The same call handled by another process: the branch belongs to the first one.
func TestARepeatedCallInAnotherProcessIsRefused(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	one, two := dial(t, c), dial(t, c)
	serve(t, one, "r")
	serve(t, two, "r")
	tx := begin(t, one)
	start(t, one, tx, "r")
	ctx, err := participant.Join(t.Context(), participant.Info{GID: tx.GID(), Cluster: c.ID(), Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var refused *participant.RefusedError
	if _, err := two.StartBranch(ctx, "r"); !errors.As(err, &refused) || refused.Reason != "BRANCH_CONFLICT" {
		t.Errorf("the branch of another process: %v", err)
	}
	if two.Live() != 0 {
		t.Errorf("%d branches are live in the process that was refused", two.Live())
	}
}

// S10: "a branch arriving after the seal is refused".
func TestABranchAfterTheEndIsRefused(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	rolledBack := begin(t, client)
	if err := rolledBack.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	var rb *participant.RolledBackError
	if _, err := client.StartBranch(rolledBack.Context(t.Context()), "r"); !errors.As(err, &rb) {
		t.Errorf("a branch after the rollback: %v", err)
	}
	committed := begin(t, client)
	if err := committed.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var cm *participant.CommittedError
	if _, err := client.StartBranch(committed.Context(t.Context()), "r"); !errors.As(err, &cm) {
		t.Errorf("a branch after the commit: %v", err)
	}
	if client.Live() != 0 {
		t.Errorf("%d branches are live", client.Live())
	}
}

// An enlisting that was not answered in time is taken back: the transaction need
// not wait for its deadline.
func TestAnUnansweredEnlistingIsTakenBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	ctx, hook := losing(tx.Context(t.Context()), "Session/Enlist")
	c.After(hook)
	var unknown *participant.OutcomeUnknownError
	if _, err := client.StartBranch(ctx, "r"); !errors.As(err, &unknown) {
		t.Fatalf("an enlisting without answers: %v", err)
	}
	c.After(nil)
	settled(t, c)
	if b := branchOf(t, c, participant.BranchRef{GID: tx.GID(), ID: "1"}); b.GetVote() != quoratev1.Vote_VOTE_REFUSED {
		t.Errorf("the branch is %v", b)
	}
	testkit.Eventually(t, patience, func() bool { return client.Live() == 0 }, "no live branch")
}

// A refusal is said although the context has ended: database/sql rolls back just
// then.
func TestARefusalIsSaidThoughItsContextEnded(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := b.Vote(ctx, participant.Vote{Kind: participant.VoteRefused, Detail: "no funds"}); err != nil || v != participant.VerdictRollback {
		t.Errorf("refusal: %v, %v", v, err)
	}
	settled(t, c)
	if d := c.Transaction(string(tx.GID())).GetDetail(); d != "no funds" {
		t.Errorf("the cluster heard %q", d)
	}
}

// "An error from PREPARE is never a plain refusal": the branch stays due, and is
// told to roll back.
func TestAMaybePreparedRefusalIsToldToRollBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	f := serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	if _, err := b.Vote(t.Context(), participant.Vote{Kind: participant.VoteRefused, MaybePrepared: true}); err != nil {
		t.Fatal(err)
	}
	settled(t, c)
	if h := f.heard(); len(h) == 0 || h[0].verdict != participant.VerdictRollback {
		t.Errorf("the manager was told %v", h)
	}
	if client.Live() != 0 {
		t.Error("the branch is live still")
	}
}

// A vote that comes too late is a rollback, obeyed at once.
func TestALateVoteRollsBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.HoldDeliveries(true)
	client := dial(t, c)
	f := serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	if err := tx.Rollback(t.Context(), "changed its mind"); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.prepared = []participant.Prepared{b.Prepared()} // it prepares, in ignorance
	f.mu.Unlock()
	var rolledBack *participant.RolledBackError
	if _, err := b.Vote(t.Context(), participant.Vote{Kind: participant.VotePrepared}); !errors.As(err, &rolledBack) {
		t.Fatalf("a vote after the rollback: %v", err)
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) > 0 }, "the manager to be told")
	if h := f.heard()[0]; h != (told{b.Ref(), participant.VerdictRollback}) {
		t.Errorf("it was told %v", h)
	}
}

// A held branch has no record for recovery: its own verdict is asked for.
func TestALateHeldVoteRollsBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.HoldDeliveries(true)
	client := dial(t, c)
	f := serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r", participant.Held())
	if err := tx.Rollback(t.Context(), "changed its mind"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Vote(t.Context(), participant.Vote{Kind: participant.VotePrepared}); err == nil {
		t.Fatal("a vote after the rollback was taken")
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) > 0 && client.Live() == 0 }, "the held branch to be rolled back")
	if h := f.heard()[0]; h != (told{b.Ref(), participant.VerdictRollback}) {
		t.Errorf("it was told %v", h)
	}
}

func TestALateReadOnlyVoteIsTold(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	if err := tx.Rollback(t.Context(), "changed its mind"); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if _, err := b.Vote(t.Context(), participant.Vote{Kind: participant.VoteReadOnly}); !errors.As(err, &rolledBack) {
		t.Errorf("a read-only vote after the rollback: %v", err)
	}
	if client.Live() != 0 {
		t.Error("the branch is live still")
	}
}

// A vote that is not answered in time leaves the branch to recovery, which ends it.
func TestAnUnansweredVoteIsLeftToRecovery(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.HoldDeliveries(true)
	client := dial(t, c)
	f := serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	f.mu.Lock()
	f.prepared = []participant.Prepared{b.Prepared()}
	f.mu.Unlock()
	ctx, hook := losing(t.Context(), "Session/Vote")
	c.After(hook)
	var unknown *participant.OutcomeUnknownError
	if _, err := b.Vote(ctx, participant.Vote{Kind: participant.VotePrepared}); !errors.As(err, &unknown) {
		t.Fatalf("a vote without answers: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil { // it had arrived
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) > 0 }, "recovery")
	if h := f.heard()[0]; h != (told{b.Ref(), participant.VerdictCommit}) {
		t.Errorf("it was told %v", h)
	}
}

func TestWaitTellsTheOutcome(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	votes(t, b, participant.VotePrepared)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var unknown *participant.OutcomeUnknownError
	if _, _, err := b.Wait(ctx); !errors.As(err, &unknown) {
		t.Errorf("a wait that ended too early: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, o, err := b.Wait(t.Context()); err != nil || v != participant.VerdictCommit || o != participant.OutcomeCommitted {
		t.Errorf("wait: %v, %v, %v", v, o, err)
	}
	last := start(t, client, begin(t, client), "r")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := last.Wait(t.Context()); !errors.Is(err, participant.ErrClosed) {
		t.Errorf("a wait when the client is closed: %v", err)
	}
}

// "CommitWaits inside a call that the initiator waits for is refused: it would
// wait for itself."
func TestCommitWaitsInsideTheCallIsRefused(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	waited := make(chan error, 1)
	err := client.Run(t.Context(), func(ctx context.Context) error {
		tx, err := a.Begin(ctx)
		if err != nil {
			return err
		}
		if err := tx.Put("k", []byte("1")); err != nil {
			return err
		}
		if err := tx.CommitWaits(ctx); !errors.Is(err, participant.ErrWaitsForItself) {
			t.Errorf("a commit that would wait for itself: %v", err)
		}
		later, err := a.Begin(ctx)
		if err != nil {
			return err
		}
		if err := later.Put("l", []byte("1")); err != nil {
			return err
		}
		if err := later.Commit(ctx); err != nil {
			return err
		}
		go func() { // it outlives the function, so it may wait
			_, _, err := later.Branch().Wait(context.WithoutCancel(ctx))
			for errors.Is(err, participant.ErrWaitsForItself) {
				_, _, err = later.Branch().Wait(context.WithoutCancel(ctx))
			}
			waited <- err
		}()
		return tx.Commit(ctx) // the refused one goes on
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("a wait after the function has returned: %v", err)
	}
	eventually(t, a, "k", "1")
}

func TestCallPaths(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	ctx, err := participant.Join(t.Context(), participant.Info{GID: tx.GID(), Path: "1.2.3.4.5.6.7.8.9.10.11.12.13.14", Cluster: c.ID(), Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.StartBranch(ctx, "r"); !errors.Is(err, participant.ErrPathTooLong) {
		t.Errorf("a branch id of more than 32 bytes: %v", err)
	}
	if _, err := participant.Call(ctx); !errors.Is(err, participant.ErrPathTooLong) {
		t.Errorf("a call path of more than 32 bytes: %v", err)
	}
	if _, err := participant.Join(t.Context(), participant.Info{GID: tx.GID(), Path: strings.Repeat("1", 33)}); !errors.Is(err, participant.ErrPathTooLong) {
		t.Errorf("joining with a path of 33 bytes: %v", err)
	}
	if _, err := participant.Join(t.Context(), participant.Info{GID: "order-1", Path: "1"}); err == nil {
		t.Error("joined something that is no GID")
	}
	if _, err := participant.Call(t.Context()); !errors.Is(err, participant.ErrNoTransaction) {
		t.Errorf("a call of nothing: %v", err)
	}
	if _, ok := participant.FromContext(t.Context()); ok {
		t.Error("a plain context carries a transaction")
	}
	if participant.IsOutside(t.Context()) || !participant.IsOutside(participant.Outside(t.Context())) {
		t.Error("Outside is not told apart")
	}
}

// Words are shown to people and must not be empty.
func TestWords(t *testing.T) {
	for _, w := range []interface{ String() string }{
		participant.VerdictNone, participant.VerdictWait, participant.VerdictCommit, participant.VerdictRollback,
		participant.DecisionNone, participant.DecisionCommit, participant.DecisionRollback,
		participant.OutcomeNone, participant.OutcomeCommitted, participant.OutcomeRolledBack, participant.OutcomeMixed, participant.OutcomeHazard,
		participant.VoteNone, participant.VotePrepared, participant.VoteReadOnly, participant.VoteRefused,
	} {
		if w.String() == "" {
			t.Errorf("%#v has no name", w)
		}
	}
}
