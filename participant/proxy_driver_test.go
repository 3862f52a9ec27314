package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// bareConnector hides all that a driver need not have: no contexts, no direct
// execution, no options, as drivers of Go 1.0 are.
type bareConnector struct{ driver.Connector }

func (c bareConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return bareConn{conn}, nil
}

type bareConn struct{ c driver.Conn }

func (c bareConn) Prepare(q string) (driver.Stmt, error) {
	st, err := c.c.Prepare(q)
	if err != nil {
		return nil, err
	}
	return bareStmt{st}, nil
}
func (c bareConn) Close() error              { return c.c.Close() }
func (c bareConn) Begin() (driver.Tx, error) { return c.c.Begin() } //nolint:staticcheck // what such drivers have

type bareStmt struct{ s driver.Stmt }

func (s bareStmt) Close() error                                    { return s.s.Close() }
func (s bareStmt) NumInput() int                                   { return s.s.NumInput() }
func (s bareStmt) Exec(args []driver.Value) (driver.Result, error) { return s.s.Exec(args) }  //nolint:staticcheck // what such drivers have
func (s bareStmt) Query(args []driver.Value) (driver.Rows, error)  { return s.s.Query(args) } //nolint:staticcheck // what such drivers have

// TestAnyDriver: "proxies wrap any driver.Connector", however little it can do.
func TestAnyDriver(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		whole := newResource(t, kind)
		k := kinds[kind]
		script := newScript()
		p := k.proxy(bareConnector{k.open(t, whole.dsn)}, script)
		db := sql.OpenDB(p)
		defer db.Close()
		ctx, gid := global(t)
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = amount - ? WHERE id = 1", 10); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT amount FROM account WHERE id = ?", 1).Scan(&n); err != nil || n != 90 {
			t.Fatal(n, err)
		}
		if _, err := tx.ExecContext(ctx, "COMMIT"); !errors.Is(err, ErrTransactionControl) {
			t.Fatalf("COMMIT = %v", err)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = 0 WHERE id = :id", sql.Named("id", 2)); err == nil {
			t.Fatal("a named argument came through a driver that has none")
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		outcome, err := p.Commit(t.Context(), BranchRef{gid, "1"})
		if err != nil || outcome != OutcomeCommitted {
			t.Fatal(outcome, err)
		}
		whole.wantAmount(1, 90)

		// Without a GID.
		if err := db.PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		local, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := local.Exec("UPDATE account SET amount = amount - 1 WHERE id = 1"); err != nil {
			t.Fatal(err)
		}
		if err := local.Commit(); err != nil {
			t.Fatal(err)
		}
		whole.wantAmount(1, 89)
		if _, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true}); err == nil {
			t.Fatal("options came through a driver that has none")
		}
		if got, want := fmt.Sprintf("%T", db.Driver()), fmt.Sprintf("%T", p.connector.Driver()); got != want {
			t.Errorf("the driver is %s, want the connector's, %s", got, want)
		}
	}, "mysql", "sqlite") // pgx has no old methods to be called by
}

// TestLegacyMethods: database/sql does not call them, others may.
func TestLegacyMethods(t *testing.T) {
	r := newResource(t, "sqlite")
	conn, err := r.proxy.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tx, err := conn.Begin() //nolint:staticcheck // that is the test
	if err != nil {
		t.Fatal(err)
	}
	st, err := conn.Prepare("UPDATE account SET amount = amount - ? WHERE id = 1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Exec([]driver.Value{int64(10)}); err != nil { //nolint:staticcheck // that is the test
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, err = conn.Prepare("SELECT amount FROM account WHERE id = ?")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := st.Query([]driver.Value{int64(1)}) //nolint:staticcheck // that is the test
	if err != nil {
		t.Fatal(err)
	}
	row := make([]driver.Value, 1)
	if err := rows.Next(row); err != nil || row[0] != int64(90) {
		t.Fatal(row, err)
	}
	rows.Close()
	st.Close()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r.wantAmount(1, 90)
}

// TestConnectionReplaced: a connection that has died in the pool, before a branch
// begins on it, is replaced before the branch is registered.
func TestConnectionReplaced(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		for range 3 {
			if err := r.db.PingContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.killSessions()
			ctx, gid := global(t)
			if err := r.begin(ctx, 1, -1).Commit(); err != nil {
				t.Fatal(err)
			}
			r.wantOutcome(BranchRef{gid, "1"}, VerdictCommit, OutcomeCommitted)
			r.script.set(func(s *script) {
				if len(s.branches) != 1 {
					t.Errorf("%d branches were registered for one", len(s.branches))
				}
				s.branches = make(map[BranchRef]*scriptBranch)
			})
		}
		r.wantAmount(1, 97)
	}, "postgres", "mysql")
}

// TestFaults: the codes of the databases that decide what an error means, of
// drivers that are not here to make them.
func TestFaults(t *testing.T) {
	type mysqlLike struct {
		error
		Number   uint16
		SQLState [5]byte
	}
	type mattnLike struct {
		error
		ExtendedCode int
	}
	base := errors.New("x")
	for _, c := range []struct {
		err  error
		want fault
	}{
		{nil, faultNone},
		{base, faultLost},
		{driver.ErrBadConn, faultLost},
		{context.DeadlineExceeded, faultLost},
		{stateError("55P03"), faultLockTimeout},
		{stateError("40P01"), faultDeadlock},
		{stateError("42704"), faultNotFound},
		{stateError("22012"), faultServer},
		{stateError("57P01"), faultLost},
		{mysqlLike{base, 1205, [5]byte{}}, faultLockTimeout},
		{mysqlLike{base, 1397, [5]byte{}}, faultNotFound},
		{mysqlLike{base, 1927, [5]byte{}}, faultLost},
		{mysqlLike{base, 1064, [5]byte{}}, faultServer},
		{mattnLike{base, sqliteUnique}, faultDuplicate},
		{mattnLike{base, sqliteBusySnapshot}, faultLockTimeout},
		{mattnLike{base, sqliteLocked}, faultLockTimeout},
		{mattnLike{base, 1}, faultServer},
		{mattnLike{errors.New("no such table: t"), 1}, faultNoTable},
		{refusef("no"), faultServer},
	} {
		wrapped := c.err
		if wrapped != nil {
			wrapped = fmt.Errorf("more: %w", errors.Join(c.err, nil))
		}
		for _, err := range []error{c.err, wrapped} {
			if got := faultOf(err); got != c.want {
				t.Errorf("%v (%T) is fault %d, want %d", err, err, got, c.want)
			}
		}
	}
}

// TestReadyAndUsable: what a proxy says before it is attached, and after it is closed.
func TestReadyAndUsable(t *testing.T) {
	k := kinds["sqlite"]
	connector := k.open(t, sqliteDSN(t))
	p := k.proxy(failingConnector{connector}, newScript())
	testkit.Eventually(t, 10*time.Second, func() bool { // once it has tried
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := p.usable(ctx)
		return errors.Is(err, errNoServer) && errors.Is(err, context.DeadlineExceeded)
	}, "usable to say what stands in the way, and the deadline")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Ready of a closed proxy = %v", err)
	}
	if _, err := p.Commit(t.Context(), BranchRef{GID(clusterA), "1"}); err == nil {
		t.Error("a closed proxy committed")
	}
}

var errNoServer = errors.New("no server")

type failingConnector struct{ driver.Connector }

func (failingConnector) Connect(context.Context) (driver.Conn, error) { return nil, errNoServer }
