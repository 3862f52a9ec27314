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

	txns     map[fsm.GID]*txn
	open     []*txn     // undecided, and something about them has changed
	duePairs []*duePair // are free
	due      list       // every due branch that is not delayed, longest due first
	timers   timers

	sessions  map[SessionID]*session
	holders   map[holderID]*holder
	processes map[string]holderID
	idle      []*holder // may have nobody left who asks about them
	graceEnd  time.Time // no holder is lost before

	resources map[string]*resource
	hosts     map[string]*host
	named     map[string]endpointNames // of the endpoints seen last
	unused    []*host                  // without a resource, the longest unused first
	runnable  []*resource              // well, with a call ready and room for it, in turn
	crowd     []*resource              // the same of those that are not known to be well
	// crowdSpare is where the crowd stood at the last look at it, to be used again.
	crowdSpare []*resource
	stirred    bool // there may be a place for one of the crowd
	calls      int  // endpoint calls in flight
	doubtful   int  // those of them that hang, or whose resource fails
	unproven   int  // those that may yet hang: the first to where nothing is known to be well
	repeated   int  // those that were made where calls fail
	under      map[BranchRef]*call
	flying     calls
	roomy      []*session // may have room in their window again
	outgoing   []*session // the step under way sends deliveries on them

	tick   tick
	survey survey

	packs bool                  // the log takes several branches' words in one command
	held  [holdStages][]holding // words that wait, by their times
	holds timer

	waiters map[uint64]*txn
	token   uint64
	replies map[uint64]func(r fsm.Result, err error)

	seen    []look          // of the pull under way
	touched []fsm.GID       // the same
	looks   uint64          // counts the rounds of lookAt
	dues    []fsm.DueBranch // the same

	effects []Effect
	spare   []Effect // taken and performed, to be used again
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
	c.due, c.duePairs = list{of: dueLink}, nil
	c.timers = timers{}
	c.sessions = make(map[SessionID]*session)
	c.holders = make(map[holderID]*holder)
	c.processes = make(map[string]holderID)
	c.idle = nil
	c.resources = make(map[string]*resource)
	c.hosts, c.unused, c.named = make(map[string]*host), nil, nil
	c.runnable, c.crowd, c.crowdSpare, c.stirred, c.roomy, c.outgoing = nil, nil, nil, false, nil, nil
	c.calls, c.doubtful, c.unproven, c.repeated = 0, 0, 0, 0
	c.under, c.flying = make(map[BranchRef]*call), calls{}
	c.tick = tick{}
	c.packs, c.held, c.holds = false, [holdStages][]holding{}, timer{}
	c.survey = survey{}
	c.waiters = make(map[uint64]*txn)
	c.replies = make(map[uint64]func(fsm.Result, error))
	c.looks = 0
	c.forgetLooks()
}

// Take returns the effects asked for since the last Take, in order.
func (c *Core) Take() []Effect {
	taken := c.effects
	c.effects, c.spare = c.spare[:0], nil
	return taken
}

// Performed gives back the memory of what was taken: it must not be used any more.
func (c *Core) Performed(effects []Effect) {
	clear(effects)
	c.spare = effects
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
	c.loseSaid()
	c.ask(HurryReports{}) // those who wait hear that nobody leads here
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
	c.timers.expire(c.now, c.route)
	c.end()
}

// ProposeResult is what a Propose effect came to.
type ProposeResult struct {
	Token  uint64
	Result fsm.Result
	Err    error
}

// Proposed brings the results of Propose effects.
func (c *Core) Proposed(now time.Time, results ...ProposeResult) {
	c.begin(now)
	pulled := false
	for i := range results {
		p := &results[i]
		reply, ok := c.replies[p.Token]
		if !ok {
			continue // of an earlier leadership
		}
		if !pulled {
			pulled = true
			c.pull()
		}
		delete(c.replies, p.Token)
		reply(p.Result, p.Err)
	}
	if pulled {
		c.end()
	}
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
	c.sendOutgoing()
	c.startCalls()
	c.sweepHolders()
}

// pull looks at every transaction that something happened to since the last pull.
func (c *Core) pull() {
	since := c.pulled
	compacted := false
	c.view(func(s *fsm.State) {
		if s.Clock().AppliedIndex == since {
			return
		}
		var ok bool
		if c.touched, ok = s.Touched(since, c.touched); !ok {
			compacted = true
			return
		}
		c.lookAt(s, c.touched)
		c.readClock(s)
	})
	if compacted {
		c.resync()
		return
	}
	for i := range c.seen {
		c.compare(&c.seen[i], since)
	}
	c.forgetLooks()
	c.planTick()
}

// look is what the state says of one transaction at one moment.
type look struct {
	t   *txn
	rec fsm.Record // the zero Record: gone
	// due are the places of its deliveries in Core.dues.
	due, dueEnd int
}

// lookAt reads the transactions touched, each once, in order.
func (c *Core) lookAt(s *fsm.State, touched []fsm.GID) {
	c.looks++
	for _, gid := range touched {
		t := c.txns[gid]
		if t == nil || t.look != c.looks {
			c.lookUp(s, gid, t)
		}
	}
}

// lookUp reads a transaction, of which t was noted: one that stands is noted from then
// on. compare does what follows.
func (c *Core) lookUp(s *fsm.State, gid fsm.GID, t *txn) {
	rec, ok := s.Read(gid)
	if t == nil {
		if !ok {
			return
		}
		t = &txn{gid: gid}
		c.txns[gid] = t
	}
	l := look{t: t, rec: rec, due: len(c.dues)}
	if ok {
		c.dues = rec.AppendDue(c.dues)
	}
	l.dueEnd = len(c.dues)
	t.look, t.surveyed = c.looks, c.survey.round
	c.seen = append(c.seen, l)
}

// looksKept is how many looks' memory is kept from one pull to the next.
const looksKept = 4096

// forgetLooks lets go of what the looks hold, and keeps their memory.
func (c *Core) forgetLooks() {
	if cap(c.seen) > looksKept || cap(c.dues) > looksKept || cap(c.touched) > looksKept {
		c.seen, c.dues, c.touched = nil, nil, nil
		return
	}
	clear(c.seen)
	clear(c.dues)
	c.seen, c.dues, c.touched = c.seen[:0], c.dues[:0], c.touched[:0]
}
