package testdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)

// named makes a database of the test's own on a server that the environment
// names, and returns its DSN; the database is dropped with the test.
func named(t TB, env, dsn string) string {
	t.Helper()
	driver := "pgx"
	if env == MySQLEnv {
		driver = "mysql"
	}
	name := "quorate_test_" + strings.ToLower(rand.Text())
	own, err := withDatabase(driver, dsn, name)
	if err != nil {
		t.Fatalf("testdb: %s: %v", env, err)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatalf("testdb: %s: %v", env, err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		db.Close()
		t.Fatalf("testdb: create a database on the server that %s names: %v", env, err)
	}
	t.Cleanup(func() {
		defer db.Close()
		drop := "DROP DATABASE " + name
		if driver == "pgx" {
			drop += " WITH (FORCE)" // Postgres 13
		}
		// A test that failed may have left something prepared there.
		_, _ = db.ExecContext(context.Background(), drop)
	})
	return own
}

// withDatabase is the DSN with another database's name.
func withDatabase(driver, dsn, name string) (string, error) {
	if driver == "mysql" {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			return "", err
		}
		cfg.DBName = name
		return cfg.FormatDSN(), nil
	}
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " dbname=" + name, nil // key=value pairs: the last one counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("read the DSN: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}
