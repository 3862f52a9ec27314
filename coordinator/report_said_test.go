package coordinator

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// TestReportsStayAsTheyWereSaid while the log has them, packed with others or alone, for the
// first time or once more; each hears once, and of its own transaction; also while the node
// closes.
func TestReportsStayAsTheyWereSaid(t *testing.T) {
	const callers, each = 8, 40
	n := newNode(t, func(c *Config) { c.Settings.ReportRideMax = time.Millisecond })
	var proposed sync.Map // a proposal, to what it said at first
	var proposals, packed, refused atomic.Int64
	n.log.meet(func(commands []*logpb.Command) error {
		copies := make([]*logpb.Command, len(commands))
		reports := 0
		for i, c := range commands {
			copies[i] = proto.CloneOf(c)
			if r := c.GetReport(); r != nil {
				reports++
				saysItsOwn(t, r.GetGid(), r)
			}
			for _, r := range c.GetReports().GetReports() {
				reports++
				packed.Add(1)
				saysItsOwn(t, c.GetReports().GetGid(), r)
			}
		}
		proposed.Store(&commands[0], copies)
		runtime.Gosched()
		if reports > 0 && proposals.Add(1)%5 == 0 {
			refused.Add(1)
			return ErrOverload // those that ride are proposed once more
		}
		return nil
	}, func(commands []*logpb.Command) error {
		runtime.Gosched()
		was, _ := proposed.LoadAndDelete(&commands[0])
		for i, c := range commands {
			if before := was.([]*logpb.Command)[i]; !proto.Equal(c, before) {
				t.Errorf("the log has %v, it was %v", c, before)
			}
		}
		return nil
	})
	s := n.attach(holderN(1), "a")
	var asked, heard, took atomic.Int64
	report := func(gid fsm.GID, branch string) {
		asked.Add(1)
		var once atomic.Bool
		s.ReportAsync(ReportRequest{GID: gid, Branch: branch, Outcome: committed, Detail: gid.String() + branch}, func(status Status, err error) {
			switch {
			case once.Swap(true):
				t.Errorf("%v %s hears twice", gid, branch)
			case err == nil && status.GID != gid:
				t.Errorf("%v %s hears of %v", gid, branch, status.GID)
			case err == nil:
				took.Add(1)
			}
			heard.Add(1)
		})
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case m := <-s.Outgoing():
				if m.Deliver != nil {
					report(m.Deliver.GID, m.Deliver.Branch)
				}
			case <-s.Done():
				return
			}
		}
	})
	var decided sync.WaitGroup
	for i := range callers {
		decided.Go(func() {
			for j := range each {
				gid := fsm.NewGID(1, [10]byte{byte(i), byte(j), 1})
				var votes []*logpb.Ballot
				var set []*logpb.BranchSpec
				for b := range 2 + j%2 {
					spec := branchOf(fmt.Sprint(b+1), "a", holderN(1))
					set, votes = append(set, spec), append(votes, &logpb.Ballot{Branch: spec, Kind: prepared})
				}
				status, err := n.Submit(n.ctx, SubmitRequest{Submit: &logpb.Submit{
					Begin: &logpb.Begin{Gid: gid.Bytes(), Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 60_000}, Set: set, Votes: votes,
				}})
				if err != nil {
					continue // it was refused with a report that it took along
				}
				report(status.GID, "1") // beside the answer to its delivery
			}
		})
	}
	decided.Wait()
	testkit.Eventually(t, 10*time.Second, func() bool { return took.Load() > callers*each }, "most reports are taken")
	n.must(n.Close())
	all.Wait()
	testkit.Eventually(t, 5*time.Second, func() bool { return heard.Load() == asked.Load() }, "all are heard")
	if packed.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d reports were packed, %d proposals refused", packed.Load(), refused.Load())
	}
	t.Logf("%d reports, %d taken, %d packed, %d proposals refused", asked.Load(), took.Load(), packed.Load(), refused.Load())
}

// saysItsOwn: a report is of the transaction and the branch that its detail names.
func saysItsOwn(t *testing.T, id []byte, r *logpb.Report) {
	gid, err := fsm.GIDFromBytes(id)
	if err != nil || r.GetDetail() != gid.String()+r.GetBranch() {
		t.Errorf("a report of %x, %v has become %v", id, err, r)
	}
}
