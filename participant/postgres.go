package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// Postgres wraps a connector of Postgres (pgx' stdlib, lib/pq) so that a local
// transaction begun with a context that carries a GID is a branch: its Commit is
// PREPARE TRANSACTION and the vote, and the cluster's decision ends it.
//
// The proxy attaches to the cluster by itself, in the background, and recovers
// what earlier processes left; [Proxy.Ready] waits for it. The server needs
// max_prepared_transactions above 0.
func Postgres(c driver.Connector, client *Client, resource string, opts ...ProxyOption) *Proxy {
	return newProxy(c, client, resource, DialectPostgres, postgresEngine{}, opts)
}

// postgresEngine ends branches with PREPARE TRANSACTION and its kin.
type postgresEngine struct{}

func (postgresEngine) pins() bool { return false }

func (postgresEngine) xid(p Prepared) (string, error) { return newPostgresXid(p) }

// probe refuses a server that cannot prepare.
func (postgresEngine) probe(ctx context.Context, s rawSession, _ *proxyConfig) error {
	row, err := s.row(ctx, "SELECT current_setting('max_prepared_transactions'), current_setting('server_version_num')")
	if err != nil {
		return err
	}
	if text(row[0]) == "0" {
		return unfitf("the server does not prepare transactions: set max_prepared_transactions = 200 in postgresql.conf and restart it")
	}
	if v, _ := number(row[1]); v < 100000 {
		return unfitf("the server's version number is %d: Postgres 10 or newer is needed", v)
	}
	return nil
}

func (postgresEngine) open(ctx context.Context, s rawSession, d dialect, o opening) (mark, error) {
	return d.begin(ctx, s, o)
}

func (postgresEngine) start(context.Context, rawSession, string) error { return nil }

func (e postgresEngine) prepare(ctx context.Context, s rawSession, xid string) error {
	_, err := s.exec(ctx, "PREPARE TRANSACTION '"+xid+"'")
	return e.advise(err)
}

func (postgresEngine) advise(err error) error {
	var state interface{ SQLState() string }
	if errors.As(err, &state) && strings.HasPrefix(state.SQLState(), "53") {
		return fmt.Errorf("%w; when the prepared slots are exhausted, raise max_prepared_transactions, and see what holds them: SELECT gid, prepared FROM pg_prepared_xacts", err)
	}
	return err
}

func (postgresEngine) last(d dialect, ref BranchRef, m mark, xid string) []string {
	return []string{d.(postgresDialect).recordOrFail(ref, m), "PREPARE TRANSACTION '" + xid + "'"}
}

// refused tells a refusal of the evidence row from an error of PREPARE.
func (postgresEngine) refused(ctx context.Context, s rawSession, d dialect, ref BranchRef, err error) error {
	var state interface{ SQLState() string }
	if !errors.As(err, &state) {
		return nil
	}
	switch state.SQLState() {
	case "22012": // division_by_zero: recordOrFail has
		if _, err := s.exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
		floor, err := readFloor(ctx, d, s)
		if err == nil && ref.GID.BornMS() <= floor {
			return errSwept(ref)
		}
		return errSwapped(ref)
	case "23505", "25006", "25P02": // unique_violation, read_only_sql_transaction, in_failed_sql_transaction
		return explainRecord(ref, s, err)
	}
	return nil
}

func (postgresEngine) commit(ctx context.Context, s rawSession, _ string) error {
	_, err := s.exec(ctx, "COMMIT")
	return err
}

func (postgresEngine) undo(ctx context.Context, s rawSession, _ string) error {
	_, err := s.exec(ctx, "ROLLBACK")
	return err
}

func (postgresEngine) finish(ctx context.Context, s rawSession, xid string, v Verdict) error {
	verb := "ROLLBACK PREPARED '"
	if v == VerdictCommit {
		verb = "COMMIT PREPARED '"
	}
	_, err := s.exec(ctx, verb+xid+"'")
	return err
}

