// Command with starts a private Postgres and a private MariaDB, prints their
// DSNs, runs a command with them in its environment, and stops them:
//
//	go run ./internal/testdb/with -- sh -c 'quorate demo --postgres "$QUORATE_TEST_POSTGRES" --mysql "$QUORATE_TEST_MYSQL"'
//
// Servers that the environment names already are used as they are. The exit
// code is the command's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"github.com/quorate/quorate/internal/testdb"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: with -- COMMAND [ARGUMENT...]")
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, argv []string) (code int, err error) {
	servers := []struct {
		env   string
		start func(context.Context, ...string) (*testdb.Server, error)
		err   error
		*testdb.Server
	}{
		{env: testdb.PostgresEnv, start: testdb.StartPostgres},
		{env: testdb.MySQLEnv, start: testdb.StartMariaDB},
	}
	var starting sync.WaitGroup
	for i := range servers {
		s := &servers[i]
		if os.Getenv(s.env) == "" {
			starting.Go(func() { s.Server, s.err = s.start(ctx) })
		}
	}
	starting.Wait()
	var env []string
	for i := range servers {
		s := &servers[i]
		err = errors.Join(err, s.err)
		if s.Server != nil {
			defer s.Server.Close()
			env = append(env, s.env+"="+s.DSN())
			fmt.Fprintf(os.Stderr, "%s=%s\n", s.env, s.DSN())
		}
	}
	if err != nil {
		return 1, err
	}

	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// The command hears the same signal from the terminal; ours is for kill(1).
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
