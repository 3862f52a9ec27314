package demo

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/quorate/quorate/participant"
)

// tables are a bank's two tables in a Postgres or MySQL database. They are made
// for one run, under a prefix of its own.
type tables struct {
	db     *sql.DB
	kind   StoreKind
	prefix string
}

// openTables connects to the database without the SDK's proxy: what is read is
// what the database says.
func openTables(spec StoreSpec, prefix string, opener Opener) (*tables, error) {
	if opener == nil {
		return nil, fmt.Errorf("no driver is linked for %s", spec.Kind)
	}
	connector, err := opener(spec.Kind, spec.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", spec.Kind, err)
	}
	return &tables{db: sql.OpenDB(connector), kind: spec.Kind, prefix: prefix}, nil
}

func (t *tables) close() error { return t.db.Close() }

// open creates the tables and opens the accounts, unless that was done before.
func (t *tables) open(ctx context.Context, opening func(account int) int64) error {
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS " + t.prefix + "accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL)",
		"CREATE TABLE IF NOT EXISTS " + t.prefix + "ledger (gid CHAR(26) PRIMARY KEY, account INTEGER NOT NULL, delta BIGINT NOT NULL)",
	} {
		if _, err := t.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create the bank's tables: %w", err)
		}
	}
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("open the accounts: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	var accounts int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.prefix+"accounts").Scan(&accounts); err != nil {
		return fmt.Errorf("open the accounts: %w", err)
	}
	if accounts > 0 {
		return nil
	}
	for account := range accountsPerBank {
		if _, err := tx.ExecContext(ctx, t.query("INSERT INTO %saccounts (id, balance) VALUES (?, ?)"), account, opening(account)); err != nil {
			return fmt.Errorf("open account %d: %w", account, err)
		}
	}
	return tx.Commit()
}

// move is the bank's work in one local transaction.
func (t *tables) move(ctx context.Context, tx *sql.Tx, gid string, account int, delta int64) error {
	done, err := tx.ExecContext(ctx, t.query("UPDATE %saccounts SET balance = balance + ? WHERE id = ? AND balance >= ?"), delta, account, -delta)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return ErrFunds
	}
	_, err = tx.ExecContext(ctx, t.query("INSERT INTO %sledger (gid, account, delta) VALUES (?, ?, ?)"), gid, account, delta)
	return err
}

// query fills in the prefix and numbers the parameters as Postgres wants them.
func (t *tables) query(text string) string {
	text = fmt.Sprintf(text, t.prefix)
	if t.kind != Postgres {
		return text
	}
	out, n := make([]byte, 0, len(text)+8), 0
	for i := range len(text) {
		if text[i] != '?' {
			out = append(out, text[i])
			continue
		}
		n++
		out = fmt.Appendf(out, "$%d", n)
	}
	return string(out)
}

// books reads accounts, ledger and evidence rows.
func (t *tables) books(ctx context.Context) (Books, error) {
	b := newBooks()
	err := t.each(ctx, "SELECT id, balance FROM "+t.prefix+"accounts", func(r *sql.Rows) error {
		var account int
		var balance int64
		err := r.Scan(&account, &balance)
		b.Balances[account] = balance
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the accounts: %w", err)
	}
	err = t.each(ctx, "SELECT gid, account, delta FROM "+t.prefix+"ledger", func(r *sql.Rows) error {
		var gid string
		var e Entry
		err := r.Scan(&gid, &e.Account, &e.Delta)
		b.Ledger[gid] = e
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the ledger: %w", err)
	}
	// The rows are read as they stand, not through the SDK that wrote them.
	err = t.each(ctx, "SELECT gid, branch, state FROM "+participant.EvidenceTable, func(r *sql.Rows) error {
		var gid, branch, state string
		err := r.Scan(&gid, &branch, &state)
		b.Evidence[gid+"/"+branch] = state == "done"
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the evidence rows: %w", err)
	}
	if b.Prepared, err = t.prepared(ctx); err != nil {
		return b, fmt.Errorf("list what is prepared: %w", err)
	}
	return b, nil
}

// prepared lists the GIDs of what is prepared in the database, in Quorate's
// form of an xid: `quorate:cluster:gid:timeout:branch` in Postgres, the GID as
// the global part in MySQL.
func (t *tables) prepared(ctx context.Context) ([]string, error) {
	var gids []string
	if t.kind == Postgres {
		err := t.each(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", func(r *sql.Rows) error {
			var xid string
			err := r.Scan(&xid)
			if parts := strings.Split(xid, ":"); len(parts) == 5 && parts[0] == "quorate" {
				gids = append(gids, parts[2])
			}
			return err
		})
		return gids, err
	}
	err := t.each(ctx, "XA RECOVER", func(r *sql.Rows) error {
		var format, global, branch int
		var data []byte
		err := r.Scan(&format, &global, &branch, &data)
		if err == nil && global <= len(data) {
			gids = append(gids, string(data[:global]))
		}
		return err
	})
	return gids, err
}

func (t *tables) each(ctx context.Context, query string, row func(*sql.Rows) error) error {
	rows, err := t.db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// drop removes the tables after a green run.
func (t *tables) drop() {
	for _, name := range []string{"accounts", "ledger"} {
		_, _ = t.db.Exec("DROP TABLE IF EXISTS " + t.prefix + name)
	}
	_ = t.db.Close()
}
