package testdb

import (
	"context"
	"os"
	"sync"
)

// Shared servers of this process, started at their first use.
var (
	shared struct {
		sync.Mutex
		closers []*Server
	}
	sharedPostgres = sync.OnceValues(func() (*Server, error) { return share(StartPostgres(context.Background())) })
	sharedMariaDB  = sync.OnceValues(func() (*Server, error) { return share(StartMariaDB(context.Background())) })
	sharedRedis    = sync.OnceValues(func() (*Server, error) { return share(StartRedis(context.Background())) })
)

func share(s *Server, err error) (*Server, error) {
	if err == nil {
		shared.Lock()
		defer shared.Unlock()
		shared.closers = append(shared.closers, s)
	}
	return s, err
}

// TB is the part of testing.TB that is used here, so that programs can link
// this package without package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Context() context.Context
	Cleanup(func())
}

// Postgres returns the DSN of an empty Postgres database for one test: on the
// server that QUORATE_TEST_POSTGRES names, else on a private one that this process
// shares. It fails the test when there is neither.
func Postgres(t TB) string {
	t.Helper()
	return database(t, PostgresEnv, sharedPostgres)
}

// MySQL does for MySQL and MariaDB what Postgres does for Postgres.
func MySQL(t TB) string {
	t.Helper()
	return database(t, MySQLEnv, sharedMariaDB)
}

func database(t TB, env string, server func() (*Server, error)) string {
	t.Helper()
	if dsn := os.Getenv(env); dsn != "" {
		return named(t, env, dsn)
	}
	s, err := server()
	if err != nil {
		t.Fatalf("%v", err)
	}
	dsn, err := s.NewDatabase(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return dsn
}

// Main runs a test binary's tests and stops the shared servers after them:
//
//	func TestMain(m *testing.M) { testdb.Main(m) }
func Main(m interface{ Run() int }) {
	code := m.Run()
	Close()
	os.Exit(code)
}

// Close stops the shared servers; for a TestMain that has more to do.
func Close() {
	shared.Lock()
	defer shared.Unlock()
	for _, s := range shared.closers {
		s.Close()
	}
	shared.closers = nil
}
