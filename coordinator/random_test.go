package coordinator

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// storm is a world in which everything that may happen does, in any order: it
// keeps its own account of what participants were told and said, and judges the
// core by it.
type storm struct {
	*world
	rt      *rapid.T
	procs   []*proc
	session SessionID
	gids    []fsm.GID
	told    map[BranchRef]fsm.Verdict
	votedOK map[BranchRef]bool // acknowledged prepared votes
	waiting map[uint64]fsm.GID
	waiter  uint64
}

// proc is a participant's process, as it knows itself.
type proc struct {
	holder   []byte
	resource string
	process  string
	session  SessionID // 0 while detached
	alive    bool
	inbox    []Delivery
	heldOpen map[BranchRef]bool // held branches still open on their connections
	done     map[BranchRef]fsm.Outcome
	vouched  map[BranchRef]SessionID // the session over which it vouched
}

func newStorm(t *testing.T, rt *rapid.T) *storm {
	w := newWorld(t, func(s *Settings) { s.CallsMax, s.CallsPerResourceMax, s.SessionWindowMax = 6, 3, 4 })
	s := &storm{world: w, rt: rt, told: map[BranchRef]fsm.Verdict{}, votedOK: map[BranchRef]bool{}, waiting: map[uint64]fsm.GID{}}
	for i := range byte(4) {
		s.procs = append(s.procs, s.newProc(i+1, fmt.Sprintf("r%d", i%2)))
	}
	return s
}

func (s *storm) newProc(n byte, resource string) *proc {
	return &proc{
		holder: holderN(n), resource: resource, process: fmt.Sprintf("p%d", n%16), alive: true,
		heldOpen: map[BranchRef]bool{}, done: map[BranchRef]fsm.Outcome{}, vouched: map[BranchRef]SessionID{},
	}
}

func (s *storm) proc() *proc { return s.procs[rapid.IntRange(0, len(s.procs)-1).Draw(s.rt, "process")] }

func (s *storm) gidOf() (fsm.GID, bool) {
	if len(s.gids) == 0 {
		return fsm.GID{}, false
	}
	// Mostly a recent one: old ones are decided.
	i := rapid.IntRange(max(0, len(s.gids)-6), len(s.gids)-1).Draw(s.rt, "transaction")
	return s.gids[i], true
}

func (s *storm) begin() {
	gid := fsm.NewGID(s.state.ClockMS(), [10]byte{byte(len(s.gids) >> 8), byte(len(s.gids))})
	if s.do(cmdBegin(gid, "", time.Duration(rapid.IntRange(2, 90).Draw(s.rt, "timeout"))*time.Second)).Code == fsm.OK {
		s.gids = append(s.gids, gid)
	}
}

func (s *storm) enlist() {
	gid, ok := s.gidOf()
	if !ok {
		return
	}
	p := s.proc()
	if !p.alive {
		return
	}
	id := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(s.rt, "branch")
	spec := &logpb.BranchSpec{Id: id, Resource: p.resource}
	switch rapid.IntRange(0, 3).Draw(s.rt, "kind") {
	case 0:
		spec.Endpoint = "http://e/" + id
	case 1:
		if p.session == 0 {
			return
		}
		spec.Held, spec.Holder = true, p.holder
	default:
		spec.Holder = p.holder
	}
	s.do(cmdEnlist(gid, spec))
}

// heldOne is a transaction with a held branch, all voted and its commit asked, up to
// the driver's own part.
func (s *storm) heldOne() {
	p := s.proc()
	if p.session == 0 {
		return
	}
	before := len(s.gids)
	s.begin()
	if len(s.gids) == before {
		return
	}
	gid := s.gids[before]
	spec := &logpb.BranchSpec{Id: "1", Resource: p.resource, Held: true, Holder: p.holder}
	if s.do(cmdEnlist(gid, spec)).Code != fsm.OK {
		return
	}
	ref := BranchRef{gid, "1"}
	p.heldOpen[ref] = true
	if rapid.Bool().Draw(s.rt, "vouches with its vote") {
		p.vouched[ref] = p.session
		s.core.Vouch(s.now, p.session, []BranchRef{ref})
		s.flow()
	}
	if p.session != 0 && s.do(cmdVote(gid, spec, prepared)).Code == fsm.OK {
		s.votedOK[ref] = true
	}
	s.do(cmdCommit(gid))
}

