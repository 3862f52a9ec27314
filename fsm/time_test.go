package fsm

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// PROTOCOL.md, section 1: "Apply takes max(clock, batch); one entry advances at
// most ClockAdvanceMax (a leader that was paused expires nobody in one leap)."
func TestClockNeverFallsAndNeverLeaps(t *testing.T) {
	w := newWorld(t)
	w.must(setLimits(&logpb.Limits{ClockAdvanceMaxMs: 10_000}))
	for _, c := range []struct{ batch, want uint64 }{
		{testStartMS - 1, testStartMS},
		{0, testStartMS},
		{testStartMS + 1, testStartMS + 1},
		{testStartMS + 10_001, testStartMS + 10_001},
		{testStartMS + 100_000, testStartMS + 20_001},
		{^uint64(0), testStartMS + 30_001},
	} {
		w.clock = c.batch
		w.must(tick())
		if got := w.s.ClockMS(); got != c.want || w.s.Clock().ClockMS != got {
			t.Errorf("batch %d: clock %d, want %d", c.batch, got, c.want)
		}
	}
	s := New()
	s.clockMS = MaxBornMS - 1
	s.advanceClock(^uint64(0))
	if s.clockMS != MaxBornMS {
		t.Errorf("the clock outgrew what a GID can hold: %d", s.clockMS)
	}
}

// "Nothing is created with born <= horizon: EXPIRED."; the horizon is raised by
// Tick, before anything is dropped.
func TestHorizon(t *testing.T) {
	w := newWorld(t)
	retention := w.s.Limits().GetRetentionMs()
	g := testGID(testStartMS, 1)
	w.clock = testStartMS + retention
	w.batch() // the clock alone raises nothing
	if h := w.s.Clock().HorizonMS; h != 0 {
		t.Fatalf("horizon %d without a Tick", h)
	}
	w.must(tick())
	if h := w.s.Clock().HorizonMS; h != testStartMS {
		t.Fatalf("horizon %d", h)
	}
	w.want(Expired, explicit(g))
	w.must(explicit(testGID(testStartMS+1, 1)))
	w.must(setLimits(&logpb.Limits{RetentionMs: 2 * retention}))
	w.must(tick())
	if h := w.s.Clock().HorizonMS; h != testStartMS {
		t.Fatalf("the horizon fell to %d", h)
	}
	// Presumed: a participant hears rolled back, and nothing is written.
	r := w.must(rollback(g, participant))
	if r.Verdict != VerdictRollback || r.Decision != DecisionRollback || r.Reason != logpb.Reason_REASON_PRESUMED || r.Changed {
		t.Fatalf("%+v", r)
	}
	if q := w.s.Inquire(g, "1"); q.Code != OK || !q.Unseen || q.Verdict != VerdictRollback || q.Decision != DecisionRollback {
		t.Fatalf("%+v", q)
	}
	if q := w.s.Inquire(testGID(w.clock+1, 1), "1"); q.Code != Invalid || q.Verdict != VerdictWait {
		t.Fatalf("born in the future: %+v", q)
	}
	if q := w.s.Inquire(testGID(w.clock, 1), "1"); q.Code != OK || !q.Unseen || q.Verdict != VerdictWait || q.Decision != DecisionNone {
		t.Fatalf("unseen: %+v", q)
	}
}

