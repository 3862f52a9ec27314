package testdb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/quorate/quorate/internal/freeport"
)

// StartPostgres starts a private Postgres. Settings are `name=value` pairs that
// override this package's own.
func StartPostgres(ctx context.Context, settings ...string) (*Server, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	cred, err := credential("postgres")
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("postgres", cred)
	if err != nil {
		return nil, err
	}
	s, err := startPostgres(ctx, bin, dir, cred, settings)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func startPostgres(ctx context.Context, bin, dir string, cred *syscall.Credential, settings []string) (*Server, error) {
	taken := new(freeport.Set)
	port, err := taken.Take("127.0.0.1")
	if err != nil {
		return nil, err
	}
	secret, pwfile, data := password(), filepath.Join(dir, "password"), filepath.Join(dir, "data")
	if err := os.WriteFile(pwfile, []byte(secret), 0o600); err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(pwfile, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	initCtx, cancel := context.WithTimeout(ctx, startWaitMax)
	defer cancel()
	// --no-sync: nothing of value exists yet; the server itself runs with fsync.
	if err := run(initCtx, cred, nil, filepath.Join(bin, "initdb"), "-D", data, "-U", "quorate",
		"--auth=scram-sha-256", "--pwfile="+pwfile, "--encoding=UTF8", "--locale=C", "--no-sync"); err != nil {
		return nil, fmt.Errorf("testdb: %w", err)
	}

	argv := []string{filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(port)}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=" + dir,
		"max_prepared_transactions=200",
		"max_connections=200",
		"fsync=on",
		"shared_buffers=32MB",
	}, settings...) {
		argv = append(argv, "-c", setting)
	}
	env := []string{"PGPASSWORD=" + secret}
	psql := func(ctx context.Context, database, statement string) error {
		return run(ctx, cred, env, filepath.Join(bin, "psql"), "-h", dir, "-p", strconv.Itoa(port),
			"-U", "quorate", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement)
	}
	s := &Server{
		name: "postgres", dir: dir, argv: argv, cred: cred, taken: taken,
		shutdown: syscall.SIGINT, // "fast": does not wait for clients
		dsn: func(database string) string {
			return fmt.Sprintf("postgres://quorate:%s@127.0.0.1:%d/%s?sslmode=disable", secret, port, database)
		},
		ping: func(ctx context.Context) error { return psql(ctx, "postgres", "SELECT 1") },
		sql: func(ctx context.Context, database, statements string) error {
			if database == "" {
				database = "postgres"
			}
			return psql(ctx, database, statements)
		},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if err := s.sql(ctx, "", "CREATE DATABASE quorate"); err != nil {
		s.process.kill()
		return nil, fmt.Errorf("testdb: %w", err)
	}
	return s, nil
}

// postgresBin finds the directory of Postgres' server programs: Debian keeps
// them off the PATH, one directory a version.
func postgresBin() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		// The link's target has its neighbours beside it.
		if p, err = filepath.EvalSymlinks(p); err == nil && isFile(filepath.Join(filepath.Dir(p), "psql")) {
			return filepath.Dir(p), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("testdb: Postgres is %w: on Debian run `apt-get install -y postgresql` as root, or set %s to a DSN",
			ErrNotInstalled, PostgresEnv)
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}
