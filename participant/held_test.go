package participant

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// breakHeld breaks the connection of a held branch, as a crash of its process does.
func (r *resource) breakHeld(ref BranchRef) {
	r.t.Helper()
	t := r.proxy.pins.get(ref)
	if t == nil {
		r.t.Fatalf("branch %s is not held", ref)
	}
	if r.kind == "sqlite" {
		t.drop()
		return
	}
	r.killSessions()
}

// TestHeldLostAfterTheDecision: "when a participant dies after a commit decision and
// before its local commit, the work is lost": it is known, by the fence, and said to
// be a heuristic rollback.
func TestHeldLostAfterTheDecision(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		other := r.again()
		ref := r.prepare(-10)
		r.proxy.cancel() // no watch: the loss is found by the one who is told to commit
		r.breakHeld(ref)
		other.wantOutcome(ref, VerdictCommit, OutcomeRolledBack)
		other.wantEvidence(ref, evidenceFenced)
		r.wantOutcome(ref, VerdictCommit, OutcomeRolledBack) // the former holder agrees
		r.wantAmount(1, 100)
	}, heldOnly...)
}

// TestHeldFenceStopsAPausedHolder: "whoever asks inserts it, so a paused holder
// cannot commit afterwards", and a holder that lives is not overtaken.
func TestHeldFenceStopsAPausedHolder(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		other := r.again()
		ref := r.prepare(-10)
		for _, ask := range []Verdict{VerdictCommit, VerdictRollback} {
			finish := other.proxy.Rollback
			if ask == VerdictCommit {
				finish = other.proxy.Commit
			}
			if _, err := finish(t.Context(), ref); !errors.Is(err, ErrBusy) {
				t.Fatalf("%v by another process while the branch is held = %v, want ErrBusy", ask, err)
			}
		}
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		other.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, heldOnly...)
}

// TestHeldLostBeforeTheDecision: a broken connection is reported at once, as the
// branch's own word.
func TestHeldLostBeforeTheDecision(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		for range 2 { // whoever watches goes on watching
			ref := r.prepare(-10)
			r.killSessions()
			b := r.script.branch(t, ref)
			testkit.Eventually(t, 10*time.Second, func() bool { return b.reported() == OutcomeRolledBack }, "the loss is not reported")
			r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
			r.wantAmount(1, 100)
		}
		if n := len(r.proxy.pins.slots); n != 0 {
			t.Fatalf("%d slots are still taken", n)
		}
	}, "held-postgres", "held-mysql")
}

// TestHeldHazard: "as a hazard only where no row could be read": the table is gone,
// or the row's age has been swept.
func TestHeldHazard(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		lost := r.prepare(-10)
		r.proxy.cancel()
		r.breakHeld(lost)
		// A floor that swept nothing would not be kept, and the fence could still tell.
		r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES ('" + string(firstGID(1)) + "', '1', 'done', 1, '" + clusterA + "')")
		if err := r.proxy.Sweep(t.Context(), bornMS); err != nil {
			t.Fatal(err)
		}
		r.wantOutcome(lost, VerdictCommit, OutcomeHazard)
		r.wantOutcome(lost, VerdictRollback, OutcomeRolledBack)

		_, gid := globalBorn(t, bornMS+1)
		r.must("DROP TABLE " + EvidenceTable)
		r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeHazard)
	}, heldOnly...)
}

// TestSQLiteOneWriter: "SQLite: one writer a file; waiting is bounded and the error
// says why", inside a transaction and outside.
func TestSQLiteOneWriter(t *testing.T) {
	r := newResource(t, "sqlite", LockWait(400*time.Millisecond))
	ref := r.prepare(-10)
	ctx, _ := global(t)
	began := time.Now()
	_, err := r.db.BeginTx(ctx, nil)
	if err == nil || time.Since(began) > lockWaitDefault-time.Second/2 {
		t.Fatalf("BeginTx = %v after %v, want an error after about 0.4 s", err, time.Since(began))
	}
	for _, want := range []string{"is locked", ref.String(), "quorate tx show " + string(ref.GID)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	r.wantAmount(1, 100) // readers do not wait
	r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
	r.wantOutcome(r.prepare(-10), VerdictCommit, OutcomeCommitted)
	r.wantAmount(1, 80)
}

// TestSQLiteSynchronous: a file that is not synced loses acknowledged commits.
func TestSQLiteSynchronous(t *testing.T) {
	k := kinds["sqlite"]
	dsn := strings.Replace(sqliteDSN(t), "synchronous(FULL)", "synchronous(NORMAL)", 1)
	p := k.proxy(k.open(t, dsn), newScript())
	defer p.Close()
	var refused *unfitError
	if err := p.usableSoon(t); !errors.As(err, &refused) || !strings.Contains(err.Error(), "PRAGMA synchronous") {
		t.Fatalf("Ready = %v, want a refusal", err)
	}
}

// usableSoon is what BeginTx would say, once the proxy has probed.
func (p *Proxy) usableSoon(t *testing.T) (err error) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() bool {
		select {
		case <-p.ready:
			err = nil
			return true
		default:
		}
		err = p.reason()
		var refused *unfitError
		return errors.As(err, &refused)
	}, "the proxy is neither ready nor refused")
	return err
}

// TestSQLiteCommitWaitsForReaders: with a rollback journal (SQLite's default) a commit
// must wait for those who read. A held branch is then busy, and nothing of it is lost.
func TestSQLiteCommitWaitsForReaders(t *testing.T) {
	dsn := strings.Replace(sqliteDSN(t), "journal_mode(WAL)", "journal_mode(DELETE)", 1)
	r := openResource(t, "sqlite", dsn, LockWait(lockWaitLeast))
	r.must("CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)")
	r.must("INSERT INTO account VALUES (1, 100), (2, 100)")
	ref := r.prepare(-10)
	reader, err := r.plain.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var amount int
	if err := reader.QueryRowContext(t.Context(), "SELECT amount FROM account WHERE id = 1").Scan(&amount); err != nil || amount != 100 {
		t.Fatalf("a reader beside a held branch: %d, %v", amount, err)
	}
	for range 2 {
		if outcome, err := r.proxy.Commit(t.Context(), ref); !errors.Is(err, ErrBusy) {
			t.Fatalf("commit while somebody reads = %v, %v, want ErrBusy", outcome, err)
		}
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
	r.wantAmount(1, 90)
}
