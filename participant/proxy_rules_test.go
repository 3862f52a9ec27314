package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// TestPreparedBranchGoesEitherWay: a branch that voted is invisible, and ends as
// it is told; telling it again, or otherwise, changes nothing and is answered with
// what it did.
func TestPreparedBranchGoesEitherWay(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ref := r.prepare(-10)
		r.wantAmount(1, 100)
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
		r.wantEvidence(ref, evidenceDone)
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantOutcome(ref, VerdictRollback, OutcomeCommitted) // contrary, and said so
		r.wantAmount(1, 90)

		ref = r.prepare(-50)
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantAmount(1, 90)
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantOutcome(ref, VerdictCommit, OutcomeRolledBack)
		r.wantAmount(1, 90)
		r.wantListed(0)
	}, every...)
}

// TestRolledBackBranchRefuses: tx.Rollback is a plain refusal, nothing is left, and
// the connection serves again.
func TestRolledBackBranchRefuses(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.db.SetMaxOpenConns(1)
		for range 3 {
			ctx, gid := global(t)
			if err := r.begin(ctx, 1, -10).Rollback(); err != nil {
				t.Fatal(err)
			}
			ref := BranchRef{gid, "1"}
			r.script.wantVote(t, ref, VoteRefused, false)
			r.wantEvidence(ref, "")
		}
		r.wantAmount(1, 100)
		if n := r.db.Stats().MaxIdleClosed + r.db.Stats().MaxLifetimeClosed; n != 0 {
			t.Fatalf("%d connections were thrown away", n)
		}
	}, every...)
}

// TestPrepareInAnAbortedBlockIsRefused: "Postgres answers PREPARE TRANSACTION in an
// aborted block without an error (tag ROLLBACK), which database/sql hides."
func TestPrepareInAnAbortedBlockIsRefused(t *testing.T) {
	// First the fact itself.
	plain := newResource(t, "postgres")
	conn, err := plain.plain.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range []string{"BEGIN", "INSERT INTO account VALUES (1, 1)", "PREPARE TRANSACTION 'fact'"} {
		_, err := conn.ExecContext(t.Context(), q)
		if failed := err != nil; failed != strings.HasPrefix(q, "INSERT") {
			t.Fatalf("%s: %v", q, err)
		}
	}

	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ctx, gid := global(t)
		tx := r.begin(ctx, 1, -10)
		if _, err := tx.ExecContext(ctx, "INSERT INTO account VALUES (1, 1)"); err == nil {
			t.Fatal("a duplicate key was accepted")
		}
		// The service forgets the error.
		if err := tx.Commit(); err == nil {
			t.Fatal("an aborted transaction was prepared")
		}
		ref := BranchRef{gid, "1"}
		r.script.wantVote(t, ref, VoteRefused, false)
		r.wantListed(0)
		r.wantEvidence(ref, "")
		r.wantAmount(1, 100)
	}, "postgres", "held-postgres")
}

// TestTransactionEndedBehindTheProxy: "the evidence row is inserted only where
// transaction_timestamp() equals the value read at BeginTx"; under XA the server
// itself refuses, and a guarding savepoint tells elsewhere.
func TestTransactionEndedBehindTheProxy(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, young := range []bool{false, true} {
			endedBehindTheProxy(t, kind, young)
		}
	}, every...)
}

