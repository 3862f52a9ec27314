package fsm

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// PROTOCOL.md, section 1: "Restore and forced recovery keep the cluster id,
// raise the incarnation, set hold_before_ms and raise clock_ms to it. Withheld
// for an operator: every transaction that the restored state holds in A or S,
// and every unseen one with restored horizon < born <= hold_before_ms."
func TestRecoveryWithholdsTheGap(t *testing.T) {
	w := newWorld(t)
	a, s, c, r := testGID(testStartMS, 1), testGID(testStartMS, 2), testGID(testStartMS, 3), testGID(testStartMS, 4)
	for _, g := range []GID{a, s, c, r} {
		w.must(explicit(g))
		w.must(enlist(g, spec("1")))
	}
	w.must(commit(s))
	w.must(vote(c, spec("1"), votePrepared))
	w.must(commit(c))
	w.must(clientRollback(r))
	w.leap(testStartMS + 500)
	horizon := w.s.Clock().HorizonMS

	hold := uint64(testStartMS + 5000)
	if r := w.must(recovery(3, hold)); !r.Changed {
		t.Fatalf("%+v", r)
	}
	w.clock = hold
	if k := w.s.Clock(); k.Incarnation != 3 || k.HoldBeforeMS != hold || k.ClockMS != hold || k.HorizonMS != horizon {
		t.Fatalf("%+v", k)
	}
	if r := w.must(recovery(3, hold)); r.Changed {
		t.Fatalf("repeated: %+v", r)
	}
	w.want(Stale, recovery(2, hold+1))
	w.want(Stale, recovery(3, hold+1))
	if n := w.s.Counts().Withheld; n != 2 {
		t.Fatalf("%d withheld", n)
	}
	unseen := testGID(hold, 9)
	for _, g := range []GID{a, s, unseen} {
		for _, c := range []*logpb.Command{
			commit(g), clientRollback(g), rollback(g, participant), driver(g, 3, 1), driverRollback(g, 3, 1),
		} {
			w.want(Withheld, c)
		}
		if q := w.s.Inquire(g, "1"); q.Code != Withheld || q.Verdict != VerdictWait {
			t.Errorf("inquire: %+v", q)
		}
		if tx := w.s.find(g); tx != nil && tx.verdict("9") != VerdictWait {
			t.Error("a stranger is told something")
		}
		for _, c := range []*logpb.Command{
			vote(g, spec("1"), votePrepared), vote(g, spec("1"), voteRefused), report(g, "1", rolledBack),
			submit(explicitBegin(g), specs("1"), ballots(votePrepared, "1")...), enlist(g, spec("1")), resolve(g, "1", committed),
		} {
			if r := w.want(Withheld, c); r.Verdict == VerdictCommit || r.Verdict == VerdictRollback {
				t.Errorf("%v: %+v", c, r)
			}
		}
	}
	w.want(Withheld, explicit(unseen))
	w.must(explicit(a)) // stands, and is only read
	w.want(GIDConflict, begin(longer(explicitBegin(a))))

	// Tick ends none of them, and they block no other one's deadline.
	young := testGID(hold, 10)
	w.want(Withheld, explicit(young)) // born at hold_before: still in the gap
	w.leap(hold + 1)
	young = testGID(hold+1, 10)
	w.must(explicit(young))
	if at, ok := w.s.NextDeadlineMS(); !ok || at != hold+1+testTimeoutMS {
		t.Fatalf("next deadline %d %v", at, ok)
	}
	w.leap(hold + 1 + 2*testTimeoutMS)
	w.state(young, StateRolledBack)
	w.state(a, StateActive)
	w.state(s, StateSealed)
	// What was decided before is obeyed.
	w.must(report(c, "1", committed))
	w.must(report(r, "1", rolledBack))

	// Only an operator's reasoned word ends it.
	if r := w.must(rollback(a, operator)); r.Decision != DecisionRollback || r.Reason != logpb.Reason_REASON_OPERATOR {
		t.Fatalf("%+v", r)
	}
	if tx := w.get(a); tx.GetWithheld() || tx.GetOperator() != "alice" || tx.GetDetail() != "the other side says so" || tx.GetOrigin() != operator {
		t.Fatalf("%v", tx)
	}
	commitByOperator := commit(s)
	commitByOperator.GetDecide().Origin = operator
	commitByOperator.GetDecide().Operator, commitByOperator.GetDecide().Detail = "alice", "all ledgers agree"
	if r := w.must(commitByOperator); r.State != StateSealed || w.get(s).GetWithheld() {
		t.Fatalf("an operator cannot replace a vote: %+v", r)
	}
	if r := w.must(vote(s, spec("1"), votePrepared)); r.Decision != DecisionCommit {
		t.Fatalf("%+v", r)
	}
	if r := w.must(rollback(unseen, operator)); r.Decision != DecisionRollback {
		t.Fatalf("%+v", r)
	}
	if q := w.s.Inquire(unseen, "1"); q.Code != OK || q.Verdict != VerdictRollback {
		t.Fatalf("%+v", q)
	}
	commitUnseen := commit(testGID(hold, 11))
	commitUnseen.GetDecide().Origin = operator
	commitUnseen.GetDecide().Operator, commitUnseen.GetDecide().Detail = "alice", "x"
	w.want(Withheld, commitUnseen) // there is nothing that it could commit

	// The gap stays withheld when the horizon has passed it.
	w.leap(hold + 2*w.s.Limits().GetRetentionMs())
	w.want(Withheld, clientRollback(testGID(hold, 12)))
	w.want(Expired, clientRollback(testGID(hold+1, 12)))
	if got := reborn(t, w.s).Digest(); got != w.s.Digest() {
		t.Fatal("a snapshot loses the gap")
	}
}

