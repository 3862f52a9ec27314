package coordinator

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testkit"
)

var branchA, branchB = branchOf("1", "bank-a", nil), branchOf("2", "bank-b", nil)

func TestTransactionFromBeginToEnd(t *testing.T) {
	obs := &lockedTally{tally: newTally()}
	n := newNode(t, func(c *Config) { c.Observer = obs })
	s, err := n.Begin(n.ctx, &logpb.Begin{Key: "order-1", Labels: []*logpb.Label{{Name: "b"}, {Name: "a"}}})
	n.must(err)
	if !s.Created || s.State != fsm.StateActive || s.GID.BornMS() == 0 {
		t.Errorf("begin: %+v", s)
	}
	for _, b := range []*logpb.BranchSpec{branchA, branchB} {
		e, err := n.Enlist(n.ctx, s.GID, b)
		n.must(err)
		if e.Verdict != fsm.VerdictWait {
			t.Errorf("enlist: verdict %v", e.Verdict)
		}
	}
	n.prepare(s.GID, branchA, branchB)
	c, err := n.Commit(n.ctx, CommitRequest{Transaction: ByKey("", "order-1")})
	n.must(err)
	if c.GID != s.GID || c.Decision != fsm.DecisionCommit || c.Index == 0 || c.State != fsm.StateCommitting {
		t.Errorf("commit: %+v", c)
	}
	// Repeating it is the same.
	again, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(s.GID), Set: &logpb.BranchSet{Ids: []string{"2", "1", "2"}}, Wait: WaitNone})
	n.must(err)
	if again.Index != c.Index {
		t.Errorf("commit again: %+v", again)
	}
	_, err = n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(s.GID)})
	if r := wantRefusal(t, err, fsm.AlreadyDecided); r.Decision != fsm.DecisionCommit || r.Index != c.Index || !strings.Contains(r.Error(), s.GID.String()) {
		t.Errorf("refusal: %v", r)
	}
	done := make(chan Status)
	go func() {
		s, _ := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(s.GID), Wait: WaitFinish})
		done <- s
	}()
	for _, b := range []string{"1", "2"} {
		_, err := n.Report(n.ctx, ReportRequest{GID: s.GID, Branch: b, Outcome: committed})
		n.must(err)
	}
	if s := <-done; s.State != fsm.StateCommitted {
		t.Errorf("waited for the end: %+v", s)
	}
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByKey("default", "order-1")})
	n.must(err)
	if v.Transaction.GetState() != fsm.StateCommitted || len(v.Deliveries) != 0 || v.Transaction.GetBegin().GetLabels()[0].GetName() != "a" {
		t.Errorf("get: %+v", v)
	}
	obs.mu.Lock()
	defer obs.mu.Unlock()
	if obs.started != 1 || obs.finished != 1 || obs.decided < 2 {
		t.Errorf("observed %+v", obs)
	}
}

type lockedTally struct {
	mu sync.Mutex
	*tally
	decided int
}

func (o *lockedTally) TransactionStarted(m fsm.Mode) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tally.TransactionStarted(m)
}

func (o *lockedTally) TransactionFinished(m fsm.Mode, d fsm.Decision, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tally.TransactionFinished(m, d, took)
}

func (o *lockedTally) TransactionDecided(fsm.Mode, fsm.Decision, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.decided++
}

func (o *lockedTally) BranchCall(m fsm.Mode, op fsm.Operation, protocol, result string, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tally.BranchCall(m, op, protocol, result, took)
}

func TestCommitWaitsForTheLastVote(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA, branchB)
	n.prepare(gid, branchA)
	type answer struct {
		Status
		err error
	}
	done := make(chan answer, 1)
	go func() {
		s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		done <- answer{s, err}
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
	n.prepare(gid, branchB)
	if a := <-done; a.err != nil || a.Decision != fsm.DecisionCommit {
		t.Errorf("%+v", a)
	}
	// Where it rolls back instead, that is the answer, not an error.
	gid = n.begin("", branchA, branchB)
	go func() {
		s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		done <- answer{s, err}
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
	_, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: branchB, Kind: logpb.VoteKind_VOTE_KIND_REFUSED, Detail: "no funds"})
	n.must(err)
	if a := <-done; a.err != nil || a.Decision != fsm.DecisionRollback || a.Reason != logpb.Reason_REASON_REFUSED {
		t.Errorf("%+v", a)
	}
}