func endedBehindTheProxy(t *testing.T, kind string, young bool) {
	t.Helper()
	r := newResource(t, kind)
	r.script.set(func(s *script) { s.youth = young })
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
	var behind error
	if err := conn.Raw(func(c any) error {
		s := c.(*proxyConn).session()
		for _, q := range []string{"ROLLBACK", "BEGIN", "UPDATE account SET amount = 0 WHERE id = 2"} {
			if _, err := s.exec(ctx, q); err != nil {
				behind = err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err = tx.Commit()
	ref := BranchRef{gid, "1"}
	if kind == "mysql" {
		if behind == nil || err != nil {
			t.Fatalf("behind = %v, commit = %v: XA must refuse transaction control, and stay whole", behind, err)
		}
		return
	}
	if err == nil {
		t.Fatal("a transaction that was not the branch's was prepared")
	}
	r.script.wantVote(t, ref, VoteRefused, false)
	r.wantListed(0)
	r.wantAmount(1, 100)
	r.wantAmount(2, 100)
}

// TestReadOnlyBranchEndsInOnePhase: "A branch that wrote nothing is never prepared:
// it ends in one phase and votes read-only."
func TestReadOnlyBranchEndsInOnePhase(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		for name, c := range map[string]struct {
			opts *sql.TxOptions
			work string
		}{
			"reads":             {nil, "SELECT amount FROM account"},
			"deletes no row":    {nil, "DELETE FROM account WHERE id = 77"},
			"changes no row":    {nil, "UPDATE account SET amount = 0 WHERE id = 77"},
			"declared":          {&sql.TxOptions{ReadOnly: true}, "SELECT amount FROM account"},
			"does nothing":      {nil, ""},
			"with an isolation": {&sql.TxOptions{Isolation: sql.LevelSerializable}, "SELECT amount FROM account"},
		} {
			if name == "changes no row" && strings.HasSuffix(kind, "mysql") {
				continue // where nobody can tell: TestATriggersWorkIsPrepared
			}
			ctx, gid := global(t)
			tx, err := r.db.BeginTx(ctx, c.opts)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if c.work != "" {
				if _, err := tx.ExecContext(ctx, c.work); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			ref := BranchRef{gid, "1"}
			r.script.wantVote(t, ref, VoteReadOnly, false)
			r.wantListed(0)
			r.wantEvidence(ref, "")
		}
		if n := len(r.proxy.pins.list()); n != 0 {
			t.Fatalf("%d branches are kept in mind", n)
		}
	}, every...)
}

// TestLockingOrWritingIsNotReadOnly: a branch that wrote through a function or a
// statement that returns rows is prepared.
// What takes away is work as much as what adds: it is prepared, and either done or
// undone.
func TestABranchThatOnlyDeletesIsPrepared(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		deletes := []string{"DELETE FROM account WHERE id = 1"}
		if kind == "mysql" { // where the driver counts no rows, and where nobody sees what is done
			deletes = append(deletes, "/* twice */ DELETE FROM account WHERE id = (1)", "EXECUTE IMMEDIATE 'DELETE FROM account WHERE id = 1'")
		}
		for _, q := range deletes {
			ctx, gid := global(t)
			tx, err := r.db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			ref := BranchRef{gid, "1"}
			r.script.wantVote(t, ref, VotePrepared, false)
			r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
			var left int
			if err := r.plain.QueryRowContext(t.Context(), "SELECT count(*) FROM account").Scan(&left); err != nil || left != 2 {
				t.Errorf("%s: after the rollback %d rows are left of two, %v", q, left, err)
			}
		}
	}, every...)
}

func TestWritesThatLookLikeReads(t *testing.T) {
	r := newResource(t, "postgres")
	r.must("CREATE FUNCTION take() RETURNS int LANGUAGE sql AS 'UPDATE account SET amount = amount - 1 WHERE id = 1 RETURNING amount'")
	ctx, gid := global(t)
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT take()").Scan(&n); err != nil || n != 99 {
		t.Fatal(n, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r.script.wantVote(t, BranchRef{gid, "1"}, VotePrepared, false)
	r.wantListed(1)

	s := newResource(t, "sqlite")
	ctx, gid = global(t)
	if tx, err = s.db.BeginTx(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE made (n int)"); err != nil { // changes no row
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	ref := BranchRef{gid, "1"}
	s.script.wantVote(t, ref, VotePrepared, false)
	s.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
	s.must("CREATE TABLE made (n int)") // it is not there
}

// TestErrorFromPrepareIsNoPlainRefusal: "An error from PREPARE is never a plain
// refusal: vote refused with maybe_prepared."
func TestErrorFromPrepareIsNoPlainRefusal(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
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
		if kind == "postgres" { // what operated on temporary objects cannot be prepared
			if _, err := tx.ExecContext(ctx, "CREATE TEMP TABLE scratch (n int)"); err != nil {
				t.Fatal(err)
			}
		} else { // the connection breaks on the way
			t.Cleanup(hookPrepare(r, func(s rawSession) { _ = s.raw.Close() }))
		}
		if err := tx.Commit(); err == nil {
			t.Fatal("Commit hid the error of PREPARE")
		}
		ref := BranchRef{gid, "1"}
		r.script.wantVote(t, ref, VoteRefused, true)
		// It stays due: the rollback that is delivered finds out.
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantEvidence(ref, evidenceFenced)
		r.wantListed(0)
		r.wantAmount(1, 100)
	}, prepared...)
}

// hookedEngine runs a hook between the evidence row and the prepare.
type hookedEngine struct {
	engine
	before func(rawSession)
}

func (e hookedEngine) prepare(ctx context.Context, s rawSession, xid string) error {
	e.before(s)
	return e.engine.prepare(ctx, s, xid)
}

// hookPrepare runs f before each prepare of the resource's proxy.
func hookPrepare(r *resource, f func(rawSession)) (unhook func()) {
	own := r.proxy.engine
	r.proxy.engine = hookedEngine{own, f}
	return func() { r.proxy.engine = own }
}

// TestLostAnswerOfPrepare: the database prepared, but nobody heard it: the rollback
// that stays due ends it.
func TestLostAnswerOfPrepare(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		own := r.proxy.engine
		r.proxy.engine = deafEngine{own}
		defer func() { r.proxy.engine = own }()
		ctx, gid := global(t)
		if err := r.begin(ctx, 1, -10).Commit(); err == nil {
			t.Fatal("Commit hid the error of PREPARE")
		}
		ref := BranchRef{gid, "1"}
		r.script.wantVote(t, ref, VoteRefused, true)
		r.proxy.engine = own
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantListed(0)
		r.wantAmount(1, 100)
	}, prepared...)
}

