package fence

import (
	"context"
	"database/sql"
	"strconv"
	"time"
)

// postgres is Postgres' SQL.
type postgres struct{}

func (postgres) table(name string) (string, error) { return quoteTable(name, `"`) }

// index lives in its table's schema, and must not name it.
func (postgres) index(table string) string { return indexOf(table) }

// upsert waits for a transaction that holds the key. Under read committed it then sees
// the newest row; under the stricter levels Postgres refuses (40001), and the call is
// repeated.
func (postgres) upsert(ctx context.Context, tx Tx, table string, k key, r Record) (*Record, error) {
	return upsertNumbered(ctx, tx, table, k, r)
}

func (postgres) put(ctx context.Context, tx Tx, table string, k key, r Record) error {
	return putNumbered(ctx, tx, table, k, r)
}

// floor: under read committed each statement has a snapshot of its own. Under the
// stricter levels the snapshot may be old; locking the row fails (40001) if it has
// changed since.
func (postgres) floor(ctx context.Context, tx Tx, table string, _ bool) (uint64, error) {
	var (
		floor int64
		level string
	)
	err := tx.QueryRowContext(ctx, selectFloor(table, "created, current_setting('transaction_isolation')")).Scan(&floor, &level)
	if err == nil && level != "read committed" && level != "read uncommitted" {
		err = tx.QueryRowContext(ctx, selectFloor(table, "created")+" FOR SHARE").Scan(&floor)
	}
	return uint64(floor), err
}

// bound is undone by the end of the transaction too.
func (postgres) bound(ctx context.Context, tx Tx, wait time.Duration) (func(context.Context) error, error) {
	// After an error the transaction takes no more statements, and ends.
	_, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = "+strconv.FormatInt(max(1, wait.Milliseconds()), 10))
	return func(context.Context) error { return nil }, err
}

func (postgres) due(ctx context.Context, tx Tx, table string, floorMS uint64, keysMS int64) (bool, error) {
	return dueNumbered(ctx, tx, table, floorMS, keysMS)
}

func (postgres) raise(ctx context.Context, tx Tx, table string, floorMS uint64) error {
	return raiseNumbered(ctx, tx, table, floorMS)
}

// drop leaves rows that a call holds to the next sweep.
func (postgres) drop(ctx context.Context, tx *sql.Tx, table string, floorMS uint64, keysMS int64, limit int) (int64, error) {
	res, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE ctid = ANY (ARRAY(SELECT ctid FROM "+table+" WHERE"+dueRows+
		"LIMIT "+strconv.Itoa(limit)+" FOR UPDATE SKIP LOCKED))", int64(floorMS), keysMS)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
