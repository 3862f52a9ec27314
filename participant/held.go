package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// HeldDB wraps a connector of a database that cannot prepare (SQLite, unless
// [HeldDialect] names another): a local transaction begun with a context that
// carries a GID is a branch whose Commit votes and returns, while the transaction
// stays open on its connection until the decision.
//
// That is weaker than XA. The vote is not durable: when this process, or the
// connection, is lost before the decision, the transaction rolls back; when it is
// lost after a commit decision and before the local commit, the work is lost. The
// loss is known, by the evidence row, and reported as a heuristic rollback.
//
// SQLite admits one writer a file: while a branch is held, others wait for at
// most [LockWait], and then hear why.
func HeldDB(c driver.Connector, client *Client, resource string, opts ...ProxyOption) *Proxy {
	cfg := newProxyConfig(opts)
	return newProxy(c, client, resource, cfg.dialect, heldEngine{}, opts)
}

// heldEngine keeps the local transaction open in place of a prepared one.
type heldEngine struct{}

func (heldEngine) pins() bool { return true }

func (heldEngine) xid(p Prepared) (string, error) { return "", checkEvidenceKey(p.BranchRef) }

func (heldEngine) probe(context.Context, rawSession, *proxyConfig) error { return nil }

func (heldEngine) open(ctx context.Context, s rawSession, d dialect, o opening) (mark, error) {
	return d.begin(ctx, s, o)
}

func (heldEngine) start(context.Context, rawSession, string) error { return nil }

func (heldEngine) prepare(context.Context, rawSession, string) error { return nil }

func (heldEngine) commit(ctx context.Context, s rawSession, _ string) error {
	_, err := s.exec(ctx, "COMMIT")
	return err
}

func (heldEngine) undo(ctx context.Context, s rawSession, _ string) error {
	_, err := s.exec(ctx, "ROLLBACK")
	return err
}

func (heldEngine) finish(ctx context.Context, s rawSession, _ string, v Verdict) error {
	verb := "ROLLBACK"
	if v == VerdictCommit {
		verb = "COMMIT"
	}
	_, err := s.exec(ctx, verb)
	return err
}

// list has nothing to find: what is held is held on its connection.
func (heldEngine) list(context.Context, rawSession) (map[string]Prepared, error) {
	return map[string]Prepared{}, nil
}

// failedOver cannot be seen from here.
func (heldEngine) failedOver(context.Context, rawSession) (string, error) { return "", nil }

// sqliteDialect is SQLite's SQL.
type sqliteDialect struct{ clusterID }

func (sqliteDialect) mysqlText() bool         { return false }
func (sqliteDialect) literal(v string) string { return "'" + v + "'" }

func (sqliteDialect) schema() []string {
	return []string{"CREATE TABLE IF NOT EXISTS " + EvidenceTable + ` (
	gid    TEXT NOT NULL,
	branch TEXT NOT NULL,
	state  TEXT NOT NULL,
	born   INTEGER NOT NULL,
	cluster TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (gid, branch)
) WITHOUT ROWID`}
}

// durability wants each commit synced to the disk before it is acknowledged.
func (sqliteDialect) durability(ctx context.Context, s rawSession) error {
	row, err := s.row(ctx, "PRAGMA synchronous")
	if err != nil {
		return err
	}
	const full = 2
	if n, err := number(row[0]); err != nil || n < full {
		return unfitf("PRAGMA synchronous is below FULL: a power cut could lose what was acknowledged; set it to FULL")
	}
	return nil
}

