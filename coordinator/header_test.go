package coordinator

import (
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// TestHeadersOfWritesAreAsNewAsTheirAnswers: whoever goes on from an answer's index has
// the answer behind it, whether it came from the entry or from who waits for the decision;
// and the header never goes back.
func TestHeadersOfWritesAreAsNewAsTheirAnswers(t *testing.T) {
	n := newNode(t)
	if h := n.HeaderOfWrites(); h != n.Header() {
		t.Errorf("before anything is written: %+v, want %+v", h, n.Header())
	}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			var before uint64
			heard := func(s Status, err error) {
				h := n.HeaderOfWrites()
				switch {
				case err != nil:
					t.Error(err)
				case h.AppliedIndex < s.Index, h.AppliedIndex < before:
					t.Errorf("the answer says index %d, the header %d, and the one before said %d", s.Index, h.AppliedIndex, before)
				case h.ClusterID.IsZero() || h.ClockMS == 0:
					t.Errorf("it lacks what every answer has: %+v", h)
				}
				before = h.AppliedIndex
			}
			for range 100 {
				b := &logpb.BranchSpec{Id: "1", Resource: "a"}
				gid := n.begin("", b)
				var both sync.WaitGroup
				both.Go(func() { // it waits for a decision that comes with the vote
					s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Set: &logpb.BranchSet{Ids: []string{"1"}}, Wait: WaitDecision})
					heard(s, err)
					if err == nil && s.Decision != fsm.DecisionCommit {
						t.Errorf("decided %v", s.Decision)
					}
				})
				if _, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared}); err != nil {
					t.Error(err)
				}
				both.Wait()
				s, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: committed})
				heard(s, err)
			}
		})
	}
	callers.Wait()
	if h := n.HeaderOfWrites(); h != n.Header() {
		t.Errorf("after all: %+v, want %+v", h, n.Header())
	}
}

// TestAWaitersHeaderIsAsNewAsItsAnswer: the core may have read an entry that Applied was
// not told of yet, and answers by it.
func TestAWaitersHeaderIsAsNewAsItsAnswer(t *testing.T) {
	n := newNode(t)
	b := &logpb.BranchSpec{Id: "1", Resource: "a"}
	gid := n.begin("", b)
	type answer struct {
		status Status
		header Header
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Set: &logpb.BranchSet{Ids: []string{"1"}}, Wait: WaitDecision})
		answered <- answer{s, n.HeaderOfWrites(), err}
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
	tell, arrived, release := n.log.applied, make(chan struct{}), make(chan struct{})
	var first sync.Once
	n.log.applied = func(index uint64) {
		first.Do(func() {
			close(arrived)
			<-release
		})
		tell(index)
	}
	voted := make(chan error, 1)
	go func() {
		_, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
		voted <- err
	}()
	<-arrived
	if _, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid), Consistency: Local}); err != nil { // the core looks
		t.Error(err)
	}
	select {
	case a := <-answered:
		if a.err != nil || a.status.Decision != fsm.DecisionCommit || a.header.AppliedIndex < a.status.Index {
			t.Errorf("%+v %v with the header of index %d", a.status, a.err, a.header.AppliedIndex)
		}
	case <-n.ctx.Done():
		t.Error("no answer")
	}
	close(release)
	if err := <-voted; err != nil {
		t.Error(err)
	}
}
