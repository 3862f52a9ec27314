package coordinator

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// squall is a world of called branches in which everything that may happen does, in
// any order. It keeps its own account of what services did, and judges the core by
// that and by the log.
type squall struct {
	*world
	rt   *rapid.T
	gids []fsm.GID
	// flying are the calls that this leader has in flight; stale those of leaders
	// before, whose answers may still come.
	flying, stale []Delivery
	// did is what each branch was seen to do: operations, in their order.
	did map[BranchRef][]fsm.Operation
	// refused in this term, as its service says.
	refused map[BranchRef]uint64
	// undone: a compensation of the transaction was called in this term.
	undone map[fsm.GID]uint64
	local  map[fsm.GID]bool // a message's local transaction committed
	met    map[string]int
}

func newSquall(t *testing.T, rt *rapid.T, met map[string]int) *squall {
	w := newWorld(t, func(s *Settings) { s.CallsMax, s.CallsPerResourceMax, s.NotifyAttemptsMax = 8, 4, 3 })
	return &squall{
		world: w, rt: rt, did: map[BranchRef][]fsm.Operation{}, refused: map[BranchRef]uint64{}, undone: map[fsm.GID]uint64{},
		local: map[fsm.GID]bool{}, met: met,
	}
}

func (s *squall) n(most int, what string) int { return rapid.IntRange(0, most).Draw(s.rt, what) }

// set draws branches whose dependencies go forward only.
func (s *squall) set(undo bool) []*logpb.BranchSpec {
	var set []*logpb.BranchSpec
	for i := range 1 + s.n(4, "branches") {
		b := &logpb.BranchSpec{Id: fmt.Sprintf("%02d", i+1), Endpoint: fmt.Sprintf("http://h/%d", s.n(2, "endpoint"))}
		if undo && s.n(5, "has no undo") != 0 {
			b.Undo = b.Endpoint + "/undo"
		}
		for _, before := range set {
			if s.n(2, "comes after") == 0 {
				b.After = append(b.After, before.Id)
			}
		}
		set = append(set, b)
	}
	return set
}

func (s *squall) begin() {
	mode := rapid.SampledFrom([]fsm.Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_SAGA, logpb.Mode_MODE_SAGA, logpb.Mode_MODE_TCC,
		logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_WORKFLOW, logpb.Mode_MODE_NOTIFY}).Draw(s.rt, "mode")
	w := work{mode: mode, plan: &logpb.Plan{ConcurrencyMax: uint32(s.n(3, "at once")), Retry: &logpb.Retry{AttemptsMax: uint32(s.n(4, "attempts"))}}}
	if s.n(3, "speaks DTM's tongue") == 0 {
		w.plan.Dialect = logpb.Dialect_DIALECT_DTM_HTTP
	}
	gid := s.gid()
	begin := s.beginOf(w, gid)
	command := &logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}}
	switch mode {
	case logpb.Mode_MODE_SAGA:
		if s.n(2, "has a deadline") == 0 {
			begin.TimeoutMs = uint64(1000 + s.n(20_000, "timeout"))
		}
		command = &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: begin, Set: s.set(true)}}}
	case logpb.Mode_MODE_NOTIFY:
		command = &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: begin, Set: s.set(false)}}}
	case logpb.Mode_MODE_TCC:
		begin.TimeoutMs = uint64(1000 + s.n(20_000, "timeout"))
	case logpb.Mode_MODE_MESSAGE:
		begin.Plan.Callback, begin.Plan.CallbackAfterMs = "http://i/back", uint64(s.n(3000, "callback"))
		begin.Plan.DelayMs = uint64(s.n(1, "delayed") * 3000)
		begin.Branches = s.set(false)
		s.local[gid] = s.n(1, "local transaction") == 0
	case logpb.Mode_MODE_WORKFLOW:
		begin.Plan.Callback, begin.Plan.CallbackAfterMs = "http://i/resume", uint64(s.n(3000, "callback"))
	}
	if r := s.do(command); r.Code != fsm.OK {
		s.rt.Fatalf("begin: %v %s", r.Code, r.Detail)
	}
	if mode == logpb.Mode_MODE_TCC {
		for _, b := range s.set(true) {
			b.After = nil
			s.do(cmdEnlist(gid, b))
		}
	}
	s.gids = append(s.gids, gid)
}

func (s *squall) pick() (fsm.GID, bool) {
	if len(s.gids) == 0 {
		return fsm.GID{}, false
	}
	return s.gids[max(0, len(s.gids)-1-s.n(5, "transaction"))], true
}