// "Bounded scans have a total order (deadline, then begin index)".
func TestDeadlinesExpireInOrderAndInSteps(t *testing.T) {
	w := newWorld(t)
	w.must(setLimits(&logpb.Limits{ExpiriesPerTickMax: 2}))
	var want []GID
	timeouts := map[uint64]uint64{1: 300, 2: 100, 3: 200, 4: 100, 5: 300}
	for _, n := range []uint64{1, 2, 3, 4, 5} {
		b := explicitBegin(testGID(testStartMS, n))
		b.TimeoutMs = timeouts[n]
		w.must(begin(b))
	}
	for _, n := range []uint64{2, 4, 3, 1, 5} {
		want = append(want, testGID(testStartMS, n))
	}
	if at, ok := w.s.NextDeadlineMS(); !ok || at != testStartMS+100 {
		t.Fatalf("next deadline %d %v", at, ok)
	}
	w.clock += 99
	w.must(tick())
	if w.s.Counts().Finished != 0 {
		t.Fatal("expired before the deadline")
	}
	w.clock = testStartMS + 1000
	var got []GID
	for i := range 4 {
		before := w.index
		w.must(tick())
		events, _, _ := w.s.Events(before, 100)
		for _, e := range events {
			if e.Kind == EventDecided {
				got = append(got, e.GID)
			}
		}
		if n := min(2*(i+1), 5); len(got) != n {
			t.Fatalf("after %d Ticks %d expired, want %d", i+1, len(got), n)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("expired %v, want %v", got, want)
	}
	if r := w.get(want[0]).GetReason(); r != logpb.Reason_REASON_TIMEOUT {
		t.Errorf("reason %v", r)
	}
	if _, ok := w.s.NextDeadlineMS(); ok {
		t.Error("a deadline is left")
	}
}

// Retention drops in the order of filing, in bounded steps, and never before
// born and finished are both at or below the horizon.
func TestRetentionDropsInOrderAndInSteps(t *testing.T) {
	w := newWorld(t)
	w.must(setLimits(&logpb.Limits{DropsPerTickMax: 2}))
	var gids []GID
	for n := range uint64(5) {
		g := testGID(testStartMS, n)
		gids = append(gids, g)
		w.must(clientRollback(g))
		w.clock++
		w.must(tick())
	}
	at, ok := w.s.NextRetentionMS()
	if !ok || at != testStartMS+w.s.Limits().GetRetentionMs() {
		t.Fatalf("next retention %d %v", at, ok)
	}
	w.leap(at - 1)
	if n := w.s.Counts().Finished; n != 5 {
		t.Fatalf("%d left before retention", n)
	}
	w.leap(at)
	if n := w.s.Counts().Finished; n != 4 {
		t.Fatalf("%d left when one may go", n)
	}
	w.leap(at + 100)
	if n := w.s.Counts().Finished; n != 2 {
		t.Fatalf("%d left after a bounded Tick", n)
	}
	if next, _ := w.s.NextRetentionMS(); next > w.clock {
		t.Fatalf("the rest waits until %d", next)
	}
	w.must(tick())
	if _, ok := w.s.NextRetentionMS(); ok || w.s.Counts().Finished != 0 || w.s.Counts().Tombstones != 0 {
		t.Fatal("something is left")
	}
	for _, g := range gids {
		if _, ok := w.s.Get(g); ok {
			t.Errorf("%s is left", g)
		}
	}
	events, _, _ := w.s.Events(0, 1000)
	var dropped []GID
	for _, e := range events {
		if e.Kind == EventDropped {
			dropped = append(dropped, e.GID)
		}
	}
	if !slices.Equal(dropped, gids) {
		t.Errorf("dropped %v, want %v", dropped, gids)
	}
}

// "A transaction is dropped when it is finished, every branch of a commit has
// made its own durable report (an operator's Resolve is none; a hazard must
// have been resolved)".
func TestDroppedOnlyAfterTheBranchsOwnWord(t *testing.T) {
	start := func(t *testing.T, end *logpb.Command) (*world, GID) {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(explicit(g))
		w.must(enlist(g, spec("1")))
		w.must(vote(g, spec("1"), votePrepared))
		w.must(end)
		return w, g
	}
	g := testGID(testStartMS, 1)
	for name, c := range map[string]struct {
		end   *logpb.Command
		then  []*logpb.Command
		keeps bool
	}{
		"commit reported":            {commit(g), []*logpb.Command{report(g, "1", committed)}, false},
		"commit resolved":            {commit(g), []*logpb.Command{resolve(g, "1", committed)}, true},
		"commit resolved, reported":  {commit(g), []*logpb.Command{resolve(g, "1", committed), report(g, "1", committed)}, false},
		"commit hazard":              {commit(g), []*logpb.Command{report(g, "1", hazard)}, true},
		"commit hazard, resolved":    {commit(g), []*logpb.Command{report(g, "1", hazard), resolve(g, "1", rolledBack)}, false},
		"commit hazard, then known":  {commit(g), []*logpb.Command{report(g, "1", hazard), report(g, "1", rolledBack)}, false},
		"commit resolved, hazard":    {commit(g), []*logpb.Command{resolve(g, "1", committed), report(g, "1", hazard)}, false},
		"commit contrary":            {commit(g), []*logpb.Command{report(g, "1", rolledBack)}, false},
		"commit mixed":               {commit(g), []*logpb.Command{report(g, "1", mixed)}, false},
		"rollback reported":          {clientRollback(g), []*logpb.Command{report(g, "1", rolledBack)}, false},
		"rollback resolved":          {clientRollback(g), []*logpb.Command{resolve(g, "1", rolledBack)}, false},
		"rollback hazard":            {clientRollback(g), []*logpb.Command{report(g, "1", hazard)}, true},
		"rollback hazard, resolved":  {clientRollback(g), []*logpb.Command{report(g, "1", hazard), resolve(g, "1", rolledBack)}, false},
		"rollback, no report at all": {clientRollback(g), nil, true},
		"commit, no report at all":   {commit(g), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, g := start(t, c.end)
			for _, command := range c.then {
				w.must(command)
			}
			w.leap(w.clock + 2*w.s.Limits().GetRetentionMs())
			if _, ok := w.s.Get(g); ok != c.keeps {
				t.Fatalf("kept is %v, want %v", ok, c.keeps)
			}
			if c.keeps {
				// The floor stays below what has not ended; what has ended
				// leaves it to the horizon.
				floor, ended := w.s.Clock().FloorMS, w.get(g).GetFinished() != nil
				if want := uint64(testStartMS - 1); !ended && floor != want || ended && floor != w.s.Clock().HorizonMS {
					t.Fatalf("floor %d, ended %v", floor, ended)
				}
			}
		})
	}
}

