package fsm

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// The search visits every state that one transaction of two branches (and a
// stranger that is no member) can reach by the alphabet's commands in any order
// and number, which includes every command late and repeated for ever. In each
// state it tries every command, fresh and repeated, and checks the invariants
// and the atomic-commitment properties.

// searchFull adds the letters that multiply the states tenfold and need minutes:
//
//	go test ./fsm -run TestSearch -v -search.full
var searchFull = flag.Bool("search.full", false, "search with the whole alphabet")

// letter is one command of a search's alphabet.
type letter struct {
	name string
	do   func(s *State) (Result, error)
}

// search is one exhaustive walk.
type search struct {
	t       *testing.T
	gid     GID
	letters []letter
	seen    map[string]bool
	todo    []*State
	edges   int
	// least is how many states a search must find to be worth anything.
	least int
}

func command(name string, c *logpb.Command) letter {
	return letter{name, func(s *State) (Result, error) { return s.apply(c) }}
}

// phases are the clocks that a search knows: the start; the deadline; when
// what has ended by then may be dropped; and when all may.
func phases(s *State) []uint64 {
	retention := s.limits.GetRetentionMs()
	deadline := uint64(testStartMS + testTimeoutMS + 1)
	return []uint64{testStartMS, deadline, deadline + retention, deadline + 2*retention}
}

// later moves the clock to the next phase and ticks.
func later(s *State) (Result, error) {
	for _, ms := range phases(s) {
		if ms > s.clockMS {
			s.clockMS = ms
			break
		}
	}
	s.now.clockMS = s.clockMS
	return s.apply(tick())
}

func reports(g GID, ids []string, outcomes ...Outcome) (list []letter) {
	for _, id := range ids {
		for _, o := range outcomes {
			list = append(list, command(fmt.Sprintf("report %s %s", id, outcomeName(o)), report(g, id, o)))
		}
	}
	return list
}

func votes(g GID, ids ...string) (list []letter) {
	for _, id := range ids {
		list = append(list,
			command("vote prepared "+id, vote(g, spec(id), votePrepared)),
			command("vote read-only "+id, vote(g, spec(id), voteReadOnly)),
			command("vote refused "+id, vote(g, spec(id), voteRefused)),
			command("vote maybe "+id, maybe(g, spec(id))))
	}
	return list
}

// alphabet is every kind of command for members a and b, named so that a held
// one ends in "!".
func alphabet(g GID, start *logpb.Command, begun func(GID) *logpb.Begin, a, b string) []letter {
	na, nb := strings.TrimSuffix(a, "!"), strings.TrimSuffix(b, "!")
	list := []letter{
		command("begin", start),
		command("enlist "+a, enlist(g, spec(a))),
		command("enlist "+b, enlist(g, spec(b))),
		command("enlist other", enlist(g, other(spec(b)))),
		command("vote stranger", vote(g, spec("9"), votePrepared)),
		command("refusal of a stranger", vote(g, spec("9"), voteRefused)),
		command("commit bare", commit(g)),
		command("commit set", commit(g, na, nb)),
		command("commit one", commit(g, na)),
		command("driver", driver(g, 1, 1)),
		command("older driver", driver(g, 1, 0)),
		command("driver's rollback", driverRollback(g, 1, 1)),
		command("rollback", clientRollback(g)),
		command("rollback naming", clientRollback(g, spec(a), &logpb.BranchSpec{Id: nb})),
		command("participant's rollback", rollback(g, participant)),
		command("submit votes", submit(begun(g), specs(a, b), ballots(votePrepared, na)...)),
		command("submit", submit(begun(g), specs(a, b))),
		command("submit refusal", submit(begun(g), specs(a, b), ballots(voteRefused, na)...)),
		command("submit one", submit(begun(g), specs(a), ballots(votePrepared, na)...)),
		command("tick", tick()),
		command("resolve "+na, resolve(g, na, committed)),
		command("reports", reportsAll(g, committed, na, nb)),
		command("reports against each other", reportsOf(g, reported(nb, rolledBack), reported("9", committed), reported(na, committed))),
		{"later", later},
	}
	list = append(list, votes(g, a)...)
	list = append(list, reports(g, []string{"9"}, committed)...)
	list = append(list, reports(g, []string{nb}, committed, rolledBack)...)
	if !*searchFull {
		list = append(list, votes(g, b)[:2]...)
		return append(list, reports(g, []string{na}, committed, hazard)...)
	}
	list = append(list, command("begin other", begin(longer(begun(g)))), command("resolve "+nb, resolve(g, nb, committed)))
	list = append(list, votes(g, b)...)
	return append(list, reports(g, []string{na, nb}, committed, rolledBack, hazard)...)
}

