package testdb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testdb"
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

// TestEachTestGetsADatabase of its own, on a private server and on one that the
// environment names, whatever form the DSN has.
func TestEachTestGetsADatabase(t *testing.T) {
	for _, c := range []struct {
		driver, env string
		get         func(testdb.TB) string
	}{
		{"pgx", testdb.PostgresEnv, testdb.Postgres},
		{"mysql", testdb.MySQLEnv, testdb.MySQL},
	} {
		first := c.get(t)
		forms := []string{first}
		if u, err := url.Parse(first); c.driver == "pgx" && err == nil {
			password, _ := u.User.Password()
			forms = append(forms, fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable",
				u.Hostname(), u.Port(), u.User.Username(), password, strings.TrimPrefix(u.Path, "/")))
		}
		for _, dsn := range forms {
			t.Setenv(c.env, dsn)
			for range 2 {
				db, err := sql.Open(c.driver, c.get(t))
				if err != nil {
					t.Fatal(err)
				}
				mustExec(t, db, "CREATE TABLE t (n int)")
				db.Close()
			}
		}
		db, err := sql.Open(c.driver, first)
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, db, "CREATE TABLE t (n int)") // theirs were elsewhere
		db.Close()
	}
}
