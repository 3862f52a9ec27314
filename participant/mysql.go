package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// MySQL wraps a connector of MySQL or MariaDB (go-sql-driver/mysql) so that a
// local transaction begun with a context that carries a GID is a branch: its
// Commit is XA END, XA PREPARE and the vote, and the cluster's decision ends it.
//
// A prepared branch keeps its connection, which leaves the pool until the
// decision: while the session that prepared it lives, no other one can end it
// (MariaDB, and MySQL before 8.0.29). [PinnedConnectionsMax] bounds them.
//
// The proxy attaches to the cluster by itself, in the background, and recovers
// what earlier processes left; [Proxy.Ready] waits for it.
func MySQL(c driver.Connector, client *Client, resource string, opts ...ProxyOption) *Proxy {
	return newProxy(c, client, resource, DialectMySQL, xaEngine{}, opts)
}

// xaEngine ends branches with XA statements.
type xaEngine struct{}

func (xaEngine) pins() bool { return true }

func (xaEngine) xid(p Prepared) (string, error) {
	x, err := newXAXid(p)
	return x.sql(), err
}

// probe refuses servers that lose prepared branches with their session, and
// accounts that may not list them.
func (xaEngine) probe(ctx context.Context, s rawSession, cfg *proxyConfig) error {
	row, err := s.row(ctx, "SELECT @@version, @@max_connections")
	if err != nil {
		return err
	}
	if err := checkMySQLVersion(text(row[0])); err != nil {
		return err
	}
	limit, err := number(row[1])
	if err != nil {
		return err
	}
	if limit <= int64(cfg.pinnedMax) {
		return unfitf("up to %d connections may be pinned by prepared branches, but the server admits %d in all (max_connections): raise that, or lower participant.PinnedMax below it", cfg.pinnedMax, limit)
	}
	if _, err := (xaEngine{}).list(ctx, s); err != nil {
		if faultOf(err) == faultServer {
			return unfitf("%w; on MySQL 8: GRANT XA_RECOVER_ADMIN ON *.* TO the user", err)
		}
		return err
	}
	return nil
}

