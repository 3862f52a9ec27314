package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// databases are the SQL databases of the tests.
var databases = []fence.Database{fence.Postgres, fence.MySQL, fence.SQLite}

// eachDatabase runs a test against each of them.
func eachDatabase(t *testing.T, test func(t *testing.T, s *sqlStore)) {
	for _, kind := range databases {
		t.Run(string(kind), func(t *testing.T) { test(t, openSQL(t, kind)) })
	}
}

// sqlStore keeps counters in a database.
type sqlStore struct {
	kind fence.Database
	f    *fence.Fence
	db   *sql.DB
	add  string
	// inTx uses DoTx in place of Do.
	inTx bool
	// options of its transactions, in DoTx and Send.
	options *sql.TxOptions
	// readFirst makes these read something before the fence does.
	readFirst bool
}

var _ fencetest.Sender = (*sqlStore)(nil)

func openSQL(t *testing.T, kind fence.Database, opts ...fence.Option) *sqlStore {
	t.Helper()
	switch kind {
	case fence.Postgres:
		return newSQLStore(t, kind, "pgx", testdb.Postgres(t), opts...)
	case fence.MySQL:
		return newSQLStore(t, kind, "mysql", testdb.MySQL(t), opts...)
	}
	return newSQLStore(t, kind, "sqlite", "file:"+filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(3000)&_pragma=journal_mode(WAL)", opts...)
}

func newSQLStore(t *testing.T, kind fence.Database, driver, dsn string, opts ...fence.Option) *sqlStore {
	t.Helper()
	s := &sqlStore{kind: kind, add: "INSERT INTO counters (name, n) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET n = counters.n + EXCLUDED.n"}
	if kind == fence.MySQL {
		s.add = "INSERT INTO counters (name, n) VALUES (?, ?) ON DUPLICATE KEY UPDATE n = n + VALUES(n)"
	}
	var err error
	if s.db, err = sql.Open(driver, dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	if s.f, err = fence.New(kind, opts...); err != nil {
		t.Fatal(err)
	}
	if err := s.f.Init(t.Context(), s.db); err != nil {
		t.Fatal(err)
	}
	s.exec(t, "CREATE TABLE counters (name VARCHAR(200) NOT NULL PRIMARY KEY, n BIGINT NOT NULL)")
	return s
}

func (s *sqlStore) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (s *sqlStore) Do(ctx context.Context, c fence.Call, w fencetest.Work) error {
	if !s.inTx {
		return s.f.Do(ctx, s.db, c, func(tx *sql.Tx) error { return s.business(ctx, tx, w) })
	}
	return s.within(ctx, func(tx *sql.Tx) error {
		return s.f.DoTx(ctx, tx, c, func() error { return s.business(ctx, tx, w) })
	})
}

// business is `n = n + 1`.
func (s *sqlStore) business(ctx context.Context, tx *sql.Tx, w fencetest.Work) error {
	if _, err := tx.ExecContext(ctx, s.add, w.Counter, w.N); err != nil {
		return err
	}
	if w.During != nil {
		w.During()
	}
	return w.End
}

// within runs fn in a transaction of the caller's own.
func (s *sqlStore) within(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, s.options)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if s.readFirst {
		var n int64
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM counters").Scan(&n); err != nil {
			return err
		}
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *sqlStore) Value(ctx context.Context, counter string) (n int64, err error) {
	query := "SELECT n FROM counters WHERE name = $1"
	if s.kind == fence.MySQL {
		query = "SELECT n FROM counters WHERE name = ?"
	}
	err = s.db.QueryRowContext(ctx, query, counter).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return n, err
}

func (s *sqlStore) Sweep(ctx context.Context, cluster string, floorMS uint64) error {
	_, err := s.f.Of(cluster).Sweep(ctx, s.db, floorMS)
	return err
}

func (s *sqlStore) Send(ctx context.Context, gid string, w fencetest.Work) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		if err := s.f.Prepare(ctx, tx, gid); err != nil {
			return err
		}
		return s.business(ctx, tx, w)
	})
}

func (s *sqlStore) Committed(ctx context.Context, gid string) (bool, error) {
	return s.f.Committed(ctx, s.db, gid)
}
