package branchbank

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant/fence"
)

// Call says which branch is called, and to do what.
type Call = fence.Call

const (
	// opLocal is the operation of an effect of a message's sender, and BranchLocal its
	// branch.
	opLocal     fence.Operation = "local"
	BranchLocal string          = "local"
)

// openFence makes the bank's fence, in a table of its own.
func openFence(ctx context.Context, s *store) (*fence.Fence, error) {
	kinds := map[bankstore.Kind]fence.Database{bankstore.SQLite: fence.SQLite, bankstore.Postgres: fence.Postgres, bankstore.MySQL: fence.MySQL}
	kind, ok := kinds[s.config.Spec.Kind]
	if !ok {
		return nil, fmt.Errorf("branchbank: no fence for %q", s.config.Spec.Kind)
	}
	f, err := fence.New(kind, fence.Table(s.config.Prefix+"fence"))
	if err != nil {
		return nil, err
	}
	return f, f.Init(ctx, s.db)
}

// once does the work in a local transaction, behind the fence.
func (s *store) once(ctx context.Context, call Call, work func(*sql.Tx) error) error {
	if s.config.Unfenced {
		return s.plain(ctx, work)
	}
	return s.fence.Do(ctx, s.db, call, work)
}

// sent does the sender's work in a local transaction that carries the message's mark.
func (s *store) sent(ctx context.Context, gid string, work func(*sql.Tx) error) error {
	return s.plain(ctx, func(tx *sql.Tx) error {
		if !s.config.Unfenced {
			if err := s.fence.Prepare(ctx, tx, gid); err != nil {
				return err
			}
		}
		return work(tx)
	})
}

// committed answers a check-back: without the fence, by what is to be seen.
func (s *store) committed(ctx context.Context, gid string) (bool, error) {
	if !s.config.Unfenced {
		return s.fence.Committed(ctx, s.db, gid)
	}
	var n int
	err := s.db.QueryRowContext(ctx, s.query("SELECT COUNT(*) FROM %seffects WHERE gid = ? AND operation = ?"), gid, string(opLocal)).Scan(&n)
	return n > 0, err
}

// plain is a local transaction.
func (s *store) plain(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}