func (sqliteDialect) begin(ctx context.Context, s rawSession, o opening) (mark, error) {
	if level, err := isolation(o.opts); err != nil || (level != "" && level != "SERIALIZABLE") {
		return mark{}, refusef("participant: isolation level %d is not SQLite's: it has serializable only", o.opts.Isolation)
	}
	// A transaction that reads first and writes later can fail half-way, because
	// another writer was faster; one that will write waits for its turn at once.
	begin := "BEGIN IMMEDIATE"
	if o.opts.ReadOnly {
		begin = "BEGIN"
	}
	row, err := s.row(ctx, "PRAGMA busy_timeout")
	if err != nil {
		return mark{}, err
	}
	own, err := number(row[0])
	if err != nil {
		return mark{}, err
	}
	if err := setBusyTimeout(ctx, s, o.lockWait); err != nil {
		return mark{}, err
	}
	if _, err := s.exec(ctx, begin); err != nil {
		return mark{}, err
	}
	if _, err := s.exec(ctx, "SAVEPOINT "+guardSavepoint); err != nil {
		return mark{}, err
	}
	row, err = s.row(ctx, "SELECT total_changes()")
	if err != nil {
		return mark{}, err
	}
	n, err := number(row[0])
	return mark{writes: n, readOnly: o.opts.ReadOnly, lockWait: own, lockWaitChanged: true}, err
}

func setBusyTimeout(ctx context.Context, s rawSession, d time.Duration) error {
	_, err := s.row(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(d.Milliseconds(), 10))
	if errors.Is(err, errNoRow) {
		return nil
	}
	return err
}

func (sqliteDialect) guard(ctx context.Context, s rawSession) error { return checkGuard(ctx, s) }

// record takes a transaction that changed no row for read-only, unless it changed
// the schema: SQLite counts rows alone, so the proxy's own eyes decide there.
func (d sqliteDialect) record(ctx context.Context, s rawSession, ref BranchRef, m mark) (wrote bool, err error) {
	row, err := s.row(ctx, "SELECT total_changes()")
	if err != nil {
		return false, err
	}
	n, err := number(row[0])
	if err != nil || m.readOnly || (n == m.writes && !m.schemaChanged) {
		return false, err
	}
	born := ref.GID.BornMS()
	inserted, err := s.exec(ctx, fmt.Sprintf("INSERT INTO %[1]s (gid, branch, state, born, cluster) SELECT '%[2]s', '%[3]s', 'done', %[4]d, '%[5]s'"+
		" WHERE NOT EXISTS (SELECT 1 FROM %[1]s WHERE gid = 'floor' AND branch = '%[5]s' AND born >= %[4]d)", EvidenceTable, ref.GID, ref.ID, born, d.cluster()))
	switch {
	case faultOf(err) == faultDuplicate:
		return false, errFenced(ref, err)
	case err != nil:
		return false, err
	case inserted == 0:
		return false, errSwept(ref)
	}
	return true, nil
}

func (d sqliteDialect) fence(ctx context.Context, s rawSession, ref BranchRef) error {
	if err := setBusyTimeout(ctx, s, fenceWaitMax); err != nil {
		return err
	}
	_, err := s.exec(ctx, fmt.Sprintf("INSERT OR IGNORE INTO %s (gid, branch, state, born, cluster) VALUES ('%s', '%s', 'fenced', %d, '%s')",
		EvidenceTable, ref.GID, ref.ID, ref.GID.BornMS(), d.cluster()))
	return err
}

func (d sqliteDialect) raiseFloor(ctx context.Context, s rawSession, floorMS uint64) error {
	if err := setBusyTimeout(ctx, s, fenceWaitMax); err != nil {
		return err
	}
	_, err := s.exec(ctx, fmt.Sprintf("INSERT INTO %[1]s (gid, branch, state, born, cluster) VALUES ('floor', '%[3]s', 'floor', %[2]d, '%[3]s')"+
		" ON CONFLICT (gid, branch) DO UPDATE SET born = max(born, excluded.born)", EvidenceTable, floorMS, d.cluster()))
	return err
}

func (d sqliteDialect) sweepSome(ctx context.Context, s rawSession, floorMS uint64) (int64, error) {
	return s.exec(ctx, fmt.Sprintf("DELETE FROM %[1]s WHERE (gid, branch) IN (SELECT gid, branch FROM %[1]s WHERE %[2]s LIMIT %[3]d)",
		EvidenceTable, d.upTo(floorMS), sweepRowsMax))
}

func (sqliteDialect) settings(ctx context.Context, s rawSession, m mark) error {
	return setBusyTimeout(ctx, s, time.Duration(m.lockWait)*time.Millisecond)
}
