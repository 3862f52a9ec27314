package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/participant"
)

// Probe looks for settings under which the database may lose what it acknowledged:
// [ErrUnsafe]. A step that the coordinator was told is done could then be undone by a
// crash, together with its row.
func (f *Fence) Probe(ctx context.Context, db DB) error {
	ctx = participant.Outside(ctx)
	var unsafe []string
	err := f.within(ctx, db, func(tx *sql.Tx) (err error) {
		unsafe, err = f.sql.unsafe(ctx, tx)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("fence: read the settings of the database: %w", err)
	case len(unsafe) > 0:
		return fmt.Errorf("fence: %s: %w in a crash: %s", f.db, ErrUnsafe, strings.Join(unsafe, "; "))
	}
	return nil
}

func (postgres) unsafe(ctx context.Context, tx Tx) (unsafe []string, err error) {
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := tx.QueryRowContext(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
			return nil, err
		}
		if value == "off" {
			unsafe = append(unsafe, name+" is off, want on")
		}
	}
	return unsafe, nil
}

func (mysql) unsafe(ctx context.Context, tx Tx) (unsafe []string, err error) {
	var flush string
	if err := tx.QueryRowContext(ctx, "SELECT @@innodb_flush_log_at_trx_commit").Scan(&flush); err != nil {
		return nil, err
	}
	if flush != "1" {
		unsafe = append(unsafe, "innodb_flush_log_at_trx_commit is "+flush+", want 1")
	}
	return unsafe, nil
}

// unsafe in SQLite: below FULL (2) a commit may wait for the disk in vain; in WAL mode
// NORMAL (1) loses the last ones.
func (sqlite) unsafe(ctx context.Context, tx Tx) (unsafe []string, err error) {
	var level int64
	err = tx.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&level)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err == nil && level < 2 {
		unsafe = append(unsafe, fmt.Sprintf("PRAGMA synchronous is %d, want 2 (FULL)", level))
	}
	return unsafe, err
}