// member finds an enlisted branch of a transaction.
func (s *storm) member() (fsm.GID, *logpb.BranchSpec, bool) {
	gid, ok := s.gidOf()
	if !ok {
		return gid, nil, false
	}
	rec, ok := s.state.Get(gid)
	if !ok || len(rec.GetBranches()) == 0 {
		return gid, nil, false
	}
	return gid, rapid.SampledFrom(rec.GetBranches()).Draw(s.rt, "branch").GetSpec(), true
}

func (s *storm) byHolder(holder []byte) *proc {
	for _, p := range s.procs {
		if string(p.holder) == string(holder) {
			return p
		}
	}
	return nil
}

func (s *storm) vote() {
	gid, spec, ok := s.member()
	if !ok {
		return
	}
	ref := BranchRef{gid, spec.GetId()}
	p := s.byHolder(spec.GetHolder())
	if len(spec.GetHolder()) > 0 && (p == nil || !p.alive) || spec.GetHeld() && p.session == 0 {
		return
	}
	kind := rapid.SampledFrom([]logpb.VoteKind{prepared, prepared, prepared, readOnly, logpb.VoteKind_VOTE_KIND_REFUSED}).Draw(s.rt, "vote")
	if s.do(cmdVote(gid, spec, kind)).Code != fsm.OK || kind != prepared {
		return
	}
	s.votedOK[ref] = true
	if spec.GetHeld() {
		p.heldOpen[ref] = true
	}
}

// vouchAny lets a process say which of its held branches are still open.
func (s *storm) vouchAny() {
	if p := s.proc(); p.session != 0 {
		s.vouchOf(p)
	}
}

func (s *storm) vouchOf(p *proc) {
	var refs []BranchRef
	for _, gid := range s.gids {
		for _, id := range []string{"1", "2", "3"} {
			if ref := (BranchRef{gid, id}); p.heldOpen[ref] {
				refs = append(refs, ref)
				p.vouched[ref] = p.session
			}
		}
	}
	s.core.Vouch(s.now, p.session, refs)
	s.flow()
}

func (s *storm) attachProc() {
	p := s.proc()
	if !p.alive {
		return
	}
	s.session++
	p.session = s.session
	var live []LiveBranch
	if rapid.Bool().Draw(s.rt, "names what it holds") {
		for _, gid := range s.gids {
			for _, id := range []string{"1", "2", "3"} {
				if ref := (BranchRef{gid, id}); p.heldOpen[ref] {
					live = append(live, LiveBranch{BranchRef: ref, Held: true, Resource: p.resource})
					p.vouched[ref] = p.session
				}
			}
		}
	}
	s.core.Attach(s.now, p.session, AttachRequest{Holder: p.holder, Resources: []string{p.resource}, Process: p.process, Live: live, Window: 3})
	s.flow()
}

// detachProc: the stream breaks; or the process says goodbye; or it dies and
// another instance starts.
func (s *storm) detachProc() {
	p := s.proc()
	how := rapid.IntRange(0, 2).Draw(s.rt, "how it goes")
	if p.session != 0 {
		s.core.Detach(s.now, p.session, how == 1, errors.New("gone"))
		p.session = 0
		p.inbox = nil
	}
	if how != 0 { // what was held is lost with its connections
		p.heldOpen = map[BranchRef]bool{}
		p.vouched = map[BranchRef]SessionID{}
	}
	if how == 2 {
		for i := range s.procs {
			if s.procs[i] == p {
				next := s.newProc(p.holder[6]+16, p.resource)
				next.done = p.done // its database remembers
				s.procs[i] = next
			}
		}
	}
	s.flow()
}

// answer lets a process, or an endpoint, answer what it was told: do it, be
// busy, or lose the message.
func (s *storm) answer() {
	p := s.proc()
	if len(p.inbox) > 0 {
		d := p.inbox[0]
		p.inbox = p.inbox[1:]
		ref := BranchRef{d.GID, d.Branch}
		switch rapid.IntRange(0, 3).Draw(s.rt, "answer") {
		case 0: // lost
		case 1:
			if p.session != 0 {
				s.core.Busy(s.now, p.session, ref, "busy")
				s.flow()
			}
		default:
			s.obey(p, d)
		}
	}
	if len(s.calls) > 0 {
		d := s.calls[0]
		s.calls = s.calls[1:]
		a, err := Answered{Outcome: outcomeOf(d.Verdict)}, error(nil)
		switch rapid.IntRange(0, 2).Draw(s.rt, "endpoint") {
		case 0:
			a, err = Answered{}, errors.New("refused")
		case 1:
			a = Answered{Busy: true}
		}
		s.core.Called(s.now, d, a, err)
		s.flow()
	}
}