func TestWaitingCallerHearsUnknown(t *testing.T) {
	n := newNode(t)
	wait := func(ctx context.Context, gid fsm.GID) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := n.Commit(ctx, CommitRequest{Transaction: ByGID(gid)})
			done <- err
		}()
		testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
		return done
	}
	gid := n.begin("", branchA)
	ctx, cancel := context.WithCancel(n.ctx)
	done := wait(ctx, gid)
	cancel()
	var unknown *UnknownError
	if err := <-done; !errors.Is(err, ErrUnknown) || !errors.As(err, &unknown) || unknown.GID != gid || !errors.Is(err, context.Canceled) {
		t.Errorf("context ended: %v", err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 0 }, "the caller is forgotten")
	n.query(n.ctx, func(*Core, time.Time) {
		if len(n.waiters) != 0 {
			t.Errorf("%d waiters are kept", len(n.waiters))
		}
	})

	done = wait(n.ctx, gid)
	n.follow("other")
	if err := <-done; !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrNotLeader) {
		t.Errorf("leadership went: %v", err)
	}
	n.lead()
	done = wait(n.ctx, gid)
	go func() { _ = n.Close() }()
	if err := <-done; !errors.Is(err, ErrUnknown) {
		t.Errorf("closed: %v", err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		_, err := n.Begin(n.ctx, nil)
		return errors.Is(err, ErrClosed)
	}, "a closed coordinator says so")
}

func TestSubmitDecidesInOneEntry(t *testing.T) {
	n := newNode(t)
	submit := func(gid fsm.GID) *logpb.Submit {
		return &logpb.Submit{
			Begin: &logpb.Begin{Gid: gid.Bytes(), Entry: logpb.Entry_ENTRY_NAMED},
			Set:   []*logpb.BranchSpec{branchB, branchA},
			Votes: []*logpb.Ballot{{Branch: branchB, Kind: prepared}, {Branch: branchA, Kind: prepared}},
		}
	}
	gid := n.newGID()
	before := n.Header().AppliedIndex
	s, err := n.Submit(n.ctx, SubmitRequest{Submit: submit(gid)})
	n.must(err)
	if !s.Created || s.Decision != fsm.DecisionCommit || n.Header().AppliedIndex != before+1 {
		t.Errorf("submit: %+v in %d entries", s, n.Header().AppliedIndex-before)
	}
	if s, err = n.Submit(n.ctx, SubmitRequest{Submit: submit(gid)}); err != nil || s.Created || s.Decision != fsm.DecisionCommit {
		t.Errorf("again: %+v, %v", s, err)
	}
}

