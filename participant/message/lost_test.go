package message_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/message"
)

// A commit whose answer is lost: errLost is what the sender hears, taken or not.
var errLost = errors.New("the connection to the database is lost")

// lossy is SQLite whose next commit is answered with errLost.
type lossy struct {
	path string
	// next is what becomes of the next commit: 0 nothing special, else lostTaken or lostNot.
	next atomic.Int32
	// away: nobody gets a transaction any more.
	away atomic.Bool
	// then is called once the next commit has been decided.
	then func()
}

const (
	lostTaken = 1
	lostNot   = 2
)

func (l *lossy) Driver() driver.Driver { return new(sqlite.Driver) }

func (l *lossy) Connect(context.Context) (driver.Conn, error) {
	c, err := l.Driver().Open(l.path)
	if err != nil {
		return nil, err
	}
	return &lossyConn{sqliteConn: c.(sqliteConn), l: l}, nil
}

// sqliteConn is what the driver's connections can do.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type lossyConn struct {
	sqliteConn
	l *lossy
}

func (c *lossyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.l.away.Load() {
		return nil, errLost
	}
	tx, err := c.sqliteConn.BeginTx(ctx, opts)
	return &lossyTx{tx, c.l}, err
}

type lossyTx struct {
	driver.Tx
	l *lossy
}

func (tx *lossyTx) Commit() error {
	switch tx.l.next.Swap(0) {
	case lostTaken:
		return errors.Join(tx.Tx.Commit(), errLost)
	case lostNot:
		defer tx.l.then()
		return errors.Join(tx.Tx.Rollback(), errLost)
	}
	return tx.Tx.Commit()
}

// newLossyShop is a shop whose sender loses answers; the check-back asks by the same way.
func newLossyShop(t *testing.T) (*shop, *lossy) {
	t.Helper()
	s := newShop(t)
	var path string
	if err := s.db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path); err != nil {
		t.Fatal(err)
	}
	return s, &lossy{path: "file:" + filepath.ToSlash(path) + "?_pragma=busy_timeout(5000)&_txlock=immediate"}
}

// A commit whose answer was lost is asked after where it was made: the order and its
// message are both there, or neither is. Of one that was not taken the cluster hears at
// once, though the caller has gone meanwhile.
func TestMessage_ALostCommitIsAskedAfter(t *testing.T) {
	for name, how := range map[string]int32{"taken": lostTaken, "not taken": lostNot} {
		t.Run(name, func(t *testing.T) {
			s, l := newLossyShop(t)
			db := sql.OpenDB(l)
			defer db.Close()
			m := s.message(message.CheckBackAfter(time.Hour))
			ctx, gone := context.WithCancel(within(t))
			defer gone()
			l.then = gone
			err := m.Do(ctx, s.guard, db, func(tx *sql.Tx) error {
				l.next.Store(how)
				return order(tx)
			})
			if how == lostTaken && err != nil || how == lostNot && !errors.Is(err, errLost) {
				t.Errorf("the sender hears %v", err)
			}
			ended := s.ends(t, m)
			var rolledBack *participant.RolledBackError
			if how == lostTaken && (ended != nil || s.orders(t) != 1) || how == lostNot && (!errors.As(ended, &rolledBack) || s.orders(t) != 0) {
				t.Errorf("the message ended with %v, and there are %d orders", ended, s.orders(t))
			}
		})
	}
}

// Where nobody can be asked either the message is not dropped: the check-back tells.
func TestMessage_AnUnknownCommitIsLeftToTheCheckBack(t *testing.T) {
	s, l := newLossyShop(t)
	db := sql.OpenDB(l)
	defer db.Close()
	m := s.message(message.CheckBackAfter(300*time.Millisecond), message.Retry(50*time.Millisecond, 100*time.Millisecond))
	err := m.Do(within(t), s.guard, db, func(tx *sql.Tx) error {
		l.next.Store(lostTaken)
		l.away.Store(true)
		return order(tx)
	})
	if !errors.Is(err, participant.ErrUnknown) || !errors.Is(err, errLost) {
		t.Errorf("the sender hears %v, want unknown", err)
	}
	if err := s.ends(t, m); err != nil || s.orders(t) != 1 {
		t.Errorf("the message ended with %v, and there are %d orders", err, s.orders(t))
	}
}

// A local transaction is no branch of a two-phase transaction that the context carries.
func TestMessage_TheLocalTransactionIsItsOwn(t *testing.T) {
	s := newShop(t)
	ctx, err := participant.Join(within(t), participant.Info{GID: "01JD9S7KQZZZZZZZZZZZZZZZZZ", Path: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.message().Do(ctx, s.guard, outsideDB{t, s.db}, order); err != nil {
		t.Fatal(err)
	}
}

// outsideDB fails the test where a transaction would become a branch.
type outsideDB struct {
	t *testing.T
	*sql.DB
}

func (db outsideDB) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	if !participant.IsOutside(ctx) {
		db.t.Error("a local transaction begins as a branch of the context's transaction")
	}
	return db.DB.BeginTx(ctx, opts)
}

// The mark of a local transaction is the cluster's, by whose floor it will be swept.
func TestMessage_TheMarkIsOfItsCluster(t *testing.T) {
	s := newShop(t)
	m := s.message(message.WaitFinish())
	if err := m.Do(within(t), s.guard, s.db, order); err != nil {
		t.Fatal(err)
	}
	var cluster string
	if err := s.db.QueryRow("SELECT cluster FROM quorate_fence WHERE gid = $1", string(m.GID())).Scan(&cluster); err != nil || cluster != s.Client.ClusterID() {
		t.Errorf("the mark is of cluster %q (%v), want %q", cluster, err, s.Client.ClusterID())
	}
	ctx := within(t)
	if n, err := s.guard.Of(s.Client.ClusterID()).Sweep(ctx, s.db, m.GID().BornMS()); err != nil || n != 1 {
		t.Errorf("swept %d rows: %v", n, err)
	}
}
