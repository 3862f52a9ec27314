package fence

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Database is a kind of SQL database.
type Database string

// The databases that are known.
const (
	Postgres Database = "postgres"
	// MySQL is MariaDB too.
	MySQL  Database = "mysql"
	SQLite Database = "sqlite"
)

// dialects are what differs in the SQL of databases.
var dialects = map[Database]dialect{Postgres: postgres{}, MySQL: mysql{}, SQLite: sqlite{}}

// key names a row.
type key struct {
	gid, branch, part string
	// cluster is the id of the GID's.
	cluster string
	// born is the GID's, in cluster milliseconds, 0 for a key; createdMS the wall clock.
	born      uint64
	createdMS int64
}

// dialect is what differs in the SQL of databases. The table is quoted.
type dialect interface {
	// table quotes a name; index makes an index' name of a quoted table.
	table(name string) (string, error)
	index(table string) string
	// upsert inserts the row, or locks the one that stands and returns it as it is now,
	// whatever the transaction's snapshot says. It waits for others that hold it.
	upsert(ctx context.Context, tx Tx, table string, k key, r Record) (standing *Record, err error)
	// put changes a row that the transaction holds.
	put(ctx context.Context, tx Tx, table string, k key, r Record) error
	// floor reads how far a cluster's rows were swept: what is committed now, not what an old
	// snapshot says. late means that the transaction may have read something before.
	floor(ctx context.Context, tx Tx, table, cluster string, late bool) (uint64, error)
	// bound bounds the transaction's waits for locks until restore is called.
	bound(ctx context.Context, tx Tx, wait time.Duration) (restore func(context.Context) error, err error)
	// unsafe lists the settings under which the database forgets.
	unsafe(ctx context.Context, tx Tx) ([]string, error)
	// due, raise and drop are the parts of a sweep. raise changes the first floor's row in
	// any case: by that row, which is always there, old snapshots are known.
	due(ctx context.Context, tx Tx, table string, o old) (bool, error)
	raise(ctx context.Context, tx Tx, table string, o old) error
	drop(ctx context.Context, tx *sql.Tx, table string, o old, limit int) (int64, error)
}

// old is what a sweep may drop: rows of a cluster's GIDs born at or below floorMS, and rows
// of keys that were created before keysMS by the wall clock.
type old struct {
	cluster string
	floorMS uint64
	keysMS  int64
}

// identifierBytesMax is Postgres' limit, the least of all.
const identifierBytesMax = 63

// quoteTable quotes each part of `name` or `schema.name`.
func quoteTable(name, quote string) (string, error) {
	parts := strings.Split(name, ".")
	if len(parts) > 2 {
		return "", fmt.Errorf("fence: table %q: want `name` or `schema.name`", name)
	}
	for i, part := range parts {
		// The index' name is the table's with five letters more.
		if part == "" || len(part) > identifierBytesMax-len("_born") || !utf8.ValidString(part) || strings.ContainsRune(part, 0) {
			return "", fmt.Errorf("fence: table %q: each part of the name wants 1 to %d bytes", name, identifierBytesMax-len("_born"))
		}
		parts[i] = quote + strings.ReplaceAll(part, quote, quote+quote) + quote
	}
	return strings.Join(parts, "."), nil
}

// scan reads a row as upsert returns it.
func scan(row interface{ Scan(...any) error }) (*Record, int64, error) {
	var (
		state, detail            string
		incarnation, term, calls int64
	)
	if err := row.Scan(&state, &incarnation, &term, &detail, &calls); err != nil {
		return nil, 0, err
	}
	return &Record{
		State: State(state), Detail: detail,
		Epoch: Epoch{Incarnation: uint64(incarnation), Term: uint64(term)},
	}, calls, nil
}

// numbered is what databases with ON CONFLICT, RETURNING and $n have in common.
type numbered struct{}

func (numbered) table(name string) (string, error) { return quoteTable(name, `"`) }

// index lives in its table's schema, and must not name it.
func (numbered) index(table string) string { return indexOf(table) }

func (numbered) upsert(ctx context.Context, tx Tx, table string, k key, r Record) (*Record, error) {
	standing, calls, err := scan(tx.QueryRowContext(ctx, "INSERT INTO "+table+" AS f (gid, branch, part, state, incarnation, term, calls, born, created, detail, cluster)"+
		" VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, '', $9) ON CONFLICT (gid, branch, part) DO UPDATE SET calls = f.calls + 1"+
		" RETURNING state, incarnation, term, detail, calls",
		k.gid, k.branch, k.part, string(r.State), int64(r.Epoch.Incarnation), int64(r.Epoch.Term), int64(k.born), k.createdMS, k.cluster))
	if err != nil || calls == 1 {
		return nil, err
	}
	return standing, nil
}

func (numbered) put(ctx context.Context, tx Tx, table string, k key, r Record) error {
	res, err := tx.ExecContext(ctx, "UPDATE "+table+" SET state = $4, incarnation = $5, term = $6, detail = $7 WHERE gid = $1 AND branch = $2 AND part = $3",
		k.gid, k.branch, k.part, string(r.State), int64(r.Epoch.Incarnation), int64(r.Epoch.Term), r.Detail)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows were changed, want 1: %w", n, err)
	}
	return nil
}

func (numbered) raise(ctx context.Context, tx Tx, table string, o old) error {
	_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET calls = calls + 1 WHERE gid = '' AND branch = '' AND part = 'floor'")
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO "+table+" AS f (gid, branch, part, cluster, state, incarnation, term, calls, born, created, detail)"+
		" VALUES ('', $1, 'floor', $1, 'floor', 0, 0, 0, -1, $2, '') ON CONFLICT (gid, branch, part) DO UPDATE SET created = $2 WHERE f.created < $2",
		o.cluster, int64(o.floorMS))
	return err
}

// dueRows selects what a sweep may drop.
const dueRows = " (cluster = $1 AND born BETWEEN 1 AND $2 OR cluster = '' AND born = 0 AND created < $3) "

func (numbered) due(ctx context.Context, tx Tx, table string, o old) (due bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table+" WHERE"+dueRows+")", o.cluster, int64(o.floorMS), o.keysMS).Scan(&due)
	return due, err
}

// floorOf selects a cluster's floor, and how many of the rows it looked at are there: the
// first one always is.
func floorOf(table, one string) string {
	return "SELECT COALESCE(MAX(CASE WHEN branch = " + one + " THEN created END), 0), COUNT(*) FROM " + table +
		" WHERE gid = '' AND part = 'floor' AND branch IN ('', " + one + ")"
}

// scanFloor reads what floorOf selects.
func scanFloor(row interface{ Scan(...any) error }) (uint64, error) {
	var floor, rows int64
	err := row.Scan(&floor, &rows)
	if err == nil && rows == 0 {
		err = sql.ErrNoRows
	}
	return uint64(floor), err
}