// deafEngine prepares, and loses the answer with the connection.
type deafEngine struct{ engine }

func (e deafEngine) prepare(ctx context.Context, s rawSession, xid string) error {
	if err := e.engine.prepare(ctx, s, xid); err != nil {
		return err
	}
	_ = s.raw.Close()
	return driver.ErrBadConn
}

// TestRollbackOfTheUnknownFences: "Rollback of an xid not found first inserts the
// evidence row in a transaction of its own: success means that it can never
// prepare any more."
func TestRollbackOfTheUnknownFences(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ctx, gid := global(t)
		ref := BranchRef{gid, "1"}
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantEvidence(ref, evidenceFenced)
		// The branch comes late: a paused service that goes on.
		if err := r.begin(ctx, 1, -10).Commit(); err == nil || !strings.Contains(err.Error(), "fenced") {
			t.Fatalf("a fenced branch was prepared: %v", err)
		}
		r.script.wantVote(t, ref, VoteRefused, false)
		r.wantListed(0)
		r.wantAmount(1, 100)
	}, every...)
}

// TestRollbackWhileWorking: the rollback of a branch that is being worked on dooms
// it: its statements and its Commit say so.
func TestRollbackWhileWorking(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ctx, gid := global(t)
		ref := BranchRef{gid, "1"}
		tx := r.begin(ctx, 1, -10)
		_, err := r.proxy.Rollback(t.Context(), ref)
		if busy := errors.Is(err, ErrBusy); err != nil && !busy || busy != (kind == "sqlite") {
			t.Fatalf("rollback of a working branch: %v", err) // SQLite's one writer is the branch
		}
		var rolledBack *RolledBackError
		if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = 0"); !errors.As(err, &rolledBack) {
			t.Fatalf("a doomed branch went on working: %v", err)
		}
		if err := tx.Commit(); !errors.As(err, &rolledBack) {
			t.Fatalf("a doomed branch was prepared: %v", err)
		}
		r.script.wantVote(t, ref, VoteRefused, false)
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantListed(0)
		r.wantAmount(1, 100)
	}, every...)
}

