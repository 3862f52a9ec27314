package participant_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// A leader change aborts nothing: branches prepared under one leader hear the
// decision from the next.
func TestTheNextLeaderDelivers(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	c.HoldDeliveries(true)
	if err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, a, "k", "1") }); err != nil {
		t.Fatal(err)
	}
	c.Stop(0)
	c.HoldDeliveries(false)
	if v, _ := a.Get("k"); v != nil {
		t.Fatalf("k is %q before any delivery", v)
	}
	c.Lead(1)
	eventually(t, a, "k", "1")
	settled(t, c)
}

// The leader goes in the middle of the work: the vote goes to the next one.
func TestWorkGoesOnAcrossALeaderChange(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	err := client.Run(t.Context(), func(ctx context.Context) error {
		tx, err := a.Begin(ctx)
		if err != nil {
			return err
		}
		if err := tx.Put("k", []byte("1")); err != nil {
			return err
		}
		c.Stop(0)
		c.Lead(2)
		return tx.Commit(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, a, "k", "1")
	settled(t, c)
}

// Leaders and connections come and go while transactions run; every one that was
// acknowledged is applied.
func TestManyTransactionsWhileLeadersChange(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	client := dial(t, c)
	a, b := bank(t, client, "bank-a"), bank(t, client, "bank-b")
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if i%2 == 0 {
				c.Lead(i / 2 % 3)
			} else {
				c.Break()
			}
		}
	}()
	committed := 0
	for i := range 30 {
		key := string(rune('a'+i%26)) + string(rune('a'+i/26))
		err := client.Run(t.Context(), func(ctx context.Context) error {
			if err := put(ctx, a, key, "1"); err != nil {
				return err
			}
			return put(ctx, b, key, "1")
		})
		if err != nil {
			t.Errorf("transaction %d: %v", i, err)
			continue
		}
		committed++
		eventually(t, a, key, "1")
		eventually(t, b, key, "1")
	}
	close(stop)
	<-stopped
	if committed != 30 {
		t.Errorf("%d of 30 committed", committed)
	}
	settled(t, c)
}

// A participant that is killed before its vote rolls the transaction back at
// session loss + grace, not at the deadline.
func TestALostParticipantRollsBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, client := dial(t, c), dial(t, c)
	serve(t, client, "r")
	tx := begin(t, initiator)
	start(t, client, tx, "r")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "PARTICIPANT_LOST" {
		t.Errorf("commit without its participant: %v", err)
	}
}

// The attach list never misses a live branch: one that enlists while the
// connection breaks is still live afterwards.
func TestTheAttachListsEveryLiveBranch(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	var listed atomic.Int32
	c.Before(func(call participanttest.Call) error {
		if a, ok := call.Request.(*quoratev1.Attach); ok {
			listed.Store(int32(len(a.GetLive())))
		}
		return nil
	})
	hook, _ := failing("Session/Enlist", 1, errLost)
	c.After(hook)
	b := start(t, client, tx, "r")
	if listed.Load() != 1 {
		t.Errorf("the attach after the lost answer listed %d branches, want the one that had enlisted", listed.Load())
	}
	votes(t, b, participant.VotePrepared)
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	if n := client.Live(); n != 0 {
		t.Errorf("%d branches are live in the end", n)
	}
}

// A leader that is frozen, with its connections open, is left for the next one.
func TestASilentLeaderIsLeft(t *testing.T) {
	c := participanttest.NewCluster(t, 2)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	frozen, melt := make(chan struct{}), make(chan struct{})
	defer close(melt)
	var first atomic.Bool
	c.Before(func(call participanttest.Call) error {
		if call.Node == 0 && call.Method == "Session/Heartbeat" {
			if first.CompareAndSwap(false, true) {
				close(frozen)
			}
			<-melt
		}
		return nil
	})
	<-frozen
	c.Usurp(1)
	if err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, a, "k", "1") }); err != nil {
		t.Fatal(err)
	}
	eventually(t, a, "k", "1")
}

// "Answers of an older epoch are refused": a leader that was deposed, and does not
// know it, is not attached to.
func TestAnOlderLeaderIsNotAttachedTo(t *testing.T) {
	c := participanttest.NewCluster(t, 2)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	c.Lead(0) // term 2
	testkit.Eventually(t, patience, func() bool { return c.Sessions() == 1 }, "the session in term 2")
	if err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, a, "k", "1") }); err != nil {
		t.Fatal(err)
	}
	c.SetTerm(1)
	c.Break()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := client.Run(ctx, func(ctx context.Context) error { return put(ctx, a, "k", "2") })
	var unavailable *participant.UnavailableError
	var unknown *participant.OutcomeUnknownError // when the enlisting was sent as the stream broke
	if !errors.As(err, &unavailable) && !errors.As(err, &unknown) {
		t.Errorf("work over a session with term 1, when term 2 was heard of: %v", err)
	}
	c.SetTerm(3)
	if err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, a, "k", "3") }); err != nil {
		t.Fatal(err)
	}
	eventually(t, a, "k", "3")
}

