package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestAChangeIsPreparedHoweverItIsMade: by whichever of database/sql's ways a statement
// comes, and whatever it returns, a branch that wrote is prepared, and goes either way.
func TestAChangeIsPreparedHoweverItIsMade(t *testing.T) {
	changes := []string{"UPDATE account SET amount = amount - 1 WHERE id = 1", "DELETE FROM account WHERE id = 1", "INSERT INTO account VALUES (3, 1)"}
	returning := []string{"DELETE FROM account WHERE id = 1 RETURNING amount", "INSERT INTO account VALUES (3, 1) RETURNING id"} // UPDATE: not MariaDB's
	ways := map[string]func(context.Context, *sql.Tx, string) error{
		"exec":  func(ctx context.Context, tx *sql.Tx, q string) error { _, err := tx.ExecContext(ctx, q); return err },
		"query": func(ctx context.Context, tx *sql.Tx, q string) error { return drain(tx.QueryContext(ctx, q)) },
		"exec of a statement": func(ctx context.Context, tx *sql.Tx, q string) error {
			return stated(ctx, tx, q, func(st *sql.Stmt) error { _, err := st.ExecContext(ctx); return err })
		},
		"query of a statement": func(ctx context.Context, tx *sql.Tx, q string) error {
			return stated(ctx, tx, q, func(st *sql.Stmt) error { return drain(st.QueryContext(ctx)) })
		},
	}
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		for way, do := range ways {
			texts := changes
			if strings.HasPrefix(way, "query") {
				texts = append(returning, changes...)
			}
			for _, q := range texts {
				ctx, gid := global(t)
				tx, err := r.db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := do(ctx, tx, q); err != nil {
					t.Fatalf("%s: %s: %v", way, q, err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatalf("%s: %s: %v", way, q, err)
				}
				ref := BranchRef{gid, "1"}
				if b := r.script.branch(t, ref); b.vote.Kind != VotePrepared {
					t.Errorf("%s: %s: the branch voted %v", way, q, b.vote.Kind)
				}
				r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
			}
		}
		r.wantAmount(1, 100)
	}, every...)
}

// TestTheLastOfSeveralStatementsDoesNotTell: of several in one request the server's count
// is the last one's.
func TestTheLastOfSeveralStatementsDoesNotTell(t *testing.T) {
	r := newResource(t, "mysql")
	p := kinds["mysql"].proxy(open(t, "mysql", r.dsn, true), r.script)
	db := sql.OpenDB(p)
	defer db.Close()
	for _, q := range []string{
		"UPDATE account SET amount = 0 WHERE id = 1; DELETE FROM account WHERE id = 77",
		"DELETE FROM account WHERE id = 77; UPDATE account SET amount = 0 WHERE id = 1; DELETE FROM account WHERE id = 77",
		"SELECT 1; DELETE FROM account WHERE id = 1; DELETE FROM account WHERE id = 77",
	} {
		ctx, gid := global(t)
		tx, err := db.BeginTx(ctx, nil)
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
		if o, err := p.Rollback(t.Context(), ref); o != OutcomeRolledBack || err != nil {
			t.Fatal(o, err)
		}
		r.wantAmount(1, 100)
	}
}

// TestAFunctionsWorkIsPrepared: a statement that deletes no row may have called a function
// that wrote elsewhere.
func TestAFunctionsWorkIsPrepared(t *testing.T) {
	r := newResource(t, "mysql")
	r.must("CREATE TABLE audit (id int)")
	r.must("CREATE FUNCTION touch() RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO audit VALUES (1); RETURN 77; END")
	for _, q := range []string{"DELETE FROM account WHERE id = touch()", "SELECT touch()", "SET @x = touch()", "DO touch()"} {
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
		if b := r.script.branch(t, ref); b.vote.Kind != VotePrepared {
			t.Errorf("%s: the branch voted %v", q, b.vote.Kind)
		}
		r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
	}
}

