package disks_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/testdb"
)

// engine is a database that prepares branches.
type engine struct {
	name, connector string
	start           func(context.Context, ...string) (*testdb.Server, error)
	// unsafe is the setting by which it acknowledges what is not on its disk.
	unsafe string
	// prepare are the statements of the i-th branch, on a connection of its own.
	prepare func(i int) []string
	// prepared lists the prepared branches' names.
	prepared func(*sql.DB) ([]string, error)
}

var engines = []engine{
	{
		name: "postgres", connector: "pgx", start: testdb.StartPostgres, unsafe: "fsync=off",
		prepare: func(i int) []string {
			return []string{"BEGIN", fmt.Sprintf("INSERT INTO t VALUES (%d)", i), fmt.Sprintf("PREPARE TRANSACTION 'branch %d'", i)}
		},
		prepared: func(db *sql.DB) ([]string, error) {
			return column(db, "SELECT gid FROM pg_prepared_xacts", 0)
		},
	},
	{
		name: "mariadb", connector: "mysql", start: testdb.StartMariaDB, unsafe: "innodb-flush-log-at-trx-commit=2",
		prepare: func(i int) []string {
			x := fmt.Sprintf("'branch %d'", i)
			return []string{"XA START " + x, fmt.Sprintf("INSERT INTO t VALUES (%d)", i), "XA END " + x, "XA PREPARE " + x}
		},
		prepared: func(db *sql.DB) ([]string, error) { return column(db, "XA RECOVER", 3) },
	},
}

// column returns one column of a query's rows.
func column(db *sql.DB, query string, at int) (values []string, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	cells := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		values = append(values, cells[at].String)
	}
	return values, rows.Err()
}

// The phase P4 of a participant's database: a branch whose PREPARE was
// acknowledged is prepared after a power loss, as our settings have the servers;
// with the settings that participants refuse, the same rig loses it.
func TestPowerLossOfADatabase(t *testing.T) {
	if err := disks.Possible(); err != nil {
		t.Logf("not possible here: %v", err)
		return
	}
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			rounds := 1
			if *cuts > 0 {
				rounds = 3
			}
			if lost := e.lose(t, rounds); len(lost) > 0 {
				t.Errorf("acknowledged, and lost with the power: %v", lost)
			}
			if *cuts == 0 {
				return // the control is part of the campaign
			}
			lost := e.lose(t, rounds, e.unsafe)
			if len(lost) == 0 {
				t.Errorf("vacuous: with %s nothing was lost", e.unsafe)
			}
			t.Logf("control: with %s lost: %v", e.unsafe, lost)
		})
	}
}

// lose cuts the power of a server a few times and returns the branches whose
// PREPARE was acknowledged and that are not prepared any more.
func (e engine) lose(t *testing.T, rounds int, settings ...string) (lost []string) {
	// The server's own user must be able to pass through, as t.TempDir() does not let it.
	dir, err := os.MkdirTemp("", "quorate-power-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	v, err := disks.NewVolume(filepath.Join(dir, "d"), 512<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	t.Setenv("TMPDIR", v.Dir) // where the server's directory is made
	if err := os.Chmod(v.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s, err := e.start(t.Context(), settings...)
	if errors.Is(err, testdb.ErrNotInstalled) {
		t.Logf("not possible here: %v", err)
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	db, err := sql.Open(e.connector, s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec("CREATE TABLE t (n INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if err := v.Sync(); err != nil { // a server that has run for a while
		t.Fatal(err)
	}
	var acknowledged []string
	for round := range rounds {
		for i := range 5 {
			n := round*5 + i
			if err := onOneConnection(db, e.prepare(n)); err != nil {
				t.Fatal(err)
			}
			acknowledged = append(acknowledged, fmt.Sprintf("branch %d", n))
		}
		cutServer(t, v, s)
		if err := s.Restart(t.Context()); err != nil {
			return append(lost, "the server does not start: "+firstLine(err))
		}
		found, err := e.prepared(db)
		if err != nil {
			t.Fatal(err)
		}
		for _, branch := range acknowledged {
			if !strings.Contains(strings.Join(found, "\n")+"\n", branch+"\n") {
				lost = append(lost, branch)
			}
		}
		if len(lost) > 0 {
			return lost
		}
	}
	return nil
}

func cutServer(t *testing.T, v *disks.Volume, s *testdb.Server) {
	t.Helper()
	canary, err := disks.PlantCanary(v.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := v.Cut(); err != nil {
		t.Fatal(err)
	}
	if err := canary.Check(); err != nil {
		t.Error(err)
	}
}

// onOneConnection runs statements on a connection that is then given up: one
// with a prepared branch is good for nothing else on MariaDB.
func onOneConnection(db *sql.DB, statements []string) error {
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, statement := range statements {
		if _, err := conn.ExecContext(context.Background(), statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	// The pool drops a connection that reports itself bad.
	_ = conn.Raw(func(any) error { return errBadConnection })
	return nil
}

// errBadConnection makes the pool forget a connection.
var errBadConnection = driver.ErrBadConn

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
