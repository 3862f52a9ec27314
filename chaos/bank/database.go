package bank

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/bankstore"
)

// Database is one that a resource is kept in.
type Database struct {
	// Name of the resource.
	Name string
	Kind bankstore.Kind
	DSN  string
	// SeatDSN, when set, is the address by which a seat's process reaches it.
	SeatDSN func(seat string) string
}

// Act is what an operator did by hand to a prepared branch.
type Act struct {
	Resource, GID, Branch string
	At                    int64
	// Unsure: whether it was the operator is not known.
	Unsure bool
}

// foreignCluster is the id of a cluster that is not ours.
const foreignCluster = "01JD9S7KQ0000000000000000C"

// foreignXids are prepared by nobody that we know: another tool's, one that
// nearly looks like ours, and another cluster's.
func foreignXids(kind bankstore.Kind) []bankstore.Xid {
	const gid = "01JD9S7KQ0000000000000000A"
	if kind == bankstore.Postgres {
		return []bankstore.Xid{
			{Name: "backup-7"}, {Name: "quorate:" + gid}, {Name: "quorate:" + foreignCluster + ":" + gid + ":1:1"},
		}
	}
	return []bankstore.Xid{
		{Name: "backup\x007"}, {Name: gid + "\x00x"}, {Name: gid + "\x00" + foreignCluster + ".1.1"},
	}
}

// PrepareForeign leaves prepared transactions of others in a resource's
// database. Nobody may touch them; the check looks for each.
func (b *Bank) PrepareForeign(ctx context.Context, resource string) error {
	r, t, err := b.tables(resource)
	if err != nil {
		return err
	}
	defer t.Close()
	if _, err := t.DB.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS bank_foreign (n INTEGER PRIMARY KEY)"); err != nil {
		return err
	}
	for i, x := range foreignXids(r.Kind) {
		if err := prepareForeign(ctx, t, r.Kind, x.Name, i); err != nil {
			return fmt.Errorf("bank: prepare a transaction of others in %s: %w", resource, err)
		}
		b.mu.Lock()
		b.foreign[resource] = append(b.foreign[resource], x.Name)
		b.mu.Unlock()
	}
	return nil
}

// prepareForeign prepares one, on a connection that is closed then.
func prepareForeign(ctx context.Context, t *bankstore.Tables, kind bankstore.Kind, name string, n int) error {
	conn, err := t.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	statements := []string{"BEGIN", "%s", "PREPARE TRANSACTION " + xidLiteral(kind, name)}
	if kind == bankstore.MySQL {
		x := xidLiteral(kind, name)
		statements = []string{"XA START " + x, "%s", "XA END " + x, "XA PREPARE " + x}
	}
	for _, s := range statements {
		if s == "%s" {
			s = fmt.Sprintf("INSERT INTO bank_foreign (n) VALUES (%d)", n)
		}
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	// A session that lives is the only one that MariaDB lets end its xid.
	return dropConnection(conn)
}

// dropConnection closes the connection itself, not only its place in the pool.
func dropConnection(conn *sql.Conn) error {
	if err := conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
		return err
	}
	return nil
}

// EndForeign ends what PrepareForeign left, where the server is not the run's own.
func (b *Bank) EndForeign(ctx context.Context, resource string) error {
	r, t, err := b.tables(resource)
	if err != nil {
		return err
	}
	defer t.Close()
	for _, x := range foreignXids(r.Kind) {
		if err := rollbackXid(ctx, t, r.Kind, x.Name); err != nil {
			return err
		}
	}
	_, err = t.DB.ExecContext(ctx, "DROP TABLE bank_foreign")
	return err
}

// xidLiteral is the name as statements want it.
func xidLiteral(kind bankstore.Kind, name string) string {
	if kind == bankstore.Postgres {
		return "'" + name + "'"
	}
	gtrid, bqual, _ := strings.Cut(name, "\x00")
	return "'" + gtrid + "','" + bqual + "'"
}

func rollbackXid(ctx context.Context, t *bankstore.Tables, kind bankstore.Kind, name string) error {
	verb := "ROLLBACK PREPARED "
	if kind == bankstore.MySQL {
		verb = "XA ROLLBACK "
	}
	_, err := t.DB.ExecContext(ctx, verb+xidLiteral(kind, name))
	return err
}

// RollBackByHand does what an operator must not: it rolls back, in the database,
// one prepared branch of the cluster's, and returns which; nil when none is
// prepared that could be.
func (b *Bank) RollBackByHand(ctx context.Context, resource string) (*Act, error) {
	r, t, err := b.tables(resource)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	xids, err := t.Prepared(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range xids {
		if !x.Ours() || x.Cluster == foreignCluster {
			continue
		}
		act := Act{Resource: resource, GID: x.GID, Branch: x.Branch, At: now()}
		if err := rollbackXid(ctx, t, r.Kind, x.Name); err != nil {
			// Its session lives, it was ended just now, or the answer was lost: the
			// operator may have done it where it is gone.
			left, listErr := t.Prepared(ctx)
			if listErr == nil && slices.Contains(left, x) {
				continue
			}
			act.Unsure = true
		}
		b.mu.Lock()
		b.acts = append(b.acts, act)
		b.mu.Unlock()
		if act.Unsure {
			continue
		}
		return &act, nil
	}
	return nil, nil
}

// tables opens a resource's database without the SDK.
func (b *Bank) tables(resource string) (Resource, *bankstore.Tables, error) {
	r, err := b.plan.resource(resource)
	if err != nil {
		return r, nil, err
	}
	if r.Kind == bankstore.Embedded {
		return r, nil, fmt.Errorf("%s: %w", resource, errNoDatabase)
	}
	t, err := bankstore.OpenTables(r.store(b.plan, Seat{}), b.o.Opener)
	return r, t, err
}
