package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// oracle is the simulator's own account of what was promised, made from what
// participants hold and what anybody was told. It judges the state machine and
// never asks it for an opinion.
type oracle struct {
	w          *World
	violations []Violation
	txs        map[fsm.GID]*account
	order      []fsm.GID

	// ghost is the log as it was first applied by anybody.
	ghost []ghostEntry
	// The cluster clock and the horizon before the entry that is being applied.
	clockMS, horizonMS uint64
	floorMS            uint64 // the newest floor that anybody was told

	idleSince map[ref]time.Duration // since when nobody delivers what is due
	topics    topicAccount

	commits, rollbacks int // decisions
	acknowledged       int
	damageFound        int
	heuristics         int
}

// Violation is a promise that was broken.
type Violation struct {
	Promise string // of docs/guarantees.md: "S1" and so on
	GID     string
	Text    string
	At      time.Duration
}

func (v Violation) String() string {
	return fmt.Sprintf("%s at %.6fs %s: %s", v.Promise, v.At.Seconds(), v.GID, v.Text)
}

// account is what is known of one transaction.
type account struct {
	gid      fsm.GID
	run      *run
	called   *calledRun // its branches are called: it has no votes
	decision fsm.Decision
	seenBy   string
	// applied: a node has applied the decision, so a quorum has it.
	applied      fsm.Decision
	appliedIndex uint64
	appliedAt    time.Duration
	members      []string // of the set that was committed

	begunAt   uint64 // by World.steps: when its begin was acknowledged
	decidedAt uint64 // when a decision was acknowledged
	begunOK   bool
	standing  bool // the log holds it
	tombstone bool
	finished  bool
	sets      [][]string // that a commit was asked with
	bare      bool

	branches []*branchAccount

	// For what is called: oracle_called.go.
	stopAsked, stopped, resolved bool // by an operator
	heirs                        map[string][]heir
	words                        map[wordName]*loggedWord
	calls                        map[leadershipCall]uint32
}

// branchAccount is what is known of one branch, by its database.
type branchAccount struct {
	id         string
	works      bool
	prepared   bool // durably, or held open, at some time
	readOnly   bool
	held       bool
	lost       bool // a held branch whose connection went
	enlistedAt uint64
	vote       logpb.VoteKind
	effects    int
	undone     bool // rolled back by a verdict
	fenced     bool // an evidence row says that it can never happen
	reported   fsm.Outcome
	spoke      bool // the log has its own word
	byHand     bool // an operator ended it in its database
	// afterward: its word was in by then; a repeated call had prepared it anew, and
	// nobody was to be told any more.
	afterward bool
}

type ghostEntry struct {
	term   uint64
	data   []byte
	digest fsm.Digest
	has    bool

	// For histories: what came of it.
	clockMS uint64
	results []fsm.Result
}

func newOracle(w *World) *oracle {
	return &oracle{w: w, txs: make(map[fsm.GID]*account), topics: newTopicAccount()}
}

func (o *oracle) violate(promise, gid, format string, args ...any) {
	v := Violation{Promise: promise, GID: gid, Text: fmt.Sprintf(format, args...), At: o.w.now}
	o.w.say("ORACLE", "%v", v)
	o.violations = append(o.violations, v)
	o.w.over = true
}

func (o *oracle) of(gid fsm.GID) *account {
	a, ok := o.txs[gid]
	if !ok {
		a = &account{gid: gid}
		o.txs[gid] = a
		o.order = append(o.order, gid)
	}
	return a
}

func (a *account) branch(id string) *branchAccount {
	for _, b := range a.branches {
		if b.id == id {
			return b
		}
	}
	b := &branchAccount{id: id}
	a.branches = append(a.branches, b)
	return b
}

func (o *oracle) initiated(r *run) {
	a := o.of(r.gid)
	a.run = r
}