var mysqlVersion = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)`)

// checkMySQLVersion refuses servers that roll a prepared branch back when its
// session ends: MariaDB before 10.5 (MDEV-7974), MySQL before 5.7.7 (its bug 12161).
func checkMySQLVersion(version string) error {
	m := mysqlVersion.FindStringSubmatch(strings.TrimPrefix(version, "5.5.5-")) // an old disguise of MariaDB's
	if m == nil {
		return unfitf("cannot read the server's version %q", version)
	}
	var n int
	for _, part := range m[1:] {
		k, err := strconv.Atoi(part)
		if err != nil || k > 999 {
			return unfitf("cannot read the server's version %q", version)
		}
		n = n*1000 + k
	}
	least := 5_007_007
	if strings.Contains(version, "MariaDB") {
		least = 10_005_002
	}
	if n < least {
		return unfitf("server %s rolls prepared branches back when their session ends: MariaDB 10.5.2 or MySQL 5.7.7 is needed", version)
	}
	return nil
}

// open readies the session; the transaction begins at start, when the xid is known.
func (xaEngine) open(ctx context.Context, s rawSession, d dialect, o opening) (mark, error) {
	return d.(*mysqlDialect).ready(ctx, s, o)
}

func (xaEngine) start(ctx context.Context, s rawSession, xid string) error {
	_, err := s.exec(ctx, "XA START "+xid)
	if faultOf(err) == faultInUse {
		return fmt.Errorf("%w: %w", ErrVoted, err)
	}
	return err
}

func (xaEngine) last(d dialect, ref BranchRef, _ mark, xid string) []string {
	return []string{d.(*mysqlDialect).evidenceRow(ref), "XA END " + xid, "XA PREPARE " + xid}
}

// refused knows that only the evidence row has a key to violate.
func (xaEngine) refused(_ context.Context, _ rawSession, _ dialect, ref BranchRef, err error) error {
	if faultOf(err) == faultDuplicate {
		return errFenced(ref, err)
	}
	return nil
}

func (xaEngine) advise(err error) error { return err }

func (xaEngine) prepare(ctx context.Context, s rawSession, xid string) error {
	if _, err := s.exec(ctx, "XA END "+xid); err != nil {
		return err
	}
	_, err := s.exec(ctx, "XA PREPARE "+xid)
	return err
}

func (xaEngine) commit(ctx context.Context, s rawSession, xid string) error {
	if _, err := s.exec(ctx, "XA END "+xid); err != nil {
		return err
	}
	_, err := s.exec(ctx, "XA COMMIT "+xid+" ONE PHASE")
	return err
}

func (xaEngine) undo(ctx context.Context, s rawSession, xid string) error {
	// A deadlock has ended it already, XA END fails then; XA ROLLBACK tells.
	_, _ = s.exec(ctx, "XA END "+xid)
	_, err := s.exec(ctx, "XA ROLLBACK "+xid)
	return err
}

func (xaEngine) finish(ctx context.Context, s rawSession, xid string, v Verdict) error {
	verb := "XA ROLLBACK "
	if v == VerdictCommit {
		verb = "XA COMMIT "
	}
	_, err := s.exec(ctx, verb+xid)
	return err
}

func (xaEngine) list(ctx context.Context, s rawSession) (map[string]Prepared, error) {
	found := make(map[string]Prepared)
	var bad error
	err := s.rows(ctx, "XA RECOVER", func(row []driver.Value) {
		if len(row) < 4 {
			bad = fmt.Errorf("XA RECOVER has %d columns, want 4", len(row))
			return
		}
		gtridLen, err1 := number(row[1])
		bqualLen, err2 := number(row[2])
		if err := errors.Join(err1, err2); err != nil {
			bad = err
			return
		}
		p, ok := parseXAXid(int(gtridLen), int(bqualLen), text(row[3]))
		if format, err := number(row[0]); !ok || err != nil || format != xaFormatID {
			return // another tool's
		}
		if x, err := newXAXid(p); err == nil {
			found[x.sql()] = p
		}
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("XA RECOVER: %w", err)
	}
	return found, nil
}

// failedOver cannot be seen from here.
func (xaEngine) failedOver(context.Context, rawSession) (string, error) { return "", nil }

// xaFormatID is the format of an xid that names none.
const xaFormatID = 1

// mysqlDialect is the SQL of MySQL and MariaDB.
type mysqlDialect struct {
	clusterID

	// writes is the query for the number of rows that the session has written. It
	// is chosen by durability, which runs before any branch does.
	writes string
}

// Where a session's row counters are read. Storage engines count every row they
// are asked to write (handler::ha_write_row and its kin), temporary tables aside.
const (
	mariadbWrites = "(SELECT SUM(VARIABLE_VALUE) FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN ('HANDLER_WRITE','HANDLER_UPDATE','HANDLER_DELETE'))"
	mysqlWrites   = "(SELECT SUM(VARIABLE_VALUE) FROM performance_schema.session_status WHERE VARIABLE_NAME IN ('Handler_write','Handler_update','Handler_delete'))"
)

func (*mysqlDialect) keepsStatements()        {}
func (*mysqlDialect) mysqlText() bool         { return true }
func (*mysqlDialect) literal(v string) string { return "'" + v + "'" }

func (*mysqlDialect) schema() []string {
	return []string{"CREATE TABLE IF NOT EXISTS " + EvidenceTable + ` (
	gid    CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	branch VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	state  VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	born   BIGINT NOT NULL,
	cluster CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
	PRIMARY KEY (gid, branch)
) ENGINE=InnoDB`}
}

func (d *mysqlDialect) durability(ctx context.Context, s rawSession) error {
	row, err := s.row(ctx, "SELECT @@version, @@innodb_flush_log_at_trx_commit")
	if err != nil {
		return err
	}
	d.writes = mysqlWrites
	if strings.Contains(text(row[0]), "MariaDB") {
		d.writes = mariadbWrites
	}
	if v := text(row[1]); v != "1" {
		return unfitf("innodb_flush_log_at_trx_commit is %s: a power cut could lose what was acknowledged; set it to 1", v)
	}
	// Gone since MySQL 8.0 and MariaDB 10.3, where it is always on.
	row, err = s.row(ctx, "SHOW VARIABLES LIKE 'innodb_support_xa'")
	if err == nil && !strings.EqualFold(text(row[1]), "ON") {
		return unfitf("innodb_support_xa is off: prepared branches would not be durable; set it to 1")
	}
	if errors.Is(err, errNoRow) {
		err = nil
	}
	return err
}

// ready sets what the next transaction begins with. What it must know of the session it
// asks once.
func (d *mysqlDialect) ready(ctx context.Context, s rawSession, o opening) (mark, error) {
	level, err := isolation(o.opts)
	if err != nil {
		return mark{}, err
	}
	if s.state == nil {
		s.state = &sessionState{single: new(atomic.Bool)}
	}
	if !o.young {
		if err := d.notSwept(ctx, s, o.gid); err != nil {
			return mark{}, err
		}
	}
	if err := d.waitsFor(ctx, s, o.lockWait); err != nil {
		return mark{}, err
	}
	var next []string
	if level != "" {
		next = append(next, "ISOLATION LEVEL "+level)
	}
	if o.opts.ReadOnly {
		next = append(next, "READ ONLY")
	}
	if next != nil {
		if _, err := s.exec(ctx, "SET TRANSACTION "+strings.Join(next, ", ")); err != nil {
			return mark{}, err
		}
	}
	return mark{readOnly: o.opts.ReadOnly}, nil
}

// notSwept refuses a GID whose evidence may have been swept.
func (d *mysqlDialect) notSwept(ctx context.Context, s rawSession, gid GID) error {
	floor, err := readFloor(ctx, d, s)
	if err == nil && gid.BornMS() <= floor {
		err = errSwept(BranchRef{GID: gid, ID: "?"})
	}
	return err
}

// waitsFor sets how long statements wait for locks: whole seconds, at least one.
func (d *mysqlDialect) waitsFor(ctx context.Context, s rawSession, wait time.Duration) error {
	seconds := max(1, int64(math.Floor(wait.Seconds())))
	if s.state.ownLockWait == 0 {
		row, err := s.row(ctx, "SELECT @@innodb_lock_wait_timeout")
		if err != nil {
			return err
		}
		own, err := number(row[0])
		if err != nil {
			return err
		}
		s.state.ownLockWait, s.state.lockWait = own, own
	}
	if s.state.lockWait == seconds {
		return nil
	}
	if err := setLockWait(ctx, s, time.Duration(seconds)*time.Second); err != nil {
		return err
	}
	s.state.lockWait = seconds
	return nil
}

// restore puts the session's own settings back, before work that is no branch's.
func (*mysqlDialect) restore(ctx context.Context, s rawSession) error {
	if s.state.lockWait == s.state.ownLockWait {
		return nil
	}
	if err := setLockWait(ctx, s, time.Duration(s.state.ownLockWait)*time.Second); err != nil {
		return err
	}
	s.state.lockWait = s.state.ownLockWait
	return nil
}

// count is the number of rows that the session has written.
func (d *mysqlDialect) count(ctx context.Context, s rawSession) (int64, error) {
	row, err := s.row(ctx, "SELECT "+d.writes)
	if err != nil {
		return 0, err
	}
	return number(row[0])
}

func (d *mysqlDialect) begin(ctx context.Context, s rawSession, o opening) (mark, error) {
	m, err := d.ready(ctx, s, o)
	if err != nil {
		return m, err
	}
	if _, err := s.exec(ctx, "START TRANSACTION"); err != nil {
		return m, err
	}
	_, err = s.exec(ctx, "SAVEPOINT "+guardSavepoint)
	return m, err
}

func (*mysqlDialect) guard(ctx context.Context, s rawSession) error { return checkGuard(ctx, s) }

// record needs no check of the transaction's identity under XA: the server
// refuses transaction control there, and every statement after a deadlock. A
// plain transaction ends with a deadlock, and later statements would stand alone:
// its savepoint would be gone with it.
func (d *mysqlDialect) record(ctx context.Context, s rawSession, ref BranchRef, m mark) (wrote bool, err error) {
	if m.readOnly || !m.wrote && !m.counted {
		return false, nil // nothing that could write has run
	}
	if !m.wrote {
		writes, err := d.count(ctx, s)
		if err != nil || writes == m.writes {
			return false, err
		}
	}
	_, err = s.exec(ctx, d.evidenceRow(ref))
	if faultOf(err) == faultDuplicate {
		return false, errFenced(ref, err)
	}
	return err == nil, err
}

// evidenceRow inserts the row of a branch that wrote.
func (d *mysqlDialect) evidenceRow(ref BranchRef) string {
	return "INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES ('" + string(ref.GID) + "', '" + ref.ID + "', 'done', " +
		strconv.FormatUint(ref.GID.BornMS(), 10) + ", '" + d.cluster() + "')"
}

func (d *mysqlDialect) fence(ctx context.Context, s rawSession, ref BranchRef) error {
	if err := setLockWait(ctx, s, fenceWaitMax); err != nil {
		return err
	}
	_, err := s.exec(ctx, fmt.Sprintf("INSERT INTO %s (gid, branch, state, born, cluster) VALUES ('%s', '%s', 'fenced', %d, '%s')",
		EvidenceTable, ref.GID, ref.ID, ref.GID.BornMS(), d.cluster()))
	if faultOf(err) == faultDuplicate {
		return nil
	}
	return err
}

func setLockWait(ctx context.Context, s rawSession, d time.Duration) error {
	_, err := s.exec(ctx, "SET SESSION innodb_lock_wait_timeout = "+strconv.FormatInt(int64(d/time.Second), 10))
	return err
}

func (d *mysqlDialect) raiseFloor(ctx context.Context, s rawSession, floorMS uint64) error {
	if err := setLockWait(ctx, s, fenceWaitMax); err != nil {
		return err
	}
	_, err := s.exec(ctx, fmt.Sprintf("INSERT INTO %[1]s (gid, branch, state, born, cluster) VALUES ('floor', '%[3]s', 'floor', %[2]d, '%[3]s')"+
		" ON DUPLICATE KEY UPDATE born = GREATEST(born, VALUES(born))", EvidenceTable, floorMS, d.cluster()))
	return err
}

// sweepSome deletes row by row, by their whole keys. A DELETE over a range would
// look at the rows beside it too, and wait for branches that are prepared.
func (d *mysqlDialect) sweepSome(ctx context.Context, s rawSession, floorMS uint64) (n int64, err error) {
	var deletes []string
	err = s.rows(ctx, fmt.Sprintf("SELECT gid, branch FROM %s WHERE %s LIMIT %d", EvidenceTable, d.upTo(floorMS), sweepRowsMax),
		func(row []driver.Value) {
			deletes = append(deletes, fmt.Sprintf("DELETE FROM %s WHERE gid = '%s' AND branch = '%s'", EvidenceTable, text(row[0]), text(row[1])))
		})
	if err != nil || len(deletes) == 0 {
		return 0, err
	}
	if _, err := s.exec(ctx, "START TRANSACTION"); err != nil {
		return 0, err
	}
	for _, q := range deletes {
		if _, err := s.exec(ctx, q); err != nil {
			return 0, rollBack(ctx, s, err)
		}
	}
	_, err = s.exec(ctx, "COMMIT")
	return int64(len(deletes)), err
}

func (*mysqlDialect) settings(context.Context, rawSession, mark) error { return nil } // see restore