// TestRollbackWhilePreparing: "blocked (lock timeout) means that it may still live:
// retry." The evidence row is in, the prepare is not, and another process asks.
func TestRollbackWhilePreparing(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		other := r.again()
		ctx, gid := global(t)
		ref := BranchRef{gid, "1"}
		asked := false
		defer hookPrepare(r, func(rawSession) {
			asked = true
			if _, err := other.proxy.Rollback(t.Context(), ref); !errors.Is(err, ErrBusy) {
				t.Errorf("rollback of a branch that is preparing = %v, want ErrBusy", err)
			}
		})()
		if err := r.begin(ctx, 1, -10).Commit(); err != nil {
			t.Fatal(err)
		}
		if !asked {
			t.Fatal("the hook did not run")
		}
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantAmount(1, 100)
	}, prepared...)
}

// TestCommitNotFoundIsSettledByTheFence: an operator has rolled the prepared branch
// back by hand. The commit that comes later is answered with the proof, the fence.
func TestCommitNotFoundIsSettledByTheFence(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ref := r.prepare(-10)
		if kind == "mysql" {
			r.killSessions()
		}
		r.byHand(VerdictRollback)
		r.wantOutcome(ref, VerdictCommit, OutcomeRolledBack)
		r.wantEvidence(ref, evidenceFenced)
		r.wantAmount(1, 100)

		// And the other way round: committed by hand, though rollback was decided.
		ref = r.prepare(-10)
		if kind == "mysql" {
			r.killSessions()
		}
		r.byHand(VerdictCommit)
		r.wantOutcome(ref, VerdictRollback, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, prepared...)
}

