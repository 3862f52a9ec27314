package bankstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quorate/quorate/participant"
)

// Tables are a bank's two tables in a database, reached without the SDK's proxy:
// what is read is what the database says.
type Tables struct {
	// DB is the plain connection.
	DB     *sql.DB
	config Config
	// The bank's work, made once: who measures with it does not measure formatting.
	take, note, read string
}

// OpenTables connects to the database.
func OpenTables(c Config, opener Opener) (*Tables, error) {
	if opener == nil {
		return nil, fmt.Errorf("no driver is linked for %s", c.Spec.Kind)
	}
	connector, err := opener(c.Spec.Kind, c.Spec.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.Spec.Kind, err)
	}
	t := &Tables{DB: sql.OpenDB(connector), config: c}
	t.take = t.query("UPDATE %saccounts SET balance = balance + ? WHERE id = ? AND balance >= ?")
	t.note = t.query("INSERT INTO %sledger (gid, branch, account, delta) VALUES (?, ?, ?, ?)")
	t.read = t.query("SELECT balance FROM %saccounts WHERE id = ?")
	return t, nil
}

// Close closes the connections.
func (t *Tables) Close() error { return t.DB.Close() }

// Accounts is the name of the accounts' table, with the columns id and balance.
func (t *Tables) Accounts() string { return t.config.Prefix + "accounts" }

// Create creates the tables and opens the accounts, unless that was done before.
func (t *Tables) Create(ctx context.Context) error {
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS " + t.config.Prefix + "accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL)",
		"CREATE TABLE IF NOT EXISTS " + t.config.Prefix + "ledger (gid CHAR(26) NOT NULL, branch VARCHAR(32) NOT NULL, account INTEGER NOT NULL, delta BIGINT NOT NULL, PRIMARY KEY (gid, branch, account))",
	} {
		if _, err := t.DB.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create the bank's tables: %w", err)
		}
	}
	tx, err := t.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("open the accounts: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	var accounts int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.config.Prefix+"accounts").Scan(&accounts); err != nil {
		return fmt.Errorf("open the accounts: %w", err)
	}
	if accounts > 0 {
		return nil
	}
	for account := range t.config.Accounts {
		if _, err := tx.ExecContext(ctx, t.query("INSERT INTO %saccounts (id, balance) VALUES (?, ?)"), account, t.config.Opening(account)); err != nil {
			return fmt.Errorf("open account %d: %w", account, err)
		}
	}
	return tx.Commit()
}

// move is the bank's work in one local transaction.
func (t *Tables) move(ctx context.Context, tx *sql.Tx, ref participant.BranchRef, moves []Move) error {
	for _, m := range moves {
		done, err := tx.ExecContext(ctx, t.take, m.Delta, m.Account, -m.Delta)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return ErrFunds
		}
		if _, err = tx.ExecContext(ctx, t.note, string(ref.GID), ref.ID, m.Account, m.Delta); err != nil {
			return err
		}
	}
	return nil
}

// query fills in the prefix and numbers the parameters as Postgres wants them.
func (t *Tables) query(text string) string {
	text = fmt.Sprintf(text, t.config.Prefix)
	if t.config.Spec.Kind != Postgres {
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

// Books reads accounts, ledger and evidence rows.
func (t *Tables) Books(ctx context.Context) (Books, error) {
	b := NewBooks()
	err := t.each(ctx, "SELECT id, balance FROM "+t.config.Prefix+"accounts", func(r *sql.Rows) error {
		var account int
		var balance int64
		err := r.Scan(&account, &balance)
		b.Balances[account] = balance
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the accounts: %w", err)
	}
	err = t.each(ctx, "SELECT gid, branch, account, delta FROM "+t.config.Prefix+"ledger ORDER BY gid, branch, account", func(r *sql.Rows) error {
		var gid, branch string
		var m Move
		err := r.Scan(&gid, &branch, &m.Account, &m.Delta)
		b.Ledger[gid+"/"+branch] = append(b.Ledger[gid+"/"+branch], m)
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the ledger: %w", err)
	}
	// The rows are read as they stand, not through the SDK that wrote them.
	err = t.each(ctx, "SELECT gid, branch, state FROM "+participant.EvidenceTable+" WHERE gid NOT IN ('floor', 'timeline')", func(r *sql.Rows) error {
		var gid, branch, state string
		err := r.Scan(&gid, &branch, &state)
		b.Evidence[gid+"/"+branch] = state == "done"
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the evidence rows: %w", err)
	}
	if b.Prepared, err = t.Prepared(ctx); err != nil {
		return b, fmt.Errorf("list what is prepared: %w", err)
	}
	return b, nil
}

// Prepared lists what is prepared in the database: of the whole server in
// MySQL, which cannot tell; nothing in SQLite, which cannot prepare.
func (t *Tables) Prepared(ctx context.Context) ([]Xid, error) {
	var xids []Xid
	switch t.config.Spec.Kind {
	case Postgres:
		err := t.each(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", func(r *sql.Rows) error {
			var name string
			err := r.Scan(&name)
			xids = append(xids, readPostgresXid(name))
			return err
		})
		return xids, err
	case MySQL:
		err := t.each(ctx, "XA RECOVER", func(r *sql.Rows) error {
			var format, gtrid, bqual int
			var data []byte
			err := r.Scan(&format, &gtrid, &bqual, &data)
			xids = append(xids, readXAXid(gtrid, bqual, string(data)))
			return err
		})
		return xids, err
	}
	return nil, nil
}

func (t *Tables) each(ctx context.Context, query string, row func(*sql.Rows) error) error {
	rows, err := t.DB.QueryContext(ctx, query)
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

// Drop removes the bank's tables and closes the connections.
func (t *Tables) Drop() {
	for _, name := range []string{"accounts", "ledger"} {
		_, _ = t.DB.Exec("DROP TABLE IF EXISTS " + t.config.Prefix + name)
	}
	_ = t.DB.Close()
}
