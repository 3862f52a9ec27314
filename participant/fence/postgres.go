package fence

import (
	"context"
	"database/sql"
	"strconv"
	"time"
)

// postgres is Postgres' SQL. Its upsert waits for a transaction that holds the key. Under
// read committed it then sees the newest row; under the stricter levels Postgres refuses
// (40001), and the call is repeated.
type postgres struct{ numbered }

// floor: under read committed each statement has a snapshot of its own. Under the
// stricter levels the snapshot may be old; locking a row that each sweep changes then
// fails (40001).
func (postgres) floor(ctx context.Context, tx Tx, table, cluster string, _ bool) (uint64, error) {
	var (
		floor, rows int64
		level       string
	)
	err := tx.QueryRowContext(ctx, "SELECT f.*, current_setting('transaction_isolation') FROM ("+floorOf(table, "$1")+") AS f", cluster).Scan(&floor, &rows, &level)
	if err == nil && rows == 0 {
		err = sql.ErrNoRows
	}
	if err == nil && level != "read committed" && level != "read uncommitted" {
		err = tx.QueryRowContext(ctx, "SELECT state FROM "+table+" WHERE gid = '' AND branch = '' AND part = 'floor' FOR SHARE").Scan(&level)
	}
	return uint64(floor), err
}

// bound is undone by the end of the transaction too.
func (postgres) bound(ctx context.Context, tx Tx, wait time.Duration) (func(context.Context) error, error) {
	// After an error the transaction takes no more statements, and ends.
	_, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = "+strconv.FormatInt(max(1, wait.Milliseconds()), 10))
	return func(context.Context) error { return nil }, err
}

// drop leaves rows that a call holds to the next sweep.
func (postgres) drop(ctx context.Context, tx *sql.Tx, table string, o old, limit int) (int64, error) {
	res, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE ctid = ANY (ARRAY(SELECT ctid FROM "+table+" WHERE"+dueRows+
		"LIMIT "+strconv.Itoa(limit)+" FOR UPDATE SKIP LOCKED))", o.cluster, int64(o.floorMS), o.keysMS)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