// byHand is an operator who ends every prepared branch with the database's console.
func (r *resource) byHand(v Verdict) {
	r.t.Helper()
	testkit.Eventually(r.t, 10*time.Second, func() bool {
		found, err := r.listed(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		for xid := range found {
			_ = r.managed(r.t.Context(), func(s rawSession) error { return r.proxy.engine.finish(r.t.Context(), s, xid, v) })
		}
		return len(found) == 0
	}, "the prepared branches cannot be ended by hand")
}

// killSessions ends every session of the database but the asking one.
func (r *resource) killSessions() {
	r.t.Helper()
	switch r.kind {
	case "postgres", "held-postgres":
		r.must("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	case "mysql", "held-mysql":
		rows, err := r.plain.QueryContext(r.t.Context(), "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
		if err != nil {
			r.t.Fatal(err)
		}
		defer rows.Close()
		var ids []int64
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				r.t.Fatal(err)
			}
			ids = append(ids, id)
		}
		for _, id := range ids {
			_, _ = r.plain.ExecContext(r.t.Context(), fmt.Sprintf("KILL %d", id)) // it may have left by now
		}
	}
}

// TestNotFoundWhileListedMeansRetry: "On MariaDB another session's XA COMMIT or
// ROLLBACK answers 1397 while the preparing session lives, though the xid is listed."
func TestNotFoundWhileListedMeansRetry(t *testing.T) {
	r := newResource(t, "mysql")
	other := r.again()
	ref := r.prepare(-10)
	for _, v := range []Verdict{VerdictCommit, VerdictRollback} {
		ask := other.proxy.Commit
		if v == VerdictRollback {
			ask = other.proxy.Rollback
		}
		if _, err := ask(t.Context(), ref); !errors.Is(err, ErrBusy) {
			t.Fatalf("%v from another process while the holder lives = %v, want ErrBusy", v, err)
		}
	}
	r.wantListed(1)
	r.wantEvidence(ref, "")
	// The holder itself can.
	r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
	r.wantAmount(1, 90)

	// And another process can once it is gone.
	ref = r.prepare(-10)
	r.killSessions()
	other.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
	r.wantAmount(1, 80)
	r.wantOutcome(ref, VerdictCommit, OutcomeCommitted) // the former holder finds it done
}

// TestBusyMeansRetry: several sessions end one prepared transaction at once;
// Postgres answers 55000 to those that are too early. None may take that, or the
// "not found" that follows, for an outcome of its own.
func TestBusyMeansRetry(t *testing.T) {
	r := newResource(t, "postgres")
	others := []*resource{r.again(), r.again(), r.again()}
	for range 20 {
		ref := r.prepare(-1)
		var asking sync.WaitGroup
		for _, o := range others {
			asking.Go(func() {
				for {
					outcome, err := o.proxy.Commit(t.Context(), ref)
					if errors.Is(err, ErrBusy) {
						continue
					}
					if err != nil || outcome != OutcomeCommitted {
						t.Errorf("commit of %s = %v, %v", ref, outcome, err)
					}
					return
				}
			})
		}
		asking.Wait()
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
	}
	r.wantAmount(1, 80)
	if got := faultOf(stateError("55000")); got != faultInUse {
		t.Fatalf("SQLSTATE 55000 is fault %d, want in use", got)
	}
}

type stateError string

func (e stateError) Error() string    { return string(e) }
func (e stateError) SQLState() string { return string(e) }

// TestATriggersWorkIsPrepared: a statement that changes no row by the server's count may
// have had a trigger write elsewhere. That is the branch's work, and rolls back with it.
func TestATriggersWorkIsPrepared(t *testing.T) {
	r := newResource(t, "mysql")
	r.must("CREATE TABLE audit (id int)")
	r.must("CREATE TRIGGER audit_update BEFORE UPDATE ON account FOR EACH ROW INSERT INTO audit VALUES (NEW.id)")
	r.must("CREATE TRIGGER audit_insert BEFORE INSERT ON account FOR EACH ROW INSERT INTO audit VALUES (NEW.id)")
	for _, q := range []string{
		"UPDATE account SET amount = amount WHERE id = 1",
		"INSERT INTO account SET id = 1, amount = 100 ON DUPLICATE KEY UPDATE amount = 100",
		"UPDATE account SET amount = 0 WHERE id = 77", // it runs no trigger, and looks alike
	} {
		ctx, gid := global(t)
		tx, err := r.db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := tx.ExecContext(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := res.RowsAffected(); n != 0 || err != nil {
			t.Fatalf("%s: it changed %d rows, %v: it is not what is to be shown", q, n, err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		ref := BranchRef{gid, "1"}
		r.script.wantVote(t, ref, VotePrepared, false)
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		var audited int
		if err := r.plain.QueryRowContext(t.Context(), "SELECT count(*) FROM audit").Scan(&audited); err != nil || audited != 0 {
			t.Errorf("%s: after the rollback the trigger's work is %d rows, %v", q, audited, err)
		}
	}
}

// TestForeignXidsAreNeverTouched: "Another cluster's and other tools' xids are
// never touched", even where GID and branch are the same.
func TestForeignXidsAreNeverTouched(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ref := r.prepare(-10)
		theirs, err := r.proxy.engine.xid(Prepared{BranchRef: ref, Cluster: clusterB, Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		foreign := []string{theirs, "a tool's"}
		if kind == "mysql" {
			foreign[1] = "'a tool''s'"
		} else {
			foreign[1] = "a tool of somebody"
		}
		for i, xid := range foreign {
			r.prepareByHand(xid, fmt.Sprintf("INSERT INTO account VALUES (%d, 0)", 10+i))
		}
		defer func() {
			for _, xid := range foreign {
				if err := r.managed(t.Context(), func(s rawSession) error { return r.proxy.engine.finish(t.Context(), s, xid, VerdictRollback) }); err != nil {
					t.Errorf("the foreign branch %s is gone: %v", xid, err)
				}
			}
		}()
		found := r.recovered()
		seen := map[string]int{}
		for _, p := range found {
			seen[p.Cluster]++
		}
		if seen[clusterA] != 1 || seen[clusterB] != 1 || len(found) != 2 {
			t.Fatalf("recovery lists %+v", found)
		}
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack) // theirs has the same GID and branch
		other := r.again()
		other.wantOutcome(ref, VerdictCommit, OutcomeRolledBack)
	}, prepared...)
}

// prepareByHand prepares a statement under an xid of the caller's, and lets its
// session go.
func (r *resource) prepareByHand(xid, statement string) {
	r.t.Helper()
	ctx := r.t.Context()
	raw, err := r.open(r.t).Connect(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	defer raw.Close()
	begin, end := []string{"BEGIN"}, []string{"PREPARE TRANSACTION '" + xid + "'"}
	if r.kind == "mysql" {
		begin, end = []string{"XA START " + xid}, []string{"XA END " + xid, "XA PREPARE " + xid}
	}
	for _, q := range append(append(begin, statement), end...) {
		if _, err := (rawSession{raw: raw}).exec(ctx, q); err != nil {
			r.t.Fatalf("%s: %v", q, err)
		}
	}
}

// TestOnlyTheCurrentDatabaseIsScanned: "Scan only the current database's prepared
// xids": Postgres lists the whole server's, and none of the others can be ended here.
func TestOnlyTheCurrentDatabaseIsScanned(t *testing.T) {
	here, there := newResource(t, "postgres"), newResource(t, "postgres")
	if here.dsn == there.dsn {
		here.must("SELECT 1") // a named server: its one database cannot show it
		return
	}
	ref := there.prepare(-10)
	found, err := here.proxy.Recover(t.Context())
	if err != nil || len(found) != 0 {
		t.Fatalf("found %v, %v in another database", found, err)
	}
	there.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
}

// TestAnotherProcessRecovers: a participant that never comes back; another process
// of its resource finishes its branches.
func TestAnotherProcessRecovers(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		commit := r.prepare(-10)
		ctx, gid := global(t)
		if err := r.begin(ctx, 2, -10).Commit(); err != nil {
			t.Fatal(err)
		}
		rollback := BranchRef{gid, "1"}
		if err := r.db.Close(); err != nil { // the process is gone, with its connections
			t.Fatal(err)
		}
		other := r.again()
		found := other.recovered()
		if len(found) != 2 {
			t.Fatalf("recovery lists %v; want both branches", found)
		}
		for _, p := range found {
			if p.Cluster != clusterA || p.Timeout != 30*time.Second || (p.BranchRef != commit && p.BranchRef != rollback) {
				t.Fatalf("recovery found %+v", p)
			}
		}
		other.wantOutcome(commit, VerdictCommit, OutcomeCommitted)
		other.wantOutcome(rollback, VerdictRollback, OutcomeRolledBack)
		other.wantAmount(1, 90)
		other.wantAmount(2, 100)
		other.wantListed(0)
	}, prepared...)
}

// TestSessionKilledBetweenPrepareAndVote: the connection dies, the branch does not.
func TestSessionKilledBetweenPrepareAndVote(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.script.set(func(s *script) { s.beforeVote = func(BranchRef) { r.killSessions() } })
		ref := r.prepare(-10)
		r.wantListed(1)
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, prepared...)
}

// TestVoteNotAnswered: the vote's fate is unknown: the branch stays prepared, and
// ends as it is told later.
func TestVoteNotAnswered(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.script.set(func(s *script) { s.voteErr = &OutcomeUnknownError{Err: context.DeadlineExceeded} })
		ctx, gid := global(t)
		var unknown *OutcomeUnknownError
		if err := r.begin(ctx, 1, -10).Commit(); !errors.As(err, &unknown) {
			t.Fatalf("Commit = %v, want an unknown outcome", err)
		}
		r.wantAmount(1, 100)
		r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, every...)
}

