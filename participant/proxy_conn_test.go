package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var txOptionsNone driver.TxOptions

// TestTransactionControlIsRefused: "Transaction-control SQL through the proxy is
// refused", however it is written.
func TestTransactionControlIsRefused(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ctx, gid := global(t)
		tx := r.begin(ctx, 1, -10)
		for _, q := range []string{"COMMIT", "rollback", "/* x */ BeGiN", "-- x\nEND", "SELECT 1; COMMIT"} {
			if _, err := tx.ExecContext(ctx, q); !errors.Is(err, ErrTransactionControl) {
				t.Errorf("%q = %v, want ErrTransactionControl", q, err)
			}
			if _, err := tx.QueryContext(ctx, q); !errors.Is(err, ErrTransactionControl) {
				t.Errorf("query %q = %v, want ErrTransactionControl", q, err)
			}
		}
		for _, q := range []string{"SAVEPOINT a", "UPDATE account SET amount = 0 WHERE id = 1", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a"} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				t.Errorf("%q = %v, want it let through", q, err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, every...)
}

// TestOutsideOfATransaction: "With a GID in the context, statements outside a
// transaction are refused unless participant.Outside(ctx)."
func TestOutsideOfATransaction(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ctx, _ := global(t)
		const q = "UPDATE account SET amount = amount + 1 WHERE id = 1"
		st, err := r.db.PrepareContext(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		local, err := r.db.BeginTx(t.Context(), nil) // no branch, though statements name one
		if err != nil {
			t.Fatal(err)
		}
		defer local.Rollback()
		for name, run := range map[string]func(context.Context) error{
			"exec":       func(ctx context.Context) error { _, err := r.db.ExecContext(ctx, q); return err },
			"query":      func(ctx context.Context) error { return r.db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) },
			"prepared":   func(ctx context.Context) error { _, err := st.ExecContext(ctx); return err },
			"a local tx": func(ctx context.Context) error { return local.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) },
		} {
			if err := run(ctx); !errors.Is(err, ErrOutsideTransaction) {
				t.Errorf("%s = %v, want ErrOutsideTransaction", name, err)
			}
			if err := run(Outside(ctx)); err != nil {
				t.Errorf("%s, said to be outside = %v", name, err)
			}
		}
		if err := local.Rollback(); err != nil {
			t.Fatal(err)
		}
		r.wantAmount(1, 102)

		// A transaction said to be outside is one of its own, also for statements whose
		// context does not say so again.
		out, err := r.db.BeginTx(Outside(ctx), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
		if err := out.Commit(); err != nil {
			t.Fatal(err)
		}
		r.wantAmount(1, 103)
		if n := len(r.script.branches); n != 0 {
			t.Fatalf("%d branches were started", n)
		}
	}, every...)
}

// TestStrictAndTransparent: "without a GID the proxy is transparent, or refuses when
// the resource is Strict."
func TestStrictAndTransparent(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		strict := r.again(Strict())
		ctx := t.Context()
		const q = "UPDATE account SET amount = amount + 1 WHERE id = 1"
		if _, err := r.db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
		tx, err := r.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		if kind == "sqlite" {
			tx, err = r.db.BeginTx(ctx, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := r.db.PingContext(ctx); err != nil {
			t.Fatal(err)
		}
		r.wantAmount(1, 102)

		if _, err := strict.db.ExecContext(ctx, q); !errors.Is(err, ErrStrict) {
			t.Errorf("exec = %v, want ErrStrict", err)
		}
		if _, err := strict.db.BeginTx(ctx, nil); !errors.Is(err, ErrStrict) {
			t.Errorf("BeginTx = %v, want ErrStrict", err)
		}
		if _, err := strict.db.ExecContext(Outside(ctx), q); err != nil {
			t.Errorf("outside = %v", err)
		}
		strict.wantOutcome(strict.prepare(-3), VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 100)
	}, every...)
}

