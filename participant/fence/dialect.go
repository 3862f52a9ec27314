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
	// floor reads how far rows were swept: what is committed now, not what an old snapshot
	// says. late means that the transaction may have read something before.
	floor(ctx context.Context, tx Tx, table string, late bool) (uint64, error)
	// bound bounds the transaction's waits for locks until restore is called.
	bound(ctx context.Context, tx Tx, wait time.Duration) (restore func(context.Context) error, err error)
	// unsafe lists the settings under which the database forgets.
	unsafe(ctx context.Context, tx Tx) ([]string, error)
	// due, raise and drop are the parts of a sweep.
	due(ctx context.Context, tx Tx, table string, floorMS uint64, keysMS int64) (bool, error)
	raise(ctx context.Context, tx Tx, table string, floorMS uint64) error
	drop(ctx context.Context, tx *sql.Tx, table string, floorMS uint64, keysMS int64, limit int) (int64, error)
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

// upsertNumbered is upsert for databases with ON CONFLICT, RETURNING and $n.
func upsertNumbered(ctx context.Context, tx Tx, table string, k key, r Record) (*Record, error) {
	standing, calls, err := scan(tx.QueryRowContext(ctx, "INSERT INTO "+table+" AS f (gid, branch, part, state, incarnation, term, calls, born, created, detail)"+
		" VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, '') ON CONFLICT (gid, branch, part) DO UPDATE SET calls = f.calls + 1"+
		" RETURNING state, incarnation, term, detail, calls",
		k.gid, k.branch, k.part, string(r.State), int64(r.Epoch.Incarnation), int64(r.Epoch.Term), int64(k.born), k.createdMS))
	if err != nil || calls == 1 {
		return nil, err
	}
	return standing, nil
}

func putNumbered(ctx context.Context, tx Tx, table string, k key, r Record) error {
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

func raiseNumbered(ctx context.Context, tx Tx, table string, floorMS uint64) error {
	_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET created = $1 WHERE gid = '' AND branch = '' AND part = 'floor' AND created < $1", int64(floorMS))
	return err
}

// dueRows selects what a sweep may drop.
const dueRows = " (born BETWEEN 1 AND $1 OR born = 0 AND created < $2) "

func dueNumbered(ctx context.Context, tx Tx, table string, floorMS uint64, keysMS int64) (due bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table+" WHERE"+dueRows+")", int64(floorMS), keysMS).Scan(&due)
	return due, err
}

// selectFloor reads the floor's row.
func selectFloor(table, columns string) string {
	return "SELECT " + columns + " FROM " + table + " WHERE gid = '' AND branch = '' AND part = 'floor'"
}