func TestSearch(t *testing.T) {
	g := testGID(testStartMS, 1)
	variants := []struct {
		name  string
		start *logpb.Command
		begun func(GID) *logpb.Begin
		a, b  string
	}{
		{"explicit", explicit(g), explicitBegin, "1", "2"},
		{"named", named(g), namedBegin, "1", "2"},
		{"explicit, one held", explicit(g), explicitBegin, "1", "2!"},
		{"named, one held", named(g), namedBegin, "1", "2!"},
	}
	if raceDetector {
		variants = variants[:1] // one goroutine: there is nothing more to detect
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			start := w.s.fork()
			start.now = stamp{index: w.index + 1, term: 1, clockMS: start.clockMS}
			x := &search{t: t, gid: g, letters: alphabet(g, v.start, v.begun, v.a, v.b), least: 1000}
			x.run(start)
		})
	}
}

// run visits whatever can be reached.
func (x *search) run(start *State) {
	x.seen = map[string]bool{}
	x.visit(start)
	for len(x.todo) > 0 && !x.t.Failed() {
		s := x.todo[len(x.todo)-1]
		x.todo = x.todo[:len(x.todo)-1]
		x.expand(s)
	}
	x.t.Logf("%d distinct states, %d edges", len(x.seen), x.edges)
	if len(x.seen) < x.least {
		x.t.Errorf("only %d states: the search is vacuous", len(x.seen))
	}
}

// visit takes a state into the search unless its like was seen.
func (x *search) visit(s *State) {
	shape := x.shape(s)
	if x.seen[shape] {
		return
	}
	x.seen[shape] = true
	x.todo = append(x.todo, s)
	if err := s.CheckInvariants(); err != nil {
		x.t.Fatalf("%v in %s", err, shape)
	}
	x.checkEnds(s, shape)
}

// shape is a state without what no rule may depend on: where in the log things
// happened, and texts for people. Branches 1 and 2 stay apart.
func (x *search) shape(s *State) string {
	var b strings.Builder
	phase := slices.Index(phases(s), s.clockMS)
	fmt.Fprintf(&b, "%d ", phase)
	t := s.find(x.gid)
	if t == nil {
		return b.String()
	}
	fmt.Fprintf(&b, "%d%v%v%v%v %d %d", t.state, t.stopped, t.tombstone, t.quarantined, t.sealed, t.begin.GetTimeoutMs(), t.filedMS)
	for _, m := range t.branches {
		fmt.Fprintf(&b, " %s%s%s%v%v%d%v%d%d", m.spec.GetId(), m.operation(), m.spec.GetResource(), m.spec.GetHeld(), m.hint,
			m.vote, m.maybePrepared, m.own, m.resolved)
	}
	return b.String()
}

// expand tries every letter.
func (x *search) expand(s *State) {
	before, digest := s.find(x.gid), s.Digest()
	for _, l := range x.letters {
		x.edges++
		next := s.fork()
		r, err := l.do(next)
		if err != nil {
			x.t.Fatalf("%s in %s: %v", l.name, x.shape(s), err)
		}
		x.checkEdge(l, s, next, before, r)
		if l.name != "later" {
			x.checkRepeated(l, next, r)
		}
		if next.Digest() != digest {
			x.visit(next)
		}
	}
}

