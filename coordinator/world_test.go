package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// world drives a Core over the real state machine, under a virtual clock and
// without goroutines: what the core asks for happens when the test says so, or,
// for proposals, at once.
type world struct {
	t     testing.TB
	core  *Core
	state *fsm.State
	now   time.Time
	start time.Time
	index uint64
	term  uint64
	made  uint32 // GIDs so far

	// Proposals are appended at once, unless held: then they wait for release.
	hold bool
	held []Propose
	// lose makes the next proposals fail with this error.
	lose error

	sent     map[SessionID][]Delivery
	vouchFor map[SessionID][]BranchRef
	closed   map[SessionID]error
	calls    []Delivery // started and not answered
	answers  map[uint64]AnswerWaiter
	hits     []string
	warned   []Warn
	obs      *tally
	trace    []string // every effect, as text
	// onEffect, when set, looks at each effect before it is performed, and onAsked
	// once it is asked for, before the log goes on.
	onEffect, onAsked func(Effect)
	looked            int // of the core's effects, by onAsked
}

const testSeed = 42

func newWorld(t testing.TB, change ...func(*Settings)) *world {
	w := &world{
		t: t, state: fsm.New(), start: time.Unix(1_700_000_000, 0), obs: newTally(),
		sent: map[SessionID][]Delivery{}, vouchFor: map[SessionID][]BranchRef{}, closed: map[SessionID]error{}, answers: map[uint64]AnswerWaiter{},
	}
	w.now = w.start
	cfg := DefaultSettings()
	for _, f := range change {
		f(&cfg)
	}
	w.core = NewCore(cfg, func(f func(*fsm.State)) { f(w.state) }, testSeed, w.obs, true)
	w.apply(&logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: fsm.NewGID(1, [10]byte{9}).Bytes()}}})
	w.lead()
	return w
}

// clockMS is the leader's cluster clock: it starts at ten seconds.
func (w *world) clockMS() uint64 { return 10_000 + uint64(w.now.Sub(w.start).Milliseconds()) }

// apply appends one entry, and does not tell the core.
func (w *world) apply(commands ...*logpb.Command) []fsm.Result {
	w.t.Helper()
	w.index++
	results, err := w.state.Apply(fsm.Meta{Index: w.index, Term: max(w.term, 1)},
		&logpb.Batch{ClockMs: w.clockMS(), WallMs: uint64(w.now.UnixMilli()), FeatureLevel: fsm.FeatureLevel, Commands: commands})
	if err != nil {
		w.t.Fatalf("apply: %v", err)
	}
	return results
}

// do appends a command of a caller's, tells the core, and lets effects happen.
func (w *world) do(command *logpb.Command) fsm.Result {
	w.t.Helper()
	r := w.apply(command)[0]
	w.core.Applied(w.now)
	w.settle()
	return r
}

// lead gives the core a new term.
func (w *world) lead() {
	w.term++
	w.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	w.core.Lead(w.now, w.term)
	w.settle()
}

func (w *world) follow() {
	w.core.Follow(w.now)
	w.settle()
}

// settle performs effects until there are none.
func (w *world) settle() {
	for {
		w.look()
		effects := w.core.Take()
		w.looked = 0
		if len(effects) == 0 {
			return
		}
		for _, e := range effects {
			w.perform(e)
		}
	}
}

// look shows onAsked what was asked for since the last look.
func (w *world) look() {
	for ; w.onAsked != nil && w.looked < len(w.core.effects); w.looked++ {
		w.onAsked(w.core.effects[w.looked])
	}
}

func (w *world) perform(e Effect) {
	if w.onEffect != nil {
		w.onEffect(e)
	} else {
		w.trace = append(w.trace, fmt.Sprintf("%v %T%+v", w.now.Sub(w.start), e, e))
	}
	switch e := e.(type) {
	case SendDeliveries:
		w.sent[e.Session] = append(w.sent[e.Session], e.Deliveries...)
	case SendVouchFor:
		w.vouchFor[e.Session] = append(w.vouchFor[e.Session], e.Branches...)
	case CloseSession:
		w.closed[e.Session] = e.Cause
	case StartCall:
		w.calls = append(w.calls, e.Delivery)
	case Propose:
		if w.hold {
			w.held = append(w.held, e)
			return
		}
		w.append(e)
	case AnswerReport:
		e.Reply(fsm.Result{}, e.Err)
	case AnswerWaiter:
		if _, twice := w.answers[e.Waiter]; twice {
			w.t.Errorf("waiter %d is answered twice", e.Waiter)
		}
		w.answers[e.Waiter] = e
	case HitFailpoint:
		w.hits = append(w.hits, e.Name+"@"+e.Key)
	case Warn:
		w.warned = append(w.warned, e)
	}
}

func (w *world) append(p Propose) {
	var r fsm.Result
	if w.lose == nil {
		r = w.apply(p.Command)[0]
	}
	p.Tell(r, w.lose)
	if p.Token != 0 {
		w.core.Proposed(w.now, ProposeResult{p.Token, r, w.lose})
	} else {
		w.core.Applied(w.now)
	}
	w.look()
}

// release appends what was held back.
func (w *world) release() {
	held := w.held
	w.hold, w.held = false, nil
	for _, p := range held {
		w.append(p)
	}
	w.settle()
}

// advance lets time pass, waking the core when it wants to be woken.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for range 100_000 {
		at, ok := w.core.Wake()
		if !ok || at.After(end) {
			w.now = end
			return
		}
		if at.After(w.now) {
			w.now = at
		}
		w.core.Expire(w.now)
		w.settle()
	}
	w.t.Fatalf("the core keeps waking at %v", w.now)
}