// A second recovery keeps the first one's gap withheld.
func TestRecoveryTwice(t *testing.T) {
	w := newWorld(t)
	w.must(recovery(2, testStartMS+1000))
	w.clock = testStartMS + 1000
	w.leap(testStartMS + 1000 + w.s.Limits().GetRetentionMs())
	w.must(recovery(3, testStartMS+500)) // below the clock: it does not fall
	if k := w.s.Clock(); k.ClockMS != w.clock || k.HoldBeforeMS != testStartMS+1000 || k.Incarnation != 3 {
		t.Fatalf("%+v", k)
	}
	w.want(Withheld, clientRollback(testGID(testStartMS+1000, 1)))
	w.want(Withheld, clientRollback(testGID(1, 1)))
	// Sealed and withheld with a bare commit by an operator, a held branch: the
	// driver's word is still asked for.
	g := testGID(w.clock, 2)
	w.must(explicit(g))
	w.must(enlist(g, spec("1!")))
	w.must(vote(g, spec("1!"), votePrepared))
	w.must(commit(g))
	w.must(recovery(4, w.clock+1))
	w.clock++
	w.want(Withheld, driver(g, 4, 1))
	c := commit(g)
	c.GetDecide().Origin, c.GetDecide().Operator, c.GetDecide().Detail = operator, "alice", "x"
	if r := w.must(c); r.State != StateSealed {
		t.Fatalf("%+v", r)
	}
	w.want(Stale, driver(g, 3, 1))
	if r := w.must(driver(g, 4, 1)); r.Decision != DecisionCommit {
		t.Fatalf("%+v", r)
	}
}