// TestTaintedConnection: SQL text that began a transaction, without a GID, is let
// through; but its connection is not used for a branch, nor again.
func TestTaintedConnection(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		conn, err := r.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{"BEGIN", "UPDATE account SET amount = 0 WHERE id = 2"} {
			if _, err := conn.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		ctx, _ := global(t)
		if _, err := conn.BeginTx(ctx, nil); !errors.Is(err, ErrTransactionControl) {
			t.Fatalf("BeginTx on a connection that SQL text has begun on = %v", err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		r.wantOutcome(r.prepare(-10), VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
		r.wantAmount(2, 100)
	}, every...)
}

// TestAnotherTransactionsContext: a statement whose context names another
// transaction does not slip into this one's branch.
func TestAnotherTransactionsContext(t *testing.T) {
	r := newResource(t, "postgres")
	ctx, _ := global(t)
	other, gid := global(t)
	tx := r.begin(ctx, 1, -10)
	defer tx.Rollback()
	if _, err := tx.ExecContext(other, "SELECT 1"); err == nil || !strings.Contains(err.Error(), string(gid)) {
		t.Fatalf("a statement of another transaction = %v", err)
	}
}

// TestPreparedStatements: statements of the pool and of the transaction work inside
// a branch, and do not outlive its connection.
func TestPreparedStatements(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		mark := "?"
		if strings.Contains(kind, "postgres") {
			mark = "$1"
		}
		st, err := r.db.PrepareContext(t.Context(), "UPDATE account SET amount = amount - 1 WHERE id = "+mark)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		for range 3 {
			ctx, gid := global(t)
			tx, err := r.db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.StmtContext(ctx, st).ExecContext(ctx, 1); err != nil {
				t.Fatal(err)
			}
			own, err := tx.PrepareContext(ctx, "SELECT amount FROM account WHERE id = "+mark)
			if err != nil {
				t.Fatal(err)
			}
			if err := own.QueryRowContext(ctx, 1).Scan(new(int)); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
		}
		r.wantAmount(1, 97)
	}, every...)
}

// TestPinnedConnectionsLeaveThePool: "Pinned connections leave the pool (IsValid =
// false) and are capped", with an error that says so.
func TestPinnedConnectionsLeaveThePool(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind, PinnedMax(2), LockWait(300*time.Millisecond))
		r.db.SetMaxOpenConns(1) // a pool smaller than its pinned connections
		refs := []BranchRef{}
		for id := 1; id <= 2; id++ {
			ctx, gid := global(t)
			if err := r.begin(ctx, id, -10).Commit(); err != nil {
				t.Fatal(err)
			}
			refs = append(refs, BranchRef{gid, "1"})
			if n := r.db.Stats().OpenConnections; n != 0 {
				t.Errorf("the pool still counts %d connections, and its one is pinned", n)
			}
		}
		ctx, _ := global(t)
		_, err := r.db.BeginTx(ctx, nil)
		if !errors.Is(err, ErrPinned) || !strings.Contains(err.Error(), "2 branches of \"orders-db\"") {
			t.Fatalf("BeginTx beyond the cap = %v, want ErrPinned", err)
		}
		if err := r.db.PingContext(t.Context()); err != nil { // plain work goes on
			t.Fatal(err)
		}
		r.wantOutcome(refs[0], VerdictCommit, OutcomeCommitted)
		r.wantOutcome(refs[1], VerdictRollback, OutcomeRolledBack)
		for range 5 { // the slots came back
			r.wantOutcome(r.prepare(-1), VerdictRollback, OutcomeRolledBack)
		}
		if n := len(r.proxy.pins.slots); n != 0 {
			t.Fatalf("%d slots are still taken", n)
		}
		r.wantAmount(1, 90)
	}, "mysql", "held-postgres", "held-mysql")
}

// TestUsingAConnectionThatIsPinned: a *sql.Conn whose branch took the connection
// along is told so, and cannot reach it.
func TestUsingAConnectionThatIsPinned(t *testing.T) {
	r := newResource(t, "mysql")
	ctx, gid := global(t)
	conn, err := r.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "XA ROLLBACK 'x'"); !errors.Is(err, driver.ErrBadConn) && !errors.Is(err, sql.ErrConnDone) {
		t.Fatalf("exec on a pinned connection = %v", err)
	}
	r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
}

