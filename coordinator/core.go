package coordinator

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Core is the driver without its surroundings. Each method is one step: it is
// told what happened and when, reads the applied state, and leaves effects that
// the runner must take (Take) and perform before the next step. Core starts no
// goroutine, reads no clock, and ranges over no map (but to sort it), so the same steps with the
// same seed ask for the same effects. It is not safe for concurrent use.
//
// Core is level-triggered. An event of the state only says which transaction to
// look at; what is done follows from comparing its record with what Core had
// noted of it. So a step may cover any number of entries, and a new leader, who
// has noted nothing, looks at every transaction that has not ended: recovery is
// the ordinary path.
type Core struct {
	cfg    Settings
	view   func(func(*fsm.State))
	random *rand.Rand
	obs    Observer
	points bool // failpoints are armed

	leading bool
	term    uint64
	since   time.Time // when this leadership began
	now     time.Time // of the step under way
	pulled  uint64    // events up to this index were looked at
	clock   fsm.Clock

	txns   map[fsm.GID]*txn
	open   []*txn // undecided, and something about them has changed
	due    list   // every due branch that is not delayed, longest due first
	timers timers

	sessions  map[SessionID]*session
	holders   map[holderID]*holder
	processes map[string]holderID
	idle      []*holder // may have nobody left who asks about them
	graceEnd  time.Time // no holder is lost before

	resources map[string]*resource
	hosts     map[string]*host
	unused    []*host     // without a resource, the longest unused first
	runnable  []*resource // well, with a call ready and room for it, in turn
	crowd     []*resource // the same of those that are not known to be well
	// crowdSpare is where the crowd stood at the last look at it, to be used again.
	crowdSpare []*resource
	stirred    bool // there may be a place for one of the crowd
	calls      int  // endpoint calls in flight
	doubtful   int  // those of them that hang, or whose resource fails
	unproven   int  // those that may yet hang: the first to where nothing is known to be well
	repeated   int  // those that were made where calls fail
	under      map[BranchRef]*call
	roomy      []*session // may have room in their window again

	tick tick

	waiters map[uint64]*txn
	token   uint64
	replies map[uint64]func(r fsm.Result, err error)

	effects []Effect
}

// NewCore returns a core that follows. view must run its argument on the applied
// state. obs may be nil. failpoints says whether any is armed.
func NewCore(cfg Settings, view func(func(*fsm.State)), seed uint64, obs Observer, failpoints bool) *Core {
	if obs == nil {
		obs = nobody{}
	}
	c := &Core{cfg: cfg, view: view, random: rand.New(rand.NewPCG(seed, seed^0x9E3779B97F4A7C15)), obs: obs, points: failpoints}
	c.forget()
	return c
}

// forget drops all that belongs to one leadership.
func (c *Core) forget() {
	c.txns = make(map[fsm.GID]*txn)
	c.open = nil
	c.due = list{of: dueLink}
	c.timers = timers{}
	c.sessions = make(map[SessionID]*session)
	c.holders = make(map[holderID]*holder)
	c.processes = make(map[string]holderID)
	c.idle = nil
	c.resources = make(map[string]*resource)
	c.hosts, c.unused = make(map[string]*host), nil
	c.runnable, c.crowd, c.crowdSpare, c.stirred, c.roomy = nil, nil, nil, false, nil
	c.calls, c.doubtful, c.unproven, c.repeated = 0, 0, 0, 0
	c.under = make(map[BranchRef]*call)
	c.tick = tick{}
	c.waiters = make(map[uint64]*txn)
	c.replies = make(map[uint64]func(fsm.Result, error))
}

// Take returns the effects asked for since the last Take, in order.
func (c *Core) Take() []Effect {
	taken := c.effects
	c.effects = nil
	return taken
}

// Wake returns when Expire should be called next; false for never.
func (c *Core) Wake() (time.Time, bool) { return c.timers.next() }

// Leading reports whether this core leads, and in which term.
func (c *Core) Leading() (term uint64, ok bool) { return c.term, c.leading }

func (c *Core) ask(e Effect) { c.effects = append(c.effects, e) }

// Lead begins a leadership: everything is read anew from the state, and what
// was under way goes on from where the log says it stood.
func (c *Core) Lead(now time.Time, term uint64) {
	c.Follow(now)
	c.begin(now)
	c.leading, c.term, c.since = true, term, c.now
	c.graceEnd = c.now.Add(c.cfg.SessionGrace)
	c.resync()
	c.end()
}

