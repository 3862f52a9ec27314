package testdb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/quorate/quorate/internal/freeport"
)

// StartMariaDB starts a private MariaDB. Settings are `name=value` pairs that
// override this package's own.
func StartMariaDB(ctx context.Context, settings ...string) (*Server, error) {
	bin, err := mariadbBin()
	if err != nil {
		return nil, err
	}
	cred, err := credential("mysql")
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("mariadb", cred)
	if err != nil {
		return nil, err
	}
	s, err := startMariaDB(ctx, bin, dir, cred, settings)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

// mariadbPrograms are the paths of the programs used.
type mariadbPrograms struct{ server, install, client string }

func startMariaDB(ctx context.Context, bin mariadbPrograms, dir string, cred *syscall.Credential, settings []string) (*Server, error) {
	taken := new(freeport.Set)
	port, err := taken.Take("127.0.0.1")
	if err != nil {
		return nil, err
	}
	secret, data, socket := password(), filepath.Join(dir, "data"), filepath.Join(dir, "s")
	initCtx, cancel := context.WithTimeout(ctx, startWaitMax)
	defer cancel()
	// A starting server removes the temporary tables of others that share its directory.
	if err := run(initCtx, cred, []string{"TMPDIR=" + dir}, bin.install, "--no-defaults", "--datadir="+data,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		"--innodb-log-file-size=16M"); err != nil {
		return nil, fmt.Errorf("testdb: %w", err)
	}

	argv := []string{bin.server, "--no-defaults", "--datadir=" + data, "--tmpdir=" + dir, "--socket=" + socket,
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(port), "--skip-name-resolve",
		"--pid-file=" + filepath.Join(dir, "pid"), "--max-connections=300",
		"--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=1"}
	for _, setting := range settings {
		argv = append(argv, "--"+setting)
	}
	rootSecret := "" // until the first statement below
	client := func(ctx context.Context, statement string) error {
		return run(ctx, cred, []string{"MYSQL_PWD=" + rootSecret}, bin.client, "--no-defaults", "--protocol=socket",
			"--socket="+socket, "--user=root", "--connect-timeout=5", "-e", statement)
	}
	s := &Server{
		name: "mariadb", dir: dir, argv: argv, cred: cred, taken: taken,
		shutdown: syscall.SIGTERM,
		dsn: func(database string) string {
			return fmt.Sprintf("quorate:%s@tcp(127.0.0.1:%d)/%s", secret, port, database)
		},
		ping: func(ctx context.Context) error { return client(ctx, "SELECT 1") },
		sql: func(ctx context.Context, database, statements string) error {
			if database != "" {
				statements = "USE " + database + "; " + statements
			}
			return client(ctx, statements)
		},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	// The server listens on TCP already: root gets its password first.
	newRoot := password()
	setup := fmt.Sprintf("SET PASSWORD = PASSWORD('%[1]s'); DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost'); FLUSH PRIVILEGES; "+
		"CREATE DATABASE quorate; CREATE USER quorate@'127.0.0.1' IDENTIFIED BY '%[2]s'; GRANT ALL ON *.* TO quorate@'127.0.0.1'", newRoot, secret)
	if err := client(ctx, setup); err != nil {
		s.process.kill()
		return nil, fmt.Errorf("testdb: %w", err)
	}
	rootSecret = newRoot
	return s, nil
}

// mariadbBin finds MariaDB's programs.
func mariadbBin() (mariadbPrograms, error) {
	look := func(names ...string) string {
		for _, name := range names {
			if p, err := exec.LookPath(name); err == nil {
				return p
			}
			if p := filepath.Join("/usr/sbin", name); isFile(p) {
				return p
			}
		}
		return ""
	}
	p := mariadbPrograms{server: look("mariadbd"), install: look("mariadb-install-db"), client: look("mariadb")}
	if p.server == "" || p.install == "" || p.client == "" {
		return p, fmt.Errorf("testdb: MariaDB is %w: on Debian run `apt-get install -y mariadb-server` as root, or set %s to a DSN",
			ErrNotInstalled, MySQLEnv)
	}
	return p, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
