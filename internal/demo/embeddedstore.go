package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
)

// The keys of an embedded bank.
const (
	accountPrefix = "account/"
	ledgerPrefix  = "ledger/"
)

// embeddedStore is a bank in the embedded resource manager.
type embeddedStore struct{ kv *embedded.Store }

func openEmbedded(ctx context.Context, c BankConfig, client *participant.Client) (store, error) {
	kv, err := embedded.Open(filepath.Join(c.Dir, c.Side.String()+".db"), c.Side.String())
	if err != nil {
		return nil, err
	}
	s := &embeddedStore{kv}
	if err := s.open(ctx, c.openingOf); err != nil {
		_ = kv.Close()
		return nil, fmt.Errorf("open the accounts of %s: %w", c.Side, err)
	}
	if err := kv.Serve(ctx, client); err != nil {
		_ = kv.Close()
		return nil, err
	}
	return s, nil
}

// open opens the accounts in one local transaction, unless that was done before.
func (s *embeddedStore) open(ctx context.Context, opening func(account int) int64) error {
	if first, err := s.kv.Get(accountKey(0)); err != nil || first != nil {
		return err
	}
	tx, err := s.kv.Begin(ctx)
	if err != nil {
		return err
	}
	for account := range accountsPerBank {
		if err := tx.Put(accountKey(account), strconv.AppendInt(nil, opening(account), 10)); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

func (s *embeddedStore) move(ctx context.Context, account int, delta int64) error {
	tx, err := s.kv.Begin(ctx)
	if err != nil {
		return err
	}
	if err := s.write(tx, account, delta); err != nil {
		_ = tx.Rollback() // votes against the transaction, which is what err asks for
		return err
	}
	return tx.Commit(ctx)
}

// write is the bank's work: the balance and the ledger's entry.
func (s *embeddedStore) write(tx *embedded.Tx, account int, delta int64) error {
	old, err := tx.Get(accountKey(account))
	if err != nil {
		return err
	}
	balance, err := strconv.ParseInt(string(old), 10, 64)
	if err != nil {
		return fmt.Errorf("balance of account %d: %w", account, err)
	}
	if balance+delta < 0 {
		return ErrFunds
	}
	entry, err := json.Marshal(Entry{Account: account, Delta: delta})
	if err != nil {
		return err
	}
	if err := tx.Put(accountKey(account), strconv.AppendInt(nil, balance+delta, 10)); err != nil {
		return err
	}
	return tx.Put(ledgerPrefix+string(tx.Branch().GID()), entry)
}

func (s *embeddedStore) books(ctx context.Context) (Books, error) {
	b := newBooks()
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
		var e Entry
		err := json.Unmarshal(value, &e)
		b.Ledger[strings.TrimPrefix(key, ledgerPrefix)] = e
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
		b.Prepared = append(b.Prepared, string(p.GID))
	}
	rows, err := s.kv.Evidence()
	for _, row := range rows {
		b.Evidence[row.BranchRef.String()] = row.State == embedded.EvidenceCommitted
	}
	return b, err
}

func (s *embeddedStore) close() error { return s.kv.Close() }

func accountKey(account int) string { return fmt.Sprintf("%s%04d", accountPrefix, account) }
