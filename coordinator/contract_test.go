package coordinator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// What every call owes its caller, one call after the other.

// TestEveryCallTellsAnUnknownOutcome: an entry whose fate is not known may yet be
// replicated. Whoever hears anything but "unknown" of it, success or refusal,
// would be lied to by one of the two ends.
func TestEveryCallTellsAnUnknownOutcome(t *testing.T) {
	n := newNode(t)
	b := &logpb.BranchSpec{Id: "1", Resource: "a"}
	ready := func() fsm.GID { // prepared, and its commit not asked
		gid := n.begin("", b)
		n.prepare(gid, b)
		return gid
	}
	for name, call := range map[string]func(gid fsm.GID) error{
		"begin": func(fsm.GID) error { _, err := n.Begin(n.ctx, &logpb.Begin{}); return err },
		"enlist": func(gid fsm.GID) error {
			_, err := n.Enlist(n.ctx, gid, &logpb.BranchSpec{Id: "2", Resource: "a"})
			return err
		},
		"vote": func(gid fsm.GID) error {
			_, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
			return err
		},
		"commit": func(gid fsm.GID) error { _, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)}); return err },
		"rollback": func(gid fsm.GID) error {
			_, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid)})
			return err
		},
		"submit": func(fsm.GID) error {
			_, err := n.Submit(n.ctx, SubmitRequest{Submit: &logpb.Submit{Begin: &logpb.Begin{Entry: logpb.Entry_ENTRY_NAMED}}})
			return err
		},
		"report": func(gid fsm.GID) error {
			_, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: committed})
			return err
		},
		"resolve": func(gid fsm.GID) error {
			_, err := n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(gid), Branch: "1", Outcome: committed, Operator: "alice", Reason: "asked"})
			return err
		},
	} {
		gid := ready()
		n.log.meet(nil, func([]*logpb.Command) error { return &UnknownError{Cause: errors.New("leadership lost")} })
		err := call(gid)
		n.log.meet(nil, nil)
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, want an unknown outcome", name, err)
		}
		n.log.meet(func([]*logpb.Command) error { return ErrNotLeader }, nil)
		err = call(gid)
		n.log.meet(nil, nil)
		if err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v of what was not appended: want a definite error", name, err)
		}
	}
}

// TestNoCallAnswersBeforeItsEntryIsApplied: while the log holds the entry back,
// its caller waits.
func TestNoCallAnswersBeforeItsEntryIsApplied(t *testing.T) {
	n := newNode(t)
	b := &logpb.BranchSpec{Id: "1", Resource: "a"}
	gid := n.begin("", b)
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"enlist", func() error { _, err := n.Enlist(n.ctx, gid, &logpb.BranchSpec{Id: "2", Resource: "a"}); return err }},
		{"vote", func() error { _, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared}); return err }},
		{"rollback", func() error { _, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid)}); return err }},
		{"report", func() error {
			_, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: rolledBack})
			return err
		}},
	} {
		arrived, release := make(chan struct{}), make(chan struct{})
		n.log.meet(func([]*logpb.Command) error {
			select {
			case arrived <- struct{}{}:
				<-release
			case <-release:
			}
			return nil
		}, nil)
		answered := make(chan error, 1)
		go func() { answered <- c.call() }()
		<-arrived
		select {
		case err := <-answered:
			t.Errorf("%s: answered (%v) while its entry is on its way", c.name, err)
		case <-time.After(20 * time.Millisecond): // as long as an answer might take
		}
		close(release)
		n.log.meet(nil, nil)
		select {
		case err := <-answered:
			n.must(err)
		case <-n.ctx.Done():
			t.Fatalf("%s: no answer", c.name)
		}
	}
}

// TestMinIndexIsWaitedFor: a local read is as fresh as its caller has already
// seen, or it says that it is not.
func TestMinIndexIsWaitedFor(t *testing.T) {
	n := newNode(t)
	gid := n.begin("k")
	ahead := n.log.applies() + 2
	for name, read := range map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error {
			_, err := n.Get(ctx, GetRequest{Transaction: ByGID(gid), Consistency: Local, MinIndex: ahead})
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := n.List(ctx, ListRequest{Consistency: Local, MinIndex: ahead})
			return err
		},
		"topics": func(ctx context.Context) error {
			_, err := n.Topics(ctx, TopicsRequest{Consistency: Local, MinIndex: ahead})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(n.ctx, 20*time.Millisecond)
		if err := read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s of a state two entries older than asked for: %v", name, err)
		}
		cancel()
	}
	n.begin("another", &logpb.BranchSpec{Id: "1", Resource: "a"}) // two entries
	for n.log.applies() < ahead {
		n.begin("")
	}
	if v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid), Consistency: Local, MinIndex: ahead}); err != nil || v.Transaction == nil {
		t.Errorf("get once it is applied: %v", err)
	}
}

// A linearizable read asks the leader whatever else it asks for: that this node has
// applied an index says nothing of what was acknowledged after it.
func TestALinearizableReadIsOneWithAnIndexToo(t *testing.T) {
	n := newNode(t)
	gid := n.begin("read")
	at := n.Header().AppliedIndex
	n.follow("n2")
	for name, read := range map[string]func(Consistency) error{
		"get": func(c Consistency) error {
			_, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid), Consistency: c, MinIndex: at})
			return err
		},
		"list": func(c Consistency) error {
			_, err := n.List(n.ctx, ListRequest{Consistency: c, MinIndex: at})
			return err
		},
		"topics": func(c Consistency) error {
			_, err := n.Topics(n.ctx, TopicsRequest{Consistency: c, MinIndex: at})
			return err
		},
	} {
		if err := read(Linearizable); !errors.Is(err, ErrNotLeader) {
			t.Errorf("linearizable %s of a follower: %v", name, err)
		}
		if err := read(Local); err != nil {
			t.Errorf("local %s of a follower: %v", name, err)
		}
	}
}

// TestTheLocalClockDecidesNothing: a deadline that has passed by this node's clock
// means nothing until the log has applied the Tick behind it; a vote or a commit
// still counts until then, and may be what comes first.
func TestTheLocalClockDecidesNothing(t *testing.T) {
	n := newNode(t)
	n.log.meet(func(commands []*logpb.Command) error {
		for _, c := range commands {
			if c.GetTick() != nil {
				return ErrOverload
			}
		}
		return nil
	}, nil)
	b := &logpb.BranchSpec{Id: "1", Resource: "a"}
	s, err := n.Begin(n.ctx, &logpb.Begin{TimeoutMs: 20})
	n.must(err)
	_, err = n.Enlist(n.ctx, s.GID, b)
	n.must(err)
	n.prepare(s.GID, b)
	<-time.After(100 * time.Millisecond) // the deadline passes, on every clock but the log's
	q, err := n.Inquire(n.ctx, InquireRequest{GID: s.GID, Branch: "1", Timeout: 20 * time.Millisecond})
	if err != nil || q.Verdict != fsm.VerdictWait {
		t.Errorf("a branch whose deadline no Tick has applied hears %v, %v", q.Verdict, err)
	}
	if v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(s.GID)}); err != nil || v.Transaction.GetDecision() != fsm.DecisionNone {
		t.Errorf("it is decided %v, %v", v.Transaction.GetDecision(), err)
	}
	committed, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(s.GID)})
	if err != nil || committed.Decision != fsm.DecisionCommit {
		t.Errorf("a commit before the Tick: %v, %v", committed.Decision, err)
	}
}