// An operator's word leaves the branch to be told when it asks, and joins
// nothing: "kept in a field of its own".
func TestResolveIsNoReport(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1"), ballots(votePrepared, "1")...))
	if r := w.must(resolve(g, "1", rolledBack)); r.State != StateCommitted {
		t.Fatalf("%+v", r)
	}
	w.must(resolve(g, "1", rolledBack))
	if r := w.want(BranchConflict, resolve(g, "1", committed)); r.Detail == "" {
		t.Fatal("nothing said")
	}
	if len(w.s.DueOf(g)) != 0 {
		t.Error("still due")
	}
	if q := w.s.Inquire(g, "1"); q.Verdict != VerdictCommit {
		t.Errorf("%+v", q)
	}
	b := w.get(g).GetBranches()[0]
	if b.GetOwn() != ownNone || b.GetResolved() != rolledBack || b.GetResolvedBy() != "alice" ||
		b.GetResolvedReason() != "looked at the ledger" || b.GetResolvedAt().GetIndex() == 0 {
		t.Errorf("%v", b)
	}
	w.must(report(g, "1", committed))
	b = w.get(g).GetBranches()[0]
	if b.GetOwn() != ownDone || b.GetResolved() != rolledBack {
		t.Errorf("%v", b)
	}
	w.want(BranchConflict, resolve(g, "1", committed)) // and not overwritten
}

// The clock of a deadline that would overflow is no deadline.
func TestDeadlineWithoutEnd(t *testing.T) {
	s := New()
	s.now.clockMS = 10
	for timeout, want := range map[uint64]uint64{0: noDeadline, 5: 15, noDeadline: noDeadline, noDeadline - 10: noDeadline, noDeadline - 9: noDeadline} {
		if got := s.deadline(timeout); got != want {
			t.Errorf("timeout %d: %d, want %d", timeout, got, want)
		}
	}
}

// FloorMS = "min(horizon, the oldest born of any transaction not yet C+ or R+,
// less 1 ms)".
func TestFloor(t *testing.T) {
	w := newWorld(t)
	retention := w.s.Limits().GetRetentionMs()
	g := testGID(testStartMS, 1)
	w.must(clientRollback(g, spec("1")))
	w.must(clientRollback(testGID(testStartMS-5, 2), spec("1")))
	if f := w.s.Clock().FloorMS; f != 0 {
		t.Fatalf("floor %d, horizon 0", f)
	}
	w.leap(testStartMS + retention - 6)
	if f, h := w.s.Clock().FloorMS, w.s.Clock().HorizonMS; f != h || h != testStartMS-6 {
		t.Fatalf("floor %d, horizon %d", f, h)
	}
	w.leap(testStartMS + retention - 5)
	if f := w.s.Clock().FloorMS; f != testStartMS-6 {
		t.Fatalf("floor %d", f)
	}
	w.must(report(testGID(testStartMS-5, 2), "1", rolledBack))
	w.leap(testStartMS + retention)
	if f := w.s.Clock().FloorMS; f != testStartMS-1 {
		t.Fatalf("floor %d", f)
	}
	w.must(report(g, "1", rolledBack))
	if f := w.s.Clock().FloorMS; f != testStartMS {
		t.Fatalf("floor %d", f)
	}
}

