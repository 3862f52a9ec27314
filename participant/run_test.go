package participant_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

var errorf = fmt.Errorf

func TestRunCommitsEveryBranch(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a, b := bank(t, client, "bank-a"), bank(t, client, "bank-b")
	err := client.Run(t.Context(), func(ctx context.Context) error {
		if err := put(ctx, a, "k", "1"); err != nil {
			return err
		}
		return put(ctx, b, "k", "1")
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, a, "k", "1")
	eventually(t, b, "k", "1")
	settled(t, c)
}

func TestRunRollsBackOnError(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a, b := bank(t, client, "bank-a"), bank(t, client, "bank-b")
	boom := errors.New("no funds")
	var gid participant.GID
	err := client.Run(t.Context(), func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		gid = info.GID
		if err := put(ctx, a, "k", "1"); err != nil {
			return err
		}
		if err := put(ctx, b, "k", "1"); err != nil {
			return err
		}
		return boom
	})
	if err != boom {
		t.Fatalf("Run handed on %v, want the function's own error", err)
	}
	settled(t, c)
	if x := c.Transaction(string(gid)); x.GetState().String() != "STATE_ROLLED_BACK" || x.GetDetail() != "no funds" || len(x.GetBranches()) != 2 {
		t.Errorf("the cluster has %v", x)
	}
	for _, s := range []interface{ Get(string) ([]byte, error) }{a, b} {
		if v, err := s.Get("k"); err != nil || v != nil {
			t.Errorf("k is %q, %v after a rollback", v, err)
		}
	}
}

func TestRunRollsBackOnPanicAndPanicsOn(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	func() {
		defer func() {
			if r := recover(); r != "boom" {
				t.Errorf("recovered %v, want the function's own panic", r)
			}
		}()
		_ = client.Run(t.Context(), func(ctx context.Context) error {
			if err := put(ctx, a, "k", "1"); err != nil {
				return err
			}
			panic("boom")
		})
	}()
	settled(t, c)
	if v, _ := a.Get("k"); v != nil {
		t.Errorf("k is %q after a panic", v)
	}
	x := c.Transactions()[0]
	if x.GetDetail() != "the initiator's function panicked" {
		t.Errorf("the cluster heard %q", x.GetDetail())
	}
}

func TestRunRollsBackThoughItsContextEnded(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	err := client.Run(ctx, func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	settled(t, c)
}

func TestARefusedBranchRollsEverythingBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a, b := bank(t, client, "bank-a"), bank(t, client, "bank-b")
	err := client.Run(t.Context(), func(ctx context.Context) error {
		if err := put(ctx, a, "k", "1"); err != nil {
			return err
		}
		tx, err := b.Begin(ctx)
		if err != nil {
			return err
		}
		_ = tx.Put("k", []byte("1"))
		return tx.Rollback() // and the initiator ignores it
	})
	var rolledBack *participant.RolledBackError
	if !errors.As(err, &rolledBack) || rolledBack.Reason != "REFUSED" {
		t.Fatalf("Run returned %v, want a rollback because of REFUSED", err)
	}
	settled(t, c)
	if v, _ := a.Get("k"); v != nil {
		t.Errorf("bank-a has %q", v)
	}
}

// A key that stands makes Run wait for the outcome of the transaction that has it.
func TestRunWithAKeyRunsOnce(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	runs := 0
	order := func() error {
		return client.Run(t.Context(), func(ctx context.Context) error {
			runs++
			return put(ctx, a, "order-17", fmt.Sprint(runs))
		}, participant.WithKey("order-17"))
	}
	for range 3 {
		if err := order(); err != nil {
			t.Fatal(err)
		}
	}
	if runs != 1 {
		t.Errorf("the function ran %d times", runs)
	}
	eventually(t, a, "order-17", "1")

	// The second Run comes while the first is still at work, and hears its rollback.
	entered, leave := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- client.Run(t.Context(), func(context.Context) error {
			close(entered)
			<-leave
			return errors.New("changed its mind")
		}, participant.WithKey("order-18"))
	}()
	<-entered
	second := make(chan error, 1)
	go func() {
		second <- client.Run(t.Context(), func(context.Context) error {
			t.Error("ran a function whose key stands")
			return nil
		}, participant.WithKey("order-18"))
	}()
	close(leave)
	if err := <-first; err == nil {
		t.Error("the first succeeded")
	}
	var rolledBack *participant.RolledBackError
	if err := <-second; !errors.As(err, &rolledBack) || rolledBack.Detail != "changed its mind" {
		t.Errorf("the second heard %v, want the first's rollback", err)
	}
}

func TestCommitOfAnothersTransactionIsRefused(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	if _, err := client.Begin(t.Context(), participant.WithKey("k")); err != nil {
		t.Fatal(err)
	}
	tx, err := client.Begin(t.Context(), participant.WithKey("k"))
	if err != nil || tx.Created() {
		t.Fatalf("created %v, %v; want another's transaction", tx.Created(), err)
	}
	var refused *participant.RefusedError
	if err := tx.Commit(t.Context()); !errors.As(err, &refused) || refused.Reason != "KEY_CONFLICT" {
		t.Errorf("commit of another's transaction: %v", err)
	}
	if x := c.Transaction(string(tx.GID())); x.GetState().String() != "STATE_ACTIVE" {
		t.Errorf("it is %v now", x.GetState())
	}
}

func TestRollbackAfterCommitSaysSo(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	if d, index := tx.Decision(); d != participant.DecisionCommit || index == 0 {
		t.Errorf("decision %v at %d", d, index)
	}
	var committed *participant.CommittedError
	if err := tx.Rollback(t.Context(), "too late"); !errors.As(err, &committed) {
		t.Errorf("rollback after commit: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("a repeated commit: %v", err)
	}
}

func TestCommitAfterRollbackSaysWhy(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context(), "because"); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "REQUESTED" {
		t.Errorf("commit after rollback: %v", err)
	}
	if err := tx.Outcome(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Detail != "because" {
		t.Errorf("outcome after rollback: %v", err)
	}
}

func TestDeadlineRollsBack(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
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
		c.Advance(participant.TransactionTimeoutDefault)
		<-tx.Branch().Decided()
		testkit.Eventually(t, patience, func() bool { return put(t.Context(), a, "k", "2") == nil }, "its lock is free")
		var rolledBack *participant.RolledBackError
		if err := tx.Put("k", []byte("1")); !errors.As(err, &rolledBack) {
			t.Errorf("work after the rollback: %v", err)
		}
		return tx.Commit(ctx)
	})
	var rolledBack *participant.RolledBackError
	if !errors.As(err, &rolledBack) {
		t.Fatalf("Run returned %v", err)
	}
	settled(t, c)
}

func TestTimeoutsOutOfRangeAreRefused(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	for _, d := range []int64{0, -1, int64(participant.TransactionTimeoutMax) + 1} {
		_, err := client.Begin(t.Context(), participant.WithTimeout(time.Duration(d)))
		var refused *participant.RefusedError
		if !errors.As(err, &refused) || refused.Reason != "INVALID" {
			t.Errorf("timeout %d: %v", d, err)
		}
	}
	if n := len(c.Transactions()); n != 0 {
		t.Errorf("%d transactions were begun", n)
	}
}
