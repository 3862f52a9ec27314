package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm/logpb"
)

// Plan is everything that a run is decided by, beside the chances of the road
// that are drawn from its seed: a run is a function of it. Shrinking takes
// things out of it.
type Plan struct {
	Seed     uint64
	Nodes    int
	Settings coordinator.Settings
	Limits   *logpb.Limits
	// Lease is how long a leader believes that it leads after it last heard from
	// a quorum.
	Lease time.Duration
	// SnapshotEvery so many entries a node writes a snapshot, and keeps Trailing
	// entries before it.
	SnapshotEvery, Trailing uint64
	Databases               []bool // by database: held, that is, it cannot prepare
	Procs                   []procPlan
	Clients                 int
	Scan                    time.Duration // most that lies between two scans of a participant's recovery
	Named                   bool          // processes tell their names, so that a newer one proves an older one's death
	Txs                     []txPlan
	Shops                   int // whose branches are called
	Called                  []calledPlan
	ShopFaults              []shopFault
	TopicChanges            []topicChange
	Faults                  []faultPlan
	// Span is when the last fault heals at the latest.
	Span time.Duration
}

type procPlan struct {
	Database int
	Endpoint bool
}

// shape is the way of a transaction.
type shape uint8

const (
	shapeExplicit shape = iota // begin, enlist, vote, commit
	shapeNamed                 // begin, vote, commit of a set
	shapeSubmit                // begin, vote, submit
	shapeFast                  // work, then submit with every vote: one entry
)

type wish uint8

const (
	wishCommit wish = iota
	wishRollback
	wishNothing  // the initiator is not heard of again
	wishStubborn // asks the commit whatever the branches answered
)

// txPlan is one transaction.
type txPlan struct {
	ID        int
	At        time.Duration
	Client    int
	Shape     shape
	Wish      wish
	Key       string
	NamesSet  bool // an explicit commit that names its set all the same
	TimeoutMS uint64
	Patience  time.Duration // with the branches
	Old       bool          // its GID is made of a clock at the horizon
	Hasty     time.Duration // asks for the end then, ready or not; 0 for never
	Branches  []branchPlan
	Rivals    []rivalPlan
}

func (t *txPlan) entry() logpb.Entry {
	if t.Shape == shapeExplicit {
		return logpb.Entry_ENTRY_EXPLICIT
	}
	return logpb.Entry_ENTRY_NAMED
}

type workKind uint8

const (
	workWrites workKind = iota
	workReadOnly
	workRefuses
	workMaybe // the database answers PREPARE with an error
)

// branchPlan is one branch.
type branchPlan struct {
	ID      string
	Proc    int
	Kind    workKind
	After   time.Duration
	Takes   time.Duration
	Alone   bool // votes itself, on the fast path too
	Carried bool // its vote is in the submit as well
	Moves   bool // a repeated call goes to another process of the resource
}

type rivalWish uint8

const (
	rivalRollback rivalWish = iota
	rivalCommit
	rivalCommitSet
	rivalCommitLess
	rivalBegin
	rivalBeginOther
	rivalSubmit
	rivalEnlist
	rivalRefuse
	rivalRead
	rivalReadLocal
	rivalResolve
	rivalWishes // those before it are drawn
	rivalStop
)

// rivalPlan is what another client wants of the same transaction.
type rivalPlan struct {
	Client int
	After  time.Duration
	Wish   rivalWish
	Maybe  bool
}

// faultPlan is one fault: when, where, for how long.
type faultPlan struct {
	Name  string
	At    time.Duration
	For   time.Duration
	A, B  uint64 // choose the place
	Aimed phase  // waits for this phase of the protocol, the Count-th time from At on
	Count int
}

func (f faultPlan) String() string {
	text := fmt.Sprintf("%-20s at %8.3fs for %7.3fs", f.Name, f.At.Seconds(), f.For.Seconds())
	if f.Aimed != "" {
		text += fmt.Sprintf(", the %d. time at %q", f.Count, f.Aimed)
	}
	return text
}

// Options bend the plans that are made of seeds.
type Options struct {
	// Calm makes plans without faults, rivals and refusals: everything must commit.
	Calm bool
	// Modes adds every mode whose branches are called, topics, and stops.
	Modes bool
	// Bug is planted in the simulated parts.
	Bug Bug
}

// NewPlan makes the plan of a seed.
func NewPlan(seed uint64, o Options) *Plan {
	r := source(seed, 7)
	p := &Plan{Seed: seed, Nodes: 3, Clients: 3 + r.IntN(4), Named: chance(r, 0.5)}
	if chance(r, 0.15) {
		p.Nodes = 5
	}
	p.Scan = between(r, 8*time.Second, 45*time.Second)
	p.settings(r)
	p.resources(r, o)
	active := between(r, 8*time.Second, 20*time.Second)
	for i := range 8 + r.IntN(9) {
		p.Txs = append(p.Txs, p.tx(r, i, between(r, 2*time.Second, active), o))
	}
	if !o.Calm {
		p.makeFaults(r, active)
	}
	p.Span = active
	for _, f := range p.Faults {
		p.Span = max(p.Span, f.At+f.For)
	}
	if o.Modes {
		p.modesPlan(o.Calm)
	}
	return p
}

