package coordinator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Config is all that a Coordinator needs.
type Config struct {
	// Log is the replicated log. Required.
	Log Log
	// NodeID is this node's in LeaderInfo.ID. Between its election and
	// Leadership's word, callers hear ErrNoLeader, and not to come here.
	NodeID string
	// Caller delivers to endpoints; nil leaves branches that have only an
	// endpoint due and visible, and undelivered.
	Caller Caller
	// Peers lets the leader compare the nodes' states; nil for no comparison.
	Peers Peers
	// Fatal stops the node: its state differs from the majority's. It must be set
	// where Peers is.
	Fatal func(error)
	// Observer hears what metrics count; nil for nobody.
	Observer Observer
	// Logger gets what people should know; nil for nobody.
	Logger *slog.Logger
	// Entropy makes the random part of GIDs; nil for crypto/rand.
	Entropy io.Reader
	// Seed of the back-off's jitter; zero for a random one.
	Seed uint64
	// Now is the node's clock, monotonic; nil for time.Now.
	Now func() time.Time
	// Settings of the driver.
	Settings Settings
}

// Settings are the driver's own limits and delays. None of them is read by
// Apply, so nodes may differ in them.
type Settings struct {
	// SessionHeartbeat is how often a participant must be heard of.
	SessionHeartbeat time.Duration
	// SessionGrace is how long a holder may be away before it counts as lost. It
	// runs anew from each new leadership, and is extended while attaches queue.
	SessionGrace time.Duration
	// SessionWindowMax bounds the deliveries outstanding on one session. What it leaves
	// waiting gets out of step with the other branches of its transactions, whose words are
	// held for it; so a session must have room for what is decided while one delivery is
	// under way.
	SessionWindowMax int
	// SessionsMax bounds the sessions attached at once.
	SessionsMax int
	// DeliveryTimeout is how long one attempt may take.
	DeliveryTimeout time.Duration
	// BackoffMin and BackoffMax bound the delay before a delivery is repeated.
	// It doubles with each failure; half of it is jitter.
	BackoffMin, BackoffMax time.Duration
	// ReportHoldMax is how long the word of a branch waits, at the most, for those of
	// the other branches of its transaction, to be one record of the log with them;
	// 0: it does not.
	ReportHoldMax time.Duration
	// ReportRideMax is how long a report on which nothing hangs waits, at the most, for
	// a caller's command, to be in its entry; 0: it does not.
	ReportRideMax time.Duration
	// StuckAfter is how long a branch may be due before it is called stuck.
	StuckAfter time.Duration
	// CallsMax and CallsPerResourceMax bound the endpoint calls in flight. A
	// resource whose calls fail is cut to few at a time until it answers.
	CallsMax, CallsPerResourceMax int
	// NotifyAttemptsMax is after how many attempts without an answer a best-effort
	// branch is given up, where its plan does not say.
	NotifyAttemptsMax int
	// CallbackAfter is when a message's initiator is first asked, or a workflow's
	// code called, after its begin, where its plan does not say.
	CallbackAfter time.Duration
	// ProposalsPendingMax bounds the callers' commands that wait for their
	// entry; endings (rollbacks, votes, reports) may exceed it by a half.
	ProposalsPendingMax int
	// TickIdle is the longest time between two Ticks of a leader. It must stay
	// below the protocol's TickIdleMax of 10 s.
	TickIdle time.Duration
	// RetentionTick is the shortest time between two Ticks that only drop
	// finished transactions.
	RetentionTick time.Duration
	// SurveyPage is how many transactions a new leader looks at in one step, before
	// it does what was asked of it meanwhile.
	SurveyPage int
	// AuditInterval lies between two comparisons of the nodes' states.
	AuditInterval time.Duration
}

// TickIdleMax bounds Settings.TickIdle (PROTOCOL.md, section 1).
const TickIdleMax = 10 * time.Second

// ClockStaleMax bounds the age of the cluster clock in a client's new GID.
const ClockStaleMax = time.Minute

// Page sizes of List and ListInDoubt, in transactions and branches.
const (
	PageSizeDefault = 50
	PageSizeMax     = 1000
)