func (s *storm) obey(p *proc, d Delivery) {
	ref := BranchRef{d.GID, d.Branch}
	if done, before := p.done[ref]; before && done != outcomeOf(d.Verdict) {
		s.rt.Fatalf("S11: branch %v was %v and is now told %v", ref, done, d.Verdict)
	}
	p.done[ref] = outcomeOf(d.Verdict)
	delete(p.heldOpen, ref)
	s.core.Report(s.now, &logpb.Report{Gid: d.GID.Bytes(), Branch: d.Branch, Outcome: outcomeOf(d.Verdict)}, func(fsm.Result, error) {})
	s.flow()
}

func outcomeOf(v fsm.Verdict) fsm.Outcome {
	if v == fsm.VerdictCommit {
		return committed
	}
	return rolledBack
}

func (s *storm) decideSomething() {
	gid, ok := s.gidOf()
	if !ok {
		return
	}
	if rapid.IntRange(0, 9).Draw(s.rt, "rollback of ten") == 0 {
		s.do(cmdRollback(gid))
		return
	}
	s.do(cmdCommit(gid))
}

func (s *storm) wait() {
	gid, ok := s.gidOf()
	if _, standing := s.state.Get(gid); !ok || !standing {
		return
	}
	s.waiter++
	s.waiting[s.waiter] = gid
	s.core.Wait(s.now, s.waiter, gid, rapid.Bool().Draw(s.rt, "for the end"))
	s.flow()
}

func (s *storm) leaderChange() {
	late := s.held
	s.hold, s.held = false, nil // what was under way is lost with the old leader
	if rapid.Bool().Draw(s.rt, "a follower in between") {
		s.core.Follow(s.now)
		if left := remembers(s.core); len(left) > 0 {
			s.rt.Fatalf("left over from the leadership: %v", left)
		}
		s.flow()
	}
	s.term++
	s.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	s.core.Lead(s.now, s.term)
	s.flow()
	for _, p := range late { // and what came of it is heard late
		s.core.Proposed(s.now, ProposeResult{Token: p.Token, Err: ErrNotLeader})
	}
	s.flow()
	for _, p := range s.procs {
		p.session, p.inbox = 0, nil
	}
	s.calls = nil // their contexts ended
}

func (s *storm) network() {
	switch rapid.IntRange(0, 3).Draw(s.rt, "the log") {
	case 0:
		s.hold = true
	case 1:
		s.lose = ErrOverload
	default:
		s.lose = nil
		s.release()
		s.flow()
	}
}

func (s *storm) timePasses() {
	d := time.Duration(rapid.IntRange(1, 4000).Draw(s.rt, "ms")) * time.Millisecond
	for end := s.now.Add(d); s.now.Before(end); {
		for _, p := range s.procs {
			if p.session != 0 {
				s.core.Alive(s.now, p.session)
			}
		}
		s.advance(min(500*time.Millisecond, end.Sub(s.now)))
	}
	s.flow()
}

// flow performs effects, each judged by judge, and brings messages to inboxes.
func (s *storm) flow() {
	s.settle()
	for _, p := range s.procs {
		if _, closed := s.closed[p.session]; closed {
			p.session, p.inbox = 0, nil
		}
		if p.session != 0 {
			p.inbox = append(p.inbox, s.take(p.session)...)
		}
	}
}

// judge checks an effect that the core asks for against the state, and against
// the storm's own account.
func (s *storm) judge(e Effect) {
	switch e := e.(type) {
	case SendDeliveries:
		for _, d := range e.Deliveries {
			s.judgeDelivery(d)
		}
	case StartCall:
		s.judgeDelivery(e.Delivery)
	case Propose:
		if d := e.Command.GetDecide(); d != nil {
			s.judgeDecide(d)
		}
	}
}