// list reads the prepared transactions of the current database only: no other
// one's can be ended from here.
func (postgresEngine) list(ctx context.Context, s rawSession) (map[string]Prepared, error) {
	found := make(map[string]Prepared)
	err := s.rows(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", func(row []driver.Value) {
		xid := text(row[0])
		if p, ok := parsePostgresXid(xid); ok {
			found[xid] = p
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read pg_prepared_xacts: %w", err)
	}
	return found, nil
}

// timelineGID is the gid of the row that remembers the server's timeline.
const timelineGID = "timeline"

// failedOver compares the timeline that the server writes with the one that was
// noted, in the evidence table, when it was first asked. A standby that was
// promoted writes another one, and may lack the last commits of its primary.
func (postgresEngine) failedOver(ctx context.Context, s rawSession) (string, error) {
	const timeline = "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint"
	if _, err := s.exec(ctx, "INSERT INTO "+EvidenceTable+" (gid, branch, state, born) SELECT 'timeline', '', 'timeline', "+timeline+" ON CONFLICT DO NOTHING"); err != nil {
		return "", err
	}
	row, err := s.row(ctx, "SELECT born, "+timeline+" FROM "+EvidenceTable+" WHERE gid = 'timeline' AND branch = ''")
	if err != nil {
		return "", err
	}
	noted, err1 := number(row[0])
	now, err2 := number(row[1])
	if err := errors.Join(err1, err2); err != nil || noted == now {
		return "", err
	}
	return fmt.Sprintf("the server's timeline was %d and is %d: it has failed over, and may have lost commits; end such branches by hand, then DELETE FROM %s WHERE gid = '%s'", noted, now, EvidenceTable, timelineGID), nil
}

// postgresDialect is Postgres' SQL.
type postgresDialect struct{ clusterID }

func (postgresDialect) mysqlText() bool         { return false }
func (postgresDialect) literal(v string) string { return "'" + v + "'" }

func (postgresDialect) schema() []string {
	return []string{"CREATE TABLE IF NOT EXISTS " + EvidenceTable + ` (
	gid    text COLLATE "C" NOT NULL,
	branch text COLLATE "C" NOT NULL,
	state  text NOT NULL,
	born   bigint NOT NULL,
	cluster text NOT NULL DEFAULT '',
	PRIMARY KEY (gid, branch)
)`}
}

func (postgresDialect) durability(ctx context.Context, s rawSession) error {
	row, err := s.row(ctx, "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')")
	if err != nil {
		return err
	}
	for i, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if text(row[i]) == "off" {
			return unfitf("%s is off: a crash could lose what was acknowledged; set it to on", name)
		}
	}
	return nil
}

func (postgresDialect) begin(ctx context.Context, s rawSession, o opening) (mark, error) {
	level, err := isolation(o.opts)
	if err != nil {
		return mark{}, err
	}
	begin := "BEGIN"
	if level != "" {
		begin += " ISOLATION LEVEL " + level
	}
	if o.opts.ReadOnly {
		begin += " READ ONLY"
	}
	m := mark{token: string(o.gid) + "/" + strconv.FormatUint(tokens.Add(1), 10), readOnly: o.opts.ReadOnly}
	err = s.batch(ctx, begin, "SET LOCAL lock_timeout = "+strconv.FormatInt(o.lockWait.Milliseconds(), 10), "SET LOCAL "+tokenSetting+" = '"+m.token+"'")
	if err != nil || m.readOnly || s.state != nil && s.state.writable {
		return m, err
	}
	row, err := s.row(ctx, "SELECT current_setting('transaction_read_only')")
	if err != nil {
		return mark{}, err
	}
	m.readOnly = text(row[0]) == "on"
	if s.state != nil {
		s.state.writable = !m.readOnly
	}
	return m, nil
}

// tokenSetting is a setting of the transaction's own, which ends with it: it tells
// the transaction that BeginTx began from any other.
const tokenSetting = "quorate.branch"

// tokens makes them unique in a process, which is enough for one session.
var tokens atomic.Uint64

// isOurs is the condition that the transaction is the one begun.
func isOurs(token string) string {
	return "current_setting('" + tokenSetting + "', true) = '" + token + "'"
}

func (postgresDialect) guard(context.Context, rawSession) error { return nil } // record sees it

// record relies on three facts, each tested. An aborted transaction answers
// PREPARE TRANSACTION with the tag ROLLBACK and no error, which database/sql
// hides; but it refuses this INSERT. The token tells this transaction from one that
// was begun behind the proxy's back. And a transaction that wrote, or locked a row,
// has an id.
func (d postgresDialect) record(ctx context.Context, s rawSession, ref BranchRef, m mark) (wrote bool, err error) {
	born := int64(ref.GID.BornMS())
	if !m.readOnly {
		n, err := s.exec(ctx, "INSERT INTO "+EvidenceTable+" (gid, branch, state, born, cluster) SELECT $1::text, $2::text, 'done', $3::bigint, $5::text"+
			" WHERE current_setting('"+tokenSetting+"', true) = $4::text AND txid_current_if_assigned() IS NOT NULL"+
			" AND NOT EXISTS (SELECT 1 FROM "+EvidenceTable+" WHERE gid = 'floor' AND branch = $5::text AND born >= $3::bigint)",
			string(ref.GID), ref.ID, born, m.token, d.cluster())
		if err != nil {
			return false, explainRecord(ref, s, err)
		}
		if n == 1 {
			return true, nil
		}
	}
	row, err := s.row(ctx, "SELECT coalesce(current_setting('"+tokenSetting+"', true), '') = $1::text, txid_current_if_assigned() IS NULL", m.token)
	if err != nil {
		return false, err
	}
	same, err := number(row[0])
	if err != nil {
		return false, err
	}
	untouched, err := number(row[1])
	switch {
	case err != nil:
		return false, err
	case same == 0:
		return false, errSwapped(ref)
	case untouched == 0:
		return false, errSwept(ref)
	}
	return false, nil
}