func TestErrorsBeforeAndAfterTheAppend(t *testing.T) {
	n := newNode(t)
	begin := func() error {
		_, err := n.Begin(n.ctx, &logpb.Begin{})
		return err
	}
	for _, c := range []struct {
		name     string
		fault    error
		want     error
		appended bool
	}{
		{"not leader, though nobody else is known to be", ErrNotLeader, ErrNoLeader, false},
		{"no leader", ErrNoLeader, ErrNoLeader, false},
		{"busy", &OverloadError{Limit: "x", Max: 1}, ErrOverload, false},
		{"too large", ErrTooLarge, ErrTooLarge, false},
		{"unknown", &UnknownError{Cause: errors.New("leadership lost")}, ErrUnknown, true},
		{"anything else", errors.New("disk on fire"), ErrUnknown, true},
	} {
		fail := func([]*logpb.Command) error { return c.fault }
		if c.appended {
			n.log.meet(nil, fail)
		} else {
			n.log.meet(fail, nil)
		}
		err := begin()
		if !errors.Is(err, c.want) || err.Error() == "" {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if errors.Is(err, ErrUnknown) != c.appended {
			t.Errorf("%s: %v: unknown is an outcome of its own", c.name, err)
		}
	}
	n.log.meet(nil, nil)
	n.follow("n2")
	var not *NotLeaderError
	if err := begin(); !errors.As(err, &not) || not.Leader.ID != "n2" {
		t.Errorf("follower: %v, want a hint", err)
	}
	if _, err := n.Inquire(n.ctx, InquireRequest{GID: n.newGID(), Branch: "1"}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("inquire of a follower: %v", err)
	}
	if _, err := n.Attach(n.ctx, AttachRequest{Holder: holderN(1), Resources: []string{"a"}}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("attach to a follower: %v", err)
	}
	if _, err := n.Report(n.ctx, ReportRequest{GID: n.newGID(), Branch: "1", Outcome: committed}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("report to a follower: %v", err)
	}
	if _, err := n.Retry(n.ctx, ByGID(n.newGID()), ""); !errors.Is(err, ErrNotLeader) {
		t.Errorf("retry of a follower: %v", err)
	}
	n.log.elect() // but nobody has told the coordinator yet
	if err := begin(); !errors.Is(err, ErrNoLeader) {
		t.Errorf("about to lead: %v", err)
	}
	n.log.depose("")
	if err := begin(); !errors.Is(err, ErrNoLeader) {
		t.Errorf("nobody leads: %v", err)
	}
}

// GUARANTEES.md S20: "overload is a typed refusal before anything is appended".
func TestOverloadIsRefusedBeforeTheAppend(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.ProposalsPendingMax = 2 })
	gid := n.begin("", branchA)
	block := make(chan struct{})
	n.log.meet(func([]*logpb.Command) error { <-block; return nil }, nil)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { _, _ = n.Begin(n.ctx, nil) })
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Pending == 2 }, "two wait")
	var over *OverloadError
	if _, err := n.Begin(n.ctx, nil); !errors.As(err, &over) || over.Max != 2 || !errors.Is(err, ErrOverload) {
		t.Errorf("a third: %v", err)
	}
	wg.Go(func() { _, _ = n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid)}) }) // an ending has room yet
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Pending == 3 }, "an ending is let in")
	if _, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: committed}); !errors.Is(err, ErrOverload) {
		t.Errorf("endings are bounded too: %v", err)
	}
	close(block)
	wg.Wait()
}

func TestKeysAndReferences(t *testing.T) {
	n := newNode(t)
	gid := n.begin("k1")
	s, err := n.Begin(n.ctx, &logpb.Begin{Key: "k1", TimeoutMs: 60_000})
	n.must(err)
	if s.GID != gid || s.Created {
		t.Errorf("begin of a standing key: %+v, want %s", s, gid)
	}
	_, err = n.Rollback(n.ctx, RollbackRequest{Transaction: ByKey("", "nobody")})
	if r := wantRefusal(t, err, fsm.NotFound); r.Key != "nobody" {
		t.Errorf("refusal %+v", r)
	}
	_, err = n.Get(n.ctx, GetRequest{Transaction: ByKey("", "nobody")})
	wantRefusal(t, err, fsm.NotFound)
	_, err = n.Commit(n.ctx, CommitRequest{})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Get(n.ctx, GetRequest{Transaction: ByGID(n.newGID())})
	wantRefusal(t, err, fsm.NotFound)
	_, err = n.Retry(n.ctx, ByGID(n.newGID()), "")
	wantRefusal(t, err, fsm.NotFound)
	if due, err := n.Retry(n.ctx, ByKey("", "k1"), ""); err != nil || due != 0 {
		t.Errorf("retry of an undecided transaction: %d, %v", due, err)
	}
	_, err = n.Begin(n.ctx, &logpb.Begin{Gid: []byte("short")})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(gid), Branch: "1", Outcome: committed, Operator: "me"})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(gid), Branch: "1", Outcome: committed, Operator: "me", Reason: "r"})
	if err == nil {
		t.Error("an undecided transaction was resolved")
	}
	_, err = n.Enlist(n.ctx, gid, &logpb.BranchSpec{Id: "1", Resource: "r", Held: true})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Vote(n.ctx, gid, &logpb.Ballot{Branch: &logpb.BranchSpec{Id: "1", Resource: "r", Held: true}, Kind: prepared})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Busy: true})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Enlist(n.ctx, n.newGID(), branchA)
	wantRefusal(t, err, fsm.NotFound)
	_, err = n.Vote(n.ctx, n.newGID(), &logpb.Ballot{Branch: branchA, Kind: prepared})
	wantRefusal(t, err, fsm.NotFound)
	_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(n.newGID())})
	wantRefusal(t, err, fsm.NotFound)
	_, err = n.Submit(n.ctx, SubmitRequest{Submit: &logpb.Submit{Begin: &logpb.Begin{Gid: []byte("short")}}})
	wantRefusal(t, err, fsm.Invalid)
}