func (s *storm) judgeDelivery(d Delivery) {
	rec := s.record(d.GID)
	want := fsm.VerdictRollback
	if rec.GetDecision() == fsm.DecisionCommit {
		want = fsm.VerdictCommit
	}
	ref := BranchRef{d.GID, d.Branch}
	if rec.GetDecision() == fsm.DecisionNone || d.Verdict != want {
		s.rt.Fatalf("S1: branch %v is told %v, decided is %v", ref, d.Verdict, rec.GetDecision())
	}
	if before, ok := s.told[ref]; ok && before != d.Verdict {
		s.rt.Fatalf("S2: branch %v was told %v and is told %v", ref, before, d.Verdict)
	}
	s.told[ref] = d.Verdict
	if d.Epoch.Term != s.term || d.Attempt == 0 {
		s.rt.Fatalf("S12: delivery of epoch %v, attempt %d; the term is %d", d.Epoch, d.Attempt, s.term)
	}
}

func (s *storm) judgeDecide(d *logpb.Decide) {
	rec := s.record(fsm.GID(d.GetGid()))
	lost := d.GetDecision() == fsm.DecisionCommit
	for _, b := range rec.GetBranches() {
		ref := BranchRef{fsm.GID(d.GetGid()), b.GetSpec().GetId()}
		p := s.byHolder(b.GetSpec().GetHolder())
		attached := p != nil && p.session != 0
		vouched := attached && p.vouched[ref] == p.session
		if d.GetDecision() == fsm.DecisionCommit {
			if b.GetVote() == prepared && b.GetSpec().GetHeld() && !vouched {
				s.rt.Fatalf("held branch %v: commit is proposed, and its holder has not vouched in term %d", ref, s.term)
			}
			continue
		}
		if len(b.GetSpec().GetHolder()) > 0 && (!attached || !vouched) {
			lost = true
		}
	}
	if !lost {
		s.rt.Fatalf("PARTICIPANT_LOST is proposed though every holder is attached and has vouched: %s", d.GetDetail())
	}
}

func (s *storm) check() {
	inflight := s.core.Stats(s.now).Calls
	if inflight > 6 {
		s.rt.Fatalf("%d calls in flight, at most 6", inflight)
	}
	for id, sess := range s.core.sessions {
		if sess.inflight.length > sess.window {
			s.rt.Fatalf("session %d has %d outstanding, its window is %d", id, sess.inflight.length, sess.window)
		}
	}
	for id, a := range s.answers {
		if gid := s.waiting[id]; !a.Lost && s.record(gid).GetDecision() != a.Status.Decision {
			s.rt.Fatalf("S1: waiter %d of %s heard %v, decided is %v", id, gid, a.Status.Decision, s.record(gid).GetDecision())
		}
	}
	// PROTOCOL.md section 3, invariant 7, on the driver's side: what is due is
	// under way, and nothing else is.
	if s.core.leading && s.core.clock != s.state.Clock() {
		s.rt.Fatalf("the clock is %+v, and the core goes by %+v", s.state.Clock(), s.core.clock)
	}
	due := 0
	for d := range s.state.Due() {
		due++
		if s.core.find(BranchRef{d.GID, d.Branch.GetId()}) == nil {
			s.rt.Fatalf("%s of %s is due, and nobody delivers it", d.Branch.GetId(), d.GID)
		}
	}
	if due != s.core.due.length {
		s.rt.Fatalf("%d are due, %d are delivered", due, s.core.due.length)
	}
}

// heal lets everybody be up and answer, and time pass.
func (s *storm) heal() {
	s.lose = nil
	s.release()
	for range 200 {
		for _, p := range s.procs {
			if p.session == 0 {
				s.session++
				p.session = s.session
				s.core.Attach(s.now, p.session, AttachRequest{Holder: p.holder, Resources: []string{p.resource}, Process: p.process})
				s.flow()
			}
			for len(p.inbox) > 0 {
				d := p.inbox[0]
				p.inbox = p.inbox[1:]
				s.obey(p, d)
				s.flow()
			}
			s.vouchOf(p)
		}
		for len(s.calls) > 0 {
			d := s.calls[0]
			s.calls = s.calls[1:]
			s.core.Called(s.now, d, Answered{Outcome: outcomeOf(d.Verdict)}, nil)
			s.flow()
		}
		s.core.Alive(s.now, 0)
		for _, p := range s.procs {
			s.core.Alive(s.now, p.session)
		}
		s.advance(500 * time.Millisecond)
		s.flow()
	}
}