func (o *oracle) setAsked(gid fsm.GID, set []string) {
	a := o.of(gid)
	a.sets = append(a.sets, slices.Clone(set))
}

func (o *oracle) bareAsked(gid fsm.GID) { o.of(gid).bare = true }

func (o *oracle) works(at ref, b *work) {
	x := o.of(at.GID).branch(at.Branch)
	x.works, x.held = true, b.isHeld()
}

func (o *oracle) branchHeld(d *database, at ref) {
	o.of(at.GID).branch(at.Branch).prepared = true
	o.w.history.journal(at, d, lin.StepPrepared)
}

func (o *oracle) branchReadOnly(d *database, at ref) {
	o.of(at.GID).branch(at.Branch).readOnly = true
	o.w.history.journal(at, d, lin.StepReadOnly)
}

func (o *oracle) branchPrepared(d *database, at ref) {
	o.w.history.journal(at, d, lin.StepPrepared)
	a := o.of(at.GID)
	b := a.branch(at.Branch)
	b.prepared = true
	if b.fenced {
		o.violate("S12", at.GID.String(), "branch %s prepares after it was reported that it never can", at.Branch)
	}
}

func (o *oracle) branchFenced(at ref) { o.of(at.GID).branch(at.Branch).fenced = true }

// openLost: a connection went, and with it what was open on it.
func (o *oracle) openLost(d *database, at ref) {
	if b := o.of(at.GID).branch(at.Branch); b.held {
		b.lost = true
		o.openUndone(d, at)
	}
}

// openUndone: a held branch that has voted is rolled back.
func (o *oracle) openUndone(d *database, at ref) {
	if d.held && o.of(at.GID).branch(at.Branch).prepared {
		o.w.history.journal(at, d, lin.StepRolledBack)
	}
}

// saw: somebody was told, or holds, a decision. S1, S2.
func (o *oracle) saw(gid fsm.GID, d fsm.Decision, who string) {
	if d == fsm.DecisionNone {
		return
	}
	a := o.of(gid)
	if a.decision == fsm.DecisionNone {
		a.decision, a.seenBy = d, who
		return
	}
	if a.decision != d {
		o.violate("S1", gid.String(), "%s says %v, %s said %v", who, d, a.seenBy, a.decision)
	}
}

// says: a node answers. What it names is a decision that a process holds.
func (o *oracle) says(n *node, a answer) {
	if a.err != nil || a.unseen || a.result.GID.IsZero() {
		return
	}
	o.saw(a.result.GID, a.result.Decision, n.name)
}

// told: a participant hears a final verdict on a branch.
func (o *oracle) told(p *process, at ref, v fsm.Verdict) {
	a := o.of(at.GID)
	switch {
	case v == fsm.VerdictCommit:
		o.saw(at.GID, fsm.DecisionCommit, p.name+" by a verdict")
		if a.applied != fsm.DecisionCommit {
			o.violate("S11", at.GID.String(), "branch %s is told commit before any node applied it", at.Branch)
		}
	case a.applied == fsm.DecisionCommit && slices.Contains(a.members, at.Branch) && o.unended(at):
		o.violate("S1", at.GID.String(), "branch %s is told rollback, and the transaction was committed with it", at.Branch)
	}
}

// unended: the branch is prepared, or held open after its vote, somewhere.
func (o *oracle) unended(at ref) bool {
	for _, d := range o.w.dbs {
		if d.prepared[at] != nil {
			return true
		}
		for _, t := range d.open {
			if t.ref == at && t.votes {
				return true
			}
		}
	}
	return false
}