// Decisions are obeyed from any epoch of the incarnation, and from none of an
// earlier one.
func TestDeliveriesOfAnEarlierIncarnationAreIgnored(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	f := serve(t, client, "r")
	c.HoldDeliveries(true)
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	votes(t, b, participant.VotePrepared)
	c.Restore()
	if err := tx.Commit(t.Context()); err != nil { // incarnation 2 is heard
		t.Fatal(err)
	}
	c.DeliverAs(1, 9)
	start(t, client, begin(t, client), "r") // its answer comes after that delivery
	if v := b.Verdict(); v != participant.VerdictWait {
		t.Errorf("a delivery of incarnation 1 was taken for %v, though 2 was heard of", v)
	}
	c.DeliverAs(2, 0) // an older term than was heard
	select {
	case <-b.Decided():
	case <-time.After(patience):
		t.Fatal("a decision of an older term is not obeyed")
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) == 1 }, "the manager to be told, once")
}

// A busy manager is asked again; any other error is no outcome either.
func TestABusyManagerIsAskedAgain(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	f := serve(t, client, "r")
	tries := 0
	f.answer = func(told) (participant.Outcome, error) {
		switch tries++; tries {
		case 1:
			return participant.OutcomeNone, participant.ErrBusy
		case 2:
			return participant.OutcomeNone, errors.New("the database is away")
		}
		return participant.OutcomeCommitted, nil
	}
	var busy atomic.Int32
	c.Before(func(call participanttest.Call) error {
		if r, ok := call.Request.(*quoratev1.ReportRequest); ok && r.GetBusy() {
			busy.Add(1)
		}
		return nil
	})
	tx := begin(t, client)
	votes(t, start(t, client, tx, "r"), participant.VotePrepared)
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if tries < 3 || busy.Load() != 2 { // more, where a delivery came before the report was there
		t.Errorf("%d tries, %d busy reports; want 3 and 2", tries, busy.Load())
	}
}

// One slow branch keeps no other waiting, and at most so many run at once.
func TestDeliveriesAreBoundedAResource(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c, participant.WithDeliveries(2))
	f := serve(t, client, "r")
	other := serve(t, client, "other")
	var running, most atomic.Int32
	release := make(chan struct{})
	f.answer = func(told) (participant.Outcome, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		<-release
		return participant.OutcomeCommitted, nil
	}
	for range 5 {
		tx := begin(t, client)
		votes(t, start(t, client, tx, "r"), participant.VotePrepared)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, patience, func() bool { return running.Load() == 2 }, "two deliveries at once")
	tx := begin(t, client)
	votes(t, start(t, client, tx, "other"), participant.VotePrepared)
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Errorf("another resource waits for the slow one: %v", err)
	}
	if len(other.heard()) == 0 {
		t.Error("the other resource was not told")
	}
	close(release)
	settled(t, c)
	if most.Load() != 2 {
		t.Errorf("%d deliveries ran at once, want 2", most.Load())
	}
}

// A held branch commits only while its holder vouches for it, anew for each leader.
func TestHeldBranchesAreVouchedFor(t *testing.T) {
	c := participanttest.NewCluster(t, 2)
	client := dial(t, c)
	f := serve(t, client, "r")
	var vouched atomic.Int32
	c.Before(func(call participanttest.Call) error {
		if _, ok := call.Request.(*quoratev1.Vouch); ok {
			vouched.Add(1)
		}
		return nil
	})
	tx := begin(t, client)
	b := start(t, client, tx, "r", participant.Held())
	votes(t, b, participant.VotePrepared)
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	if vouched.Load() == 0 {
		t.Error("nobody vouched")
	}
	if h := slices.Compact(f.heard()); len(h) != 1 || h[0].verdict != participant.VerdictCommit {
		t.Errorf("the manager was told %v", h)
	}

	// With another leader the attach list vouches.
	tx = begin(t, client)
	b = start(t, client, tx, "r", participant.Held())
	votes(t, b, participant.VotePrepared)
	c.Lead(1)
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
}

// A held branch that broke by itself is not vouched for, and says so.
func TestABrokenHeldBranchRollsBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r", participant.Held())
	votes(t, b, participant.VotePrepared)
	if err := b.Done(t.Context(), participant.OutcomeRolledBack, "the connection broke"); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "REPORTED" {
		t.Errorf("commit: %v", err)
	}
	if client.Live() != 0 {
		t.Error("the branch is live still")
	}
}

func TestAttachments(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	f := &fake{name: "r"}
	a, err := client.Attach(t.Context(), f)
	if err != nil || a.Manager() != f {
		t.Fatal(err)
	}
	if _, err := client.Attach(t.Context(), &fake{name: "r"}); !errors.Is(err, participant.ErrAttached) {
		t.Errorf("a second manager of the resource: %v", err)
	}
	for _, bad := range []string{"", "a\nb"} {
		if _, err := client.Attach(t.Context(), &fake{name: bad}); err == nil {
			t.Errorf("a resource named %q was attached", bad)
		}
	}
	a.Detach()
	testkit.Eventually(t, patience, func() bool { return c.Sessions() == 0 }, "no session without a resource")
	tx := begin(t, client)
	if _, err := client.StartBranch(tx.Context(t.Context()), "r"); !errors.Is(err, participant.ErrNotAttached) {
		t.Errorf("a branch of a detached resource: %v", err)
	}
	serve(t, client, "r")
	start(t, client, tx, "r")
}

func TestAttachGivesUpWithItsContext(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	c.Lead(-1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var unavailable *participant.UnavailableError
	if _, err := client.Attach(ctx, &fake{name: "r"}); !errors.As(err, &unavailable) {
		t.Errorf("attach without a leader: %v", err)
	}
	c.Lead(0)
	serve(t, client, "r") // the first one is not in the way
}