// decideSome: an initiator decides, or an operator stops it all.
func (s *squall) decideSome() {
	gid, ok := s.pick()
	if !ok {
		return
	}
	mode := modeOf(s.record(gid))
	switch how := s.n(9, "how"); {
	case how == 9:
		s.do(&logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: gid.Bytes(), Operator: "o", Reason: "r"}}})
	case mode == logpb.Mode_MODE_MESSAGE:
		if s.local[gid] {
			s.do(cmdCommit(gid))
		}
	case how < 3:
		s.do(cmdRollback(gid))
	case mode != logpb.Mode_MODE_SAGA:
		s.do(cmdCommit(gid))
	}
}

// answer lets one call end, of this leader or of one before.
func (s *squall) answer() {
	from := &s.flying
	if len(s.stale) > 0 && s.n(3, "of a leader before") == 0 {
		from = &s.stale
	}
	if len(*from) == 0 {
		return
	}
	i := s.n(len(*from)-1, "call")
	d := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	how := s.n(9, "answer")
	switch {
	case how < 5:
		s.obey(d)
	case how == 5:
		s.answered(d, busyAnswer, nil)
	case how == 6 && mayRefuse(modeOf(s.record(d.GID)), d.Operation) && d.Operation == fsm.OperationAction:
		if !slices.Contains(s.did[ref(d)], fsm.OperationAction) {
			s.refused[ref(d)] = max(s.refused[ref(d)], d.Epoch.Term)
			s.answered(d, refusedAnswer, nil)
		}
	case how == 7: // done, and nobody hears of it
		s.act(d)
		s.answered(d, Answered{}, errBroken)
	case how == 8: // the Caller itself is lost; the core's own limit ends it
	default:
		s.answered(d, Answered{}, errBroken)
	}
}

func ref(d Delivery) BranchRef { return BranchRef{GID: d.GID, Branch: d.Branch} }

// act does what was asked: but what a step has refused, it never does.
func (s *squall) act(d Delivery) bool {
	if s.refused[ref(d)] != 0 && d.Operation == fsm.OperationAction {
		s.refused[ref(d)] = max(s.refused[ref(d)], d.Epoch.Term)
		return false
	}
	s.did[ref(d)] = append(s.did[ref(d)], d.Operation)
	return true
}

// obey does what was asked, and says so.
func (s *squall) obey(d Delivery) {
	a := doneAnswer
	if d.Operation == fsm.OperationCheckBack && !s.local[d.GID] {
		a = refusedAnswer
	}
	if !s.act(d) {
		a = refusedAnswer
	}
	s.answered(d, a, nil)
}

func (s *squall) answered(d Delivery, a Answered, err error) {
	s.core.Called(s.now, d, a, err)
	s.flow()
}

// flow performs effects; judge collects the calls.
func (s *squall) flow() {
	s.settle()
	s.takeCalls()
}

func (s *squall) judge(e Effect) {
	switch e := e.(type) {
	case StartCall:
		s.judgeCall(e.Delivery)
		// It is in flight from now on, for what is judged next.
		s.flying = append(s.flying, e.Delivery)
	case Propose:
		for c := range fsm.Unpack(e.Command, fsm.Result{}) {
			s.judgeWord(c)
		}
	}
}

// judgeCall: what is called is due, in order, by this leader, and alone.
func (s *squall) judgeCall(d Delivery) {
	rec := s.record(d.GID)
	if d.Epoch.Term != s.term || d.Attempt == 0 {
		s.rt.Fatalf("S12: %v is called in epoch %v, attempt %d; the term is %d", asked([]Delivery{d}), d.Epoch, d.Attempt, s.term)
	}
	if rec.GetStopped() || rec.GetState() == fsm.StateCommitted || rec.GetState() == fsm.StateRolledBack {
		s.rt.Fatalf("%s is called though its transaction has ended", asked([]Delivery{d}))
	}
	decided := map[fsm.Operation]fsm.Decision{
		fsm.OperationCompensate: fsm.DecisionRollback, fsm.OperationCancel: fsm.DecisionRollback, fsm.OperationConfirm: fsm.DecisionCommit,
		fsm.OperationAction: fsm.DecisionCommit, fsm.OperationCheckBack: fsm.DecisionNone, fsm.OperationResume: fsm.DecisionNone,
	}[d.Operation]
	if modeOf(rec) == logpb.Mode_MODE_SAGA && d.Operation == fsm.OperationAction {
		decided = fsm.DecisionNone
		if s.undone[d.GID] == s.term {
			s.rt.Fatalf("%s is called after a compensation under the same leader", asked([]Delivery{d}))
		}
	}
	if rec.GetDecision() != decided {
		s.rt.Fatalf("%s is called, decided is %v", asked([]Delivery{d}), rec.GetDecision())
	}
	if d.Operation == fsm.OperationCompensate {
		s.undone[d.GID] = s.term
	}
	if d.Branch != "" {
		s.judgeOrder(rec, d)
	}
	if k := s.core.under[ref(d)]; k != nil && k.r.failures > 0 && !k.doubtful {
		s.rt.Fatalf("%s begins where calls fail, and is not counted as one that may hang", asked([]Delivery{d}))
	}
	for _, other := range s.core.under {
		if other.ref == ref(d) && (other.op != d.Operation || other.attempt != d.Attempt) {
			s.rt.Fatalf("%s is called beside %s #%d of the same branch", asked([]Delivery{d}), operationName(other.op), other.attempt)
		}
	}
}