// branchEnded: a database commits or rolls back what was prepared or held.
func (o *oracle) branchEnded(d *database, at ref, commit bool) {
	a := o.of(at.GID)
	b := a.branch(at.Branch)
	step := lin.StepRolledBack
	if commit {
		step = lin.StepCommitted
	}
	o.w.history.journal(at, d, step)
	if !commit {
		b.undone = true
		if a.applied == fsm.DecisionCommit && slices.Contains(a.members, at.Branch) {
			o.violate("S11", at.GID.String(), "%s rolls branch %s back, and the transaction was committed with it", d.name, at.Branch)
		}
		return
	}
	if b.effects++; b.effects > 1 {
		o.violate("S11", at.GID.String(), "branch %s takes effect %d times", at.Branch, b.effects)
	}
	if a.applied != fsm.DecisionCommit {
		o.violate("S11", at.GID.String(), "branch %s commits, and no node has applied a commit", at.Branch)
	}
}

// endedByHand: an operator ended what was prepared: whatever comes of it is a
// heuristic outcome, and must be shown as one.
func (o *oracle) endedByHand(at ref, commit bool) {
	b := o.of(at.GID).branch(at.Branch)
	b.byHand, b.afterward = true, b.spoke
	if commit {
		b.effects++
	}
}

// outcome: a participant reports what a branch did.
func (o *oracle) outcome(p *process, at ref, out fsm.Outcome) {
	b := o.of(at.GID).branch(at.Branch)
	b.reported = out
	switch {
	case out == committed && b.effects == 0 && !b.readOnly:
		o.violate("S14", at.GID.String(), "branch %s is reported as committed by %s, and nothing happened", at.Branch, p.name)
	case out == rolledBack && b.effects > 0:
		o.violate("S14", at.GID.String(), "branch %s is reported as rolled back by %s, and it took effect", at.Branch, p.name)
	}
}

// Acknowledgements: what a client or a participant has heard, it may rely on.

// asked is when a request was sent, by the order of events.
type asked struct{ at uint64 }

func (o *oracle) asks() asked { return asked{uint64(o.w.steps)} }

func (o *oracle) answered(what string, gid fsm.GID, q asked, a answer) {
	o.w.cover.answer(what, a)
	if a.err != nil {
		return
	}
	if !a.result.GID.IsZero() {
		gid = a.result.GID
	}
	if gid.IsZero() {
		return
	}
	x := o.of(gid)
	o.readsBack(x, what, q, a)
	now := uint64(o.w.steps)
	if a.code == fsm.OK && (what == "begin" || what == "commit" || what == "submit") && !x.begunOK {
		x.begunOK, x.begunAt = true, now
		o.acknowledged++
	}
	if a.result.Decision != fsm.DecisionNone && !a.unseen && x.decidedAt == 0 {
		x.decidedAt = now
		o.acknowledged++
	}
}

// hears: a participant's request over its session is answered.
func (o *oracle) hears(what string, a answer) { o.w.cover.answer(what, a) }

func (o *oracle) enlisted(at ref) {
	b := o.of(at.GID).branch(at.Branch)
	if b.enlistedAt == 0 {
		b.enlistedAt = uint64(o.w.steps)
		o.acknowledged++
	}
}

func (o *oracle) voted(at ref, ballot *logpb.Ballot) {
	b := o.of(at.GID).branch(at.Branch)
	if b.vote == 0 && ballot.GetKind() != refused { // a refusal of what is rolled back is not kept
		b.vote = ballot.GetKind()
		o.acknowledged++
	}
}

// readsBack: S7: a linearizable read sees what was acknowledged before it was
// asked; S8: a local one is a prefix of the truth, at the index that it names.
func (o *oracle) readsBack(x *account, what string, q asked, a answer) {
	switch what {
	case "get", "inquire":
		if x.decidedAt != 0 && x.decidedAt < q.at && a.result.Decision == fsm.DecisionNone && a.code == fsm.OK {
			o.violate("S7", x.gid.String(), "a %s that began after the decision was acknowledged sees none", what)
		}
		if x.begunOK && x.begunAt < q.at && a.code == fsm.NotFound {
			o.violate("S7", x.gid.String(), "a %s that began after the begin was acknowledged does not find it", what)
		}
	case "get local":
		if x.appliedIndex != 0 && a.header.applied >= x.appliedIndex && a.result.Decision == fsm.DecisionNone && a.code != fsm.Expired {
			o.violate("S8", x.gid.String(), "a read at index %d sees no decision, which stands at %d", a.header.applied, x.appliedIndex)
		}
	}
}