// TestVoteHearsRollback: a branch that votes too late hears so at once.
func TestVoteHearsRollback(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.script.set(func(s *script) { s.verdict = VerdictRollback })
		ctx, gid := global(t)
		var rolledBack *RolledBackError
		if err := r.begin(ctx, 1, -10).Commit(); !errors.As(err, &rolledBack) || rolledBack.GID != gid {
			t.Fatalf("Commit = %v, want rolled back", err)
		}
		r.wantOutcome(BranchRef{gid, "1"}, VerdictRollback, OutcomeRolledBack)
		r.wantAmount(1, 100)
	}, every...)
}

// TestRefusedEnlisting: without a branch there is no local transaction, and the
// pool is whole.
func TestRefusedEnlisting(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind, PinnedMax(1))
		refusal := &RefusedError{Reason: "SEALED"}
		r.script.set(func(s *script) { s.startErr = refusal })
		ctx, _ := global(t)
		for range 3 {
			if _, err := r.db.BeginTx(ctx, nil); !errors.Is(err, refusal) {
				t.Fatalf("BeginTx = %v, want the refusal", err)
			}
		}
		r.script.set(func(s *script) { s.startErr = nil })
		r.wantOutcome(r.prepare(-10), VerdictCommit, OutcomeCommitted)
	}, every...)
}
