package testdb_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testdb"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// TestKillAndRestart proves what the crash tests of other packages rely on: a
// server killed without a goodbye comes back on the same address, with what
// was committed and without what was not.
func TestKillAndRestart(t *testing.T) {
	for _, c := range []struct {
		driver string
		start  func(context.Context, ...string) (*testdb.Server, error)
	}{
		{"pgx", testdb.StartPostgres},
		{"mysql", testdb.StartMariaDB},
	} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			server, err := c.start(ctx)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(server.Dir()); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("directory %s is left: %v", server.Dir(), err)
				}
			})
			db, err := sql.Open(c.driver, server.DSN())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			mustExec(t, db, "CREATE TABLE t (n int primary key)")
			mustExec(t, db, "INSERT INTO t VALUES (1)")
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (2)"); err != nil {
				t.Fatal(err)
			}

			if err := server.Restart(ctx); err == nil {
				t.Fatal("restarting a running server must be refused")
			}
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err == nil {
				t.Fatal("a transaction committed on a killed server")
			}
			if err := server.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := db.QueryRowContext(ctx, "SELECT sum(n) FROM t").Scan(&n); err != nil || n != 1 {
				t.Fatalf("sum after the crash = %d, %v; want 1", n, err)
			}
			dsn, err := server.NewDatabase(ctx)
			if err != nil {
				t.Fatal(err)
			}
			other, err := sql.Open(c.driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			mustExec(t, other, "CREATE TABLE t (n int)") // the name is free there
		})
	}
}

func mustExec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestSharedServers: each call gets a database of its own, or the one that the
// environment names.
func TestSharedServers(t *testing.T) {
	a, b := testdb.Postgres(t), testdb.Postgres(t)
	if os.Getenv(testdb.PostgresEnv) == "" && a == b {
		t.Fatalf("two tests share the database %s", a)
	}
	t.Setenv(testdb.MySQLEnv, "named")
	if got := testdb.MySQL(t); got != "named" {
		t.Fatalf("MySQL(t) = %q, want the environment's DSN", got)
	}
}