// The log, as nodes apply it.

func (o *oracle) beforeApply(n *node, e logEntry) []commandAt {
	for uint64(len(o.ghost)) <= e.index {
		o.ghost = append(o.ghost, ghostEntry{})
	}
	if o.ghost[e.index].has {
		return nil
	}
	o.clockMS, o.horizonMS = n.state.ClockMS(), n.state.Clock().HorizonMS
	o.quorumHas(n, e)
	return o.w.cover.before(n.state, e, o.modePrefix)
}

// quorumHas: what is applied must be on the disks of a quorum. This is the log's
// own promise; without it no other can be kept.
func (o *oracle) quorumHas(n *node, e logEntry) {
	have := 0
	for _, other := range o.w.nodes {
		d := other.disk
		switch {
		case d.snap != nil && d.snap.index >= e.index:
			have++
		case other == o.w.faults.damaged:
			have++ // it had it, and another one fault is not more than a minority
		case e.index >= d.first && e.index < d.first+uint64(len(d.log)):
			if x := d.log[e.index-d.first]; x.term == e.term && !x.torn {
				have++
			}
		}
	}
	if have < n.quorum() && !d0(o.w) {
		o.violate("S6", "", "%s applies entry %d, which %d of %d nodes have on disk", n.name, e.index, have, len(o.w.nodes))
	}
}

// d0: with the planted bug this check would find it in one event; the suite is to
// find what follows from it.
func d0(w *World) bool { return w.bug == BugNoSync }

func (o *oracle) applied(n *node, e logEntry, before []commandAt, results []fsm.Result) {
	g := &o.ghost[e.index]
	digest := n.state.Digest()
	o.w.mix(e.index, uint64(digest[0])<<8|uint64(digest[15]))
	if g.has {
		switch {
		case g.term != e.term || !bytes.Equal(g.data, e.data):
			o.violate("S6", "", "%s applies another entry at %d (term %d) than was applied there before (term %d)", n.name, e.index, e.term, g.term)
		case g.digest != digest:
			o.violate("S17", "", "after index %d %s has digest %s, another node had %s", e.index, n.name, digest, g.digest)
		}
		return
	}
	*g = ghostEntry{term: e.term, data: e.data, digest: digest, has: true}
	if o.w.history != nil {
		g.clockMS = n.state.ClockMS()
		g.results = results
	}
	o.w.cover.reached(o.w, before)
	if most := o.w.plan.Limits.GetClockAdvanceMaxMs(); n.state.ClockMS() > o.clockMS+most || n.state.ClockMS() < o.clockMS {
		o.violate("S19", "", "entry %d moves the clock from %d to %d, at most %d is allowed", e.index, o.clockMS, n.state.ClockMS(), most)
	}
	o.logged(n, e, results)
	o.newDecisions(n, e)
	if e.index%o.w.plan.checkEvery() == 0 {
		o.invariants(n)
	}
}

func (p *Plan) checkEvery() uint64 {
	if p.Seed%8 == 0 {
		return 1
	}
	return 16
}

func (o *oracle) invariants(n *node) {
	if err := n.state.CheckInvariants(); err != nil {
		o.violate("S2", "", "%s after index %d: %v", n.name, n.applied, err)
	}
	if q := n.state.Counts().Quarantined; q > 0 {
		o.violate("S2", "", "%s has %d transactions in quarantine", n.name, q)
	}
}

