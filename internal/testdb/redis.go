package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/quorate/quorate/internal/freeport"
)

// redisDatabases is how many databases a private Redis has: one a test.
const redisDatabases = 10_000

// StartRedis starts a private Redis that syncs each write before it answers. Settings are
// `name=value` pairs of redis.conf that override this package's own. Its DSN is a redis://
// URL.
func StartRedis(ctx context.Context, settings ...string) (*Server, error) {
	server, err := exec.LookPath("redis-server")
	client, clientErr := exec.LookPath("redis-cli")
	if err := errors.Join(err, clientErr); err != nil {
		return nil, fmt.Errorf("testdb: Redis is %w: on Debian run `apt-get install -y redis-server` as root, or set %s to a URL: %w",
			ErrNotInstalled, RedisEnv, err)
	}
	cred, err := credential("redis")
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("redis", cred)
	if err != nil {
		return nil, err
	}
	s, err := startRedis(ctx, server, client, dir, cred, settings)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func startRedis(ctx context.Context, server, client, dir string, cred *syscall.Credential, settings []string) (*Server, error) {
	taken := new(freeport.Set)
	port, err := taken.Take("127.0.0.1")
	if err != nil {
		return nil, err
	}
	secret := password()
	argv := []string{server, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--requirepass", secret,
		"--databases", strconv.Itoa(redisDatabases), "--save", "", "--appendonly", "yes", "--appendfsync", "always",
		"--maxmemory-policy", "noeviction", "--daemonize", "no"}
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return nil, fmt.Errorf("testdb: redis setting %q, want name=value", setting)
		}
		argv = append(argv, "--"+name, value)
	}
	env := []string{"REDISCLI_AUTH=" + secret}
	s := &Server{
		name: "redis", dir: dir, argv: argv, cred: cred, taken: taken, shutdown: syscall.SIGTERM,
		dsn: func(database string) string {
			if database == "quorate" {
				database = "0" // they have numbers
			}
			return fmt.Sprintf("redis://:%s@127.0.0.1:%d/%s", secret, port, database)
		},
		ping: func(ctx context.Context) error {
			return run(ctx, cred, env, client, "-e", "-h", "127.0.0.1", "-p", strconv.Itoa(port), "ping")
		},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, s.start(ctx)
}

// Redis returns the URL of a Redis database for one test: the one that
// QUORATE_TEST_REDIS names, else an empty one of a private server that this process
// shares. It fails the test when there is neither.
func Redis(t TB) string {
	t.Helper()
	if url := os.Getenv(RedisEnv); url != "" {
		return url
	}
	s, err := sharedRedis()
	if err != nil {
		t.Fatalf("%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next++; s.next >= redisDatabases {
		t.Fatalf("testdb: more than %d Redis databases", redisDatabases)
	}
	return s.dsn(strconv.Itoa(s.next))
}
