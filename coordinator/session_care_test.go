package coordinator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// settle waits until the core has done what it was told before, and asked for what
// follows.
func (n *node) settle() {
	n.t.Helper()
	for range 2 { // the second is put after the first's effects
		if !n.query(n.ctx, func(*Core, time.Time) {}) {
			n.t.Fatal("the core does not answer")
		}
	}
}

// busyCore keeps the core from its steps until it is let go.
func (n *node) busyCore() (letGo func()) {
	n.t.Helper()
	busy, free := make(chan struct{}), make(chan struct{})
	n.step(func(*Core, time.Time) {
		close(busy)
		<-free
	})
	<-busy
	return func() { close(free) }
}

// heldOver enlists a held branch over a session, which has not voted.
func (n *node) heldOver(s *Session) fsm.GID {
	n.t.Helper()
	gid := n.begin("")
	_, err := s.Enlist(n.ctx, gid, &logpb.BranchSpec{Id: "1", Resource: "lite", Held: true})
	n.must(err)
	return gid
}

// A goodbye gives up at once what the process held, for nobody can commit it any more; a
// stream that breaks says nothing, and its holder may come back within the grace.
func TestAGoodbyeLosesAndABrokenStreamDoesNot(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.SessionGrace = time.Hour })
	s := n.attach(holderN(1), "lite")
	gid := n.heldOver(s)
	s.Close(errors.New("reset by peer"))
	n.settle()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.batcher.inHand() == 0 }, "what was decided is applied")
	if rec := n.recordOf(gid); rec.GetDecision() != fsm.DecisionNone {
		t.Fatalf("a stream broke, and its holder was lost: %v", rec)
	}
	s = n.attach(holderN(1), "lite")
	s.Detach()
	testkit.Eventually(t, 5*time.Second, func() bool {
		return n.recordOf(gid).GetReason() == logpb.Reason_REASON_PARTICIPANT_LOST
	}, "what is held is rolled back at once")
}

// A caller that left while it attached leaves no session behind: it would take a place, and
// be sent what nobody reads.
func TestAnAttachThatWasGivenUpLeavesNoSession(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.SessionGrace = time.Hour })
	letGo := n.busyCore()
	ctx, cancel := context.WithCancel(n.ctx)
	failed := make(chan error, 1)
	go func() {
		_, err := n.Attach(ctx, AttachRequest{Holder: holderN(1), Resources: []string{"a"}})
		failed <- err
	}()
	waiting := func() bool {
		n.inbox.mu.Lock()
		defer n.inbox.mu.Unlock()
		return len(n.inbox.steps) > 0
	}
	testkit.Eventually(t, 5*time.Second, waiting, "the attach waits for the core")
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	letGo()
	n.settle()
	var sessions, known int
	n.query(n.ctx, func(core *Core, _ time.Time) { sessions, known = len(core.sessions), len(n.sessions) })
	if sessions != 0 || known != 0 {
		t.Errorf("%d sessions are left, and %d streams", sessions, known)
	}
}

// A session's queue has room for questions beside a full window: a participant that is
// slow for a moment is not cut off for them.
func TestQuestionsHaveRoomBesideAFullWindow(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.Settings.SessionWindowMax, c.Settings.SessionGrace, c.Settings.DeliveryTimeout = 2, time.Hour, time.Hour
	})
	s := n.attach(holderN(1), "lite", "a")
	for range 3 {
		b := branchOf("1", "a", holderN(1))
		gid := n.begin("", b)
		n.prepare(gid, b)
		_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		n.must(err)
	}
	n.settle()
	if waiting := len(s.out); waiting != 2 {
		t.Fatalf("%d deliveries wait in a window of 2", waiting)
	}
	var last fsm.GID
	for range 4 {
		b := &logpb.BranchSpec{Id: "1", Resource: "lite", Held: true, Holder: holderN(1)}
		last = n.begin("")
		_, err := n.enlist(n.ctx, last, b)
		n.must(err)
		_, err = n.vote(n.ctx, last, &logpb.Ballot{Branch: b, Kind: prepared}) // by another way than the session
		n.must(err)
		_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(last), Wait: WaitNone})
		n.must(err)
	}
	n.settle()
	if err := s.Err(); err != nil {
		t.Fatalf("the session was ended: %v", err)
	}
	for {
		if m := n.next(s); len(m.VouchFor) > 0 && m.VouchFor[len(m.VouchFor)-1].GID == last {
			return
		}
	}
}

// What a caller does with its memory after it has vouched changes nothing.
func TestAVouchIsWhatItWasWhenItWasSaid(t *testing.T) {
	n := newNode(t)
	s := n.attach(holderN(1), "lite")
	gid := n.begin("")
	b := &logpb.BranchSpec{Id: "1", Resource: "lite", Held: true, Holder: holderN(1)}
	_, err := n.enlist(n.ctx, gid, b)
	n.must(err)
	_, err = n.vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
	n.must(err)
	refs := []BranchRef{{GID: gid, Branch: "1"}}
	letGo := n.busyCore()
	s.Vouch(refs)
	refs[0].Branch = "2"
	letGo()
	if c, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)}); err != nil || c.Decision != fsm.DecisionCommit {
		t.Errorf("%+v, %v", c, err)
	}
}

// What a busy branch says is there to be read: somebody will ask why it takes so long.
func TestWhyABranchIsBusyIsShown(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.BackoffMin, c.Settings.BackoffMax = time.Hour, time.Hour })
	s := n.attach(holderN(1), "a")
	b := branchOf("1", "a", holderN(1))
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	d := n.next(s).Deliver
	_, err = s.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Busy: true, Attempt: d.Attempt, Detail: "the table is locked"})
	n.must(err)
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)})
	n.must(err)
	if len(v.Deliveries) != 1 || !strings.Contains(v.Deliveries[0].LastError, "the table is locked") {
		t.Errorf("%+v", v.Deliveries)
	}
}

// Each part of what an attach may name is bounded, at its bound and just beyond.
func TestAnAttachIsBoundedInEveryPart(t *testing.T) {
	n := newNode(t)
	many := func(k int) []string {
		var all []string
		for i := range k {
			all = append(all, strings.Repeat("r", i+1))
		}
		return all
	}
	long, tooLong := strings.Repeat("x", textMax), strings.Repeat("x", textMax+1)
	for name, c := range map[string]struct{ fits, exceeds AttachRequest }{
		"resources": {AttachRequest{Resources: many(resourcesMax)}, AttachRequest{Resources: many(resourcesMax + 1)}},
		"resource":  {AttachRequest{Resources: []string{"a", long}}, AttachRequest{Resources: []string{"a", tooLong}}},
		"name":      {AttachRequest{Resources: []string{"a"}, Name: long}, AttachRequest{Resources: []string{"a"}, Name: tooLong}},
		"process":   {AttachRequest{Resources: []string{"a"}, Process: long}, AttachRequest{Resources: []string{"a"}, Process: tooLong}},
	} {
		c.fits.Holder, c.exceeds.Holder = holderN(1), holderN(1)
		if s, err := n.Attach(n.ctx, c.fits); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			s.Detach()
		}
		_, err := n.Attach(n.ctx, c.exceeds)
		wantRefusal(t, err, fsm.Invalid)
	}
}
