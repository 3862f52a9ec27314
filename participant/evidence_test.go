package participant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
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
			many[i] = fmt.Sprintf("('%s', '%d', 'done', 1, '%s')", firstGID(1), i, clusterA)
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

// TestSweepOfBefore: tables that were made with an index on born, in the database's own
// order of text, are swept as ever.
func TestSweepOfBefore(t *testing.T) {
	for kind, orders := range map[string][]string{"postgres": {`"default"`, `"da-x-icu"`}, "mysql": {""}, "sqlite": {""}} {
		for _, order := range orders {
			t.Run(kind+order, func(t *testing.T) {
				r := newResource(t, kind)
				old := map[string][]string{
					"postgres": {`ALTER TABLE quorate_evidence ALTER gid TYPE text COLLATE ` + order, "CREATE INDEX quorate_evidence_born ON quorate_evidence (born)"},
					"mysql":    {"ALTER TABLE quorate_evidence ADD KEY born (born)"},
					"sqlite":   {"CREATE INDEX quorate_evidence_born ON quorate_evidence (born)"},
				}
				for _, q := range old[kind] {
					r.must(q)
				}
				rows := make([]string, 3000) // in Danish, AA sorts after Z
				for i := range rows {
					gid := firstGID(uint64(i) * 7919 * 7919)
					rows[i] = fmt.Sprintf("('%s', '1', 'done', %d, '%s')", gid, gid.BornMS(), clusterA)
				}
				r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES " + strings.Join(rows, ", "))
				if err := r.proxy.Sweep(t.Context(), 1000*7919*7919); err != nil {
					t.Fatal(err)
				}
				var left int
				if err := r.plain.QueryRowContext(t.Context(), "SELECT count(*) FROM "+EvidenceTable+" WHERE gid NOT IN ('floor', 'timeline')").Scan(&left); err != nil || left != 1999 {
					t.Fatalf("%d rows are left, %v; want 1999", left, err)
				}
			})
		}
	}
}

// TestSweepGoesByTheKey: what is to be swept is found by the primary key, however many
// rows are to stay.
func TestSweepGoesByTheKey(t *testing.T) {
	plans := map[string]struct{ prepare, explain, want string }{
		"postgres": {"ANALYZE " + EvidenceTable, "EXPLAIN ", EvidenceTable + "_pkey"},
		"mysql":    {"ANALYZE TABLE " + EvidenceTable, "EXPLAIN ", "PRIMARY"},
		"sqlite":   {"ANALYZE", "EXPLAIN QUERY PLAN ", "USING PRIMARY KEY (gid<?)"},
	}
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		rows := make([]string, 5000)
		for i := range rows {
			rows[i] = fmt.Sprintf("('%s', '1', 'done', %d, '%s')", firstGID(bornMS+uint64(i)), bornMS+i, clusterA)
		}
		r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES " + strings.Join(rows, ", "))
		r.must(plans[kind].prepare)
		got, err := r.plain.QueryContext(t.Context(), plans[kind].explain+"SELECT gid FROM "+EvidenceTable+" WHERE "+r.proxy.dialect.upTo(bornMS+10))
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		columns, err := got.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for got.Next() {
			cells := make([]any, len(columns))
			for i := range cells {
				cells[i] = new(any)
			}
			if err := got.Scan(cells...); err != nil {
				t.Fatal(err)
			}
			for _, cell := range cells {
				fmt.Fprintln(&plan, text(*cell.(*any)))
			}
		}
		if err := got.Err(); err != nil || !strings.Contains(plan.String(), plans[kind].want) {
			t.Fatalf("%v, and the plan says nothing of %s:\n%s", err, plans[kind].want, plan.String())
		}
	}, "postgres", "mysql", "sqlite")
}

// TestSweepReadsNoTable: Postgres goes by the key, too, where what it counted last tells of
// many rows at the key's beginning that are gone since.
func TestSweepReadsNoTable(t *testing.T) {
	r := newResource(t, "postgres")
	r.must("ALTER TABLE " + EvidenceTable + " SET (autovacuum_enabled = off)")
	const n = 5000
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf("('%s', '1', 'done', %d, '%s')", firstGID(bornMS+uint64(2*i)), bornMS+2*i, clusterA)
	}
	r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES " + strings.Join(rows, ", "))
	r.must("ANALYZE " + EvidenceTable)
	for _, floor := range []uint64{bornMS + n, bornMS + n + 1} { // half of them, and none
		if err := r.proxy.Sweep(t.Context(), floor); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.db.Close(); err != nil { // what a connection has read is told by its end at the latest
		t.Fatal(err)
	}
	r.plain.SetMaxOpenConns(1)
	testkit.EventuallyNoError(t, 10*time.Second, func() error {
		var others, left, read int
		err := r.plain.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'),"+
			" n_live_tup, seq_tup_read FROM pg_stat_user_tables WHERE relname = '"+EvidenceTable+"'").Scan(&others, &left, &read)
		if err == nil && (others > 0 || left > n/2+10) {
			err = fmt.Errorf("%d others are connected, %d rows are left", others, left)
		}
		if err == nil && read > n/10 {
			t.Fatalf("%d rows were read without an index", read)
		}
		return err
	})
}

// TestFloorsBelongToTheirCluster: clusters do not share a clock. What one has swept
// fences nothing of another one, and neither sweeps the other's rows.
func TestFloorsBelongToTheirCluster(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.must(fmt.Sprintf("INSERT INTO %[1]s (gid, branch, state, born, cluster) VALUES ('floor', '%[2]s', 'floor', %[3]d, '%[2]s'), ('%[4]s', '1', 'done', 1, '%[2]s')",
			EvidenceTable, clusterB, uint64(bornMS)+1_000_000, firstGID(1)))
		ctx, gid := globalBorn(t, bornMS)
		if err := r.begin(ctx, 1, -1).Commit(); err != nil {
			t.Fatalf("a branch below another cluster's floor: %v", err)
		}
		r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
		if err := r.proxy.Sweep(t.Context(), bornMS); err != nil {
			t.Fatal(err)
		}
		r.wantEvidence(BranchRef{gid, "1"}, "")
		var theirs int
		if err := r.plain.QueryRowContext(t.Context(), fmt.Sprintf("SELECT count(*) FROM %s WHERE gid = '%s' AND cluster = '%s'", EvidenceTable, firstGID(1), clusterB)).Scan(&theirs); err != nil || theirs != 1 {
			t.Fatalf("%d rows of another cluster are left, %v", theirs, err)
		}
	}, every...)
}

// TestSweepBesidePreparedBranches: prepared branches hold locks on their rows; the
// sweep must not wait for them, nor they for it.
func TestSweepBesidePreparedBranches(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES ('" + string(firstGID(1)) + "', '1', 'done', 1, '" + clusterA + "')")
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

// TestASweepLeavesNoTransaction: a sweep whose context ends between two statements gives its
// connection back as it was.
func TestASweepLeavesNoTransaction(t *testing.T) {
	r := newResource(t, "postgres")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := r.proxy.managed(t.Context(), func(s rawSession) error {
		err := r.proxy.dialect.byIndex(ctx, s, func() error { cancel(); return ctx.Err() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		row, err := s.row(t.Context(), "SHOW enable_seqscan")
		if err == nil && text(row[0]) != "on" {
			t.Error("the transaction is open still")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
