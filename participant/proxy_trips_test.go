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

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// tripping counts what is asked of a server, statement by statement.
type tripping struct {
	driver.Connector
	mu    sync.Mutex
	asked []string
	fault error // of the next request about a prepared statement
}

func (c *tripping) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &trippingConn{Conn: raw, c: c}, nil
}

func (c *tripping) note(query string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, query)
}

// take returns what was asked since the last time.
func (c *tripping) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

// refuse has the next request about a prepared statement fail.
func (c *tripping) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = err
}

// refused is the refusal that nobody has met, and takes it out.
func (c *tripping) refused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.fault
	c.fault = nil
	return err
}

type trippingConn struct {
	driver.Conn
	c *tripping
}

func (t *trippingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := t.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if !errors.Is(err, driver.ErrSkip) {
		t.c.note(query)
	}
	return res, err
}

func (t *trippingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := t.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	if !errors.Is(err, driver.ErrSkip) {
		t.c.note(query)
	}
	return rows, err
}

func (t *trippingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	t.c.note("prepare " + query)
	if err := t.c.refused(); err != nil {
		return nil, err
	}
	st, err := t.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	return &trippingStmt{Stmt: st, c: t.c, query: query}, err
}

type trippingStmt struct {
	driver.Stmt
	c     *tripping
	query string
}

func (t *trippingStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	t.c.note(t.query)
	if err := t.c.refused(); err != nil {
		return nil, err
	}
	return t.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (t *trippingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	t.c.note(t.query)
	return t.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

func (t *trippingStmt) Close() error {
	t.c.note("close")
	return t.Stmt.Close()
}

// A branch costs its own statement, one request to begin and one to prepare, and one to
// end it; a driver that takes one statement a request costs what the evidence row and the
// parts of the prepare are more. Numbers, not times: they are exact.
func TestRoundTripsOfABranch(t *testing.T) {
	for name, want := range map[string]int{"postgres": 4, "mysql": 4, "mysql, one statement a request": 6} {
		t.Run(name, func(t *testing.T) {
			kind, _, one := strings.Cut(name, ",")
			r := newResource(t, kind)
			r.script.set(func(s *script) { s.youth = true })
			c := &tripping{Connector: open(t, kind, r.dsn, !one)}
			p := kinds[kind].proxy(c, r.script)
			db := sql.OpenDB(p)
			defer db.Close()
			if err := p.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			var asked []string
			for range 3 { // the first one learns what the connection and the server can do
				c.take()
				ctx, gid := global(t)
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = amount - 1 WHERE id = 1"); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if outcome, err := p.Commit(t.Context(), BranchRef{gid, "1"}); err != nil || outcome != OutcomeCommitted {
					t.Fatal(outcome, err)
				}
				asked = c.take()
			}
			if len(asked) != want {
				t.Errorf("%d requests, want %d:\n%s", len(asked), want, strings.Join(asked, "\n"))
			}
		})
	}
}

// open opens a database whose driver takes several statements a request, or does not.
func open(t *testing.T, kind, dsn string, several bool) driver.Connector {
	t.Helper()
	if kind == "postgres" {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		return stdlib.GetConnector(*config)
	}
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.MultiStatements = several
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	return connector
}

// Several statements in one request change nothing about what is refused: a branch that
// was fenced, or that is older than what was swept, is not prepared, and its refusal is a
// plain one. Of a young branch the floor need not be looked at.
func TestPreparedAtOnceOrNotAtAll(t *testing.T) {
	for kind, spoil := range map[string]map[string]func(*resource, BranchRef, *sql.Tx) error{
		"postgres": {
			"fenced": fenceIt,
			"swept": func(r *resource, ref BranchRef, _ *sql.Tx) error {
				return r.proxy.managed(context.Background(), func(s rawSession) error {
					return r.proxy.dialect.raiseFloor(context.Background(), s, ref.GID.BornMS())
				})
			},
			"read-only by now": func(_ *resource, _ BranchRef, tx *sql.Tx) error {
				_, err := tx.Exec("SET TRANSACTION READ ONLY")
				return err
			},
		},
		"mysql": {"fenced": fenceIt},
	} {
		for name, do := range spoil {
			for _, young := range []bool{false, true} {
				if young && name == "swept" {
					continue // by its definition it is not
				}
				t.Run(fmt.Sprintf("%s, %s, young %t", kind, name, young), func(t *testing.T) {
					r := newResource(t, kind)
					r.script.set(func(s *script) { s.youth = young })
					p := kinds[kind].proxy(open(t, kind, r.dsn, true), r.script)
					db := sql.OpenDB(p)
					defer db.Close()
					ctx, gid := global(t)
					ref := BranchRef{gid, "1"}
					tx, err := db.BeginTx(ctx, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := tx.ExecContext(ctx, "UPDATE account SET amount = amount - 1 WHERE id = 1"); err != nil {
						t.Fatal(err)
					}
					if err := do(r, ref, tx); err != nil {
						t.Logf("spoiling it: %v", err)
					}
					if err := tx.Commit(); err == nil {
						t.Error("it was prepared")
					} else {
						t.Log(err)
					}
					r.script.wantVote(t, ref, VoteRefused, false)
					r.wantListed(0)
					r.wantAmount(1, 100)
				})
			}
		}
	}
}

func fenceIt(r *resource, ref BranchRef, _ *sql.Tx) error {
	return r.proxy.managed(context.Background(), func(s rawSession) error {
		return r.proxy.dialect.fence(context.Background(), s, ref)
	})
}