// advanceBeating is advance while the sessions' heartbeats go on.
func (w *world) advanceBeating(d time.Duration, ids ...SessionID) {
	for end := w.now.Add(d); w.now.Before(end); {
		for _, id := range ids {
			w.core.Alive(w.now, id)
		}
		w.advance(min(time.Second, end.Sub(w.now)))
	}
}

func (w *world) gid() fsm.GID {
	w.made++
	return fsm.NewGID(w.state.ClockMS(), [10]byte{byte(w.made), byte(w.made >> 8), byte(w.made >> 16)})
}

func (w *world) record(gid fsm.GID) *logpb.Transaction {
	w.t.Helper()
	rec, ok := w.state.Get(gid)
	if !ok {
		w.t.Fatalf("%s does not stand", gid)
	}
	return rec
}

func (w *world) wantState(gid fsm.GID, want fsm.TxState) {
	w.t.Helper()
	if got := w.record(gid).GetState(); got != want {
		w.t.Fatalf("state %v, want %v (%s)", got, want, w.record(gid).GetDetail())
	}
}

// take returns what a session was sent since the last take.
func (w *world) take(id SessionID) []Delivery {
	d := w.sent[id]
	w.sent[id] = nil
	return d
}

func (w *world) takeCalls() []Delivery {
	d := w.calls
	w.calls = nil
	return d
}

// Commands.

func cmdBegin(gid fsm.GID, key string, timeout time.Duration) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Begin{Begin: &logpb.Begin{
		Gid: gid.Bytes(), Namespace: DefaultNamespace, Key: key, Mode: logpb.Mode_MODE_TWO_PHASE,
		Entry: logpb.Entry_ENTRY_EXPLICIT, TimeoutMs: uint64(timeout.Milliseconds()),
	}}}
}

func cmdEnlist(gid fsm.GID, spec *logpb.BranchSpec) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid.Bytes(), Branch: spec}}}
}

func cmdVote(gid fsm.GID, spec *logpb.BranchSpec, kind logpb.VoteKind) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid.Bytes(), Ballot: &logpb.Ballot{Branch: spec, Kind: kind}}}}
}

func cmdCommit(gid fsm.GID) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
		Gid: gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT}}}
}

func cmdRollback(gid fsm.GID) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
		Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT}}}
}

func cmdReport(gid fsm.GID, branch string, outcome fsm.Outcome) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: outcome}}}
}

const (
	prepared   = logpb.VoteKind_VOTE_KIND_PREPARED
	readOnly   = logpb.VoteKind_VOTE_KIND_READ_ONLY
	committed  = logpb.Outcome_OUTCOME_COMMITTED
	rolledBack = logpb.Outcome_OUTCOME_ROLLED_BACK
)

// holderN is the n-th participant's instance id; larger is newer.
func holderN(n byte) []byte { return fsm.NewGID(1000, [10]byte{n}).Bytes() }

func branchOf(id, resource string, holder []byte) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: id, Resource: resource, Holder: holder}
}

// begun begins a transaction and enlists its branches.
func (w *world) begun(key string, timeout time.Duration, branches ...*logpb.BranchSpec) fsm.GID {
	w.t.Helper()
	gid := w.gid()
	w.ok(cmdBegin(gid, key, timeout))
	for _, b := range branches {
		w.ok(cmdEnlist(gid, b))
	}
	return gid
}

// committedTx has every branch prepared and its commit asked.
func (w *world) committedTx(key string, branches ...*logpb.BranchSpec) fsm.GID {
	w.t.Helper()
	gid := w.begun(key, time.Minute, branches...)
	for _, b := range branches {
		w.ok(cmdVote(gid, b, prepared))
	}
	w.ok(cmdCommit(gid))
	return gid
}

func (w *world) ok(c *logpb.Command) fsm.Result {
	w.t.Helper()
	r := w.do(c)
	if r.Code != fsm.OK {
		w.t.Fatalf("%v: %v %s", c, r.Code, r.Detail)
	}
	return r
}

func (w *world) attach(id SessionID, holder []byte, resources ...string) {
	w.core.Attach(w.now, id, AttachRequest{Holder: holder, Resources: resources})
	w.settle()
}

func (w *world) detach(id SessionID) {
	w.core.Detach(w.now, id, false, errors.New("stream broke"))
	w.settle()
}

// called answers a call to an endpoint.
func (w *world) called(d Delivery, a Answered, err error) {
	w.core.Called(w.now, d, a, err)
	w.settle()
}

// tally counts what an observer hears.
type tally struct {
	started, finished int
	calls             map[string]int
}

func newTally() *tally { return &tally{calls: map[string]int{}} }

func (o *tally) TransactionStarted(fsm.Mode)                               { o.started++ }
func (o *tally) TransactionDecided(fsm.Mode, fsm.Decision, time.Duration)  {}
func (o *tally) TransactionFinished(fsm.Mode, fsm.Decision, time.Duration) { o.finished++ }
func (o *tally) BranchCall(_ fsm.Mode, op fsm.Operation, protocol, result string, _ time.Duration) {
	o.calls[strings.TrimPrefix(op.String(), "OPERATION_")+" "+protocol+" "+result]++
}

func branchesOf(ds []Delivery) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = fmt.Sprintf("%s %s #%d", d.Branch, d.Verdict, d.Attempt)
	}
	return out
}

func wantList(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}