func (p *Plan) settings(r *rand.Rand) {
	s := coordinator.DefaultSettings()
	s.SessionGrace = between(r, 4*time.Second, 6*time.Second)
	s.SessionWindowMax = 1 + r.IntN(6)
	s.CallsMax, s.CallsPerResourceMax = 2+r.IntN(6), 1+r.IntN(4)
	s.DeliveryTimeout = between(r, time.Second, 4*time.Second)
	s.BackoffMin, s.BackoffMax = 100*time.Millisecond, between(r, time.Second, 4*time.Second)
	s.TickIdle = between(r, 3*time.Second, 9*time.Second)
	s.ReportHoldMax = []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond}[p.Seed%4]
	s.ReportRideMax = []time.Duration{0, 10 * time.Millisecond, 300 * time.Millisecond}[p.Seed%3]
	s.SurveyPage = 1 + s.SessionWindowMax%3 // a new leader's first look takes several steps
	p.Settings = s
	p.Lease = between(r, 500*time.Millisecond, 900*time.Millisecond)
	if chance(r, 0.3) {
		p.Lease = between(r, time.Second, time.Minute) // one that goes on believing
	}
	p.Limits = &logpb.Limits{
		TransactionTimeoutDefaultMs: 5_000, TransactionTimeoutMaxMs: 20_000, RetentionMs: 140_000,
		ClockAdvanceMaxMs: 10_000 + r.Uint64N(10_000),
		DropsPerTickMax:   1 + uint32(r.IntN(4)), ExpiriesPerTickMax: 1 + uint32(r.IntN(3)),
	}
	if chance(r, 0.7) {
		p.SnapshotEvery, p.Trailing = 4+r.Uint64N(60), r.Uint64N(12)
	}
}

func (p *Plan) resources(r *rand.Rand, o Options) {
	p.Databases = []bool{false, false, true}
	p.Procs = []procPlan{{Database: 0}, {Database: 0}, {Database: 1}, {Database: 2}}
	if chance(r, 0.4) {
		p.Procs = append(p.Procs, procPlan{Database: 2})
	}
	if chance(r, 0.5) {
		p.Databases = append(p.Databases, false)
		p.Procs = append(p.Procs, procPlan{Database: 3, Endpoint: true})
	}
}

func (p *Plan) processName(proc *process) string {
	if p.Named {
		return proc.name
	}
	return ""
}

var branchNames = []string{"1", "1.1", "2", "3"}

func (p *Plan) tx(r *rand.Rand, id int, at time.Duration, o Options) txPlan {
	t := txPlan{
		ID: id, At: at, Client: r.IntN(p.Clients), Shape: shape(r.IntN(4)),
		TimeoutMS: 3_000 + r.Uint64N(15_000), Patience: between(r, 4*time.Second, 12*time.Second),
		NamesSet: chance(r, 0.3),
	}
	if chance(r, 0.25) {
		t.Key = fmt.Sprintf("order-%d", r.IntN(4))
	}
	for i := range 1 + r.IntN(3) {
		b := branchPlan{
			ID: branchNames[i], Proc: r.IntN(len(p.Procs)), After: between(r, 0, 300*time.Millisecond),
			Takes: between(r, 0, 100*time.Millisecond), Moves: chance(r, 0.5), Carried: chance(r, 0.5),
		}
		if t.Shape == shapeFast {
			for p.Databases[p.Procs[b.Proc].Database] {
				b.Proc = (b.Proc + 1) % len(p.Procs)
			}
		}
		if chance(r, 0.1) {
			b.Kind = workReadOnly
		}
		t.Branches = append(t.Branches, b)
	}
	if o.Calm {
		t.TimeoutMS, t.Patience, t.Key = 20_000, 15*time.Second, ""
		return t
	}
	p.trouble(r, &t)
	return t
}

// trouble makes a transaction one that does not run as its initiator would like.
func (p *Plan) trouble(r *rand.Rand, t *txPlan) {
	switch r.IntN(12) {
	case 0:
		t.Wish = wishRollback
	case 1:
		t.Wish = wishNothing
	case 2:
		t.Wish = wishStubborn
	case 3, 4:
		t.Hasty = between(r, 0, 2*time.Second)
		t.Wish = wishStubborn
	}
	for i := range t.Branches {
		b := &t.Branches[i]
		if chance(r, 0.06) {
			b.Kind = workRefuses + workKind(r.IntN(2))
		}
		if chance(r, 0.1) {
			b.Takes = between(r, 500*time.Millisecond, 9*time.Second)
		}
		b.Alone = chance(r, 0.15)
	}
	t.Old = chance(r, 0.04)
	if chance(r, 0.1) {
		t.Branches = nil // nobody takes part
	}
	if chance(r, 0.35) { // contended
		for range 4 + r.IntN(4) {
			t.Rivals = append(t.Rivals, rivalPlan{
				Client: r.IntN(p.Clients), Wish: rivalWish(r.IntN(int(rivalWishes))), Maybe: chance(r, 0.3),
				After: between(r, 0, 4*time.Second),
			})
		}
	}
	if chance(r, 0.2) { // and long afterwards
		t.Rivals = append(t.Rivals, rivalPlan{
			Client: r.IntN(p.Clients), Wish: rivalWish(r.IntN(int(rivalWishes))), After: between(r, 20*time.Second, 200*time.Second),
		})
	}
}