// Follow ends the leadership, if there is one: sessions close, callers that
// wait are told that it went, and all volatile knowledge is dropped.
func (c *Core) Follow(now time.Time) {
	if !c.leading {
		return
	}
	c.begin(now)
	c.leading = false
	c.loseWaiters()
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		c.ask(CloseSession{Session: id, Cause: ErrNotLeader})
	}
	c.forget()
}

// Applied says that the log was applied further.
func (c *Core) Applied(now time.Time) {
	if !c.leading {
		return
	}
	c.begin(now)
	c.pull()
	c.end()
}

// Expire says what time it is.
func (c *Core) Expire(now time.Time) {
	c.begin(now)
	c.timers.expire(c.now)
	c.end()
}

// Proposed brings the result of a Propose effect.
func (c *Core) Proposed(now time.Time, token uint64, r fsm.Result, err error) {
	reply, ok := c.replies[token]
	if !ok {
		return // of an earlier leadership
	}
	delete(c.replies, token)
	c.begin(now)
	c.pull()
	reply(r, err)
	c.end()
}

// propose asks for a command to be appended; reply runs with its result, unless
// leadership goes first.
func (c *Core) propose(command *logpb.Command, reply func(r fsm.Result, err error)) {
	c.token++
	c.replies[c.token] = reply
	c.ask(Propose{Token: c.token, Command: command})
}

// begin opens a step. Time never goes back.
func (c *Core) begin(now time.Time) {
	if now.After(c.now) {
		c.now = now
	}
}

// end closes a step: it does what the step may have made possible.
func (c *Core) end() {
	c.decideOpen()
	c.refillWindows()
	c.startCalls()
	c.sweepHolders()
}

// pull looks at every transaction that something happened to since the last pull.
func (c *Core) pull() {
	since := c.pulled
	var seen []look
	compacted := false
	c.view(func(s *fsm.State) {
		if s.Clock().AppliedIndex == since {
			return
		}
		events, _, ok := s.Events(since, fsm.EventsKept)
		if !ok {
			compacted = true
			return
		}
		seen = lookAt(s, events)
		c.readClock(s)
	})
	if compacted {
		c.resync()
		return
	}
	for _, l := range seen {
		c.compare(l, since)
	}
	c.planTick()
}

// look is what the state says of one transaction at one moment.
type look struct {
	gid fsm.GID
	rec *logpb.Transaction // nil: gone
	due []fsm.DueBranch
}

// lookAt reads the transactions that the events touched, each once, in order.
func lookAt(s *fsm.State, events []fsm.Event) []look {
	var seen []look
	touched := make(map[fsm.GID]struct{}, len(events))
	for _, e := range events {
		if _, again := touched[e.GID]; !again && e.Kind != fsm.EventDropped {
			touched[e.GID] = struct{}{}
			seen = append(seen, lookUp(s, e.GID))
		}
	}
	return seen
}

func lookUp(s *fsm.State, gid fsm.GID) look {
	rec, ok := s.Get(gid)
	if !ok {
		return look{gid: gid}
	}
	return look{gid: gid, rec: rec, due: s.DueOf(gid)}
}

// lookPage is how many transactions are read at a time, entries being applied
// in between.
const lookPage = 1024

// nothingNew: what a look finds happened before, as far as anybody can tell.
const nothingNew = ^uint64(0)

// resync looks at every transaction that has not ended, and at every one noted
// here: at a new leadership, and when events were missed. It goes page by page,
// so that a leader that finds a million of them holds up no entry; what changes
// meanwhile is pulled afterwards.
func (c *Core) resync() {
	noted := c.noted()
	c.view(c.readClock)
	listed := make(map[fsm.GID]struct{})
	for page := (fsm.ListPage{More: true}); page.More; {
		var seen []look
		c.view(func(s *fsm.State) {
			page = s.List(page.Next, fsm.ListQuery{LimitMax: lookPage})
			for _, rec := range page.Transactions {
				gid := fsm.GID(rec.GetBegin().GetGid())
				seen = append(seen, look{gid: gid, rec: rec, due: s.DueOf(gid)})
			}
		})
		for _, l := range seen {
			listed[l.gid] = struct{}{}
			c.compare(l, nothingNew)
		}
	}
	for _, gid := range noted {
		if _, again := listed[gid]; !again {
			var l look
			c.view(func(s *fsm.State) { l = lookUp(s, gid) })
			c.compare(l, nothingNew)
		}
	}
	c.pull()
}