// newDecisions judges each decision that this entry made.
func (o *oracle) newDecisions(n *node, e logEntry) {
	events, _, ok := n.state.Events(e.index-1, fsm.EventsKept)
	if !ok {
		return
	}
	for _, ev := range events {
		if ev.Index != e.index {
			continue
		}
		o.w.cover.event(o.w, n.state, ev)
		switch ev.Kind {
		case fsm.EventDecided:
			o.decidedNow(n, e, ev)
		case fsm.EventBegun:
			o.begunNow(n, e, ev.GID)
		case fsm.EventReported:
			o.of(ev.GID).branch(ev.Branch).spoke = true
		case fsm.EventFinished:
			o.finishedNow(n, ev.GID)
		case fsm.EventQuarantined:
			o.violate("S2", ev.GID.String(), "is quarantined at index %d", e.index)
		case fsm.EventDropped:
			o.droppedNow(n, ev.GID)
		}
	}
}

// decidedNow: S3: a commit needs every branch of the set that was asked, each
// prepared or read-only by its own database; S10: and every branch that was
// acknowledged.
func (o *oracle) decidedNow(n *node, e logEntry, ev fsm.Event) {
	o.saw(ev.GID, ev.Decision, n.name+" by its log")
	a := o.of(ev.GID)
	if !a.standing {
		a.tombstone = true
		o.begunNow(n, e, ev.GID)
	}
	a.applied, a.appliedIndex, a.appliedAt = ev.Decision, e.index, o.w.now
	if ev.Decision != fsm.DecisionCommit {
		o.rollbacks++
		return
	}
	o.commits++
	if a.called != nil {
		o.workflowCommitted(n, a)
		return
	}
	rec, ok := n.state.Get(ev.GID)
	if !ok {
		o.violate("S6", ev.GID.String(), "is decided at %d and not there", e.index)
		return
	}
	held := false
	for _, b := range rec.GetBranches() {
		id := b.GetSpec().GetId()
		a.members = append(a.members, id)
		held = held || b.GetSpec().GetHeld() && b.GetVote() == prepared
		x := a.branch(id)
		switch {
		case !x.prepared && !x.readOnly:
			o.violate("S3", ev.GID.String(), "is committed, and branch %s has not prepared", id)
		case x.undone:
			o.violate("S1", ev.GID.String(), "is committed, and branch %s was rolled back before", id)
		}
	}
	if held && !decidedByDriver(e, ev.GID) {
		o.violate("S11", ev.GID.String(), "is committed with a held branch, and not by the driver's word")
	}
	for _, x := range a.branches {
		if x.enlistedAt != 0 && !slices.Contains(a.members, x.id) {
			o.violate("S10", ev.GID.String(), "is committed without branch %s, which was acknowledged", x.id)
		}
	}
	if explicit := a.run == nil || a.run.plan.Shape == shapeExplicit; a.bare && explicit {
		return
	}
	for _, set := range a.sets {
		if slices.Equal(set, a.members) {
			return
		}
	}
	o.violate("S3", ev.GID.String(), "is committed with branches %v, asked were %v", a.members, a.sets)
}

// decidedByDriver: the entry holds the driver's own commit.
func decidedByDriver(e logEntry, gid fsm.GID) bool {
	b, err := fsm.DecodeEntry(e.data)
	if err != nil {
		return false
	}
	for _, c := range b.GetCommands() {
		d := c.GetDecide()
		if d.GetOrigin() == logpb.Origin_ORIGIN_DRIVER && d.GetDecision() == fsm.DecisionCommit && fsm.GID(d.GetGid()) == gid {
			return true
		}
	}
	return false
}

// begunNow: S13: nothing is created at or below the horizon, nor twice.
func (o *oracle) begunNow(n *node, e logEntry, gid fsm.GID) {
	a := o.of(gid)
	clock := n.state.Clock()
	if beforeTick(e, gid) {
		clock.HorizonMS = o.horizonMS // it was raised after what stands before it
	}
	switch {
	case a.standing:
		o.violate("S9", gid.String(), "is created twice")
	case gid.BornMS() <= clock.HorizonMS:
		o.violate("S13", gid.String(), "is created with born %d, and the horizon is %d", gid.BornMS(), clock.HorizonMS)
	case gid.BornMS() > clock.ClockMS:
		o.violate("S13", gid.String(), "is created with born %d, and the clock is %d", gid.BornMS(), clock.ClockMS)
	}
	a.standing = true
}