// judgeOrder: forward what comes before is done, and itself not answered; on the
// way back, nothing that came after is left.
func (s *squall) judgeOrder(rec *logpb.Transaction, d Delivery) {
	byID := map[string]*logpb.Branch{}
	for _, b := range rec.GetBranches() {
		byID[b.GetSpec().GetId()] = b
	}
	saga := modeOf(rec) == logpb.Mode_MODE_SAGA
	ended := func(b *logpb.Branch) bool { return b.GetOwn() != logpb.Own_OWN_UNSPECIFIED }
	if forward := d.Operation == fsm.OperationAction; forward {
		for _, id := range byID[d.Branch].GetSpec().GetAfter() {
			if before := byID[id]; saga && before.GetVote() != prepared || !saga && !ended(before) {
				s.rt.Fatalf("%s is called before %s is done", asked([]Delivery{d}), id)
			}
		}
		if saga && byID[d.Branch].GetVote() != 0 || ended(byID[d.Branch]) {
			s.rt.Fatalf("%s is called though it has answered", asked([]Delivery{d}))
		}
		return
	}
	var left func(id string) string
	left = func(id string) string {
		for _, b := range rec.GetBranches() {
			if !slices.Contains(b.GetSpec().GetAfter(), id) {
				continue
			}
			name := b.GetSpec().GetId()
			mayBeDone := b.GetVote() == prepared || b.GetMaybePrepared()
			if b.GetVote() == 0 { // no answer: it may have been called if all before it are done
				mayBeDone = !slices.ContainsFunc(b.GetSpec().GetAfter(), func(a string) bool { return byID[a].GetVote() != prepared })
			}
			if mayBeDone && b.GetSpec().GetUndo() != "" && !ended(b) {
				return name
			}
			if deeper := left(name); deeper != "" {
				return deeper
			}
		}
		return ""
	}
	if id := left(d.Branch); saga && id != "" {
		s.rt.Fatalf("%s is called before %s, which came after it, is compensated", asked([]Delivery{d}), id)
	}
}

// judgeWord: the log is told what a service did, and nothing else.
func (s *squall) judgeWord(command *logpb.Command) {
	did := func(gid []byte, branch string, op fsm.Operation) bool {
		return slices.Contains(s.did[BranchRef{GID: fsm.GID(gid), Branch: branch}], op)
	}
	switch c := command.GetKind().(type) {
	case *logpb.Command_Answer:
		a := c.Answer
		r := BranchRef{GID: fsm.GID(a.GetGid()), Branch: a.GetBranch()}
		switch a.GetKind() {
		case logpb.Answer_KIND_DONE:
			if !did(a.GetGid(), a.GetBranch(), fsm.OperationAction) {
				s.rt.Fatalf("%v is said to be done, and is not", r)
			}
		case logpb.Answer_KIND_REFUSED:
			if s.refused[r] != s.term {
				s.rt.Fatalf("%v is said to have refused in term %d, which it has not (%d)", r, s.term, s.refused[r])
			}
		case logpb.Answer_KIND_GAVE_UP:
			s.met["gave up"]++
		}
	case *logpb.Command_Report:
		r := c.Report
		for op, o := range map[fsm.Operation]fsm.Outcome{fsm.OperationCompensate: rolledBack, fsm.OperationCancel: rolledBack} {
			if r.GetOutcome() == o && modeOf(s.record(fsm.GID(r.GetGid()))) == map[fsm.Operation]fsm.Mode{
				fsm.OperationCompensate: logpb.Mode_MODE_SAGA, fsm.OperationCancel: logpb.Mode_MODE_TCC}[op] && !did(r.GetGid(), r.GetBranch(), op) {
				s.rt.Fatalf("%v: reported %v, and it was not", r, o)
			}
		}
		if r.GetOutcome() == committed && !did(r.GetGid(), r.GetBranch(), fsm.OperationAction) && !did(r.GetGid(), r.GetBranch(), fsm.OperationConfirm) {
			s.rt.Fatalf("%v: reported committed, and nothing was done", r)
		}
	case *logpb.Command_Decide:
		if c.Decide.GetOrigin() == logpb.Origin_ORIGIN_DRIVER && (c.Decide.GetDecision() == fsm.DecisionCommit) != s.local[fsm.GID(c.Decide.GetGid())] {
			s.rt.Fatalf("a check-back decides %v, against the local transaction", c.Decide.GetDecision())
		}
	}
}

