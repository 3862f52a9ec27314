package participant

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestSweep: rows are dropped only at or below the floor, and "a fence refuses a born
// at or below the floor it swept to".
func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		ended := func(born uint64) BranchRef {
			t.Helper()
			ctx, gid := globalBorn(t, born)
			if err := r.begin(ctx, 1, -1).Commit(); err != nil {
				t.Fatal(err)
			}
			ref := BranchRef{gid, "1"}
			r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
			return ref
		}
		old, young := ended(bornMS), ended(bornMS+2)
		many := make([]string, sweepRowsMax+5)
		for i := range many {
			many[i] = fmt.Sprintf("('filler', '%d', 'done', 1, '%s')", i, clusterA)
		}
		r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES " + strings.Join(many, ", "))

		for _, floor := range []uint64{bornMS + 1, bornMS, 0} { // it never goes back
			if err := r.proxy.Sweep(t.Context(), floor); err != nil {
				t.Fatal(err)
			}
		}
		r.wantEvidence(old, "")
		r.wantEvidence(young, evidenceDone)
		var rows int
		if err := r.plain.QueryRowContext(t.Context(), "SELECT count(*) FROM "+EvidenceTable+" WHERE gid <> 'timeline'").Scan(&rows); err != nil || rows != 2 {
			t.Fatalf("%d rows are left, %v; want the young one and the floor", rows, err)
		}
		r.wantOutcome(young, VerdictCommit, OutcomeCommitted)

		// A late branch of that age: a service that was paused for longer than the retention.
		// A clock that calls it young does not make it so: this process has swept.
		r.script.set(func(s *script) { s.youth = true })
		ctx, gid := globalBorn(t, bornMS+1)
		err := func() error {
			tx, err := r.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = 1"); err != nil {
				t.Fatal(err)
			}
			return tx.Commit()
		}()
		if err == nil || !strings.Contains(err.Error(), "swept") {
			t.Fatalf("a branch below the floor = %v, want a refusal", err)
		}
		r.wantListed(0)
		r.wantOutcome(BranchRef{gid, "1"}, VerdictRollback, OutcomeRolledBack)
		r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeHazard)
		r.wantAmount(1, 98)
	}, every...)
}

// TestFloorsBelongToTheirCluster: clusters do not share a clock. What one has swept
// fences nothing of another one, and neither sweeps the other's rows.
func TestFloorsBelongToTheirCluster(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.must(fmt.Sprintf("INSERT INTO %[1]s (gid, branch, state, born, cluster) VALUES ('floor', '%[2]s', 'floor', %[3]d, '%[2]s'), ('theirs', '1', 'done', 1, '%[2]s')",
			EvidenceTable, clusterB, uint64(bornMS)+1_000_000))
		ctx, gid := globalBorn(t, bornMS)
		if err := r.begin(ctx, 1, -1).Commit(); err != nil {
			t.Fatalf("a branch below another cluster's floor: %v", err)
		}
		r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
		if err := r.proxy.Sweep(t.Context(), bornMS); err != nil {
			t.Fatal(err)
		}
		r.wantEvidence(BranchRef{gid, "1"}, "")
		r.wantEvidence(BranchRef{"theirs", "1"}, evidenceDone)
	}, every...)
}

// TestSweepBesidePreparedBranches: prepared branches hold locks on their rows; the
// sweep must not wait for them, nor they for it.
func TestSweepBesidePreparedBranches(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES ('filler', '1', 'done', 1, '" + clusterA + "')")
		ref := r.prepare(-10)
		if err := r.proxy.Sweep(t.Context(), bornMS-1); err != nil {
			t.Fatal(err)
		}
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantEvidence(ref, evidenceDone)
	}, prepared...)
}

// TestEvidenceSchema: the table is made when it is missing, by several processes at
// once, and kept when it is there; the DDL is what administrators are given.
func TestEvidenceSchema(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		dsn := kinds[kind].dsn(t)
		rs := make(chan error, 4)
		for range cap(rs) {
			k := kinds[kind]
			p := k.proxy(k.open(t, dsn), newScript())
			defer p.Close()
			go func() { rs <- p.Ready(t.Context()) }()
		}
		for range cap(rs) {
			if err := <-rs; err != nil {
				t.Error(err)
			}
		}
		r := openResource(t, kind, dsn)
		r.must("DROP TABLE " + EvidenceTable)
		d := map[string]Dialect{"postgres": DialectPostgres, "mysql": DialectMySQL, "sqlite": DialectSQLite}[kind]
		for _, q := range EvidenceDDL(d) {
			r.must(q)
		}
		r.must("CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)")
		r.must("INSERT INTO account VALUES (1, 100)")
		r.wantOutcome(r.prepare(-10), VerdictCommit, OutcomeCommitted)
	}, "postgres", "mysql", "sqlite")
}

// TestEvidenceKeysNeedNoQuoting: names that would need quoting are refused before any
// SQL is made of them.
func TestEvidenceKeysNeedNoQuoting(t *testing.T) {
	r := newResource(t, "sqlite")
	for _, ref := range []BranchRef{{"no ULID", "1"}, {GID(clusterA), "'; DROP TABLE account; --"}, {GID(clusterA), ""}} {
		if _, err := r.proxy.Rollback(t.Context(), ref); err == nil || errors.Is(err, ErrBusy) {
			t.Errorf("%v was not refused: %v", ref, err)
		}
	}
	r.wantAmount(1, 100)
}
