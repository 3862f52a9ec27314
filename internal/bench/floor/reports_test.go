package floor

import (
	"context"
	"sync"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
)

// slowLog takes proposals one by one: each waits for its token.
type slowLog struct {
	tokens chan struct{}
	mu     sync.Mutex
	sizes  []int // commands of each proposal, as it came
}

func (l *slowLog) Propose(ctx context.Context, commands ...[]byte) error {
	l.mu.Lock()
	l.sizes = append(l.sizes, len(commands))
	l.mu.Unlock()
	select {
	case <-l.tokens:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *slowLog) ReadIndex(context.Context) (uint64, error) { return 0, nil }

func (l *slowLog) seen() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int{}, l.sizes...)
}

// TestReportsGather: a transaction's reports are one record once the last has come; those
// of transactions that finish while an entry is on its way go together in the next, and
// are answered, and their transactions closed, when it is in the log and no sooner.
func TestReportsGather(t *testing.T) {
	log := &slowLog{tokens: make(chan struct{})}
	s := New(log)
	defer s.Close()
	heard := make(chan string, 100)
	report := func(gid, branch string) {
		s.reported(&quoratev1.ReportRequest{Gid: gid, Branch: branch}, func() { heard <- gid })
	}
	gids := []string{"a", "b", "c", "d"}
	for _, gid := range gids {
		s.open.Store(gid, &work{gid: gid, branches: []*quoratev1.BranchSpec{{Id: "1"}, {Id: "2"}}})
		report(gid, "1")
	}
	report("a", "2")
	testkit.Eventually(t, 10*time.Second, func() bool { return len(log.seen()) == 1 }, "the first finished transaction is not recorded")
	for _, gid := range gids[1:] {
		report(gid, "2")
	}
	if len(heard) != 0 {
		t.Error("answered before it is in the log")
	}
	log.tokens <- struct{}{}
	testkit.Eventually(t, 10*time.Second, func() bool { return len(log.seen()) == 2 }, "the others are not recorded")
	if got := log.seen(); got[0] != 1 || got[1] != 3 || len(heard) != 2 {
		t.Errorf("proposals of %v records, %d reports answered, want [1 3] and 2", got, len(heard))
	}
	log.tokens <- struct{}{}
	testkit.Eventually(t, 10*time.Second, func() bool { return len(heard) == 8 }, "not all reports are answered")
	testkit.Eventually(t, 10*time.Second, func() bool {
		open := 0
		s.open.Range(func(any, any) bool { open++; return true })
		return open == 0
	}, "transactions stay open")
	report("a", "2") // of what has ended: answered at once
	if len(heard) != 9 {
		t.Error("a late report is not answered")
	}
}

// TestReportsEnd with their server, whatever is on its way; what was not recorded stays open.
func TestReportsEnd(t *testing.T) {
	log := &slowLog{}
	s := New(log)
	s.open.Store("a", &work{gid: "a", branches: []*quoratev1.BranchSpec{{Id: "1"}}})
	s.reported(&quoratev1.ReportRequest{Gid: "a", Branch: "1"}, func() { t.Error("answered") })
	testkit.Eventually(t, 10*time.Second, func() bool { return len(log.seen()) == 1 }, "it is not recorded")
	s.Close()
	if _, open := s.open.Load("a"); !open {
		t.Error("it was closed without a record")
	}
}
