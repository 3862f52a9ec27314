package branchbank

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/participant"
)

// Command is the hidden subcommand that runs a bank in a process of its own.
const Command = "branch-bank"

// dsnVariable carries a database's address to the process: it holds a password, so
// it is no argument.
const dsnVariable = "QUORATE_BRANCH_BANK_DSN"

// stopTimeout bounds the graceful end of a process.
const stopTimeout = 5 * time.Second

// ProcessConfig says how to run a bank in a process of its own.
type ProcessConfig struct {
	Config
	Listen string
	// Seeds of the cluster, for a bank that sends messages.
	Seeds []string
	// CallsPath, when set, is a file that gets a line for each call of an operation on a
	// branch that was done, the first time or again, before it is answered.
	CallsPath string
}

// Arguments are the process' arguments and environment.
func (c ProcessConfig) Arguments() (args, env []string, err error) {
	dsn := c.Spec.DSN
	c.Spec.DSN = ""
	text, err := json.Marshal(c)
	return []string{Command, string(text)}, []string{dsnVariable + "=" + dsn}, err
}

// ParseProcess is the inverse of Arguments.
func ParseProcess(args []string, getenv func(string) string) (ProcessConfig, error) {
	var c ProcessConfig
	if len(args) != 1 {
		return c, fmt.Errorf("%s is started by demo and chaos: it takes 1 argument, not %d", Command, len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return c, fmt.Errorf("%s: %w", Command, err)
	}
	c.Spec.DSN = getenv(dsnVariable)
	return c, nil
}

// Serve runs a bank until ctx ends.
func Serve(ctx context.Context, c ProcessConfig, opener bankstore.Opener, log *slog.Logger) error {
	c.Opener = opener
	calls, err := openCalls(c.CallsPath)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Resource, err)
	}
	defer calls.close()
	if c.Witness == nil {
		// Where --kill-participant strikes: it is done, and nobody was told.
		c.Witness = func(call Call, key string) {
			calls.note(call, key)
			_ = failpoint.Hit(failpoint.Ended, key)
		}
	}
	options := []participant.Option{participant.WithName(c.Resource), participant.WithLogger(log)}
	if detour.Armed() {
		options = append(options, participant.WithDialOptions(grpc.WithContextDialer(detour.DialTCP)))
	}
	client, err := participant.Dial(ctx, c.Seeds, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	b, err := Open(ctx, c.Config, client)
	if err != nil {
		return err
	}
	defer b.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Resource, err)
	}
	server := &http.Server{Handler: b.Handler(), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	defer stop()
	log.Info("bank serves branch calls", "bank", c.Resource, "store", c.Spec.String(), "listen", c.Listen)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
