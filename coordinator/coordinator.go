// Package coordinator is what happens next: the leader's driver, which delivers
// outcomes, retries and expires, and the calls that initiators, participants
// and operators make.
//
// Its hard part is Core, a single-threaded step machine without goroutines,
// clocks or randomness of its own: a simulator drives it under one seed.
// Coordinator runs a Core in one goroutine and performs the effects it asks for.
package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/failpoint"
)

// Coordinator serves the calls of one node. All methods may be called
// concurrently.
type Coordinator struct {
	nodeID   string
	replog   Log
	caller   Caller
	observer Observer
	log      *slog.Logger
	now      func() time.Time
	began    time.Time
	settings Settings

	entropyLock sync.Mutex
	entropy     io.Reader

	lead    atomic.Pointer[leadership]
	heard   atomic.Pointer[Header] // of the state as it was viewed last
	pending atomic.Int64           // callers' proposals under way
	batcher *batcher
	riders  *riders
	calls   *callPool

	inbox   *inbox
	closing chan struct{}
	closed  chan struct{} // the core's goroutine has ended
	once    sync.Once
	stop    context.CancelFunc

	goroutines sync.WaitGroup // calls to endpoints, and the audit
	watchers   watchers
	lastID     atomic.Uint64 // of sessions and waiters

	// Of the core's goroutine only:
	core      *Core
	sessions  map[SessionID]*Session
	waiters   map[uint64]chan<- AnswerWaiter
	proposals []batched
	riding    []batched
}

// New returns a coordinator that follows until Leadership says otherwise.
func New(cfg Config) (*Coordinator, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	c := &Coordinator{
		nodeID: cfg.NodeID, replog: cfg.Log, caller: cfg.Caller, observer: cfg.Observer, log: cfg.Logger,
		now: cfg.Now, settings: cfg.Settings, entropy: cfg.Entropy,
		inbox:    newInbox(),
		calls:    newCallPool(),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
		stop:     stop,
		sessions: make(map[SessionID]*Session),
		waiters:  make(map[uint64]chan<- AnswerWaiter),
	}
	c.core = NewCore(cfg.Settings, c.view, cfg.Seed, cfg.Observer, failpoint.Armed())
	c.began = c.now()
	c.batcher = &batcher{log: cfg.Log, ctx: ctx, proposed: c.proposed}
	c.riders = newRiders(cfg.Settings.ReportRideMax, c.batcher.add)
	go c.run()
	if cfg.Peers != nil {
		c.goroutines.Go(func() { c.audit(cfg.Peers, cfg.Fatal) })
	}
	return c, nil
}

func (c Config) withDefaults() Config {
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Entropy == nil {
		c.Entropy = rand.Reader
	}
	if c.Seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		c.Seed = binary.LittleEndian.Uint64(b[:])
	}
	return c
}

// Close ends every session, wait and watch, and joins every goroutine.
func (c *Coordinator) Close() error {
	c.once.Do(func() {
		close(c.closing)
		c.stop()
		c.inbox.wake()
	})
	<-c.closed
	c.batcher.close()
	c.riders.close() // who waits is told that this node closes
	c.goroutines.Wait()
	return nil
}

// Leadership must be told each change, in order, by one goroutine: gained once
// an entry of the term is applied.
func (c *Coordinator) Leadership(leader bool, term uint64) {
	c.step(func(core *Core, now time.Time) {
		if !leader {
			core.Follow(now)
			c.setLeadership(nil, c.notLeader())
			c.log.Info("leadership ended: sessions close, deliveries stop", "term", term)
			return
		}
		ctx, end := context.WithCancelCause(context.Background())
		c.setLeadership(&leadership{term: term, ctx: ctx, end: end}, c.notLeader())
		core.Lead(now, term)
		c.log.Info("leading: deliveries go on where the log says they stood", "term", term, "due", core.due.length)
	})
}

// Applied must be told that the log has been applied up to index, before those are
// whose commands that were. It does not block, and may be called from any goroutine.
func (c *Coordinator) Applied(index uint64) {
	c.view(func(*fsm.State) {})
	if c.lead.Load() != nil {
		c.inbox.apply()
	}
	c.watchers.wake()
}

// Header returns what every answer carries: as new as all that was read before.
func (c *Coordinator) Header() Header {
	var h Header
	c.replog.View(func(s *fsm.State) { h = headerOf(s) })
	return h
}

// HeaderOfWrites is Header for the answer to a command, to one that waits for the decision
// or the end, too: as new as what such an answer says, but not as all that was read. It
// waits for nothing that is being applied.
//
// *Because* Applied is told of an entry before those who wait for its commands are, and
// the core answers by what it has read.
func (c *Coordinator) HeaderOfWrites() Header {
	if h := c.heard.Load(); h != nil {
		return *h
	}
	return c.Header()
}

// view reads the state, and notes how far that has come.
func (c *Coordinator) view(f func(*fsm.State)) {
	c.replog.View(func(s *fsm.State) {
		f(s)
		if known := c.heard.Load(); known == nil || known.AppliedIndex != s.Clock().AppliedIndex {
			h := headerOf(s)
			c.heard.Store(&h) // while nothing is applied, so that it never goes back
		}
	})
}

func headerOf(s *fsm.State) Header {
	clock := s.Clock()
	return Header{
		AppliedIndex: clock.AppliedIndex, ClockMS: clock.ClockMS, FloorMS: clock.FloorMS,
		Epoch: Epoch{Incarnation: clock.Incarnation, Term: clock.AppliedTerm}, ClusterID: s.ClusterID(),
	}
}

// Stats are figures of one node; those of deliveries are zero off the leader.
type Stats struct {
	Leading  bool
	Counts   fsm.Counts
	Clock    fsm.Clock
	Sessions int
	// Due branches, those of them that are stuck by mode, and endpoint calls in
	// flight.
	Due      int
	Stuck    [7]int
	InFlight int
	// OldestInDoubt is the age of the oldest branch in doubt, by the cluster clock.
	OldestInDoubt time.Duration
	// Waiters are callers that wait for a decision; Pending their proposals.
	Waiters, Pending int
}

// Stats is a moment's figures, for metrics.
func (c *Coordinator) Stats() Stats {
	s := Stats{Leading: c.lead.Load() != nil, Pending: int(c.pending.Load())}
	c.replog.View(func(state *fsm.State) { s.Counts, s.Clock = state.Counts(), state.Clock() })
	if oldest := s.Counts.OldestInDoubtMS; oldest != 0 && oldest < s.Clock.ClockMS {
		s.OldestInDoubt = milliseconds(s.Clock.ClockMS - oldest)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var core CoreStats
	if c.query(ctx, func(k *Core, now time.Time) { core = k.Stats(now) }) {
		s.Sessions, s.Due, s.Stuck, s.InFlight, s.Waiters = core.Sessions, core.Due, core.Stuck, core.Calls, core.Waiters
	}
	return s
}