func TestOperatorsWords(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA, branchB)
	n.prepare(gid, branchA, branchB)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	s, err := n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(gid), Branch: "1", Outcome: committed, Operator: "ann", Reason: "disk lost"})
	n.must(err)
	if s.State != fsm.StateCommitting {
		t.Errorf("resolve: %+v", s)
	}
	other := n.begin("")
	if _, err = n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(other), Operator: "ann", Detail: "asked to"}); err != nil {
		t.Fatal(err)
	}
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(other), Consistency: Local, MinIndex: 1})
	n.must(err)
	if v.Transaction.GetOperator() != "ann" || v.Transaction.GetReason() != logpb.Reason_REASON_OPERATOR {
		t.Errorf("record: %v", v.Transaction)
	}
}

func TestInquire(t *testing.T) {
	n := newNode(t)
	ask := func(gid fsm.GID, timeout time.Duration) Inquired {
		t.Helper()
		q, err := n.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1", Resource: "bank-a", Holder: holderN(1), Timeout: timeout})
		n.must(err)
		return q
	}
	gid := n.begin("", branchA)
	if q := ask(gid, time.Minute); q.Verdict != fsm.VerdictWait || q.Unseen {
		t.Errorf("undecided: %+v", q)
	}
	n.prepare(gid, branchA)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	if q := ask(gid, time.Minute); q.Verdict != fsm.VerdictCommit {
		t.Errorf("committed: %+v", q)
	}
	unseen, slow := n.newGID(), n.newGID()
	n.log.leap(59 * time.Second)
	if q := ask(unseen, time.Second); q.Verdict != fsm.VerdictWait || !q.Unseen {
		t.Errorf("unseen, within its time: %+v", q)
	}
	n.log.leap(3 * time.Second)
	if q := ask(unseen, time.Second); q.Verdict != fsm.VerdictRollback {
		t.Errorf("unseen, past its time: %+v", q)
	}
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(unseen)})
	n.must(err)
	if !v.Transaction.GetTombstone() || v.Transaction.GetReason() != logpb.Reason_REASON_PRESUMED {
		t.Errorf("no tombstone stands: %v", v.Transaction)
	}
	_, err = n.Vote(n.ctx, unseen, &logpb.Ballot{Branch: branchA, Kind: prepared})
	wantRefusal(t, err, fsm.AlreadyDecided)
	// Without a timeout, the longest that the cluster allows counts.
	if q := ask(slow, 0); q.Verdict != fsm.VerdictWait {
		t.Errorf("unseen, timeout not named: %+v", q)
	}
	n.log.leap(10 * time.Minute)
	if q := ask(slow, 0); q.Verdict != fsm.VerdictRollback {
		t.Errorf("unseen, past the longest time: %+v", q)
	}
	// A decision is answered by any node that has applied it.
	undecided := n.begin("", branchA)
	n.follow("other")
	if q := ask(gid, time.Minute); q.Verdict != fsm.VerdictCommit {
		t.Errorf("from a follower: %+v", q)
	}
	for name, gid := range map[string]fsm.GID{"unseen": n.newGID(), "undecided": undecided} {
		_, err = n.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1"})
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("what a follower cannot know, %s here: %v", name, err)
		}
	}
}

