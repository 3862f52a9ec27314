// Package testdb starts private database servers: Postgres, MariaDB and Redis from
// the machine's packages, each in a temporary directory of its own, on a free
// loopback port, under the server's own system user when the caller is root
// (both refuse to run as root). Tests kill and restart them at will; the
// program in testdb/with runs a command beside them.
//
// Durability is on (fsync; innodb_flush_log_at_trx_commit=1; appendfsync always): a test of what
// survives a crash would prove nothing without.
package testdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/freeport"
)

// Limits of this package, all bounds on waiting.
const (
	// startWaitMax bounds how long a server may take until it answers.
	startWaitMax = 60 * time.Second
	// stopWaitMax bounds a graceful stop; after it the server is killed.
	stopWaitMax = 15 * time.Second
	// pollInterval is how often a starting server is asked.
	pollInterval = 50 * time.Millisecond
)

// ErrNotInstalled says that the server's programs were not found.
var ErrNotInstalled = errors.New("not installed")

// Server is one private database server. Its methods may be called from any
// goroutine, one at a time.
type Server struct {
	name string // "postgres", "mariadb" or "redis", for messages
	dir  string // everything it owns; removed by Close
	dsn  func(database string) string
	argv []string
	// ping succeeds when the server takes connections.
	ping func(ctx context.Context) error
	// sql runs statements as the server's superuser.
	sql  func(ctx context.Context, database, statements string) error
	cred *syscall.Credential
	// shutdown is the signal of a graceful stop.
	shutdown syscall.Signal
	// taken is its port, which it must get back after a kill.
	taken *freeport.Set

	mu      sync.Mutex
	process *process
	next    int // number of the next database
}

// Environment variables that name servers to use in place of private ones.
const (
	PostgresEnv = "QUORATE_TEST_POSTGRES"
	MySQLEnv    = "QUORATE_TEST_MYSQL"
	RedisEnv    = "QUORATE_TEST_REDIS"
)

// Installed says why a private server of that name, postgres or mysql, cannot be
// started here; nil when it can, as far as its programs go.
func Installed(name string) error {
	var err error
	if name == "postgres" {
		_, err = postgresBin()
	} else {
		_, err = mariadbBin()
	}
	return err
}

// DSN is the address of the database made at start, which its user owns.
func (s *Server) DSN() string { return s.dsn("quorate") }

// Dir is the server's directory.
func (s *Server) Dir() string { return s.dir }

// NewDatabase creates an empty database and returns its DSN.
func (s *Server) NewDatabase(ctx context.Context) (string, error) {
	s.mu.Lock()
	s.next++
	name := "t" + strconv.Itoa(s.next)
	s.mu.Unlock()
	if err := s.sql(ctx, "", "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return s.dsn(name), nil
}

// Kill ends the server as a power cut would end it: SIGKILL to every process,
// no goodbye to anyone. Restart brings it back.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	s.process.kill()
	s.process = nil
	return nil
}

// Signal sends a signal to the server's first process: SIGQUIT ends Postgres at
// once and without a checkpoint, as `pg_ctl stop -m immediate` does. With SIGSTOP
// and SIGCONT the server and all its processes stop, and go on.
func (s *Server) Signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return fmt.Errorf("testdb: %s is not running", s.name)
	}
	return s.process.signal(sig)
}

// Wait waits until the server has ended by itself; Restart brings it back.
func (s *Server) Wait(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	select {
	case <-s.process.exited:
		s.process = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("testdb: %s does not end: %w", s.name, context.Cause(ctx))
	}
}

// Pid is the server's first process, 0 when it does not run.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Restart starts a server that was killed, on the same port and data.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return fmt.Errorf("testdb: %s is running", s.name)
	}
	return s.start(ctx)
}

// Close stops the server and removes its directory.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.stop(s.shutdown, stopWaitMax)
		s.process = nil
	}
	s.taken.Release()
	return os.RemoveAll(s.dir)
}

// start runs the server and waits until it answers. The caller must hold mu.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWaitMax)
	defer cancel()
	logFile := filepath.Join(s.dir, "server.log")
	for {
		p, err := startProcess(s.argv, s.cred, logFile)
		if err != nil {
			return fmt.Errorf("testdb: start %s: %w", s.name, err)
		}
		err = s.await(ctx, p)
		if err == nil {
			s.process = p
			return nil
		}
		p.kill()
		// After a kill the predecessor's last processes may still hold the
		// data directory for a moment; only time tells them from a real fault.
		if !errors.Is(err, errExited) || sleep(ctx, 4*pollInterval) != nil {
			return fmt.Errorf("testdb: start %s: %w; its log ends:\n%s", s.name, err, tail(logFile))
		}
	}
}

var errExited = errors.New("the server exited")

// await polls until the server answers, has exited, or ctx ends.
func (s *Server) await(ctx context.Context, p *process) error {
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w", startWaitMax, err)
		case <-time.After(pollInterval):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// newServerDir makes a directory that the server's user owns and can reach.
func newServerDir(name string, cred *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp("", "quorate-"+name+"-")
	if err != nil {
		return "", err
	}
	// The server's user must be able to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// credential is the system user that a root caller starts the server as; nil
// when the caller is not root.
func credential(name string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("%w: system user %q: %w", ErrNotInstalled, name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// run executes a program of the server's package as the server's user.
func run(ctx context.Context, cred *syscall.Credential, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), "HOME=/nonexistent"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func password() string { return rand.Text() }

// tail returns the last lines of a log file.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	const tailBytesMax = 4 << 10
	if len(b) > tailBytesMax {
		b = b[len(b)-tailBytesMax:]
	}
	return string(b)
}