// DefaultSettings are those of the default profile.
func DefaultSettings() Settings {
	return Settings{
		SessionHeartbeat:    time.Second,
		SessionGrace:        5 * time.Second,
		SessionWindowMax:    1024,
		SessionsMax:         4096,
		DeliveryTimeout:     10 * time.Second,
		BackoffMin:          100 * time.Millisecond,
		BackoffMax:          15 * time.Second,
		ReportHoldMax:       100 * time.Millisecond,
		ReportRideMax:       10 * time.Millisecond,
		StuckAfter:          5 * time.Minute,
		CallsMax:            1024,
		CallsPerResourceMax: 256,
		NotifyAttemptsMax:   10,
		CallbackAfter:       30 * time.Second,
		ProposalsPendingMax: 16384,
		TickIdle:            5 * time.Second,
		RetentionTick:       time.Second,
		SurveyPage:          256,
		AuditInterval:       30 * time.Second,
	}
}

// FastSettings are those of the fast profile: one machine, or one rack.
func FastSettings() Settings {
	s := DefaultSettings()
	s.SessionHeartbeat = 300 * time.Millisecond
	s.SessionGrace = 2 * time.Second
	s.DeliveryTimeout = 5 * time.Second
	s.BackoffMin = 50 * time.Millisecond
	s.BackoffMax = 5 * time.Second
	s.AuditInterval = 5 * time.Second
	return s
}

// Validate names the first setting that cannot work.
func (s Settings) Validate() error {
	durations := []struct {
		name string
		d    time.Duration
	}{
		{"SessionHeartbeat", s.SessionHeartbeat}, {"SessionGrace", s.SessionGrace},
		{"DeliveryTimeout", s.DeliveryTimeout}, {"BackoffMin", s.BackoffMin}, {"BackoffMax", s.BackoffMax},
		{"StuckAfter", s.StuckAfter}, {"TickIdle", s.TickIdle}, {"RetentionTick", s.RetentionTick},
		{"AuditInterval", s.AuditInterval}, {"CallbackAfter", s.CallbackAfter},
	}
	for _, v := range durations {
		if v.d < time.Millisecond {
			return fmt.Errorf("coordinator: %s is %v, want at least 1ms", v.name, v.d)
		}
	}
	counts := []struct {
		name string
		n    int
	}{
		{"SessionWindowMax", s.SessionWindowMax}, {"SessionsMax", s.SessionsMax}, {"CallsMax", s.CallsMax},
		{"CallsPerResourceMax", s.CallsPerResourceMax}, {"ProposalsPendingMax", s.ProposalsPendingMax},
		{"NotifyAttemptsMax", s.NotifyAttemptsMax}, {"SurveyPage", s.SurveyPage},
	}
	for _, v := range counts {
		if v.n < 1 {
			return fmt.Errorf("coordinator: %s is %d, want at least 1", v.name, v.n)
		}
	}
	switch {
	case s.ReportHoldMax < 0:
		return fmt.Errorf("coordinator: ReportHoldMax is %v, want at least 0", s.ReportHoldMax)
	case s.ReportRideMax < 0:
		return fmt.Errorf("coordinator: ReportRideMax is %v, want at least 0", s.ReportRideMax)
	case s.SessionGrace < 2*s.SessionHeartbeat:
		return fmt.Errorf("coordinator: SessionGrace %v is below two heartbeats of %v: a single late one would lose a participant",
			s.SessionGrace, s.SessionHeartbeat)
	case s.BackoffMax < s.BackoffMin:
		return fmt.Errorf("coordinator: BackoffMax %v is below BackoffMin %v", s.BackoffMax, s.BackoffMin)
	case s.TickIdle > TickIdleMax:
		return fmt.Errorf("coordinator: TickIdle %v is above the protocol's %v", s.TickIdle, TickIdleMax)
	}
	return nil
}

func (c Config) validate() error {
	if c.Log == nil {
		return errors.New("coordinator: no Log")
	}
	if c.Peers != nil && c.Fatal == nil {
		return errors.New("coordinator: Peers without Fatal: a leader in the minority could not be stopped")
	}
	return c.Settings.Validate()
}

// nobody is the Observer of those who want none.
type nobody struct{}

func (nobody) TransactionStarted(fsm.Mode)                                       {}
func (nobody) TransactionDecided(fsm.Mode, fsm.Decision, time.Duration)          {}
func (nobody) TransactionFinished(fsm.Mode, fsm.Decision, time.Duration)         {}
func (nobody) BranchCall(fsm.Mode, fsm.Operation, string, string, time.Duration) {}