func drain(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

func stated(ctx context.Context, tx *sql.Tx, q string, do func(*sql.Stmt) error) error {
	st, err := tx.PrepareContext(ctx, q)
	if err != nil {
		return err
	}
	return errors.Join(do(st), st.Close())
}

// failingEngine fails one step of a branch, without having done it.
type failingEngine struct {
	engine
	step string
}

var errStep = errors.New("this step fails")

func (e failingEngine) start(ctx context.Context, s rawSession, xid string) error {
	if e.step == "start" {
		return errStep
	}
	return e.engine.start(ctx, s, xid)
}

func (e failingEngine) prepare(ctx context.Context, s rawSession, xid string) error {
	if strings.HasPrefix(e.step, "prepare") {
		return errStep
	}
	return e.engine.prepare(ctx, s, xid)
}

func (e failingEngine) commit(ctx context.Context, s rawSession, xid string) error {
	if e.step == "commit" {
		return errStep
	}
	return e.engine.commit(ctx, s, xid)
}

func (e failingEngine) undo(ctx context.Context, s rawSession, xid string) error {
	if e.step == "undo" {
		return errStep
	}
	return e.engine.undo(ctx, s, xid)
}

// TestAStepThatFails: whichever step of a branch fails, the cluster hears of it, by the
// word that fits; nothing of the branch stands; and what may be open on its connection
// reaches nobody else.
func TestAStepThatFails(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.db.SetMaxOpenConns(1)
		left := 100
		for step, maybe := range map[string]bool{"start": false, "prepare": true, "prepare behind": true, "commit": false, "undo": false} {
			if step == "prepare behind" && !strings.Contains("postgres mysql", kind) {
				continue
			}
			left--
			own := r.proxy.engine
			r.proxy.engine = failingEngine{own, step}
			ctx, gid := global(t)
			scopeOf(ctx).behind.wanted = step == "prepare behind"
			err := func() error {
				tx, err := r.db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				if step == "commit" {
					err = tx.QueryRowContext(ctx, "SELECT amount FROM account WHERE id = 1").Scan(new(int))
				} else {
					_, err = tx.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = 1")
				}
				if err != nil {
					return err
				}
				if step == "undo" {
					return tx.Rollback()
				}
				return errors.Join(tx.Commit(), scopeOf(ctx).behind.join())
			}()
			ref := BranchRef{gid, "1"}
			if !errors.Is(err, errStep) && step != "undo" {
				t.Errorf("%s: %v", step, err)
			}
			r.script.wantVote(t, ref, VoteRefused, maybe)
			if n := len(r.proxy.pins.list()) + len(r.proxy.pins.slots); n != 0 {
				t.Errorf("%s: the proxy keeps %d of it", step, n)
			}
			r.proxy.engine = own
			if _, err := r.db.ExecContext(t.Context(), "UPDATE account SET amount = amount - 1 WHERE id = 2"); err != nil {
				t.Errorf("%s: other work afterwards: %v", step, err)
			}
			r.wantAmount(2, left) // and durable: it was in nobody's transaction
			r.wantOutcome(r.prepare(-1), VerdictCommit, OutcomeCommitted)
			r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
			r.wantAmount(1, left)
		}
	}, every...)
}

// lyingConn runs what ends a branch, and answers an error all the same.
type lyingConn struct {
	driver.Conn
	err error
}

type lyingConnector struct {
	driver.Connector
	err error
}

func (c lyingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	return lyingConn{raw, c.err}, err
}

func (c lyingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err == nil && (strings.Contains(query, "XA PREPARE") || strings.Contains(query, "PREPARE TRANSACTION")) {
		return nil, c.err
	}
	return res, err
}