// Thousands of interleavings of everything that may happen; see GUARANTEES.md
// S1, S2, S5, S10, S11, S12.
func TestAnyInterleavingKeepsTheDriversPromises(t *testing.T) {
	setFlag(t, "rapid.checks", strconv.Itoa(stormsRun))
	setFlag(t, "rapid.steps", "80")
	met, ran := map[string]int{}, 0
	rapid.Check(t, func(rt *rapid.T) {
		ran++
		s := newStorm(t, rt)
		s.onEffect = s.judge
		actions := map[string]func(*rapid.T){}
		for name, f := range map[string]func(){
			"begin": s.begin, "enlist": s.enlist, "enlist more": s.enlist, "vote": s.vote, "vote more": s.vote, "vouch": s.vouchAny,
			"attach": s.attachProc, "detach": s.detachProc, "answer": s.answer, "answer more": s.answer, "decide": s.decideSomething,
			"wait": s.wait, "held": s.heldOne, "leader change": s.leaderChange, "log": s.network, "time": s.timePasses,
		} {
			actions[name] = func(rt *rapid.T) { s.rt = rt; f(); s.flow() }
		}
		actions[""] = func(rt *rapid.T) { s.rt = rt; s.check() }
		rt.Repeat(actions)
		s.rt = rt
		s.heal()
		s.check()
		for _, gid := range s.gids {
			rec := s.record(gid)
			if st := rec.GetState(); st != fsm.StateCommitted && st != fsm.StateRolledBack {
				rt.Fatalf("S5: %s is %v after the faults healed: %+v", gid, st, s.core.Deliveries(s.now, gid))
			}
			for _, b := range rec.GetBranches() {
				if ref := (BranchRef{gid, b.GetSpec().GetId()}); s.votedOK[ref] && s.told[ref] == fsm.VerdictNone && b.GetReported().GetIndex() == 0 {
					rt.Fatalf("S10: %v voted prepared and never heard", ref)
				}
			}
		}
		for id := uint64(1); id <= s.waiter; id++ {
			if _, ok := s.answers[id]; !ok {
				rt.Fatalf("waiter %d was never answered", id)
			}
		}
		s.meet(met)
		s.leavesNothing(rt.Fatalf)
	})
	mustHaveMet(t, met, stormsRun/75, ran < stormsRun,
		"commit", "rollback", "held commit", "PARTICIPANT_LOST", "TIMEOUT", "commit told over two terms", "waiter lost", "waiter told")
}

// mustHaveMet: a storm in which nothing happens proves nothing. rapid cuts a test short
// where the binary's time is running out, and passes it: then too little was tried to
// count, and what was tried held.
func mustHaveMet(t *testing.T, met map[string]int, least int, cutShort bool, kinds ...string) {
	t.Helper()
	t.Logf("met %v, cut short: %v", met, cutShort)
	for _, kind := range kinds {
		if met[kind] < least && !cutShort {
			t.Errorf("only %d times: %s", met[kind], kind)
		}
	}
}

func setFlag(t *testing.T, name, value string) {
	f := flag.Lookup(name)
	before := f.Value.String()
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}

// meet counts what a storm has met.
func (s *storm) meet(met map[string]int) {
	for _, gid := range s.gids {
		rec := s.record(gid)
		if rec.GetDecision() == fsm.DecisionCommit {
			met["commit"]++
		} else {
			met["rollback"]++
		}
		met[strings.TrimPrefix(rec.GetReason().String(), "REASON_")]++
		for _, b := range rec.GetBranches() {
			if b.GetSpec().GetHeld() && b.GetVote() == prepared && rec.GetDecision() == fsm.DecisionCommit {
				met["held commit"]++
			}
			if rec.GetDecision() == fsm.DecisionCommit && b.GetReported().GetTerm() > rec.GetDecided().GetTerm() {
				met["commit told over two terms"]++
			}
		}
	}
	for _, a := range s.answers {
		if a.Lost {
			met["waiter lost"]++
		} else {
			met["waiter told"]++
		}
	}
}
