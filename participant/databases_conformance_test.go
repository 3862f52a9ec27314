package participant_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// The proxies pass the suite that every manager passes, over real databases and
// the suite's cluster.

func TestPostgresConformance(t *testing.T) {
	t.Parallel()
	participanttest.Run(t, participanttest.Harness{Open: openKV(postgresKV)})
}

func TestMySQLConformance(t *testing.T) {
	t.Parallel()
	participanttest.Run(t, participanttest.Harness{Open: openKV(mysqlKV)})
}

func TestHeldSQLiteConformance(t *testing.T) {
	t.Parallel()
	participanttest.Run(t, participanttest.Harness{Held: true, OneWriter: true, Open: openKV(sqliteKV)})
}

func TestHeldPostgresConformance(t *testing.T) {
	t.Parallel()
	participanttest.Run(t, participanttest.Harness{Held: true, Open: openKV(func(t testing.TB) *kvDatabase {
		d := postgresKV(t)
		d.proxy = func(c driver.Connector, client *participant.Client, name string, opts ...participant.ProxyOption) *participant.Proxy {
			return participant.HeldDB(c, client, name, append(opts, participant.HeldDialect(participant.DialectPostgres))...)
		}
		return d
	})})
}

func postgresKV(t testing.TB) *kvDatabase {
	dsn := testdb.Postgres(t)
	return &kvDatabase{
		connect: func(t testing.TB, k *killable) driver.Connector {
			cfg, err := pgx.ParseConfig(dsn)
			if err != nil {
				t.Fatal(err)
			}
			cfg.RuntimeParams["lock_timeout"] = "1s" // of transactions that are no branches
			cfg.DialFunc = k.dial
			return stdlib.GetConnector(*cfg)
		},
		resource: "kv-postgres",
		proxy:    participant.Postgres,
		put:      "INSERT INTO kv (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
		get:      "SELECT v FROM kv WHERE k = $1",
	}
}

func mysqlKV(t testing.TB) *kvDatabase {
	dsn := testdb.MySQL(t)
	return &kvDatabase{
		connect: func(t testing.TB, k *killable) driver.Connector {
			cfg, err := mysql.ParseDSN(dsn)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Logger = &mysql.NopLogger{} // connections break here on purpose
			cfg.Params = map[string]string{"innodb_lock_wait_timeout": "1"}
			cfg.DialFunc = k.dial
			c, err := mysql.NewConnector(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		resource: "kv-mysql",
		proxy:    participant.MySQL,
		put:      "INSERT INTO kv (k, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)",
		get:      "SELECT v FROM kv WHERE k = ?",
	}
}

func sqliteKV(t testing.TB) *kvDatabase {
	dsn := "file:" + filepath.Join(t.TempDir(), "kv.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(1000)"
	return &kvDatabase{
		connect:  func(_ testing.TB, k *killable) driver.Connector { return &fileConnector{dsn: dsn, k: k} },
		resource: "kv-held",
		proxy:    participant.HeldDB,
		put:      "INSERT INTO kv (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
		get:      "SELECT v FROM kv WHERE k = ?",
	}
}

// killable are the connections of one process, which a kill breaks all at once.
type killable struct {
	mu     sync.Mutex
	closes []func() error
}

func (k *killable) add(c func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closes = append(k.closes, c)
}

func (k *killable) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.closes {
		_ = c()
	}
	k.closes = nil
}

func (k *killable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		k.add(c.Close)
	}
	return c, err
}

// fileConnector opens an SQLite file anew for each connection.
type fileConnector struct {
	dsn string
	drv sqlite.Driver
	k   *killable
}

func (c *fileConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.drv.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	f := &fileConn{Conn: conn}
	c.k.add(f.Close)
	return f, nil
}

// fileConn can be closed under its user, as a kill does; the driver's own cannot.
type fileConn struct {
	driver.Conn
	mu     sync.Mutex
	closed bool
}

func (c *fileConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.Conn.Close()
}

func (c *fileConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, driver.ErrBadConn
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, q, args)
}

func (c *fileConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, driver.ErrBadConn
	}
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, q, args)
	if err != nil {
		return nil, err
	}
	return &fileRows{Rows: rows, c: c}, nil
}

// fileRows step only while the connection is there.
type fileRows struct {
	driver.Rows
	c *fileConn
}

func (r *fileRows) Next(dest []driver.Value) error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.closed {
		return driver.ErrBadConn
	}
	return r.Rows.Next(dest)
}

func (r *fileRows) Close() error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.closed {
		return nil // its statements went with it
	}
	return r.Rows.Close()
}

func (c *fileConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, driver.ErrBadConn
	}
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *fileConnector) Driver() driver.Driver { return &c.drv }

// kvDatabase is a table kv in a real database.
type kvDatabase struct {
	// resource names the database: two databases of one name would be told each
	// other's branches once a holder is gone.
	resource string
	connect  func(testing.TB, *killable) driver.Connector
	proxy    func(driver.Connector, *participant.Client, string, ...participant.ProxyOption) *participant.Proxy
	put, get string

	plain *sql.DB // beside the proxy
	k     *killable
	db    *sql.DB // of the process that lives now
}

func openKV(open func(testing.TB) *kvDatabase) func(testing.TB) participanttest.Resource {
	return func(t testing.TB) participanttest.Resource {
		t.Helper()
		d := open(t)
		d.plain = sql.OpenDB(d.connect(t, &killable{}))
		t.Cleanup(func() {
			if d.db != nil {
				_ = d.db.Close()
			}
			_ = d.plain.Close()
		})
		if _, err := d.plain.ExecContext(t.Context(), "CREATE TABLE kv (k varchar(64) PRIMARY KEY, v varchar(64) NOT NULL)"); err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func (d *kvDatabase) Serve(t testing.TB, client *participant.Client) participant.Manager {
	t.Helper()
	d.k = &killable{}
	proxy := d.proxy(d.connect(t, d.k), client, d.resource, participant.LockWait(time.Second))
	d.db = sql.OpenDB(proxy)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := proxy.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return proxy
}

func (d *kvDatabase) Crash(testing.TB) {
	d.k.kill()
	_ = d.db.Close()
}

func (d *kvDatabase) Read(ctx context.Context, key string) (string, error) {
	return textOf(d.plain.QueryRowContext(ctx, d.get, key))
}

func textOf(row *sql.Row) (v string, err error) {
	err = row.Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return v, err
}

func (d *kvDatabase) Begin(ctx context.Context) (participanttest.Work, error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &kvWork{d: d, tx: tx}, nil
}

// kvWork is one local transaction.
type kvWork struct {
	d  *kvDatabase
	tx *sql.Tx
}

func (w *kvWork) Get(key string) (string, error) { return textOf(w.tx.QueryRow(w.d.get, key)) }

func (w *kvWork) Put(key, value string) error {
	_, err := w.tx.Exec(w.d.put, key, value)
	return err
}

func (w *kvWork) Commit(context.Context) error { return w.tx.Commit() }

func (w *kvWork) Rollback() error {
	if err := w.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}
