package bankstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
)

// The keys of an embedded bank.
const (
	accountPrefix = "account/"
	ledgerPrefix  = "ledger/" // and `GID/branch`
)

// embeddedStore is a bank in the embedded resource manager.
type embeddedStore struct{ kv *embedded.Store }

func openEmbedded(ctx context.Context, c Config, client *participant.Client) (Store, error) {
	var opts []embedded.Option
	if c.LockWait > 0 {
		opts = append(opts, embedded.WithLockTimeout(c.LockWait))
	}
	kv, err := embedded.Open(c.Path, c.Resource, opts...)
	if err != nil {
		return nil, err
	}
	s := &embeddedStore{kv}
	if err := s.open(ctx, c); err != nil {
		_ = kv.Close()
		return nil, fmt.Errorf("open the accounts of %s: %w", c.Resource, err)
	}
	if err := kv.Serve(ctx, client); err != nil {
		_ = kv.Close()
		return nil, err
	}
	return s, nil
}

// readFile reads the file while no process has it open.
func readFile(ctx context.Context, c Config) (Books, error) {
	kv, err := embedded.Open(c.Path, c.Resource)
	if err != nil {
		return Books{}, err
	}
	books, err := (&embeddedStore{kv}).Books(ctx)
	return books, errors.Join(err, kv.Close())
}

// open opens the accounts in one local transaction, unless that was done before.
func (s *embeddedStore) open(ctx context.Context, c Config) error {
	if first, err := s.kv.Get(accountKey(0)); err != nil || first != nil {
		return err
	}
	tx, err := s.kv.Begin(ctx)
	if err != nil {
		return err
	}
	for account := range c.Accounts {
		if err := tx.Put(accountKey(account), strconv.AppendInt(nil, c.Opening(account), 10)); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

func (s *embeddedStore) Work(ctx context.Context, moves []Move, finish func() error) error {
	tx, err := s.kv.Begin(ctx)
	if err != nil {
		return err
	}
	err = s.write(tx, moves)
	if err == nil && finish != nil {
		err = finish()
	}
	if err != nil {
		_ = tx.Rollback() // votes against the transaction, which is what err asks for
		return err
	}
	return tx.Commit(ctx)
}

// write is the bank's work: the balances and the ledger's entry.
func (s *embeddedStore) write(tx *embedded.Tx, moves []Move) error {
	for _, m := range moves {
		old, err := tx.Get(accountKey(m.Account))
		if err != nil {
			return err
		}
		balance, err := strconv.ParseInt(string(old), 10, 64)
		if err != nil {
			return fmt.Errorf("balance of account %d: %w", m.Account, err)
		}
		if balance+m.Delta < 0 {
			return ErrFunds
		}
		if err := tx.Put(accountKey(m.Account), strconv.AppendInt(nil, balance+m.Delta, 10)); err != nil {
			return err
		}
	}
	entry, err := json.Marshal(moves)
	if err != nil {
		return err
	}
	return tx.Put(ledgerPrefix+tx.Branch().Ref().String(), entry)
}

func (s *embeddedStore) Read(ctx context.Context, accounts []int) (sum int64, err error) {
	tx, err := s.kv.Begin(ctx)
	if err != nil {
		return 0, err
	}
	for _, account := range accounts {
		text, err := tx.Get(accountKey(account))
		if err != nil {
			_ = tx.Rollback()
			return 0, err
		}
		balance, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			_ = tx.Rollback()
			return 0, fmt.Errorf("balance of account %d: %w", account, err)
		}
		sum += balance
	}
	return sum, tx.Commit(ctx)
}

func (s *embeddedStore) Books(ctx context.Context) (Books, error) {
	b := NewBooks()
	err := s.kv.Range(accountPrefix, func(key string, value []byte) error {
		account, err := strconv.Atoi(strings.TrimPrefix(key, accountPrefix))
		if err != nil {
			return err
		}
		b.Balances[account], err = strconv.ParseInt(string(value), 10, 64)
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the accounts: %w", err)
	}
	err = s.kv.Range(ledgerPrefix, func(key string, value []byte) error {
		var moves []Move
		err := json.Unmarshal(value, &moves)
		b.Ledger[strings.TrimPrefix(key, ledgerPrefix)] = moves
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the ledger: %w", err)
	}
	prepared, err := s.kv.Recover(ctx)
	if err != nil {
		return b, err
	}
	for _, p := range prepared {
		b.Prepared = append(b.Prepared, Xid{Name: p.BranchRef.String(), Cluster: p.Cluster, GID: string(p.GID), Branch: p.ID})
	}
	rows, err := s.kv.Evidence()
	for _, row := range rows {
		b.Evidence[row.BranchRef.String()] = row.State == embedded.EvidenceCommitted
	}
	return b, err
}

func (s *embeddedStore) Close() error { return s.kv.Close() }

func accountKey(account int) string { return fmt.Sprintf("%s%04d", accountPrefix, account) }