func TestApplyStopsOnDisorder(t *testing.T) {
	w := newWorld(t)
	w.term = 5
	w.must(tick())
	for _, m := range []Meta{{w.index, 5}, {w.index - 1, 5}, {w.index + 1, 4}} {
		if _, err := w.s.Apply(m, &logpb.Batch{}); !errors.Is(err, ErrOrder) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if _, err := w.s.Apply(Meta{w.index + 1, 5}, &logpb.Batch{FeatureLevel: FeatureLevel + 1}); !errors.Is(err, ErrFeatureLevel) {
		t.Error(err)
	}
	if _, err := w.s.ApplyEntry(w.index+1, 5, []byte("nothing")); !errors.Is(err, ErrEntryVersion) {
		t.Error(err)
	}
	// Gaps are Raft's own entries.
	if _, err := w.s.Apply(Meta{w.index + 10, 6}, &logpb.Batch{}); err != nil {
		t.Error(err)
	}
	if c := w.s.Clock(); c.AppliedIndex != w.index+10 || c.AppliedTerm != 6 {
		t.Errorf("%+v", c)
	}
}

// PROTOCOL.md, section 6: a node whose digest differs from the quorum's stops.
func TestCheckDigest(t *testing.T) {
	w := newWorld(t)
	w.must(explicit(testGID(testStartMS, 1)))
	at := w.index
	d, ok := w.s.DigestAt(at)
	if !ok || d != w.s.Digest() {
		t.Fatal("no digest of the latest entry")
	}
	w.must(tick())
	check := func(index uint64, d Digest) *logpb.Command {
		return &logpb.Command{Kind: &logpb.Command_CheckDigest{CheckDigest: &logpb.CheckDigest{Index: index, Digest: d[:]}}}
	}
	w.must(check(at, d))
	w.must(check(at+1_000_000, Digest{})) // not known here: nothing to say
	w.must(check(0, Digest{}))
	bad := d
	bad[15] ^= 1
	if _, err := w.s.Apply(Meta{w.index + 1, 1}, &logpb.Batch{Commands: []*logpb.Command{check(at, bad)}}); !errors.Is(err, ErrDigest) {
		t.Fatal(err)
	}
	for range digestsKept {
		w.index++
		if _, err := w.s.Apply(Meta{w.index + 1, 1}, &logpb.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := w.s.DigestAt(at); ok {
		t.Fatal("remembered for ever")
	}
	if _, ok := New().DigestAt(0); ok {
		t.Fatal("a digest of nothing")
	}
}

// Everything that the digest should cover, changed, changes it.
func TestDigestCoversEverything(t *testing.T) {
	seen := map[Digest]string{}
	for name, change := range map[string]func(*State){
		"nothing":     func(s *State) {},
		"clock":       func(s *State) { s.clockMS++ },
		"horizon":     func(s *State) { s.horizonMS++ },
		"incarnation": func(s *State) { s.incarnation++ },
		"hold before": func(s *State) { s.holdBeforeMS++ },
		"hold after":  func(s *State) { s.holdHorizonMS++ },
		"records":     func(s *State) { s.records[0]++ },
		"cluster id":  func(s *State) { s.clusterID[0]++; s.settings = s.hashSettings() },
		"limits":      func(s *State) { s.limits.TextBytesMax++; s.settings = s.hashSettings() },
		"nodes":       func(s *State) { s.nodes = []*logpb.Node{{Id: "x"}}; s.settings = s.hashSettings() },
		"node's name": func(s *State) { s.nodes = []*logpb.Node{{Id: "x", Name: "y"}}; s.settings = s.hashSettings() },
	} {
		s := New()
		change(s)
		d := s.Digest()
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[d] = name
		if len(d.String()) != 32 {
			t.Error(d.String())
		}
	}
	a, b := makeDigest(1, ^uint64(0)), makeDigest(0, 1)
	if got := a.plus(b); got != makeDigest(2, 0) {
		t.Errorf("sum %s", got)
	}
	if got := a.plus(b).minus(b); got != a {
		t.Errorf("difference %s", got)
	}
}

func TestWallTimeIsStoredAndNeverCompared(t *testing.T) {
	s := New()
	for i, wall := range []uint64{1 << 60, 0, 5} {
		c := found()
		if i > 0 {
			c = tick()
		}
		b := &logpb.Batch{ClockMs: 10, WallMs: wall, Commands: []*logpb.Command{c, explicit(testGID(10, uint64(i)))}}
		r, err := s.Apply(Meta{uint64(i + 1), 1}, b)
		if err != nil || r[1].Code != OK {
			t.Fatal(err, r)
		}
		tx, _ := s.Get(testGID(10, uint64(i)))
		if tx.GetBegan().GetWallMs() != wall || tx.GetBegan().GetClockMs() != 10 {
			t.Errorf("%v", tx.GetBegan())
		}
	}
	if got := fmt.Sprint(s.ClockMS()); got != "10" {
		t.Error(got)
	}
}
