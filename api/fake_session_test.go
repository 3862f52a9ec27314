package api

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// fakeSession is a Session that does as it is told.
type fakeSession struct {
	out      chan coordinator.Message
	done     chan struct{}
	once     sync.Once
	entered  chan string   // each request's name, as it begins
	release  chan struct{} // where not nil, requests wait for it
	fail     error
	mu       sync.Mutex
	err      error
	alive    int
	detached bool
	closed   error
	vouched  []coordinator.BranchRef
	reports  []coordinator.ReportRequest
	together []int // how many requests were made at once
}

func newFakeSession() *fakeSession {
	return &fakeSession{out: make(chan coordinator.Message, 4096), done: make(chan struct{}), entered: make(chan string, 4096)}
}

func (s *fakeSession) end(err error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(s.done)
	})
}

func (s *fakeSession) Heartbeat() time.Duration             { return 300 * time.Millisecond }
func (s *fakeSession) Grace() time.Duration                 { return 2 * time.Second }
func (s *fakeSession) Outgoing() <-chan coordinator.Message { return s.out }
func (s *fakeSession) Done() <-chan struct{}                { return s.done }

func (s *fakeSession) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *fakeSession) Alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive++
}

func (s *fakeSession) Close(cause error) {
	s.mu.Lock()
	s.closed = cause
	s.mu.Unlock()
	s.end(cause)
}

func (s *fakeSession) Detach() {
	s.mu.Lock()
	s.detached = true
	s.mu.Unlock()
}

func (s *fakeSession) Vouch(branches []coordinator.BranchRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vouched = branches
}

func (s *fakeSession) request(ctx context.Context, name string) error {
	s.entered <- name
	if s.release != nil {
		select {
		case <-s.release:
		case <-ctx.Done():
			return &coordinator.UnknownError{GID: testGID, Cause: context.Cause(ctx)}
		}
	}
	return s.fail
}

func (s *fakeSession) Enlist(ctx context.Context, _ fsm.GID, _ *logpb.BranchSpec) (coordinator.Status, error) {
	return testStatus, s.request(ctx, "Enlist")
}

func (s *fakeSession) Vote(ctx context.Context, _ fsm.GID, _ *logpb.Ballot) (coordinator.Status, error) {
	return testStatus, s.request(ctx, "Vote")
}

// Together makes each request by itself; together notes how many there were.
func (s *fakeSession) Together(ctx context.Context, asked []coordinator.Asked) []coordinator.Told {
	s.mu.Lock()
	s.together = append(s.together, len(asked))
	s.mu.Unlock()
	told := make([]coordinator.Told, len(asked))
	for i, a := range asked {
		if a.Branch != nil {
			told[i].Status, told[i].Err = s.Enlist(ctx, a.GID, a.Branch)
		} else {
			told[i].Status, told[i].Err = s.Vote(ctx, a.GID, a.Ballot)
		}
	}
	return told
}

func (s *fakeSession) ReportAsync(r coordinator.ReportRequest, done func(coordinator.Status, error)) {
	s.mu.Lock()
	s.reports = append(s.reports, r)
	s.mu.Unlock()
	go func() { done(testStatus, s.request(context.Background(), "Report")) }()
}

func (s *fakeSession) Inquire(ctx context.Context, _ coordinator.InquireRequest) (coordinator.Inquired, error) {
	return coordinator.Inquired{Verdict: fsm.VerdictRollback}, s.request(ctx, "Inquire")
}
