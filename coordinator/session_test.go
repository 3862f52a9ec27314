package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

func TestSessionCarriesABranchFromEnlistToReport(t *testing.T) {
	n := newNode(t)
	s := n.attach(holderN(1), "bank-a")
	if s.Heartbeat() != n.settings.SessionHeartbeat || s.Grace() != n.settings.SessionGrace || !strings.Contains(s.String(), "test") {
		t.Errorf("%v: heartbeat %v, grace %v", s, s.Heartbeat(), s.Grace())
	}
	gid := n.begin("")
	b := branchOf("1", "bank-a", nil) // the session fills the holder in
	e, err := s.Enlist(n.ctx, gid, b)
	n.must(err)
	if e.Verdict != fsm.VerdictWait || !bytes.Equal(b.Holder, holderN(1)) {
		t.Errorf("enlist: %+v; branch %v", e, b)
	}
	_, err = s.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
	n.must(err)
	_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	d := n.next(s).Deliver
	if d == nil || d.GID != gid || d.Branch != "1" || d.Verdict != fsm.VerdictCommit {
		t.Fatalf("told %+v", d)
	}
	// Busy: it is told again. Done: no more.
	_, err = s.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Busy: true, Attempt: d.Attempt, Detail: "locked"})
	n.must(err)
	if d = n.next(s).Deliver; d.Attempt != 2 {
		t.Errorf("told %+v", d)
	}
	_, err = s.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: committed, Attempt: d.Attempt})
	n.must(err)
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)})
	n.must(err)
	if v.Transaction.GetState() != fsm.StateCommitted {
		t.Errorf("state %v", v.Transaction.GetState())
	}
	if q, err := s.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1"}); err != nil || q.Verdict != fsm.VerdictCommit {
		t.Errorf("inquire: %+v, %v", q, err)
	}
	if _, err := s.Enlist(n.ctx, gid, branchOf("2", "bank-a", holderN(9))); err == nil {
		t.Error("a branch of another holder was enlisted")
	}
	if _, err := s.Vote(n.ctx, gid, &logpb.Ballot{}); err == nil {
		t.Error("a vote without a branch was taken")
	}
	if s.Err() != nil {
		t.Errorf("ended: %v", s.Err())
	}
}

func TestHeldBranchOverASession(t *testing.T) {
	n := newNode(t)
	s := n.attach(holderN(1), "lite")
	gid := n.begin("")
	b := &logpb.BranchSpec{Id: "1", Resource: "lite", Held: true}
	_, err := s.Enlist(n.ctx, gid, b)
	n.must(err)
	_, err = s.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
	n.must(err)
	c, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	if c.Decision != fsm.DecisionCommit {
		t.Fatalf("%+v", c)
	}
	if m := n.next(s); m.Deliver == nil {
		t.Errorf("its own vote is its word; it was asked for %v", m.VouchFor)
	}
}

func TestNewLeaderAsksForVouchersAndCommits(t *testing.T) {
	n := newNode(t)
	s := n.attach(holderN(1), "lite")
	gid := n.begin("")
	b := &logpb.BranchSpec{Id: "1", Resource: "lite", Held: true}
	_, err := s.Enlist(n.ctx, gid, b)
	n.must(err)
	_, err = s.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
	n.must(err)
	n.follow("")
	<-s.Done()
	if !errors.Is(s.Err(), ErrNoLeader) {
		t.Errorf("the session ended with %v", s.Err())
	}
	n.lead()
	done := make(chan Status, 1)
	go func() {
		c, _ := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		done <- c
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
	s = n.attach(holderN(1), "lite")
	m := n.next(s)
	if len(m.VouchFor) != 1 || m.VouchFor[0] != (BranchRef{gid, "1"}) {
		t.Fatalf("asked for %+v", m)
	}
	s.Vouch(m.VouchFor)
	if c := <-done; c.Decision != fsm.DecisionCommit {
		t.Errorf("%+v", c)
	}
}

func TestSessionEndings(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.Settings.SessionsMax = 2
		c.Settings.SessionHeartbeat, c.Settings.SessionGrace = 20*time.Millisecond, 100*time.Millisecond
	})
	ended := func(s *Session, want error) {
		t.Helper()
		select {
		case <-s.Done():
		case <-n.ctx.Done():
			t.Fatal("the session did not end")
		}
		if !errors.Is(s.Err(), want) {
			t.Errorf("ended with %v, want %v", s.Err(), want)
		}
	}
	silent := n.attach(holderN(1), "a")
	ended(silent, ErrSilent)

	first := n.attach(holderN(1), "a")
	second := n.attach(holderN(1), "a")
	ended(first, ErrSuperseded)
	second.Close(errors.New("reset by peer"))
	<-second.Done()
	if second.Err().Error() != "reset by peer" {
		t.Errorf("ended with %v", second.Err())
	}
	third := n.attach(holderN(1), "a")
	third.Alive()
	third.Detach()
	ended(third, ErrDetached)
	fourth := n.attach(holderN(2), "a")
	fourth.Close(nil)
	ended(fourth, ErrClosed)
	if got := n.Stats().Sessions; got != 0 {
		t.Errorf("%d sessions left", got)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.SessionsMax = 1 })
	s := n.attach(holderN(1), "a")
	_, err := n.Attach(n.ctx, AttachRequest{Holder: holderN(2), Resources: []string{"a"}})
	if !errors.Is(err, ErrOverload) {
		t.Errorf("a second session: %v", err)
	}
	for name, r := range map[string]AttachRequest{
		"holder":    {Holder: []byte("short"), Resources: []string{"a"}},
		"resources": {Holder: holderN(1)},
		"name":      {Holder: holderN(1), Resources: []string{""}},
		"long":      {Holder: holderN(1), Resources: []string{strings.Repeat("x", 2000)}},
	} {
		_, err := n.Attach(n.ctx, r)
		if r := wantRefusal(t, err, fsm.Invalid); r.Detail == "" {
			t.Errorf("%s: no reason", name)
		}
	}
	s.Detach()
}

