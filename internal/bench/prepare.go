package bench

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant/embedded"
)

// preparer prepares and commits moves in a store, without the SDK: what a store
// must do at the least for a distributed transaction.
type preparer interface {
	prepare(ctx context.Context, name string, account int, delta int64) error
	commit(ctx context.Context, name string, account int) error
	// moved counts what was committed.
	moved(ctx context.Context) (int64, error)
	close() error
}

func openPreparer(ctx context.Context, c bankstore.Config, opener bankstore.Opener) (preparer, error) {
	if c.Spec.Kind == bankstore.Embedded {
		kv, err := embedded.Open(c.Path, c.Resource)
		return embeddedPreparer{kv}, err
	}
	t, err := bankstore.OpenTables(c, opener)
	if err != nil {
		return nil, err
	}
	t.DB.SetMaxIdleConns(c.IdleConnections)
	if err := t.Create(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	if c.Spec.Kind == bankstore.Postgres {
		return postgresPreparer{t, c.Prefix}, nil
	}
	return &mysqlPreparer{Tables: t, prefix: c.Prefix}, nil
}

// embeddedPreparer makes two local transactions of it, each durable: one keeps what
// is to be written, the other writes it.
type embeddedPreparer struct{ kv *embedded.Store }

func (p embeddedPreparer) prepare(ctx context.Context, name string, account int, delta int64) error {
	tx, err := p.kv.Begin(ctx)
	if err != nil {
		return err
	}
	// As many bytes as the SDK's record of the same branch, about.
	record := strings.Repeat("x", 160) + strconv.FormatInt(delta, 10)
	if err := tx.Put("prepared/"+name, []byte(record)); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit(ctx)
}

func (p embeddedPreparer) commit(ctx context.Context, name string, account int) error {
	tx, err := p.kv.Begin(ctx)
	if err != nil {
		return err
	}
	err = tx.Delete("prepared/" + name)
	if err == nil {
		err = tx.Put("account/"+strconv.Itoa(account), []byte(name))
	}
	if err == nil {
		err = tx.Put("ledger/"+name, []byte(`[{"account":1,"delta":-1}]`))
	}
	if err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit(ctx)
}

func (p embeddedPreparer) moved(context.Context) (n int64, err error) {
	err = p.kv.Range("ledger/", func(string, []byte) error {
		n++
		return nil
	})
	return n, err
}

func (p embeddedPreparer) close() error { return p.kv.Close() }

type postgresPreparer struct {
	*bankstore.Tables
	prefix string
}

func (p postgresPreparer) prepare(ctx context.Context, name string, account int, delta int64) error {
	conn, err := p.DB.Conn(ctx)
	if err != nil {
		return err
	}
	run := on(ctx, conn)
	err = run("BEGIN")
	if err == nil {
		err = run("UPDATE "+p.prefix+"accounts SET balance = balance + $1 WHERE id = $2 AND balance >= $3", delta, account, -delta)
	}
	if err == nil {
		err = run("INSERT INTO "+p.prefix+"ledger (gid, branch, account, delta) VALUES ($1, '1', $2, $3)", name, account, delta)
	}
	if err == nil {
		err = run("PREPARE TRANSACTION '" + p.prefix + name + "'")
	}
	return errors.Join(err, conn.Close())
}

func (p postgresPreparer) commit(ctx context.Context, name string, _ int) error {
	_, err := p.DB.ExecContext(ctx, "COMMIT PREPARED '"+p.prefix+name+"'")
	return err
}

func (p postgresPreparer) moved(ctx context.Context) (int64, error) {
	return countRows(ctx, p.Tables, p.prefix)
}

func (p postgresPreparer) close() error { return p.Close() }

// mysqlPreparer keeps the connection of what is prepared: no other can end it as long
// as that one is open.
type mysqlPreparer struct {
	*bankstore.Tables
	prefix string
	held   sync.Map // *sql.Conn by name
}

func (p *mysqlPreparer) xid(name string) string { return "'" + name + "','" + p.prefix + "'" }

func (p *mysqlPreparer) prepare(ctx context.Context, name string, account int, delta int64) error {
	conn, err := p.DB.Conn(ctx)
	if err != nil {
		return err
	}
	run := on(ctx, conn)
	err = run("XA START " + p.xid(name))
	if err == nil {
		err = run("UPDATE "+p.prefix+"accounts SET balance = balance + ? WHERE id = ? AND balance >= ?", delta, account, -delta)
	}
	if err == nil {
		err = run("INSERT INTO "+p.prefix+"ledger (gid, branch, account, delta) VALUES (?, '1', ?, ?)", name, account, delta)
	}
	if err == nil {
		err = run("XA END " + p.xid(name))
	}
	if err == nil {
		err = run("XA PREPARE " + p.xid(name))
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	p.held.Store(name, conn)
	return nil
}

func (p *mysqlPreparer) commit(ctx context.Context, name string, _ int) error {
	held, _ := p.held.LoadAndDelete(name)
	conn := held.(*sql.Conn)
	return errors.Join(on(ctx, conn)("XA COMMIT "+p.xid(name)), conn.Close())
}

func (p *mysqlPreparer) moved(ctx context.Context) (int64, error) {
	return countRows(ctx, p.Tables, p.prefix)
}

func (p *mysqlPreparer) close() error { return p.Close() }

// on runs statements on one connection, which is given up when one fails: its
// transaction must not stay open.
func on(ctx context.Context, conn *sql.Conn) func(statement string, args ...any) error {
	return func(statement string, args ...any) error {
		if _, err := conn.ExecContext(ctx, statement, args...); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
			return fmt.Errorf("%s: %w", strings.Fields(statement)[0], err)
		}
		return nil
	}
}

// countRows counts the ledger's.
func countRows(ctx context.Context, t *bankstore.Tables, prefix string) (n int64, err error) {
	err = t.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+prefix+"ledger").Scan(&n)
	return n, err
}