// PROTOCOL.md, section 3: "A breach confined to one GID sets a replicated flag,
// quarantined: every command on it answers QUARANTINED, =; Inquire: wait;
// never dropped, not in the heap or Due; only an operator ends it."
func TestQuarantine(t *testing.T) {
	g := testGID(testStartMS, 1)
	breach := func(w *world, f func(*transaction)) {
		old := w.s.find(g)
		next := old.clone()
		f(next)
		w.s.put(old, next)
		if err := w.s.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make situation
		in   string
		do   func(*transaction)
		want string
		back Code // what an operator's rollback is answered
	}{
		"decision overwritten":    {explicitSituation, "C", func(t *transaction) { t.decision, t.state = DecisionRollback, StateRollingBack }, "overwritten", AlreadyDecided},
		"decision moved":          {explicitSituation, "C", func(t *transaction) { t.decided = &stamp{index: t.decided.index + 1} }, "overwritten", AlreadyDecided},
		"ended overwritten":       {explicitSituation, "R+", func(t *transaction) { t.state = StateActive; t.decision = DecisionNone }, "overwritten", OK},
		"ended reopened":          {explicitSituation, "R+", func(t *transaction) { t.state = StateRollingBack }, "became", OK},
		"unsealed":                {explicitSituation, "S", func(t *transaction) { t.state = StateActive }, "sealed became active", OK},
		"sealed flag lost":        {explicitSituation, "S", func(t *transaction) { t.sealed = false }, "the sealed set changed", OK},
		"sealed set grew":         {explicitSituation, "S", func(t *transaction) { t.join(spec("3"), nil) }, "the sealed set changed", OK},
		"sealed set renamed":      {explicitSituation, "S", func(t *transaction) { t.edit("2").spec = spec("3") }, "the sealed set changed", OK},
		"vote overwritten":        {explicitSituation, "A", func(t *transaction) { t.edit("1").vote = voteReadOnly }, "vote", OK},
		"vote made doubtful":      {explicitSituation, "A", func(t *transaction) { t.edit("1").maybePrepared = true }, "vote", OK},
		"vote moved":              {explicitSituation, "A", func(t *transaction) { b := t.edit("1"); b.voted = &stamp{index: b.voted.index + 1} }, "vote", OK},
		"branch left":             {explicitSituation, "A", func(t *transaction) { t.branches = t.branches[:1] }, "left", OK},
		"branches unsorted":       {explicitSituation, "A", func(t *transaction) { t.branches = append(t.branches, &branch{spec: spec("0")}) }, "sorted", OK},
		"another transaction":     {explicitSituation, "A", func(t *transaction) { t.began = &stamp{index: t.began.index + 1} }, "another", OK},
		"committed, vote missing": {explicitSituation, "S", func(t *transaction) { t.decision, t.state = DecisionCommit, StateCommitting }, "without every vote", OK},
		"committed unsealed": {explicitSituation, "A", func(t *transaction) {
			t.edit("2").vote = votePrepared
			t.decision, t.state = DecisionCommit, StateCommitting
		}, "without every vote", OK},
		"sealed with nothing to ask": {explicitSituation, "S", func(t *transaction) { t.edit("2").vote = votePrepared }, "every vote is in", OK},
		"active and decided":         {explicitSituation, "A", func(t *transaction) { t.decision = DecisionRollback }, "with decision", OK},
		"active and finished":        {explicitSituation, "A", func(t *transaction) { t.finished = &stamp{index: 1} }, "with decision", OK},
		"active and a tombstone":     {explicitSituation, "A", func(t *transaction) { t.tombstone = true }, "with decision", OK},
		"active and sealed":          {explicitSituation, "A", func(t *transaction) { t.sealed = true }, "with sealed", OK},
		"active with a refusal":      {explicitSituation, "A", func(t *transaction) { t.edit("2").vote = voteRefused }, "has ended", OK},
		"active with a report":       {explicitSituation, "A", func(t *transaction) { t.edit("2").own = ownDone }, "has ended", OK},
		"active and resolved":        {explicitSituation, "A", func(t *transaction) { t.edit("2").resolved = committed }, "has ended", OK},
		"rolling back undecided":     {explicitSituation, "A", func(t *transaction) { t.state = StateRollingBack }, "with decision", OK},
		"finished too early":         {explicitSituation, "C", func(t *transaction) { t.state = StateCommitted }, "all branches terminal is false", AlreadyDecided},
		"finished too late":          {explicitSituation, "C", func(t *transaction) { t.edit("1").own, t.edit("2").own = ownDone, ownDone }, "all branches terminal is true", AlreadyDecided},
		"no state":                   {explicitSituation, "A", func(t *transaction) { t.state = 9 }, "no state", OK},
		"tombstone grew":             {explicitSituation, "T", func(t *transaction) { t.join(spec("7"), nil) }, "a tombstone's branches changed", OK},
		"tombstone no more":          {explicitSituation, "T", func(t *transaction) { t.tombstone = false }, "a tombstone's branches changed", OK},
		"a pre-condition":            {explicitSituation, "A", func(t *transaction) { t.edit("7") }, `branch "7" to change is no member`, OK},
		"joined twice":               {explicitSituation, "A", func(t *transaction) { t.join(spec("1"), nil) }, `branch "1" joins twice`, OK},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.make(w, c.in)
			decision := w.get(g).GetDecision()
			breach(w, c.do)
			tx := w.get(g)
			if !tx.GetQuarantined() || !strings.Contains(tx.GetDetail(), c.want) || tx.GetDecision() != decision {
				t.Fatalf("not quarantined for %q: %v", c.want, tx)
			}
			if n := w.s.Counts().Quarantined; n != 1 {
				t.Errorf("%d counted", n)
			}
			for _, command := range []*logpb.Command{
				begin(longer(explicitBegin(g))), explicit(g), enlist(g, spec("1")), vote(g, spec("2"), votePrepared), commit(g), clientRollback(g),
				rollback(g, participant), driver(g, 1, 1), submit(explicitBegin(g), specs("1", "2")), report(g, "1", committed), resolve(g, "1", committed),
			} {
				if r := w.want(Quarantined, command); r.Verdict == VerdictCommit || r.Verdict == VerdictRollback {
					t.Errorf("%v: %+v", command, r)
				}
			}
			if q := w.s.Inquire(g, "1"); q.Code != Quarantined || q.Verdict != VerdictWait {
				t.Errorf("%+v", q)
			}
			if len(w.s.DueOf(g)) != 0 || w.s.find(g).verdict("1") != VerdictWait {
				t.Error("due, or told something")
			}
			if _, ok := w.s.NextDeadlineMS(); ok {
				t.Error("in the heap")
			}
			if got := reborn(t, w.s).Digest(); got != w.s.Digest() {
				t.Error("a snapshot differs")
			}
			w.leap(w.clock + 3*w.s.Limits().GetRetentionMs())
			if !w.get(g).GetQuarantined() {
				t.Fatal("ended by time")
			}
			w.want(c.back, rollback(g, operator))
			if c.back == OK {
				if tx := w.get(g); tx.GetQuarantined() || tx.GetDecision() != DecisionRollback {
					t.Fatalf("%v", tx)
				}
				reportAll(w, g)
				w.leap(w.clock + w.s.Limits().GetRetentionMs())
				if _, ok := w.s.Get(g); ok {
					t.Error("never dropped")
				}
				return
			}
			confirm := commit(g)
			confirm.GetDecide().Origin, confirm.GetDecide().Operator, confirm.GetDecide().Detail = operator, "alice", "as it stands"
			if r := w.must(confirm); r.Decision != DecisionCommit || w.get(g).GetQuarantined() {
				t.Fatalf("%+v", r)
			}
			if len(w.s.DueOf(g)) != 2 {
				t.Error("not due again")
			}
		})
	}
}