func (s *squall) leaderChange() {
	late := s.held
	s.hold, s.held = false, nil
	s.stale = append(s.stale, s.flying...)
	s.flying = nil
	s.term++
	s.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	s.core.Lead(s.now, s.term)
	s.flow()
	for _, p := range late {
		s.core.Proposed(s.now, ProposeResult{Token: p.Token, Err: ErrNotLeader})
	}
	s.flow()
}

func (s *squall) network() {
	switch s.n(3, "the log") {
	case 0:
		s.hold = true
	case 1:
		s.lose = ErrOverload
	default:
		s.lose = nil
		s.letGo()
	}
}

// letGo appends what was held back, one by one.
func (s *squall) letGo() {
	held := s.held
	s.hold, s.held = false, nil
	for _, p := range held {
		s.append(p)
		s.flow()
	}
}

func (s *squall) timePasses() {
	s.advance(time.Duration(1+s.n(4000, "ms")) * time.Millisecond)
	s.flow()
}

func (s *squall) retry() {
	if gid, ok := s.pick(); ok {
		s.core.Retry(s.now, gid, "")
		s.flow()
	}
}

// check: what the log says is due is under way, and nothing else; and the core's
// account of its calls is right.
func (s *squall) check() {
	for d := range s.state.Due() {
		t := s.core.txns[d.GID]
		if t == nil || !slices.ContainsFunc(t.due, func(k *delivery) bool { return k.spec.GetId() == d.Branch.GetId() && k.op == d.Operation }) {
			s.rt.Fatalf("%s %s of %s is due, and nobody calls it", operationName(d.Operation), d.Branch.GetId(), d.GID)
		}
	}
	calls, doubtful, unproven, repeated := 0, 0, 0, 0
	for _, k := range s.core.under {
		if k.limit.armed() || k.flying {
			calls++
			if k.standing == standingUnproven && !k.hangs {
				unproven++
			}
			if k.standing == standingFailing {
				repeated++
			}
			if k.doubtful {
				doubtful++
			}
		}
	}
	if calls != s.core.calls || doubtful != s.core.doubtful || calls > 8 {
		s.rt.Fatalf("%d calls (%d doubtful) are in flight, %d (%d) are counted, at most 8", calls, doubtful, s.core.calls, s.core.doubtful)
	}
	flying := &s.core.flying
	for k := flying.first; k != nil; k = k.after {
		late := s.now.Sub(k.began) > callHangsAfter
		if !k.flying || late || !flying.wait.armed() || flying.wait.at.After(k.began.Add(callHangsAfter)) || k.after == nil && flying.last != k || k.after != nil && (k.after.before != k || k.after.began.Before(k.began)) {
			s.rt.Fatalf("%s %s, in flight for %v: it is out of order, or nobody looks in time", k.ref.GID, k.ref.Branch, s.now.Sub(k.began))
		}
	}
	if unproven != s.core.unproven || repeated != s.core.repeated {
		s.rt.Fatalf("%d calls are unproven and %d repeated, %d and %d are counted", unproven, repeated, s.core.unproven, s.core.repeated)
	}
	var sum host
	for _, h := range s.core.hosts {
		sum.calls, sum.doubtful, sum.unproven, sum.repeated = sum.calls+h.calls, sum.doubtful+h.doubtful, sum.unproven+h.unproven, sum.repeated+h.repeated
	}
	if sum.calls != calls || sum.doubtful != doubtful || sum.unproven != unproven || sum.repeated != repeated {
		s.rt.Fatalf("the hosts count %+v", sum)
	}
	for name, r := range s.core.resources {
		if r.calls > 4 || r.hanging < 0 || r.newcomers < 0 || r.hanging+r.newcomers > r.calls {
			s.rt.Fatalf("%s has %d calls, %d hanging; at most 4", name, r.calls, r.hanging)
		}
	}
}