func TestGIDsAreMadeFromTheAppliedClock(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Entropy = bytes.NewReader(bytes.Repeat([]byte{7}, 20)) })
	s, err := n.Begin(n.ctx, nil)
	n.must(err)
	if s.GID.BornMS() > n.Header().ClockMS || s.GID != fsm.NewGID(s.GID.BornMS(), [10]byte{7, 7, 7, 7, 7, 7, 7, 7, 7, 7}) {
		t.Errorf("gid %s", s.GID)
	}
	h := n.Header()
	if h.ClusterID.IsZero() || h.AppliedIndex == 0 || h.Epoch.Term != 1 {
		t.Errorf("header %+v", h)
	}
}

func TestInjectedErrorsAtTheCallersFailpoints(t *testing.T) {
	arm(t, "begun@b=error;enlisted@e=error;before-decision@d=error;at-decision@a=error;after-decision@x=error")
	n := newNode(t)
	if _, err := n.Begin(n.ctx, &logpb.Begin{Key: "b"}); !errors.Is(err, ErrUnknown) || !errors.Is(err, failpoint.ErrInjected) {
		t.Errorf("begun: %v", err)
	}
	gid := n.begin("e")
	if _, err := n.Enlist(n.ctx, gid, branchA); !errors.Is(err, ErrUnknown) {
		t.Errorf("enlisted: %v", err)
	}
	gid = n.begin("d")
	if _, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)}); !errors.Is(err, ErrUnknown) {
		t.Errorf("before-decision: %v", err)
	}
	_, err := n.Submit(n.ctx, SubmitRequest{Submit: &logpb.Submit{Begin: &logpb.Begin{Key: "d"}}})
	if !errors.Is(err, ErrUnknown) {
		t.Errorf("before-decision of a submit: %v", err)
	}
	if v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)}); err != nil || v.Transaction.GetState() != fsm.StateActive {
		t.Errorf("something was proposed all the same: %v %v", v.Transaction, err)
	}
	gid = n.begin("a")
	if _, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)}); !errors.Is(err, ErrUnknown) {
		t.Errorf("at-decision: %v", err)
	}
	if v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid)}); err != nil || v.Transaction.GetDecision() != fsm.DecisionCommit {
		t.Errorf("at-decision comes after the decision: %v %v", v.Transaction, err)
	}
	gid = n.begin("x", branchA)
	n.prepare(gid, branchA)
	if _, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)}); err != nil {
		t.Errorf("a failpoint of the driver's: %v", err)
	}
	// The last vote may be what decides.
	gid = n.begin("", branchA)
	if _, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Wait: WaitNone}); err != nil {
		t.Error(err)
	}
	arm(t, "at-decision=error")
	if _, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: branchA, Kind: prepared}); !errors.Is(err, ErrUnknown) {
		t.Errorf("the deciding vote: %v", err)
	}
}

func arm(t testing.TB, spec string) {
	t.Helper()
	if err := failpoint.Arm(spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = failpoint.Arm("") })
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{Settings: DefaultSettings()}); err == nil {
		t.Error("no log, no error")
	}
	if _, err := New(Config{Log: newMemLog(t), Settings: DefaultSettings(), Peers: peersFunc(nil)}); err == nil {
		t.Error("peers without Fatal, no error")
	}
	for name, spoil := range map[string]func(*Settings){
		"SessionGrace": func(s *Settings) { s.SessionGrace = 2*s.SessionHeartbeat - 1 },
		"BackoffMax":   func(s *Settings) { s.BackoffMax = s.BackoffMin - 1 },
		"TickIdle":     func(s *Settings) { s.TickIdle = TickIdleMax + 1 },
	} {
		s := DefaultSettings()
		spoil(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s spoilt: %v", name, err)
		}
	}
}

