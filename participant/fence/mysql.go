package fence

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"time"
)

// mysql is the SQL of MySQL and MariaDB.
type mysql struct{}

func (mysql) table(name string) (string, error) { return quoteTable(name, "`") }

// index is not used: MySQL's is made with the table.
func (mysql) index(table string) string { return table }

// upsert: INSERT IGNORE would share-lock the row that stands, and two repeats would
// deadlock when they change it. This locks it for one, and counts 2 where it stood,
// whatever clientFoundRows says. The transaction sees the row that it changed, however
// old its snapshot.
func (mysql) upsert(ctx context.Context, tx Tx, table string, k key, r Record) (*Record, error) {
	res, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (gid, branch, part, state, incarnation, term, calls, born, created, cluster, detail)"+
		" VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, '') ON DUPLICATE KEY UPDATE calls = calls + 1",
		k.gid, k.branch, k.part, string(r.State), int64(r.Epoch.Incarnation), int64(r.Epoch.Term), int64(k.born), k.createdMS, k.cluster)
	if err != nil {
		return nil, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return nil, err
	}
	standing, _, err := scan(tx.QueryRowContext(ctx, "SELECT state, incarnation, term, detail, calls FROM "+table+
		" WHERE gid = ? AND branch = ? AND part = ?", k.gid, k.branch, k.part))
	return standing, err
}

// put is called where something changes only: MySQL counts no others.
func (mysql) put(ctx context.Context, tx Tx, table string, k key, r Record) error {
	res, err := tx.ExecContext(ctx, "UPDATE "+table+" SET state = ?, incarnation = ?, term = ?, detail = ? WHERE gid = ? AND branch = ? AND part = ?",
		string(r.State), int64(r.Epoch.Incarnation), int64(r.Epoch.Term), r.Detail, k.gid, k.branch, k.part)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows were changed, want 1: %w", n, err)
	}
	return nil
}

// floor: the first reading of a transaction makes its snapshot, so a plain one is of
// now. After others only a locking read is.
func (mysql) floor(ctx context.Context, tx Tx, table, cluster string, late bool) (uint64, error) {
	query := floorOf(table, "?")
	if late {
		query += " LOCK IN SHARE MODE"
	}
	return scanFloor(tx.QueryRowContext(ctx, query, cluster, cluster))
}

// bound changes the session, in whole seconds, so restore matters.
func (mysql) bound(ctx context.Context, tx Tx, wait time.Duration) (func(context.Context) error, error) {
	var own int64
	if err := tx.QueryRowContext(ctx, "SELECT @@innodb_lock_wait_timeout").Scan(&own); err != nil {
		return nil, err
	}
	set := func(ctx context.Context, seconds int64) error {
		_, err := tx.ExecContext(ctx, "SET SESSION innodb_lock_wait_timeout = "+strconv.FormatInt(seconds, 10))
		return err
	}
	return func(ctx context.Context) error { return set(ctx, own) }, set(ctx, int64(max(1, math.Ceil(wait.Seconds()))))
}

func (mysql) due(ctx context.Context, tx Tx, table string, o old) (bool, error) {
	var n int64
	err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table+" WHERE cluster = ? AND born BETWEEN 1 AND ?)"+
		" OR EXISTS (SELECT 1 FROM "+table+" WHERE cluster = '' AND born = 0 AND created < ?)", o.cluster, int64(o.floorMS), o.keysMS).Scan(&n)
	return n != 0, err
}

func (mysql) raise(ctx context.Context, tx Tx, table string, o old) error {
	_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET calls = calls + 1 WHERE gid = '' AND branch = '' AND part = 'floor'")
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO "+table+" (gid, branch, part, cluster, state, incarnation, term, calls, born, created, detail)"+
		" VALUES ('', ?, 'floor', ?, 'floor', 0, 0, 0, -1, ?, '') ON DUPLICATE KEY UPDATE created = GREATEST(created, VALUES(created))",
		o.cluster, o.cluster, int64(o.floorMS))
	return err
}

// drop deletes row by row, by whole keys: a DELETE over a range would lock what lies
// beside it too.
func (mysql) drop(ctx context.Context, tx *sql.Tx, table string, o old, limit int) (int64, error) {
	keys, err := mysqlKeys(ctx, tx, table, o, limit)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	del, err := tx.PrepareContext(ctx, "DELETE FROM "+table+" WHERE gid = ? AND branch = ? AND part = ?")
	if err != nil {
		return 0, err
	}
	defer func() { _ = del.Close() }()
	for _, k := range keys {
		if _, err := del.ExecContext(ctx, k.gid, k.branch, k.part); err != nil {
			return 0, err
		}
	}
	return int64(len(keys)), nil
}

func mysqlKeys(ctx context.Context, tx *sql.Tx, table string, o old, limit int) (keys []key, err error) {
	columns := "(SELECT gid, branch, part FROM " + table + " WHERE "
	most := " LIMIT " + strconv.Itoa(limit) + ")"
	rows, err := tx.QueryContext(ctx, columns+"cluster = ? AND born BETWEEN 1 AND ?"+most+" UNION ALL "+columns+"cluster = '' AND born = 0 AND created < ?"+most+" LIMIT "+strconv.Itoa(limit),
		o.cluster, int64(o.floorMS), o.keysMS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.gid, &k.branch, &k.part); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
