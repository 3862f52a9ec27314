package fence_test

import (
	"database/sql"
	"testing"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// BenchmarkDo shows what the fence adds to a local transaction of one update.
func BenchmarkDo(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		benchmarkDo(b, fence.Postgres, "pgx", testdb.Postgres(b), "UPDATE counters SET n = n + 1 WHERE name = $1")
	})
	b.Run("mysql", func(b *testing.B) {
		benchmarkDo(b, fence.MySQL, "mysql", testdb.MySQL(b), "UPDATE counters SET n = n + 1 WHERE name = ?")
	})
}

func benchmarkDo(b *testing.B, kind fence.Database, driver, dsn, business string) {
	ctx := b.Context()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	f, err := fence.New(kind)
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Init(ctx, db); err != nil {
		b.Fatal(err)
	}
	for _, q := range []string{"CREATE TABLE counters (name VARCHAR(20) PRIMARY KEY, n BIGINT)", "INSERT INTO counters VALUES ('n', 0)"} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			b.Fatal(err)
		}
	}
	work := func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, business, "n")
		return err
	}
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := work(tx); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	})
	call := fence.Call{Branch: "1", Operation: fence.Action, Mode: "saga"}
	b.Run("fenced", func(b *testing.B) {
		for b.Loop() {
			call.GID = fencetest.GID(5000)
			if err := f.Do(ctx, db, call, work); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("repeated", func(b *testing.B) {
		for b.Loop() {
			if err := f.Do(ctx, db, call, work); err != nil {
				b.Fatal(err)
			}
		}
	})
}
