package bankstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quorate/quorate/participant"
)

// sqlStore is a bank in a database, behind the SDK's proxy.
type sqlStore struct {
	plain *Tables // without the proxy: opening the accounts, reading the books
	db    *sql.DB // with it: money moves
}

func openSQL(ctx context.Context, c Config, client *participant.Client, opener Opener) (Store, error) {
	plain, err := OpenTables(c, opener)
	if err != nil {
		return nil, err
	}
	s := &sqlStore{plain: plain}
	if err := plain.Create(ctx); err != nil {
		_ = plain.Close()
		return nil, err
	}
	if err := s.attach(ctx, c, client, opener); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("attach %s: %w", c.Resource, err)
	}
	return s, nil
}

// attach opens the database a second time, through the proxy, and waits until
// the cluster knows the resource.
func (s *sqlStore) attach(ctx context.Context, c Config, client *participant.Client, opener Opener) error {
	connector, err := opener(c.Spec.Kind, c.Spec.DSN)
	if err != nil {
		return err
	}
	wrap := participant.Postgres
	switch c.Spec.Kind {
	case MySQL:
		wrap = participant.MySQL
	case SQLite:
		wrap = participant.HeldDB
	}
	opts := []participant.ProxyOption{participant.Strict()}
	if c.LockWait > 0 {
		opts = append(opts, participant.LockWait(c.LockWait))
	}
	if c.PinnedMax > 0 {
		opts = append(opts, participant.PinnedMax(c.PinnedMax))
	}
	proxy := wrap(connector, client, c.Resource, opts...)
	s.db = sql.OpenDB(proxy)
	if c.IdleConnections > 0 {
		s.db.SetMaxIdleConns(c.IdleConnections)
	}
	return proxy.Ready(ctx)
}

func (s *sqlStore) Work(ctx context.Context, moves []Move, finish func() error) error {
	info, ok := participant.FromContext(ctx)
	if !ok {
		return participant.ErrNoTransaction
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = s.plain.move(ctx, tx, branchOf(info), moves)
	if err == nil && finish != nil {
		err = finish()
	}
	if err != nil {
		_ = tx.Rollback() // votes against the transaction, which is what err asks for
		return err
	}
	return tx.Commit()
}

func (s *sqlStore) Read(ctx context.Context, accounts []int) (sum int64, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	for _, account := range accounts {
		var balance int64
		if err := tx.QueryRowContext(ctx, s.plain.read, account).Scan(&balance); err != nil {
			_ = tx.Rollback()
			return 0, err
		}
		sum += balance
	}
	return sum, tx.Commit()
}

func (s *sqlStore) Books(ctx context.Context) (Books, error) { return s.plain.Books(ctx) }

func (s *sqlStore) Close() error {
	if s.db != nil {
		_ = s.db.Close()
	}
	return s.plain.Close()
}
