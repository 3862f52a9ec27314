package branchbank

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant/fence"
)

// store is a bank's tables.
type store struct {
	config Config
	db     *sql.DB
	fence  *fence.Fence // nil: unfenced
}

func connect(c Config) (*store, error) {
	if c.Opener == nil {
		return nil, fmt.Errorf("branchbank: no driver is linked for %s", c.Spec.Kind)
	}
	connector, err := c.Opener(c.Spec.Kind, c.Spec.DSN)
	if err != nil {
		return nil, fmt.Errorf("branchbank: connect to %s: %w", c.Spec.Kind, err)
	}
	return &store{config: c, db: sql.OpenDB(connector)}, nil
}

// SQLiteDSN is the address of a database in a file, with the settings that a bank
// needs: a commit is on the disk, readers do not wait, and a local transaction, which
// always writes, takes the lock when it begins.
func SQLiteDSN(path string) string {
	return "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
}

// create makes the tables and opens the accounts, unless that was done before.
func (s *store) create(ctx context.Context) error {
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS %saccounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL, held BIGINT NOT NULL, pending BIGINT NOT NULL)",
		"CREATE TABLE IF NOT EXISTS %seffects (gid VARCHAR(64) NOT NULL, branch VARCHAR(45) NOT NULL, operation VARCHAR(16) NOT NULL, txkey VARCHAR(128) NOT NULL, " +
			"account INTEGER NOT NULL, delta BIGINT NOT NULL, n BIGINT NOT NULL, happened BIGINT NOT NULL, PRIMARY KEY (gid, branch, operation))",
	} {
		if _, err := s.db.ExecContext(ctx, s.query(statement)); err != nil {
			return fmt.Errorf("create the bank's tables: %w", err)
		}
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("open the accounts: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	var accounts int
	if err := tx.QueryRowContext(ctx, s.query("SELECT COUNT(*) FROM %saccounts")).Scan(&accounts); err != nil || accounts > 0 {
		return err
	}
	for account := range s.config.Accounts {
		if _, err := tx.ExecContext(ctx, s.query("INSERT INTO %saccounts (id, balance, held, pending) VALUES (?, ?, 0, 0)"), account, s.config.opening(account)); err != nil {
			return fmt.Errorf("open account %d: %w", account, err)
		}
	}
	return tx.Commit()
}

// changes are what an operation does to an account: to the balance, to what is
// held, to what is pending, as multiples of the move's delta.
type changes struct {
	balance, held, pending int64
	// sound: the balance must not go below zero.
	sound bool
}

// changesOf are by operation and by whether the money goes or comes.
func changesOf(operation fence.Operation, goes bool) (changes, error) {
	switch operation {
	case fence.Action, opLocal:
		return changes{balance: 1, sound: true}, nil
	case fence.Compensate:
		return changes{balance: -1}, nil
	}
	if goes {
		switch operation {
		case fence.Try:
			return changes{balance: 1, held: -1, sound: true}, nil
		case fence.Confirm:
			return changes{held: 1}, nil
		case fence.Cancel:
			return changes{balance: -1, held: 1}, nil
		}
	}
	switch operation {
	case fence.Try:
		return changes{pending: 1}, nil
	case fence.Confirm:
		return changes{balance: 1, pending: -1}, nil
	case fence.Cancel:
		return changes{pending: -1}, nil
	}
	return changes{}, fmt.Errorf("branchbank: no operation is named %q", operation)
}

// work is the bank's part of a local transaction: the account and the counter.
func (s *store) work(ctx context.Context, tx *sql.Tx, call Call, m Move) error {
	if m.Refuse && (call.Operation == fence.Action || call.Operation == fence.Try) {
		return fmt.Errorf("%w: it was asked for", fence.ErrRefused)
	}
	c, err := changesOf(call.Operation, m.Delta < 0)
	if err != nil {
		return err
	}
	if m.Delta == 0 {
		return s.count(ctx, tx, call, m) // MySQL would say that no row was changed
	}
	condition, args := "", []any{c.balance * m.Delta, c.held * m.Delta, c.pending * m.Delta, m.Account}
	if c.sound {
		condition, args = " AND balance + ? >= 0", append(args, c.balance*m.Delta)
	}
	done, err := tx.ExecContext(ctx, s.query("UPDATE %saccounts SET balance = balance + ?, held = held + ?, pending = pending + ? WHERE id = ?"+condition), args...)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return ErrFunds
	}
	return s.count(ctx, tx, call, m)
}

// count is `n = n + 1`: what happens twice is seen.
func (s *store) count(ctx context.Context, tx *sql.Tx, call Call, m Move) error {
	done, err := tx.ExecContext(ctx, s.query("UPDATE %seffects SET n = n + 1 WHERE gid = ? AND branch = ? AND operation = ?"), call.GID, call.Branch, string(call.Operation))
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n > 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, s.query("INSERT INTO %seffects (gid, branch, operation, txkey, account, delta, n, happened) VALUES (?, ?, ?, ?, ?, ?, 1, ?)"),
		call.GID, call.Branch, string(call.Operation), m.Key, m.Account, m.Delta, now())
	return err
}

// query fills in the prefix and numbers the parameters as Postgres wants them.
func (s *store) query(text string) string {
	text = strings.ReplaceAll(text, "%s", s.config.Prefix)
	if s.config.Spec.Kind != bankstore.Postgres {
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

// Drop drops what the bank made in a database that others use, too.
func Drop(c ProcessConfig) error {
	s, err := connect(c.Config)
	if err != nil {
		return err
	}
	defer s.db.Close()
	var errs []error
	for _, table := range []string{"accounts", "effects", "fence"} {
		_, err := s.db.Exec("DROP TABLE IF EXISTS " + c.Prefix + table)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