// Every setting has a least value, just below which it is refused by its name; a new
// one must be looked at, too.
func TestEverySettingHasALeastValue(t *testing.T) {
	for _, profile := range []Settings{DefaultSettings(), FastSettings()} {
		if err := profile.Validate(); err != nil {
			t.Error(err)
		}
	}
	orZero := []string{"ReportHoldMax", "ReportRideMax"} // 0: not at all
	for i := range reflect.TypeFor[Settings]().NumField() {
		s := DefaultSettings()
		s.SessionHeartbeat, s.BackoffMin = time.Millisecond, time.Millisecond // below what others are compared with
		f, name := reflect.ValueOf(&s).Elem().Field(i), reflect.TypeFor[Settings]().Field(i).Name
		least := int64(1)
		switch {
		case slices.Contains(orZero, name):
			least = 0
		case f.Type() == reflect.TypeFor[time.Duration]():
			least = int64(time.Millisecond)
		}
		f.SetInt(least - 1)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), name+" ") {
			t.Errorf("%s of %v: %v", name, f, err)
		}
		f.SetInt(least)
		if err := s.Validate(); err != nil && name != "SessionGrace" { // which has a heartbeat to keep
			t.Errorf("%s of %v: %v", name, f, err)
		}
	}
}

func TestWithheldIsARefusalThatMeansWait(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA)
	_, _, err := n.log.Propose(n.ctx, &logpb.Command{Kind: &logpb.Command_Recover{
		Recover: &logpb.Recover{Incarnation: 2, HoldBeforeMs: n.Header().ClockMS + 1000}}})
	n.must(err)
	_, err = n.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1", Timeout: time.Second})
	if r := wantRefusal(t, err, fsm.Withheld); r.Verdict != fsm.VerdictWait || r.Error() == "" {
		t.Errorf("%+v", r)
	}
	_, err = n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid)})
	wantRefusal(t, err, fsm.Withheld)
	if s, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid), Operator: "ann", Detail: "restored"}); err != nil || s.Decision != fsm.DecisionRollback {
		t.Errorf("an operator's word: %+v, %v", s, err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	gid := fsm.NewGID(1, [10]byte{1})
	for want, err := range map[string]error{
		"who does is not known": &NotLeaderError{},
		"node n2 at n2:1":       &NotLeaderError{Leader: LeaderInfo{ID: "n2", GRPCAddress: "n2:1"}},
		"ask again with the":    &UnknownError{GID: gid, Cause: context.Canceled},
		"try again later":       &OverloadError{Limit: "x", Max: 3},
		"list anew":             &CompactedError{After: 1, Oldest: 9},
		"branch 2 of":           &Refusal{Code: fsm.Sealed, GID: gid, Branch: "2"},
		"transaction key:k":     &Refusal{Code: fsm.NotFound, Key: "k"},
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// A node that is behind, or has been deposed, may not have applied the begin of a key
// that stands: that nobody has the key is the leader's to say.
func TestThatAKeyStandsForNothingIsTheLeadersWord(t *testing.T) {
	n := newNode(t)
	n.begin("k1")
	n.follow("other")
	ask := map[string]func(Ref) error{
		"commit":   func(r Ref) error { _, err := n.Commit(n.ctx, CommitRequest{Transaction: r}); return err },
		"rollback": func(r Ref) error { _, err := n.Rollback(n.ctx, RollbackRequest{Transaction: r}); return err },
		"resolve": func(r Ref) error {
			_, err := n.Resolve(n.ctx, ResolveRequest{Transaction: r, Branch: "1", Outcome: committed, Operator: "me", Reason: "r"})
			return err
		},
		"get": func(r Ref) error { _, err := n.Get(n.ctx, GetRequest{Transaction: r}); return err },
		"watch": func(r Ref) error {
			return n.Watch(n.ctx, WatchRequest{Transaction: r}, func(uint64, []fsm.Event) error { return nil })
		},
	}
	for name, call := range ask {
		if err := call(ByKey("", "not applied here yet")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s of a key that a follower does not know: %v", name, err)
		}
	}
}