// A participant that comes back is not kept out by what it leaves: its own session of
// before, which nobody has seen end yet, or that of the process that it replaces.
func TestWhoComesBackHasAPlace(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.SessionsMax = 2 })
	attach := func(holder byte, process string) (*Session, error) {
		return n.Attach(n.ctx, AttachRequest{Holder: holderN(holder), Resources: []string{"a"}, Process: process})
	}
	var sessions []*Session
	for _, c := range []struct {
		holder  byte
		process string
		full    bool
		ended   []int
	}{
		{holder: 2, process: "till-1"},
		{holder: 1},
		{holder: 3, full: true},
		{holder: 1, ended: []int{1}},                    // its stream broke, and the leader has not heard of that
		{holder: 4, process: "till-1", ended: []int{0}}, // restarted
		{holder: 2, process: "till-1", full: true},      // the one from before, late: it replaces nobody
		{holder: 5, full: true},
		{holder: 4, process: "till-1", ended: []int{3}},
	} {
		s, err := attach(c.holder, c.process)
		if c.full != errors.Is(err, ErrOverload) || !c.full && err != nil {
			t.Fatalf("holder %d of %q: %v, want full: %t", c.holder, c.process, err, c.full)
		}
		if err == nil {
			sessions = append(sessions, s)
		}
		for _, i := range c.ended {
			select {
			case <-sessions[i].Done():
			case <-n.ctx.Done():
				t.Fatalf("session %d goes on", i)
			}
		}
	}
	n.settle()
	n.query(n.ctx, func(core *Core, _ time.Time) {
		if len(core.sessions) != 2 || len(n.sessions) != 2 {
			t.Errorf("%d sessions in the core and %d beside it, want 2", len(core.sessions), len(n.sessions))
		}
	})
}

// A stream that nobody reads is ended, and holds up nobody else.
func TestSessionThatIsNotReadIsEnded(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.Settings.SessionWindowMax, c.Settings.DeliveryTimeout, c.Settings.BackoffMax = 1, time.Millisecond, 2*time.Millisecond
	})
	s := n.attach(holderN(1), "a")
	gid := n.begin("", branchOf("1", "a", nil))
	n.prepare(gid, branchOf("1", "a", nil))
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	testkit.Eventually(t, 15*time.Second, func() bool {
		s.Alive()
		return s.Err() != nil
	}, "the session ends")
	if !strings.Contains(s.Err().Error(), "not read") {
		t.Errorf("ended with %v", s.Err())
	}
}

func TestReportsShareProposals(t *testing.T) {
	n := newNode(t)
	const many = 400
	var gids []fsm.GID
	for range many {
		gid := n.begin("", branchA)
		n.prepare(gid, branchA)
		_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		n.must(err)
		gids = append(gids, gid)
	}
	n.log.mu.RLock()
	before := n.log.entries
	n.log.mu.RUnlock()
	open := make(chan struct{})
	n.log.meet(func([]*logpb.Command) error { <-open; return nil }, nil)
	var wg sync.WaitGroup
	for _, gid := range gids {
		wg.Go(func() {
			if _, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: committed}); err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return n.batcher.inHand() == many }, "all wait")
	close(open)
	wg.Wait()
	n.log.mu.RLock()
	defer n.log.mu.RUnlock()
	if took := n.log.entries - before; took > batchesMax+many/batchCommandsMax+2 {
		t.Errorf("%d reports took %d entries", many, took)
	}
}

