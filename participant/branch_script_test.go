package participant

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
)

// inTransaction is a context of a transaction with named entry.
func inTransaction(t *testing.T) (context.Context, *scope) {
	t.Helper()
	ctx, err := Join(t.Context(), Info{GID: bornGID, Timeout: time.Minute, Entry: EntryNamed})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, scopeOf(ctx)
}

// namesOf are the branches that a scope would name, sorted.
func namesOf(s *scope) []string { return ids(s.trailer().branches) }

// An enlisting that was refused leaves no branch: none to wait for, none to name. One of
// which nobody knows is a branch until it has said its refusal.
func TestAnEnlistingThatFails(t *testing.T) {
	for _, reason := range []string{"BRANCH_CONFLICT", reasonSealed, reasonAlreadyDecided, reasonExpired, reasonQuota} {
		t.Run(reason, func(t *testing.T) {
			c := lonely(t)
			scripted(t, c, func(*quoratev1.SessionRequest) (Verdict, error) { return VerdictNone, ofCluster(reason, 0) })
			attachedTo(c, answering(nil))
			ctx, s := inTransaction(t)
			if _, err := c.StartBranch(ctx, "r"); err == nil {
				t.Fatal("it was enlisted")
			}
			if tr := s.trailer(); !tr.complete || len(tr.branches) != 0 || len(c.live.list()) != 0 {
				t.Errorf("complete %t, with %v, of which %d live", tr.complete, tr.branches, len(c.live.list()))
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		c := lonely(t)
		ctx, s := inTransaction(t)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		voted, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		scripted(t, c, func(req *quoratev1.SessionRequest) (Verdict, error) {
			if req.GetVote() != nil {
				close(voted)
				<-release
				return VerdictRollback, nil
			}
			cancel()
			return VerdictNone, nil
		})
		attachedTo(c, answering(nil))
		if _, err := c.StartBranch(ctx, "r"); !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
		<-voted
		if tr := s.trailer(); tr.complete || len(tr.branches) != 1 {
			t.Errorf("complete %t, with %v, while its refusal is on the way", tr.complete, tr.branches)
		}
	})
}

// A vote of which nothing was heard is not given: the caller must not count on it.
func TestAVoteThatIsNotAnswered(t *testing.T) {
	for _, kind := range []VoteKind{VotePrepared, VoteReadOnly} {
		c := lonely(t)
		ctx, s := inTransaction(t)
		voting, cancel := context.WithCancel(ctx)
		defer cancel()
		scripted(t, c, func(req *quoratev1.SessionRequest) (Verdict, error) {
			if req.GetVote() == nil {
				return VerdictWait, nil
			}
			cancel()
			return VerdictNone, nil
		})
		attachedTo(c, answering(nil))
		b, err := c.StartBranch(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Vote(voting, Vote{Kind: kind}); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v: %v", kind, err)
		}
		if tr := s.trailer(); tr.complete {
			t.Errorf("a vote, %v, of which nobody has heard is complete", kind)
		}
	}
}

// A refusal of a prepared vote is a rollback where it says that the branch came too late,
// and is no word on the branch elsewhere; whatever it says, the branch is in the hands of
// recovery.
func TestAPreparedVoteThatIsRefused(t *testing.T) {
	for reason, tooLate := range map[string]bool{
		reasonSealed: true, reasonAlreadyDecided: true, reasonExpired: true,
		"VOTE_CONFLICT": false, "NOT_ENLISTED": false, reasonQuarantined: false, reasonWithheld: false, reasonNotFound: false, reasonQuota: false,
	} {
		c := lonely(t)
		scripted(t, c, func(req *quoratev1.SessionRequest) (Verdict, error) {
			if req.GetVote() != nil {
				return VerdictNone, ofCluster(reason, 0)
			}
			return VerdictWait, nil
		})
		a := attachedTo(c, answering(nil))
		ctx, _ := inTransaction(t)
		b, err := c.StartBranch(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Vote(ctx, Vote{Kind: VotePrepared})
		var rolledBack *RolledBackError
		if errors.As(err, &rolledBack) != tooLate || err == nil {
			t.Errorf("%s: %v", reason, err)
		}
		if len(a.kicked) != 1 || len(c.live.list()) != 0 || b.Verdict().Final() {
			t.Errorf("%s: it is not left to recovery", reason)
		}
	}
}

// A branch that may have prepared stays this process' own until it is told; one that has
// not is gone with its refusal, and so is a reader with its vote. In a one-shot transaction
// as elsewhere; there, what may be prepared asks for its verdict.
func TestWhoIsLiveAfterItsVote(t *testing.T) {
	for _, oneShot := range []bool{false, true} {
		for _, x := range []struct {
			vote       Vote
			live, asks bool
		}{
			{Vote{Kind: VotePrepared}, true, true},
			{Vote{Kind: VoteRefused, MaybePrepared: true}, true, true},
			{Vote{Kind: VoteRefused}, false, false},
			{Vote{Kind: VoteReadOnly}, false, false},
		} {
			c := lonely(t)
			scripted(t, c, func(*quoratev1.SessionRequest) (Verdict, error) { return VerdictWait, nil })
			attachedTo(c, answering(nil))
			ctx := withScope(t.Context(), newScope(Info{GID: bornGID, Timeout: time.Minute, Entry: EntryNamed, OneShot: oneShot}))
			b, err := c.StartBranch(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Vote(ctx, x.vote); err != nil {
				t.Fatal(err)
			}
			if live := c.live.get(b.ref) == b; live != x.live {
				t.Errorf("one-shot %t, %+v: live %t", oneShot, x.vote, live)
			}
			if asks := b.overdue(time.Now().Add(time.Minute), time.Second); asks != (x.asks && oneShot) {
				t.Errorf("one-shot %t, %+v: asks %t", oneShot, x.vote, asks)
			}
		}
	}
}

// A verdict that does not come is asked for again after as long as it was waited for, and
// at the latest every askAgainMax.
func TestHowOftenAVerdictIsAskedFor(t *testing.T) {
	b := &Branch{decided: make(chan struct{}), ended: make(chan struct{})}
	start := time.Now()
	b.asking.since = start
	var asked []int
	for s := range 200 {
		if b.overdue(start.Add(time.Duration(s)*time.Second), 2*time.Second) {
			asked = append(asked, s)
		}
	}
	if want := []int{2, 4, 8, 16, 32, 62, 92, 122, 152, 182}; !slices.Equal(asked, want) {
		t.Errorf("asked after %v s, want %v", asked, want)
	}
	b.hear(VerdictRollback)
	if b.overdue(start.Add(time.Hour), time.Second) {
		t.Error("asks for a verdict that it has heard")
	}
}

// What waits for an answer on a stream that ends is told at once: it is to be sent
// elsewhere. A client that is closed ends its calls, whatever their own deadline.
func TestNobodyWaitsForWhatCannotCome(t *testing.T) {
	c := lonely(t)
	c.cfg.attemptTimeout = time.Hour
	l := scripted(t, c, nil)
	heard := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := l.st.roundTrip(context.Background(), &quoratev1.SessionRequest{})
			heard <- err
		}()
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		l.st.mu.Lock()
		defer l.st.mu.Unlock()
		return len(l.st.waiting) == 3
	}, "three requests that wait")
	l.st.fail()
	for range 3 {
		select {
		case err := <-heard:
			if !errors.Is(err, errStreamEnded) {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a request waits for a stream that has ended")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	tried := make(chan struct{})
	go func() {
		_, err := call(ctx, c, bornGID, func(ctx context.Context, _ grpc.ClientConnInterface) (*quoratev1.CommitResponse, error) {
			close(tried)
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		})
		heard <- err
	}()
	<-tried
	c.cancel()
	select {
	case err := <-heard:
		if !errors.Is(err, ErrUnknown) && status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a call goes on though its client is closed")
	}
}