func (c lyingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// TestNoErrorOfAPrepareIsAPlainRefusal: "An error from PREPARE is never a plain refusal",
// whatever the server says, and with how many statements it went there.
func TestNoErrorOfAPrepareIsAPlainRefusal(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		var lies []error
		if kind == "mysql" {
			for _, n := range []uint16{1105, 1180, 1317, 1399, 1402, 1053, 1927, 1030} {
				lies = append(lies, &mysql.MySQLError{Number: n, Message: "a lie"})
			}
		} else {
			for _, state := range []string{"XX000", "53200", "57014", "57P01", "58030", "40001", "55000", "08006"} {
				lies = append(lies, &pgconn.PgError{Code: state, Message: "a lie"})
			}
		}
		for _, lie := range append(lies, driver.ErrBadConn, io.ErrUnexpectedEOF) {
			p := kinds[kind].proxy(lyingConnector{open(t, kind, r.dsn, true), lie}, r.script)
			db := sql.OpenDB(p)
			ctx, gid := global(t)
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = 1"); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err == nil {
				t.Errorf("%v: the error was hidden", lie)
			}
			ref := BranchRef{gid, "1"}
			r.script.wantVote(t, ref, VoteRefused, true)
			_ = db.Close()
			r.wantOutcome(ref, VerdictRollback, OutcomeRolledBack)
			r.wantListed(0)
			r.wantAmount(1, 100)
		}
	}, prepared...)
}

