package fence

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"
)

// Defaults.
const (
	// TableDefault is the table's name.
	TableDefault = "quorate_fence"
	// WaitDefault bounds how long a call waits for an earlier run of itself.
	WaitDefault = 5 * time.Second
	// KeyRetentionDefault is how long rows of keys (DTM's gids) are kept, by the writers'
	// wall clocks: keys tell no birth, so no floor can end them. A call that comes later
	// than that after its branch ended is not refused any more.
	KeyRetentionDefault = 7 * 24 * time.Hour
	// SweepIntervalDefault is how often Do sweeps, at the most.
	SweepIntervalDefault = time.Minute
)

// Fence is one fence table of one kind of database. It is safe for concurrent use and
// holds no connection.
type Fence struct {
	db           Database
	sql          dialect
	table        string // quoted
	wait         time.Duration
	keyRetention time.Duration
	sweepEvery   time.Duration
	now          func() time.Time
	cluster      string

	// sweepAfter is when Do sweeps next, Unix milliseconds; shared by the fences of Of.
	sweepAfter *atomic.Int64
}

// Of is the same fence as the cluster of that id sees it; see
// [participant.Client.ClusterID]. Calls say whose they are: it is for [Fence.Prepare],
// [Fence.Committed] and [Fence.Sweep].
func (f *Fence) Of(cluster string) *Fence {
	of := *f
	of.cluster = cluster
	return &of
}

// Option is a setting of [New].
type Option func(*Fence) error

// Table names the table: `name` or `schema.name`. Each part is quoted, so case counts.
func Table(name string) Option {
	return func(f *Fence) (err error) {
		f.table, err = f.sql.table(name)
		return err
	}
}

// Wait bounds how long a call waits for an earlier run of itself before it answers
// [ErrOngoing]. SQLite has one writer at a time and waits for it by the connection's
// busy_timeout, where BEGIN IMMEDIATE does so before the fence is asked: set that.
func Wait(d time.Duration) Option {
	return func(f *Fence) error {
		if d <= 0 {
			return fmt.Errorf("fence: Wait(%v): want more than 0", d)
		}
		f.wait = d
		return nil
	}
}

// KeyRetention is how long rows of keys are kept; see [KeyRetentionDefault].
func KeyRetention(d time.Duration) Option {
	return func(f *Fence) error {
		if d < time.Hour {
			return fmt.Errorf("fence: KeyRetention(%v): want an hour at least", d)
		}
		f.keyRetention = d
		return nil
	}
}

// SweepInterval is how often Do sweeps what the calls' floor lets go of; 0: never, call
// [Fence.Sweep].
func SweepInterval(d time.Duration) Option {
	return func(f *Fence) error { f.sweepEvery = d; return nil }
}

// New makes a fence. The table must be there: see [Fence.Init] and `quorate fence init`.
func New(db Database, opts ...Option) (*Fence, error) {
	d, ok := dialects[db]
	if !ok {
		return nil, fmt.Errorf("fence: unknown database %q: want postgres, mysql or sqlite", db)
	}
	f := &Fence{
		db: db, sql: d, wait: WaitDefault, keyRetention: KeyRetentionDefault,
		sweepEvery: SweepIntervalDefault, now: time.Now, sweepAfter: new(atomic.Int64),
	}
	for _, o := range append([]Option{Table(TableDefault)}, opts...) {
		if err := o(f); err != nil {
			return nil, err
		}
	}
	f.sweepAfter.Store(f.now().Add(f.sweepEvery).UnixMilli())
	return f, nil
}

// DB begins local transactions: *sql.DB, *sql.Conn.
type DB interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// Tx is an open local transaction: *sql.Tx, or what wraps one.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

var (
	_ DB = (*sql.DB)(nil)
	_ DB = (*sql.Conn)(nil)
	_ Tx = (*sql.Tx)(nil)
)