// TestBranchesOfOneTransactionBlockEachOther: "lock timeout below the time left, and
// an error that names the cause."
func TestBranchesOfOneTransactionBlockEachOther(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.script.set(func(s *script) { s.left = 1500 * time.Millisecond })
		ctx, gid := global(t)
		if err := r.begin(ctx, 1, -10).Commit(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := func() error {
			tx, err := r.db.BeginTx(ctx, nil)
			if err != nil {
				return err // SQLite's one writer
			}
			defer tx.Rollback()
			_, err = tx.ExecContext(ctx, "UPDATE account SET amount = amount - 1 WHERE id = 1")
			return err
		}()
		if err == nil {
			t.Fatal("two branches changed one row")
		}
		// Uncut, the wait is lockWaitDefault; a busy machine may add to the cut one.
		if took := time.Since(began); took > lockWaitDefault-time.Second {
			t.Errorf("it took %v, the transaction had 1.5 s left", took)
		}
		want := "branch 1 of the same transaction"
		if kind == "sqlite" {
			want = fmt.Sprintf("branch %s/1 has awaited its decision", gid)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name the cause (%q): %v", want, err)
		}
		if kind != "sqlite" { // which refused it before there was a branch
			second := BranchRef{gid, "2"}
			r.script.wantVote(t, second, VoteRefused, false)
			if detail := r.script.branch(t, second).detail(); !strings.Contains(detail, want) {
				t.Errorf("the refusal does not name the cause (%q): %q", want, detail)
			}
		}
		r.wantOutcome(BranchRef{gid, "1"}, VerdictRollback, OutcomeRolledBack)
	}, every...)
}

// TestDeadlock: the victim of a deadlock has been rolled back by the server; it can
// only refuse, whatever its service does next.
func TestDeadlock(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ctx1, gid1 := global(t)
		ctx2, gid2 := global(t)
		tx1, tx2 := r.begin(ctx1, 1, -10), r.begin(ctx2, 2, -10)
		errs := make(chan error, 1)
		go func() {
			_, err := tx1.ExecContext(ctx1, "UPDATE account SET amount = amount - 10 WHERE id = 2")
			errs <- err
		}()
		_, err2 := tx2.ExecContext(ctx2, "UPDATE account SET amount = amount - 10 WHERE id = 1")
		err1 := <-errs
		if (err1 == nil) == (err2 == nil) {
			t.Fatalf("one of two must be the victim: %v, %v", err1, err2)
		}
		victim, victimCtx, victimGID, winner, winnerGID := tx1, ctx1, gid1, tx2, gid2
		if err2 != nil {
			victim, victimCtx, victimGID, winner, winnerGID = tx2, ctx2, gid2, tx1, gid1
		}
		_, _ = victim.ExecContext(victimCtx, "UPDATE account SET amount = 0 WHERE id = 77")
		if err := winner.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := victim.Commit(); err == nil {
			t.Fatal("the victim of a deadlock was prepared")
		}
		r.script.wantVote(t, BranchRef{victimGID, "1"}, VoteRefused, false)
		r.wantOutcome(BranchRef{winnerGID, "1"}, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
		r.wantAmount(2, 90)
		r.wantListed(0)
	}, "postgres", "mysql", "held-postgres", "held-mysql")
}

