// Command quorate is Quorate's one binary: the node (`serve`), a development
// cluster (`dev`), the main job (`demo`), and the tools of those who operate it
// (`tx`, `cluster`, `config`). Each subcommand has a file of its own name.
//
// This package alone knows every other one and wires them together.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := interruptible(os.Exit)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit code. Data goes to stdout,
// everything else to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "quorate:", describe(err))
	}
	return exitCode(err)
}

// errInterrupted is the cause of a context that a signal ended.
type errInterrupted struct{ signal os.Signal }

func (e errInterrupted) Error() string { return "stopped by " + e.signal.String() }

// interruptible returns a context that the first SIGINT or SIGTERM ends: the
// command stops in order. The second one calls exit at once.
func interruptible(exit func(int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(errInterrupted{<-signals})
		<-signals
		exit(exitError)
	}()
	return ctx, func() { signal.Stop(signals) }
}
