package fence

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"
)

// sqlite is SQLite's SQL. It has one writer at a time, so a transaction that has written
// sees what is newest.
type sqlite struct{ numbered }

// indexOf adds `_born` to the last part of a quoted name.
func indexOf(table string) string {
	return `"` + strings.TrimPrefix(strings.TrimSuffix(lastPart(table), `"`), `"`) + `_born"`
}

// lastPart is the table's own name in a quoted `"schema"."name"`.
func lastPart(table string) string {
	if i := strings.Index(table, `"."`); i >= 0 {
		return table[i+2:]
	}
	return table
}

func (sqlite) floor(ctx context.Context, tx Tx, table, cluster string, _ bool) (uint64, error) {
	return scanFloor(tx.QueryRowContext(ctx, floorOf(table, "$1"), cluster))
}

// bound changes the connection, so restore matters.
func (sqlite) bound(ctx context.Context, tx Tx, wait time.Duration) (func(context.Context) error, error) {
	var own int64
	if err := tx.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&own); err != nil {
		return nil, err
	}
	set := func(ctx context.Context, ms int64) error {
		_, err := tx.ExecContext(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(ms, 10))
		return err
	}
	return func(ctx context.Context) error { return set(ctx, own) }, set(ctx, max(1, wait.Milliseconds()))
}

func (sqlite) drop(ctx context.Context, tx *sql.Tx, table string, o old, limit int) (int64, error) {
	res, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE (gid, branch, part) IN (SELECT gid, branch, part FROM "+table+" WHERE"+dueRows+
		"LIMIT "+strconv.Itoa(limit)+")", o.cluster, int64(o.floorMS), o.keysMS)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