// TestCommitWaits: Commit returns the decision's outcome; but "CommitWaits inside a
// call that the initiator waits for is refused: it would wait for itself."
func TestCommitWaits(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind, CommitWaits())
		for _, c := range []struct {
			verdict Verdict
			outcome Outcome
			want    func(error) bool
		}{
			{VerdictCommit, OutcomeCommitted, func(err error) bool { return err == nil }},
			{VerdictRollback, OutcomeRolledBack, func(err error) bool { var r *RolledBackError; return errors.As(err, &r) }},
			{VerdictCommit, OutcomeRolledBack, func(err error) bool { return errors.Is(err, ErrHeuristic) }},
		} {
			ctx, gid := global(t)
			ref := BranchRef{gid, "1"}
			r.script.set(func(s *script) {
				s.beforeVote = func(BranchRef) { // the decision comes while Commit waits
					b := r.script.branch(t, ref)
					b.verdict, b.outcome = c.verdict, c.outcome
					close(b.ended)
				}
			})
			if err := r.begin(ctx, 1, -10).Commit(); !c.want(err) {
				t.Errorf("%v, %v: Commit = %v", c.verdict, c.outcome, err)
			}
			r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		}

		ctx, gid := global(t)
		scopeOf(ctx).setWaited(true)
		if err := r.begin(ctx, 1, -10).Commit(); !errors.Is(err, ErrWaitsForItself) {
			t.Fatalf("Commit inside a call that is waited for = %v, want ErrWaitsForItself", err)
		}
		r.script.wantVote(t, BranchRef{gid, "1"}, VoteRefused, false)
		r.wantAmount(1, 100)
		r.wantListed(0)
	}, "postgres", "mysql", "sqlite")
}

// TestCancelledContext: a context that ends before Commit rolls the branch back and
// refuses; the pool is whole.
func TestCancelledContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind, PinnedMax(1))
		ctx, gid := global(t)
		ctx, cancel := context.WithCancel(ctx)
		tx := r.begin(ctx, 1, -10)
		cancel()
		if err := tx.Commit(); err == nil {
			t.Fatal("Commit with an ended context succeeded")
		}
		r.wantOutcome(r.prepare(-5), VerdictCommit, OutcomeCommitted) // waits for the slot
		r.script.wantVote(t, BranchRef{gid, "1"}, VoteRefused, false)
		if detail := r.script.branch(t, BranchRef{gid, "1"}).detail(); !strings.Contains(detail, "context") {
			t.Errorf("the refusal does not say that the context has ended: %q", detail)
		}
		r.wantAmount(1, 95)
	}, every...)
}

// TestOptionsOfTransactions: isolation and access mode reach the database.
func TestOptionsOfTransactions(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		for level, want := range map[sql.IsolationLevel]string{
			sql.LevelReadUncommitted: "READ UNCOMMITTED", sql.LevelReadCommitted: "READ COMMITTED",
			sql.LevelRepeatableRead: "REPEATABLE READ", sql.LevelSerializable: "SERIALIZABLE",
		} {
			ctx, _ := global(t)
			tx, err := r.db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(kind, "postgres") {
				var got string
				if err := tx.QueryRowContext(ctx, "SELECT upper(current_setting('transaction_isolation'))").Scan(&got); err != nil || got != want {
					t.Errorf("isolation is %q, %v; want %q", got, err, want)
				}
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, _ := global(t)
		if _, err := r.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelLinearizable}); err == nil {
			t.Error("an unknown isolation level was accepted")
		}
		tx, err := r.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = 1"); err == nil {
			t.Error("a read-only transaction wrote")
		}
	}, "postgres", "mysql", "held-postgres", "held-mysql")
}

// TestSettingsAreRestored: what a branch changes on its connection does not reach
// the next user.
func TestSettingsAreRestored(t *testing.T) {
	for kind, query := range map[string]string{
		"postgres": "SELECT current_setting('lock_timeout')", "mysql": "SELECT @@innodb_lock_wait_timeout", "sqlite": "PRAGMA busy_timeout",
	} {
		t.Run(kind, func(t *testing.T) {
			r := newResource(t, kind, LockWait(2*time.Second))
			r.db.SetMaxOpenConns(1)
			read := func() (v string) {
				t.Helper()
				if err := r.db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
					t.Fatal(err)
				}
				return v
			}
			before := read()
			ctx, _ := global(t)
			if err := r.begin(ctx, 1, -1).Rollback(); err != nil {
				t.Fatal(err)
			}
			if after := read(); after != before {
				t.Errorf("after a rollback it is %q, before it was %q", after, before)
			}
			r.wantOutcome(r.prepare(-1), VerdictCommit, OutcomeCommitted)
			if after := read(); after != before { // on the connection that was given back
				t.Errorf("after a commit it is %q, before it was %q", after, before)
			}
		})
	}
}