// heal lets everybody answer, and time pass.
func (s *squall) heal() {
	s.lose = nil
	s.letGo()
	for range 400 {
		for len(s.flying) > 0 {
			d := s.flying[0]
			s.flying = s.flying[1:]
			s.obey(d)
		}
		s.advance(200 * time.Millisecond)
		s.flow()
	}
	for _, gid := range s.gids { // a workflow's code, and a TCC's initiator, have the last word
		if mode := modeOf(s.record(gid)); mode == logpb.Mode_MODE_WORKFLOW {
			s.do(cmdCommit(gid))
		}
	}
	s.flow()
}

// judgeEnd: everything has ended, whole.
func (s *squall) judgeEnd(gid fsm.GID) {
	rec := s.record(gid)
	if rec.GetState() != fsm.StateCommitted && rec.GetState() != fsm.StateRolledBack {
		s.rt.Fatalf("S5: %s (%v) is %v after the faults healed: %+v", gid, modeOf(rec), rec.GetState(), s.core.Deliveries(s.now, gid))
	}
	commit := rec.GetDecision() == fsm.DecisionCommit
	s.met[fmt.Sprintf("%s %v", fsm.ModeName(modeOf(rec)), commit)]++
	if rec.GetStopped() {
		s.met["stopped"]++
		return
	}
	for _, b := range rec.GetBranches() {
		r := BranchRef{GID: gid, Branch: b.GetSpec().GetId()}
		did := s.did[r]
		acted := slices.Contains(did, fsm.OperationAction)
		switch modeOf(rec) {
		case logpb.Mode_MODE_SAGA:
			undone := slices.Contains(did, fsm.OperationCompensate)
			if commit && (!acted || undone) || !commit && acted && !undone && b.GetSpec().GetUndo() != "" {
				s.rt.Fatalf("S15: step %v of a saga (commit %v) did %v", r, commit, did)
			}
			if undone && !acted {
				s.met["empty compensation"]++
			}
		case logpb.Mode_MODE_TCC:
			want := map[bool]fsm.Operation{true: fsm.OperationConfirm, false: fsm.OperationCancel}[commit]
			if (commit || b.GetSpec().GetUndo() != "") && !slices.Contains(did, want) || slices.ContainsFunc(did, func(op fsm.Operation) bool { return op != want }) {
				s.rt.Fatalf("S15: %v of a TCC (commit %v) did %v", r, commit, did)
			}
		case logpb.Mode_MODE_MESSAGE:
			if commit != s.local[gid] || acted != commit {
				s.rt.Fatalf("S14: message %v (commit %v, local %v) did %v", r, commit, s.local[gid], did)
			}
		case logpb.Mode_MODE_NOTIFY:
			if !acted && b.GetOutcome() != logpb.Outcome_OUTCOME_GAVE_UP {
				s.rt.Fatalf("best effort %v: %v %v", r, did, b.GetOutcome())
			}
		}
	}
}

// Thousands of interleavings of what may happen to called branches: every effect at
// least once, in order, nothing against the decision; S5, S12, S14, S15.
func TestAnyInterleavingOfCallsKeepsTheDriversPromises(t *testing.T) {
	setFlag(t, "rapid.checks", strconv.Itoa(stormsRun/2))
	setFlag(t, "rapid.steps", "80")
	met, ran := map[string]int{}, 0
	rapid.Check(t, func(rt *rapid.T) {
		ran++
		s := newSquall(t, rt, met)
		s.onAsked, s.onEffect = s.judge, func(Effect) {}
		actions := map[string]func(*rapid.T){}
		for name, f := range map[string]func(){
			"begin": s.begin, "answer": s.answer, "answer more": s.answer, "answer yet more": s.answer, "decide": s.decideSome,
			"leader change": s.leaderChange, "log": s.network, "time": s.timePasses, "retry": s.retry,
		} {
			actions[name] = func(rt *rapid.T) { s.rt = rt; f(); s.flow() }
		}
		actions[""] = func(rt *rapid.T) { s.rt = rt; s.check() }
		rt.Repeat(actions)
		s.rt = rt
		s.heal()
		s.check()
		for _, gid := range s.gids {
			s.judgeEnd(gid)
		}
		s.leavesNothing(rt.Fatalf)
	})
	mustHaveMet(t, met, stormsRun/150, ran < stormsRun/2, "saga true", "saga false", "tcc true", "tcc false", "message true", "message false",
		"workflow true", "workflow false", "notify true", "gave up", "stopped", "empty compensation")
}
