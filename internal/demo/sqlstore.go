package demo

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quorate/quorate/participant"
)

// sqlStore is a bank in a Postgres or MySQL database, behind the SDK's proxy.
type sqlStore struct {
	plain *tables // without the proxy: opening the accounts, reading the books
	db    *sql.DB // with it: money moves
}

func openSQL(ctx context.Context, c BankConfig, client *participant.Client, opener Opener) (store, error) {
	plain, err := openTables(c.Store, c.tables(), opener)
	if err != nil {
		return nil, err
	}
	s := &sqlStore{plain: plain}
	if err := plain.open(ctx, c.openingOf); err != nil {
		_ = plain.close()
		return nil, err
	}
	if err := s.attach(ctx, c, client, opener); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("attach %s: %w", c.Side, err)
	}
	return s, nil
}

// attach opens the database a second time, through the proxy, and waits until
// the cluster knows the resource.
func (s *sqlStore) attach(ctx context.Context, c BankConfig, client *participant.Client, opener Opener) error {
	connector, err := opener(c.Store.Kind, c.Store.DSN)
	if err != nil {
		return err
	}
	wrap := participant.Postgres
	if c.Store.Kind == MySQL {
		wrap = participant.MySQL
	}
	proxy := wrap(connector, client, c.Side.String(), participant.Strict())
	s.db = sql.OpenDB(proxy)
	return proxy.Ready(ctx)
}

func (s *sqlStore) move(ctx context.Context, account int, delta int64) error {
	branch, ok := participant.FromContext(ctx)
	if !ok {
		return participant.ErrNoTransaction
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := s.plain.move(ctx, tx, string(branch.GID), account, delta); err != nil {
		_ = tx.Rollback() // votes against the transaction, which is what err asks for
		return err
	}
	return tx.Commit()
}

func (s *sqlStore) books(ctx context.Context) (Books, error) { return s.plain.books(ctx) }

func (s *sqlStore) close() error {
	if s.db != nil {
		_ = s.db.Close()
	}
	return s.plain.close()
}