// beforeTick: the entry names the transaction first, and raises the horizon then.
func beforeTick(e logEntry, gid fsm.GID) bool {
	b, err := fsm.DecodeEntry(e.data)
	if err != nil {
		return false
	}
	named := false
	for _, c := range b.GetCommands() {
		if c.GetTick() != nil && named {
			return true
		}
		for _, g := range [][]byte{c.GetBegin().GetGid(), c.GetDecide().GetGid(), c.GetSubmit().GetBegin().GetGid()} {
			named = named || bytes.Equal(g, gid[:])
		}
	}
	return false
}

// finishedNow: S5, S10: a transaction has ended when every branch that may have
// something to undo or to do has spoken, or an operator for it.
func (o *oracle) finishedNow(n *node, gid fsm.GID) {
	o.of(gid).finished = true
	if a := o.of(gid); a.called != nil || a.stopped {
		return
	}
	rec, _ := n.state.Get(gid)
	for _, b := range rec.GetBranches() {
		spoken := b.GetOwn() != logpb.Own_OWN_UNSPECIFIED || b.GetResolved() != 0
		ended := b.GetVote() == readOnly || b.GetVote() == refused && !b.GetMaybePrepared()
		if !b.GetHint() && !spoken && !ended {
			o.violate("S10", gid.String(), "has ended, and branch %s has not spoken", b.GetSpec().GetId())
		}
	}
}

// droppedNow: S13: a record goes only when every branch has ended for good.
func (o *oracle) droppedNow(n *node, gid fsm.GID) {
	if gid.BornMS() > n.state.Clock().HorizonMS {
		o.violate("S13", gid.String(), "is dropped, and born after the horizon")
	}
	if !o.of(gid).finished {
		o.violate("S13", gid.String(), "is dropped, and has not ended")
	}
	for _, id := range o.of(gid).members {
		if o.unended(ref{GID: gid, Branch: id}) {
			o.violate("S13", gid.String(), "is dropped, and branch %s is still prepared", id)
		}
		if b := o.of(gid).branch(id); !b.readOnly && !b.spoke {
			o.violate("S13", gid.String(), "is dropped, and branch %s has never said that it committed", id)
		}
	}
}

func (o *oracle) restored(n *node) {
	at := n.state.Clock().AppliedIndex
	switch {
	case at > n.applied:
		o.violate("S18", "", "%s restores a snapshot of index %d, and it says %d", n.name, n.applied, at)
		return
	case n.applied < uint64(len(o.ghost)):
		if g := o.ghost[at]; g.has && g.digest != n.state.Digest() {
			o.violate("S17", "", "%s restores a snapshot at %d with digest %s, want %s", n.name, at, n.state.Digest(), g.digest)
		}
	}
	o.invariants(n)
}

// stopped: a node ends itself, because it cannot apply an entry.
func (o *oracle) stopped(n *node, err error) {
	if errors.Is(err, fsm.ErrEntryChecksum) || errors.Is(err, fsm.ErrEntryMalformed) || errors.Is(err, fsm.ErrEntryVersion) {
		o.violate("S18", "", "%s applies a damaged entry, and only then finds out: %v", n.name, err)
		return
	}
	o.violate("S17", "", "%s stops: %v", n.name, err)
}

func (a *account) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v", a.gid, a.decision)
	for _, x := range a.branches {
		fmt.Fprintf(&b, " %s[prepared=%v effects=%d undone=%v]", x.id, x.prepared, x.effects, x.undone)
	}
	return b.String()
}