// checkEdge holds one step against the promises.
func (x *search) checkEdge(l letter, s, next *State, before *transaction, r Result) {
	fail := func(format string, args ...any) {
		x.t.Fatalf("%s in %s: %s: %+v", l.name, x.shape(s), fmt.Sprintf(format, args...), r)
	}
	after := before
	if s.Digest() != next.Digest() {
		after = next.find(x.gid)
	}
	if r.Code != OK && s.Digest() != next.Digest() {
		fail("a refusal changed the state")
	}
	if after == nil {
		if next.allRecords() != (Digest{}) {
			fail("the digest keeps what is gone")
		}
		if before != nil {
			x.checkDropped(before, fail)
		}
		if r.Verdict == VerdictCommit || r.Decision == DecisionCommit {
			fail("commit heard of an unseen GID")
		}
		return
	}
	if next.allRecords() != hashRecord(appendTransaction(nil, after)) {
		fail("the digest is not that of the record")
	}
	if after.quarantined {
		fail("quarantined: %s", after.detail)
	}
	if before == nil && next.horizonMS >= x.gid.BornMS() {
		fail("created at or below the horizon")
	}
	if before != nil && before.decision != DecisionNone && (after.decision != before.decision || after.decided.value() != before.decided.value()) {
		fail("AC2: the decision changed to %v", after.decision) // and AC1: there is one record
	}
	if after.decision == DecisionCommit {
		for _, b := range after.branches {
			if b.vote != votePrepared && b.vote != voteReadOnly && after.rules().waits {
				fail("AC3: committed with branch %s %v", b.spec.GetId(), b.vote)
			}
		}
		if !after.sealed {
			fail("AC3: committed unsealed")
		}
	}
	if r.Verdict == VerdictCommit && after.decision != DecisionCommit || r.Verdict == VerdictRollback && l.name == "inquire" && after.decision == DecisionNone {
		fail("verdict against the decision %v", after.decision)
	}
	if r.Code == OK && r.GID == x.gid && (r.Decision != after.decision || r.State != after.state) {
		fail("the answer is not what stands: %v %v", after.decision, after.state)
	}
	for _, d := range next.DueOf(x.gid) {
		voted := !after.rules().votes || after.member(d.Branch.GetId()).vote == votePrepared
		if (d.Verdict == VerdictCommit) != (after.decision == DecisionCommit && voted) {
			fail("branch %s is told %v", d.Branch.GetId(), d.Verdict)
		}
	}
}

// checkDropped: what is gone must have been ended, and a commit's branches
// must each have said so themselves.
func (x *search) checkDropped(t *transaction, fail func(string, ...any)) {
	if t.state != StateCommitted && t.state != StateRolledBack {
		fail("dropped in %v", t.state)
	}
	for _, b := range t.branches {
		// Of what is called, an operator's word is the last one.
		byHand := !t.rules().votes && (t.stopped || b.resolved != logpb.Outcome_OUTCOME_UNSPECIFIED)
		if t.decision == DecisionCommit && b.vote != voteReadOnly && b.own == ownNone && !b.idle && !byHand {
			fail("dropped without the report of %s", b.spec.GetId())
		}
	}
}

// checkRepeated: a command changes nothing the second time, and is answered
// alike: same code, verdict and decision.
func (x *search) checkRepeated(l letter, s *State, first Result) {
	digest := s.Digest()
	r, err := l.do(s)
	if err != nil {
		x.t.Fatalf("%s repeated: %v", l.name, err)
	}
	if s.Digest() != digest || r.Changed {
		x.t.Fatalf("%s repeated in %s changed the state: %+v", l.name, x.shape(s), r)
	}
	if r.Code != first.Code || r.Verdict != first.Verdict || r.Decision != first.Decision {
		x.t.Fatalf("%s repeated in %s is answered %+v after %+v", l.name, x.shape(s), r, first)
	}
}

// checkEnds is AC5: from every state, time and the due reports alone end it.
func (x *search) checkEnds(s *State, shape string) {
	if t := s.find(x.gid); t == nil || t.ended() {
		return
	}
	end := s.fork()
	if _, err := later(end); err != nil {
		x.t.Fatal(err)
	}
	for range 8 {
		for _, d := range end.DueOf(x.gid) {
			c := report(x.gid, d.Branch.GetId(), rolledBack)
			switch {
			case d.Verdict == VerdictCommit:
				c = report(x.gid, d.Branch.GetId(), committed)
			case d.Operation == OperationAction:
				c = done(x.gid, d.Branch.GetId())
			case d.Verdict == VerdictWait:
				c = clientRollback(x.gid) // what is called back comes to an answer
			}
			if _, err := end.apply(c); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	if t := end.find(x.gid); t == nil || !t.ended() {
		x.t.Fatalf("AC5: %s never ends", shape)
	}
}
