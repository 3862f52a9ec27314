package participant

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
)

// Defaults and bounds of a client.
const (
	// ClockStaleMax is the age at which a heard cluster clock is refreshed before a GID is
	// made from it, and the margin after which an unseen prepared branch is ended.
	ClockStaleMax = time.Minute
	// TransactionTimeoutDefault is the timeout of a transaction that names none.
	TransactionTimeoutDefault = 30 * time.Second
	// TransactionTimeoutMax is the longest timeout of a two-phase transaction.
	TransactionTimeoutMax = 10 * time.Minute
)

// config is a client's settings. Every field has a default; see [Option].
type config struct {
	// tls secures the connections; nil means plain text, for loopback only.
	tls *tls.Config
	// name is shown to people: program and host.
	name string
	// process outlives restarts; see WithProcess.
	process string
	// logger hears of lost leaders, refused branches and recovery.
	logger *slog.Logger
	// attemptTimeout bounds one try of a call before another node is asked.
	attemptTimeout time.Duration
	// callTimeout bounds a call whose context has no deadline.
	callTimeout time.Duration
	// scanInterval is the longest time between two recovery scans of a resource.
	scanInterval time.Duration
	// scanIdle is the time between scans of a resource without live branches.
	scanIdle time.Duration
	// deliveries bounds the deliveries that run at once for one resource.
	deliveries int
	// submitStream has one-shot transactions committed over a stream.
	submitStream bool
	// staleAfter is ClockStaleMax, less in tests.
	staleAfter time.Duration
	// witness, when set, hears of each step of each branch.
	witness func(Moment)
	// dial are further options of gRPC's, for tests and tracing.
	dial []grpc.DialOption
}

func defaultConfig() config {
	host, _ := os.Hostname()
	return config{
		name:           filepath.Base(os.Args[0]) + "@" + host,
		logger:         slog.New(slog.DiscardHandler),
		attemptTimeout: 1500 * time.Millisecond,
		callTimeout:    30 * time.Second,
		scanInterval:   30 * time.Second,
		scanIdle:       5 * time.Second,
		deliveries:     16,
		staleAfter:     ClockStaleMax,
	}
}

func (c *config) validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"attempt timeout": c.attemptTimeout, "call timeout": c.callTimeout,
		"scan interval": c.scanInterval, "idle scan interval": c.scanIdle,
	} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("participant: %s is %v, want more than 0", name, d))
		}
	}
	if c.deliveries <= 0 {
		errs = append(errs, fmt.Errorf("participant: deliveries at once is %d, want more than 0", c.deliveries))
	}
	return errors.Join(errs...)
}

// Option is a setting of [Dial].
type Option func(*config)

// WithTLS secures the connections to the cluster. Without it they are plain text.
func WithTLS(c *tls.Config) Option { return func(o *config) { o.tls = c } }

// WithName sets the name shown to people; the default is program@host.
func WithName(name string) Option { return func(o *config) { o.name = name } }

// WithProcess names the process beyond its restarts: a pod's or a unit's name that no
// two living processes share. A restart under it proves the death of the one before, so
// that its held branches need not wait for the grace.
func WithProcess(name string) Option { return func(o *config) { o.process = name } }

// WithLogger sets where the client tells of lost leaders, recovery and the like; the
// default is nowhere.
func WithLogger(l *slog.Logger) Option { return func(o *config) { o.logger = l } }

// WithAttemptTimeout bounds one try of a call before another node is asked
// (default 1.5 s): the price of a leader that was paused.
func WithAttemptTimeout(d time.Duration) Option { return func(o *config) { o.attemptTimeout = d } }

// WithCallTimeout bounds calls whose context has no deadline (default 30 s).
func WithCallTimeout(d time.Duration) Option { return func(o *config) { o.callTimeout = d } }

// WithScanInterval sets the longest time between two recovery scans of a resource
// (default 30 s), and the time between scans while it has no live branch (default 5 s).
func WithScanInterval(longest, idle time.Duration) Option {
	return func(o *config) { o.scanInterval, o.scanIdle = longest, idle }
}

// WithDeliveries bounds the deliveries that run at once for one resource (default 16).
func WithDeliveries(n int) Option { return func(o *config) { o.deliveries = n } }

// WithSubmitStream has one-shot transactions committed over one stream to the leader, as
// by [Client.SubmitStream], instead of by a call each: it costs less at both ends, and
// gRPC's interceptors for calls do not see them.
func WithSubmitStream() Option { return func(o *config) { o.submitStream = true } }

// WithDialOptions adds options of gRPC's, such as a stats handler.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(o *config) { o.dial = append(o.dial, opts...) }
}

// WithWitness has f called at each [Step] of each branch of this process, before it
// goes on: the moments at which a crash leaves a branch to others. It is for fault
// injection, journals and tests; f is called from several goroutines at once.
func WithWitness(f func(Moment)) Option { return func(o *config) { o.witness = f } }