// TestSettingsOfTheService: what the service has set on a connection is its own, whether
// it did so in a branch or outside of one, and a branch waits for locks as the proxy says.
func TestSettingsOfTheService(t *testing.T) {
	const query = "SELECT @@innodb_lock_wait_timeout"
	r := newResource(t, "mysql", LockWait(2*time.Second))
	r.db.SetMaxOpenConns(1)
	in := func(q interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}, ctx context.Context, what string, want int) {
		t.Helper()
		var got int
		if err := q.QueryRowContext(ctx, query).Scan(&got); err != nil || got != want {
			t.Errorf("%s it is %d s, want %d; %v", what, got, want, err)
		}
	}
	branch := func(what, set string) {
		t.Helper()
		ctx, _ := global(t)
		tx, err := r.db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		in(tx, ctx, what, 2)
		if set != "" {
			if _, err := tx.ExecContext(ctx, set); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.db.ExecContext(t.Context(), "SET SESSION innodb_lock_wait_timeout = 33"); err != nil {
		t.Fatal(err)
	}
	branch("in a branch", "")
	local, err := r.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	in(local, t.Context(), "in a local transaction after a branch", 33)
	if err := local.Rollback(); err != nil {
		t.Fatal(err)
	}
	branch("in a second branch", "SET SESSION innodb_lock_wait_timeout = 44")
	branch("in a branch after one that set it", "")
	in(r.db, t.Context(), "outside", 33)
	if _, err := r.db.ExecContext(t.Context(), "SET SESSION innodb_lock_wait_timeout = 55"); err != nil {
		t.Fatal(err)
	}
	branch("in a branch after it was set again", "")
	in(r.db, t.Context(), "outside, set again", 55)
}

// TestOutsideEndsWithItsTransaction: the connection is as it was before.
func TestOutsideEndsWithItsTransaction(t *testing.T) {
	r := newResource(t, "sqlite")
	ctx, _ := global(t)
	conn, err := r.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, end := range map[string]func(*sql.Tx) error{"commit": (*sql.Tx).Commit, "rollback": (*sql.Tx).Rollback} {
		tx, err := conn.BeginTx(Outside(ctx), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = 1"); !errors.Is(err, ErrOutsideTransaction) {
			t.Errorf("after the %s: %v", name, err)
		}
	}
	r.wantAmount(1, 100)
}

// TestTheFloorRisesBeforeRowsGo: a crash between the two must leave a floor that refuses,
// not a row that is missing.
func TestTheFloorRisesBeforeRowsGo(t *testing.T) {
	for _, kind := range []string{"postgres", "mysql", "sqlite"} {
		r := newResource(t, kind)
		r.must("INSERT INTO " + EvidenceTable + " (gid, branch, state, born, cluster) VALUES ('" + string(firstGID(1)) + "', '1', 'done', 1, '" + clusterA + "')")
		c := &tripping{Connector: r.open(t)}
		p := kinds[kind].proxy(c, r.script)
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.take()
		if err := p.Sweep(t.Context(), bornMS); err != nil {
			t.Fatal(err)
		}
		var did []string
		for _, q := range c.take() {
			switch {
			case strings.Contains(q, "INSERT") && strings.Contains(q, "'floor'"):
				did = append(did, "floor")
			case strings.Contains(q, "DELETE"):
				did = append(did, "rows")
			}
		}
		if strings.Join(did, ", ") != "floor, rows" {
			t.Errorf("%s: a sweep is %v", kind, did)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatIsNotKnownOfAFailoverKeeps: a branch that the cluster has forgotten is rolled
// back where its database surely lost nothing, and nowhere else.
func TestWhatIsNotKnownOfAFailoverKeeps(t *testing.T) {
	r := newResource(t, "postgres")
	if why := r.proxy.KeepExpired(t.Context()); why != "" {
		t.Errorf("kept, because %s", why)
	}
	if why := r.again(AllowUnsafe()).proxy.KeepExpired(t.Context()); why == "" {
		t.Error("an unsafe database lost nothing")
	}
	r.must("DROP TABLE " + EvidenceTable)
	if why := r.proxy.KeepExpired(t.Context()); why == "" {
		t.Error("nobody can tell whether it failed over, and it did not")
	}
}

// told1 is a server that answers every query with one row.
type told1 struct {
	driver.Conn
	rows map[string][]driver.Value // by a word of the query
}

func (c told1) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	for word, row := range c.rows {
		if strings.Contains(query, word) {
			return &oneRow{row: row}, nil
		}
	}
	return &oneRow{}, nil
}

type oneRow struct{ row []driver.Value }

func (r *oneRow) Columns() []string { return make([]string, max(len(r.row), 2)) }
func (r *oneRow) Close() error      { return nil }
func (r *oneRow) Next(dest []driver.Value) error {
	if r.row == nil {
		return io.EOF
	}
	copy(dest, r.row)
	r.row = nil
	return nil
}

// TestSettingsThatLoseWhatWasAcknowledged, each alone: a server of its own for each would
// take too long.
func TestSettingsThatLoseWhatWasAcknowledged(t *testing.T) {
	for name, x := range map[string]struct {
		d    Dialect
		rows map[string][]driver.Value
		safe bool
	}{
		"postgres":                       {DialectPostgres, map[string][]driver.Value{"fsync": {"on", "on", "on"}}, true},
		"postgres, remote":               {DialectPostgres, map[string][]driver.Value{"fsync": {"on", "remote_apply", "on"}}, true},
		"postgres, fsync":                {DialectPostgres, map[string][]driver.Value{"fsync": {"off", "on", "on"}}, false},
		"postgres, synchronous_commit":   {DialectPostgres, map[string][]driver.Value{"fsync": {"on", "off", "on"}}, false},
		"postgres, full_page_writes":     {DialectPostgres, map[string][]driver.Value{"fsync": {"on", "on", "off"}}, false},
		"mysql":                          {DialectMySQL, map[string][]driver.Value{"@@version": {"8.0.36", "1"}}, true},
		"mysql, with support of XA":      {DialectMySQL, map[string][]driver.Value{"@@version": {"5.7.7", "1"}, "innodb_support_xa": {"innodb_support_xa", "ON"}}, true},
		"mysql, without support of XA":   {DialectMySQL, map[string][]driver.Value{"@@version": {"5.7.7", "1"}, "innodb_support_xa": {"innodb_support_xa", "OFF"}}, false},
		"mariadb, written not flushed":   {DialectMySQL, map[string][]driver.Value{"@@version": {"10.11.6-MariaDB", "2"}}, false},
		"mariadb, flushed once a second": {DialectMySQL, map[string][]driver.Value{"@@version": {"10.11.6-MariaDB", "0"}}, false},
		"sqlite, off":                    {DialectSQLite, map[string][]driver.Value{"synchronous": {int64(0)}}, false},
		"sqlite, normal":                 {DialectSQLite, map[string][]driver.Value{"synchronous": {int64(1)}}, false},
		"sqlite, full":                   {DialectSQLite, map[string][]driver.Value{"synchronous": {int64(2)}}, true},
		"sqlite, extra":                  {DialectSQLite, map[string][]driver.Value{"synchronous": {int64(3)}}, true},
	} {
		err := x.d.make(clusterA).durability(t.Context(), rawSession{raw: told1{rows: x.rows}})
		var refused unfit
		if x.safe && err != nil || !x.safe && !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
