package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	_ "github.com/lib/pq" // the driver that DTM's client is written for; see README.md
)

// books is the database of the participants: one row an effect, counted.
type books struct {
	db   *sql.DB
	conf dtmcli.DBConf // the same database, as DTM's client opens it for XA
}

// The barrier is DTM's own table.
const schema = `
	CREATE SCHEMA IF NOT EXISTS dtm_barrier;
	CREATE TABLE IF NOT EXISTS dtm_barrier.barrier (
		id bigserial PRIMARY KEY, trans_type varchar(45) DEFAULT '', gid varchar(128) DEFAULT '', branch_id varchar(128) DEFAULT '',
		op varchar(45) DEFAULT '', barrier_id varchar(45) DEFAULT '', reason varchar(45) DEFAULT '',
		create_time timestamptz DEFAULT now(), update_time timestamptz DEFAULT now(),
		CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id));
	CREATE TABLE IF NOT EXISTS effects (gid text, name text, n int NOT NULL, PRIMARY KEY (gid, name));`

func openBooks(ctx context.Context, dsn string) (*books, error) {
	if dsn == "" {
		return nil, errors.New("no Postgres: give -postgres, or use ./run.sh, which starts a private one")
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseInt(u.Port(), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the DSN's port: %w", err)
	}
	secret, _ := u.User.Password()
	b := &books{conf: dtmcli.DBConf{
		Driver: dtmcli.DBTypePostgres, Host: u.Hostname(), Port: port, User: u.User.Username(), Password: secret,
		Db: strings.TrimPrefix(u.Path, "/"), Schema: "public",
	}}
	if b.db, err = sql.Open(dtmcli.DBTypePostgres, dsn); err != nil {
		return nil, err
	}
	_, err = b.db.ExecContext(ctx, schema)
	return b, err
}

func (b *books) close() { _ = b.db.Close() }

// effect counts one.
func effect(tx interface {
	Exec(string, ...any) (sql.Result, error)
}, gid, name string) error {
	_, err := tx.Exec(`INSERT INTO effects VALUES ($1, $2, 1) ON CONFLICT (gid, name) DO UPDATE SET n = effects.n + 1`, gid, name)
	return err
}

// of is what a transaction did: its effects by name, with their count where it
// is not 1.
func (b *books) of(ctx context.Context, gid string) ([]string, error) {
	rows, err := b.db.QueryContext(ctx, `SELECT name, n FROM effects WHERE gid = $1 ORDER BY name`, gid)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		if n != 1 {
			name = fmt.Sprintf("%s=%d", name, n)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// settle is how long effects are watched once they are as they must be: what
// comes too often comes late.
const settle = 300 * time.Millisecond

// await waits until the effects are those wanted, and stay so.
func (b *books) await(ctx context.Context, gid string, want []string) (got []string, problem string) {
	slices.Sort(want)
	var since time.Time
	for {
		got, err := b.of(ctx, gid)
		switch {
		case err != nil:
			return got, " " + err.Error() + ";"
		case !slices.Equal(got, want):
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > settle:
			return got, ""
		}
		select {
		case <-ctx.Done():
			return got, " the effects are other ones;"
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// prepared counts the XA branches of a transaction that wait for their end. They
// end a moment after the decision.
func (b *books) prepared(ctx context.Context, gid string) (n int) {
	for range 250 {
		_ = b.db.QueryRowContext(ctx, `SELECT count(*) FROM pg_prepared_xacts WHERE starts_with(gid, $1)`, gid).Scan(&n)
		if n == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return n
		case <-time.After(20 * time.Millisecond):
		}
	}
	return n
}
