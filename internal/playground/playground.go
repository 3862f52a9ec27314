// Package playground starts what the examples need beside themselves: a cluster of real
// processes and private database servers, on free ports, all gone at the end. What a user
// would copy is in the examples; this is what a user has already.
package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant"
)

// BinaryEnv names a quorate program to use instead of building one.
const BinaryEnv = "QUORATE_BINARY"

// Bounds of an example.
const (
	runWaitMax  = 5 * time.Minute
	stopWaitMax = 5 * time.Second
)

// Example is an example's program.
type Example func(ctx context.Context, p *Playground) error

// Playground is what an example plays in.
type Playground struct {
	ctx     context.Context
	out     io.Writer
	dir     string
	cluster *cluster.Cluster
	atEnd   []func()
}

// failure is how the methods of Playground end an example: what they start is no part of
// what it shows.
type failure struct{ err error }

// Main runs the example as a program.
func Main(example Example) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, example)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// Test runs the example and fails unless it succeeds and prints what is wanted, in that
// order.
func Test(t *testing.T, example Example, want ...string) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), &out, example); err != nil {
		t.Fatalf("%v; it said:\n%s", err, out.String())
	}
	rest := out.String()
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("want %q after what was found before; it said:\n%s", w, out.String())
		}
		rest = after
	}
	t.Log(out.String())
}

func run(ctx context.Context, out io.Writer, example Example) (err error) {
	ctx, cancel := context.WithTimeout(ctx, runWaitMax)
	defer cancel()
	dir, err := os.MkdirTemp("", "quorate-example-")
	if err != nil {
		return err
	}
	p := &Playground{ctx: ctx, out: out, dir: dir}
	defer func() {
		for i := len(p.atEnd) - 1; i >= 0; i-- {
			p.atEnd[i]()
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			err = f.err
		default:
			panic(f)
		}
	}()
	return example(ctx, p)
}

// Say prints a line.
func (p *Playground) Say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// Dir is a directory that is removed at the end.
func (p *Playground) Dir() string { return p.dir }

// AtEnd runs f at the end, before what was started earlier ends.
func (p *Playground) AtEnd(f func()) { p.atEnd = append(p.atEnd, f) }

// Client starts a cluster of three nodes and dials it.
func (p *Playground) Client() *participant.Client {
	binary := os.Getenv(BinaryEnv)
	if binary == "" {
		binary = p.build(p.sources("github.com/quorate/quorate"), "./cmd/quorate")
	}
	c, err := cluster.Start(p.ctx, cluster.Config{
		Binary: binary, Nodes: 3, Dir: filepath.Join(p.dir, "cluster"), Args: []string{"--endpoint-allow", "127.0.0.0/8"},
	})
	p.check(err)
	p.cluster = c
	p.AtEnd(func() { _ = c.Stop() })
	client, err := participant.Dial(p.ctx, c.Endpoints())
	p.check(err)
	p.AtEnd(func() { _ = client.Close() })
	return client
}

// KillLeader ends the leading node by SIGKILL, and starts it again once another leads.
func (p *Playground) KillLeader() {
	leader, err := p.cluster.WaitLeader(p.ctx)
	p.check(err)
	p.check(leader.Kill())
	_, err = p.cluster.WaitLeader(p.ctx)
	p.check(err)
	p.check(leader.Restart(p.ctx))
}

// Serve serves on a free port of this machine, and returns the URL.
func (p *Playground) Serve(h http.Handler) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	p.check(err)
	server := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	p.AtEnd(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWaitMax)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-done //nolint:errcheck // it was told to end
	})
	return "http://" + l.Addr().String()
}

// FreeAddress is a free port of this machine.
func (p *Playground) FreeAddress() (host, port string) {
	address, err := cluster.FreeAddress("127.0.0.1")
	p.check(err)
	host, port, err = net.SplitHostPort(address)
	p.check(err)
	return host, port
}

// Postgres is the DSN of a private server.
func (p *Playground) Postgres() string { return p.database(testdb.StartPostgres) }

// MySQL is the DSN of a private MariaDB.
func (p *Playground) MySQL() string { return p.database(testdb.StartMariaDB) }

// Redis is the URL of a private server.
func (p *Playground) Redis() string { return p.database(testdb.StartRedis) }

func (p *Playground) database(start func(context.Context, ...string) (*testdb.Server, error)) string {
	s, err := start(p.ctx)
	if err != nil && errors.Is(err, testdb.ErrNotInstalled) {
		err = fmt.Errorf("%w; or run scripts/install-test-deps.sh", err)
	}
	p.check(err)
	p.AtEnd(func() { _ = s.Close() })
	return s.DSN()
}

// Tool builds a tool that the example's go.mod names, unless the build cache has it, and
// returns its path.
func (p *Playground) Tool(name string) string {
	cmd := exec.CommandContext(p.ctx, "go", "tool", "-n", name)
	cmd.Stderr = os.Stderr
	path, err := cmd.Output()
	p.check(err)
	return strings.TrimSpace(string(path))
}

func (p *Playground) build(dir, pkg string) string {
	binary := filepath.Join(p.dir, "bin-"+filepath.Base(pkg))
	cmd := exec.CommandContext(p.ctx, "go", "build", "-o", binary, pkg)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	p.check(cmd.Run())
	return binary
}

// sources is where a module's files are.
func (p *Playground) sources(module string) string {
	cmd := exec.CommandContext(p.ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Stderr = os.Stderr
	dir, err := cmd.Output()
	p.check(err)
	return strings.TrimSpace(string(dir))
}

// Run runs a program until the end.
func (p *Playground) Run(path string, args ...string) {
	child, err := proc.Start(proc.Spec{Name: filepath.Base(path), Path: path, Args: args, LogPath: filepath.Join(p.dir, filepath.Base(path)+".log")})
	p.check(err)
	p.AtEnd(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWaitMax)
		defer cancel()
		_ = child.Stop(ctx)
	})
}

// Must is the value of a call that has to succeed.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(failure{err})
	}
	return v
}

func (p *Playground) check(err error) {
	if err != nil {
		panic(failure{err})
	}
}