// explainRecord says what an error of the evidence row's INSERT means.
func explainRecord(ref BranchRef, s rawSession, err error) error {
	if faultOf(err) == faultDuplicate {
		return errFenced(ref, err)
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) && state.SQLState() == "25006" && s.state != nil { // read_only_sql_transaction
		s.state.writable = false
		return fmt.Errorf("%w; the transaction was made read-only after it began: say so to BeginTx, by sql.TxOptions", err)
	}
	return err
}

// recordOrFail is record as one statement without parameters, for a branch that has
// written: where record would not insert, it fails, so that what is sent with it does
// not run. The divisor is not known before it runs. The server plans it anew each time,
// for which a look at the floor is the greater part: a young branch needs none.
func (d postgresDialect) recordOrFail(ref BranchRef, m mark) string {
	born := strconv.FormatUint(ref.GID.BornMS(), 10)
	admitted := isOurs(m.token)
	if !m.young {
		admitted += " AND NOT EXISTS (SELECT 1 FROM " + EvidenceTable + " WHERE gid = 'floor' AND branch = '" + d.cluster() + "' AND born >= " + born + ")"
	}
	return "INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES ('" + string(ref.GID) + "', '" + ref.ID + "', 'done', " + born +
		" / (CASE WHEN " + admitted + " THEN 1 ELSE 0 END), '" + d.cluster() + "')"
}

func (d postgresDialect) fence(ctx context.Context, s rawSession, ref BranchRef) error {
	if _, err := s.exec(ctx, "SET lock_timeout = "+strconv.FormatInt(fenceWaitMax.Milliseconds(), 10)); err != nil {
		return err
	}
	_, err := s.exec(ctx, "INSERT INTO "+EvidenceTable+" (gid, branch, state, born, cluster) VALUES ($1::text, $2::text, 'fenced', $3::bigint, $4::text) ON CONFLICT DO NOTHING",
		string(ref.GID), ref.ID, int64(ref.GID.BornMS()), d.cluster())
	return err
}

func (d postgresDialect) raiseFloor(ctx context.Context, s rawSession, floorMS uint64) error {
	_, err := s.exec(ctx, "INSERT INTO "+EvidenceTable+" AS e (gid, branch, state, born, cluster) VALUES ('floor', $2::text, 'floor', $1::bigint, $2::text)"+
		" ON CONFLICT (gid, branch) DO UPDATE SET born = excluded.born WHERE e.born < excluded.born", int64(floorMS), d.cluster())
	return err
}

// upTo compares byte by byte, whatever order the database has: of a table of before, whose
// key has that order, the index on born is used.
func (d postgresDialect) upTo(floorMS uint64) string {
	return strings.Replace(d.clusterID.upTo(floorMS), "gid <", `gid COLLATE "C" <`, 1)
}

// byIndex takes the choice from the server. It plans by what it counted last, when rows
// that are gone since made up a part of the table: of those there seem to be so many that
// it reads the table for the first, to its end when there is none.
func (postgresDialect) byIndex(ctx context.Context, s rawSession, f func() error) error {
	if err := s.batch(ctx, "BEGIN", "SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off"); err != nil {
		return rollBack(ctx, s, err)
	}
	if err := f(); err != nil {
		return rollBack(ctx, s, err)
	}
	_, err := s.exec(ctx, "COMMIT")
	return err
}

func (d postgresDialect) sweepSome(ctx context.Context, s rawSession, floorMS uint64) (n int64, err error) {
	err = d.byIndex(ctx, s, func() (err error) {
		n, err = s.exec(ctx, "DELETE FROM "+EvidenceTable+" WHERE ctid = ANY (ARRAY(SELECT ctid FROM "+EvidenceTable+
			" WHERE "+d.upTo(floorMS)+" LIMIT "+strconv.Itoa(sweepRowsMax)+"))")
		return err
	})
	return n, err
}

func (postgresDialect) settings(context.Context, rawSession, mark) error { return nil } // they were the transaction's own