// A breach at the creation keeps the evidence, undecided.
func TestQuarantineOfWhatWasToBeMade(t *testing.T) {
	w := newWorld(t)
	for i, f := range []func(*transaction){
		func(t *transaction) { t.state, t.decision = StateCommitting, DecisionCommit },
		func(t *transaction) { t.require(false, "it was %s", "wrong") },
		func(t *transaction) { t.gid = testGID(w.clock+1, 0); t.begin = explicitBegin(t.gid) },
		func(t *transaction) { t.gid = testGID(0, 1); t.begin = explicitBegin(t.gid) },
	} {
		g := testGID(testStartMS, uint64(i))
		w.s.now.index++
		next := w.s.toActive(new(transaction), explicitBegin(g), g)
		f(next)
		got := w.s.put(nil, next)
		if !got.quarantined || got.state != StateActive || got.decision != DecisionNone || got.decided != nil {
			t.Errorf("%d: %+v", i, got)
		}
		if r := stored(got); r.Code != Quarantined || !r.Changed {
			t.Errorf("%d: %+v", i, r)
		}
		if err := w.s.CheckInvariants(); err != nil {
			t.Error(err)
		}
	}
}

// A record that may not go is kept, quarantined (invariant 9).
func TestDropIsChecked(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(clientRollback(g))
	record := w.s.find(g)
	for want, f := range map[string]func(*transaction){
		"own word is missing":           func(t *transaction) { t.branches = []*branch{{spec: spec("1"), own: ownHazard}} },
		"before the horizon was raised": func(t *transaction) {},
	} {
		c := record.clone()
		f(c)
		if got := w.s.checkDrop(c); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	w.s.horizonMS = record.finished.clockMS
	if got := w.s.checkDrop(record); got != "" {
		t.Error(got)
	}
	w.s.horizonMS = record.gid.BornMS() - 1
	record.finished = &stamp{clockMS: 1}
	if got := w.s.checkDrop(record); got == "" {
		t.Error("dropped though born after the horizon")
	}
	// A record that was filed with too early a clock meets the check in a Tick.
	w.s.horizonMS = 0
	w.s.now.clockMS = 1
	next := w.s.find(g).clone()
	next.detail = "filed wrongly"
	w.s.put(w.s.find(g), next)
	w.s.horizonMS = 2
	w.s.dropOld()
	if tx := w.get(g); !tx.GetQuarantined() || tx.GetFiledMs() != 0 || !strings.Contains(tx.GetDetail(), "horizon") {
		t.Errorf("%v", tx)
	}
	if err := w.s.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// CheckInvariants finds what is planted.
func TestCheckInvariantsFindsWhatIsPlanted(t *testing.T) {
	g, filed := testGID(testStartMS, 1), testGID(testStartMS, 2)
	for want, plant := range map[string]func(*State){
		"digest of the records":   func(s *State) { s.records[3]++ },
		"hash of the settings":    func(s *State) { s.settings[3]++ },
		"figures":                 func(s *State) { s.counts.InDoubt++ },
		"keys":                    func(s *State) { s.keys[key{"x", "y"}] = g },
		"stands for another":      func(s *State) { s.keys[key{"default", "k"}] = filed },
		"listed and missing":      func(s *State) { s.begun.add(Cursor{99, testGID(1, 1)}) },
		"records listed":          func(s *State) { s.begun.remove(s.find(g).order()) },
		"listed as live":          func(s *State) { x := s.find(filed); s.unfiled.put(x.order(), x) },
		"live records listed":     func(s *State) { s.unfiled.remove(s.find(g).order()) },
		"in the deadline heap is": func(s *State) { s.deadlines.remove(g) },
		"deadline in the heap":    func(s *State) { s.deadlines.put(heapKey{5, s.find(g).order()}) },
		"not ended is born":       func(s *State) { s.oldestMS = 5 },
		"the heap holds":          func(s *State) { s.deadlines.put(heapKey{5, Cursor{5, testGID(1, 1)}}) },
		"is due is":               func(s *State) { s.live[g].due = true },
		"are due":                 func(s *State) { s.unfiled.dues++ },
		"summed up":               func(s *State) { s.unfiled.chunks[0].bornMS++ },
		"record in order":         func(s *State) { s.unfiled.chunks[0].records[0] = s.live[g].clone() },
		"oldest vote in doubt":    func(s *State) { s.live[g].doubtIndex = 1 },
		"among the unhashed":      func(s *State) { s.live[g].unhashedAt = 1 },
		"out of order":            func(s *State) { s.deadlines.swap(0, 1) },
		"horizon":                 func(s *State) { s.horizonMS = s.clockMS + 1 },
		"oldest filed":            func(s *State) { s.stubs.headMS++ },
		"filed is":                func(s *State) { s.live[g].filedMS = 1 },
		"its hash is":             func(s *State) { s.live[g].detail = "changed" },
		"with decision":           func(s *State) { s.live[g].decision = DecisionCommit },
	} {
		w := newWorld(t)
		w.must(begin(keyed(g, "k", logpb.Entry_ENTRY_EXPLICIT)))
		w.must(clientRollback(filed))
		w.must(clientRollback(testGID(testStartMS, 3), spec("1")))
		w.must(explicit(testGID(testStartMS, 4)))
		if err := w.s.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
		plant(w.s)
		err := w.s.CheckInvariants()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
