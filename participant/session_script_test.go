package participant

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/testkit"
)

// leaderScript is a leader in a test's hand: what the client sends on its session is
// noted, and answered as the test says.
type leaderScript struct {
	st *stream

	mu    sync.Mutex
	heard []*quoratev1.SessionRequest
}

// scripted attaches a client to a leader that answers with a verdict, or an error; none of
// both: it does not answer.
func scripted(t *testing.T, c *Client, answer func(*quoratev1.SessionRequest) (Verdict, error)) *leaderScript {
	t.Helper()
	l := &leaderScript{st: &stream{
		c: c, done: make(chan struct{}), out: frames.NewQueue[*quoratev1.SessionRequest](1024),
		waiting: make(map[uint64]chan *quoratev1.SessionResponse), start: time.Now(),
	}}
	l.st.ctx, l.st.cancel = context.WithCancelCause(c.ctx)
	c.sess.set(l.st, nil)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			select {
			case <-l.st.out.Ready():
			case <-c.ctx.Done():
				return
			}
			for _, req := range l.st.out.Take(nil) {
				l.mu.Lock()
				l.heard = append(l.heard, req)
				l.mu.Unlock()
				if got := answerTo(req, answer); got != nil {
					l.st.answer(got)
				}
			}
		}
	})
	t.Cleanup(func() { c.cancel(); serving.Wait(); c.work.Wait() })
	return l
}

func answerTo(req *quoratev1.SessionRequest, answer func(*quoratev1.SessionRequest) (Verdict, error)) *quoratev1.SessionResponse {
	if answer == nil || req.GetId() == 0 {
		return nil
	}
	verdict, err := answer(req)
	got := &quoratev1.SessionResponse{Id: req.GetId()}
	switch {
	case err != nil:
		text, _ := proto.Marshal(status.Convert(err).Proto())
		got.Frame = &quoratev1.SessionResponse_Error{Error: &quoratev1.SessionError{StatusProto: text}}
	case verdict == VerdictNone:
		return nil
	case req.GetEnlist() != nil:
		got.Frame = &quoratev1.SessionResponse_Enlist{Enlist: &quoratev1.EnlistResponse{Verdict: quoratev1.Verdict(verdict)}}
	case req.GetVote() != nil:
		got.Frame = &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{Verdict: quoratev1.Verdict(verdict)}}
	default:
		got.Frame = &quoratev1.SessionResponse_Report{Report: &quoratev1.ReportResponse{}}
	}
	return got
}

// reports are those that were heard so far.
func (l *leaderScript) reports() (out []*quoratev1.ReportRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, req := range l.heard {
		if r := req.GetReport(); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// vouched are the branches that were vouched for.
func (l *leaderScript) vouched() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, req := range l.heard {
		for _, b := range req.GetVouch().GetBranches() {
			ids = append(ids, b.GetBranch())
		}
	}
	return ids
}

// wait waits for so many reports.
func (l *leaderScript) wait(t *testing.T, n int) []*quoratev1.ReportRequest {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() bool { return len(l.reports()) >= n }, "%d reports", n)
	return l.reports()
}

// answering is a manager that does what the test says.
type answering func(BranchRef, Verdict) (Outcome, error)

func (answering) Resource() string { return "r" }
func (f answering) Commit(_ context.Context, ref BranchRef) (Outcome, error) {
	return f(ref, VerdictCommit)
}
func (f answering) Rollback(_ context.Context, ref BranchRef) (Outcome, error) {
	return f(ref, VerdictRollback)
}
func (answering) Recover(context.Context) ([]Prepared, error) { return nil, nil }

// attachedTo serves a resource without asking anybody.
func attachedTo(c *Client, m Manager) *Attachment {
	a := &Attachment{c: c, m: m, kicked: make(chan struct{}, 1), queue: make(chan told, windowMax), inFlight: make(map[BranchRef]bool)}
	a.ctx, a.cancel = context.WithCancel(c.ctx)
	c.attached[m.Resource()] = a
	return a
}