// Frames that say nothing new cost the core nothing, and still keep the session alive.
func TestAliveIsToldNoMoreOftenThanNeeded(t *testing.T) {
	now := make(chan time.Time, 1)
	now <- time.Unix(1_700_000_000, 0)
	clock := func() time.Time {
		at := <-now
		now <- at
		return at
	}
	n := newNode(t, func(c *Config) { c.Now = clock })
	s := n.attach(holderN(1), "a")
	lastHeard := func() (at time.Time) {
		n.query(n.ctx, func(core *Core, _ time.Time) { at = core.sessions[s.id].heardAt })
		return at
	}
	first := lastHeard()
	tick := n.settings.SessionHeartbeat / 20
	var worst time.Duration
	changes := 0
	for before := first; clock().Sub(first) < 4*n.settings.SessionGrace; {
		now <- (<-now).Add(tick)
		s.Alive()
		if at := lastHeard(); at != before {
			before, changes = at, changes+1
		}
		worst = max(worst, clock().Sub(lastHeard()))
	}
	if s.Err() != nil {
		t.Fatalf("a participant that speaks is lost: %v", s.Err())
	}
	if worst >= n.settings.SessionHeartbeat/aliveTold {
		t.Errorf("the core was behind by %v", worst)
	}
	if frames := int(4 * n.settings.SessionGrace / tick); changes > frames/2 {
		t.Errorf("the core was told %d times of %d frames", changes, frames)
	}
}

// callerFunc is a Caller.
type callerFunc func(ctx context.Context, d Delivery) (Answered, error)

func (f callerFunc) Call(ctx context.Context, d Delivery) (Answered, error) { return f(ctx, d) }

func TestEndpointsAreCalledUntilTheyAnswer(t *testing.T) {
	var calls atomic.Int32
	n := newNode(t, func(c *Config) {
		c.Caller = callerFunc(func(ctx context.Context, d Delivery) (Answered, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("a call without a deadline")
			}
			switch calls.Add(1) {
			case 1:
				return Answered{}, errors.New("connection refused")
			case 2:
				return Answered{Busy: true}, nil
			default:
				return Answered{Outcome: committed, Detail: fmt.Sprintf("attempt %d", d.Attempt)}, nil
			}
		})
	})
	b := &logpb.BranchSpec{Id: "1", Endpoint: "http://bank/x"}
	gid := n.begin("", b)
	n.prepare(gid, b)
	s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Wait: WaitFinish})
	n.must(err)
	if s.State != fsm.StateCommitted || calls.Load() != 3 {
		t.Errorf("%+v after %d calls", s, calls.Load())
	}
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)})
	n.must(err)
	if b := v.Transaction.GetBranches()[0]; b.GetDetail() != "attempt 3" || b.GetAttempts() != 3 {
		t.Errorf("recorded %v", b)
	}
}

func TestCallsEndWithTheLeadership(t *testing.T) {
	started, ended := make(chan struct{}, 8), make(chan error, 8)
	n := newNode(t, func(c *Config) {
		c.Caller = callerFunc(func(ctx context.Context, d Delivery) (Answered, error) {
			started <- struct{}{}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return Answered{}, ctx.Err()
		})
	})
	b := &logpb.BranchSpec{Id: "1", Endpoint: "http://bank/x"}
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	<-started
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)})
	n.must(err)
	if len(v.Deliveries) != 1 || !v.Deliveries[0].InFlight || v.Deliveries[0].Attempts != 1 {
		t.Errorf("deliveries %+v", v.Deliveries)
	}
	if s := n.Stats(); s.InFlight != 1 || s.Due != 1 || s.OldestInDoubt < 0 {
		t.Errorf("stats %+v", s)
	}
	if due, err := n.Retry(n.ctx, ByGID(gid), "1"); err != nil || due != 1 {
		t.Errorf("retry: %d, %v", due, err)
	}
	n.follow("other")
	var not *NotLeaderError
	if err := <-ended; !errors.As(err, &not) || not.Leader.ID != "other" {
		t.Errorf("the call ended with %v", err)
	}
}

func TestWithoutACallerEndpointsStayDueAndVisible(t *testing.T) {
	n := newNode(t)
	b := &logpb.BranchSpec{Id: "1", Endpoint: "http://bank/x"}
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	testkit.Eventually(t, 5*time.Second, func() bool {
		v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)})
		return err == nil && len(v.Deliveries) == 1 && v.Deliveries[0].LastError == errNoCaller.Error()
	}, "the reason shows")
}
