package coordinator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memLog is a Log over the real state machine, in memory: an entry is applied
// in the call that proposes it.
type memLog struct {
	mu      sync.RWMutex
	state   *fsm.State
	index   uint64
	term    uint64
	leader  LeaderInfo
	leading bool
	began   time.Time
	skew    time.Duration // added to the leader's clock
	applied func(uint64)

	// gate, when set, is passed by each proposal before it is appended, after
	// by each that is applied; an error is returned instead of the result.
	gate, after func(commands []*logpb.Command) error
	entries     int
}

func newMemLog(t testing.TB) *memLog {
	l := &memLog{state: fsm.New(), began: time.Now(), applied: func(uint64) {}}
	l.mu.Lock()
	defer l.mu.Unlock()
	found := &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: fsm.NewGID(1, [10]byte{9}).Bytes()}}}
	if r, err := l.apply(found); err != nil || r[0].Code != fsm.OK {
		t.Fatalf("found: %v %v", r, err)
	}
	return l
}

func (l *memLog) apply(commands ...*logpb.Command) ([]fsm.Result, error) {
	l.index++
	clock := 10_000 + uint64((time.Since(l.began) + l.skew).Milliseconds())
	return l.state.Apply(fsm.Meta{Index: l.index, Term: max(l.term, 1)}, &logpb.Batch{
		ClockMs: clock, WallMs: uint64(time.Now().UnixMilli()), FeatureLevel: fsm.FeatureLevel, Commands: commands,
	})
}

// elect makes this node the leader of a new term.
func (l *memLog) elect() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term++
	l.leading, l.leader = true, LeaderInfo{ID: "self", GRPCAddress: "self:1", Term: l.term}
	_, _ = l.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	return l.term
}

// depose makes another node the leader; an empty id makes nobody.
func (l *memLog) depose(other string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leading, l.leader = false, LeaderInfo{ID: other, GRPCAddress: other + ":1", Term: l.term + 1}
}

func (l *memLog) Propose(ctx context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	if err := l.pass(true, commands); err != nil {
		return nil, 0, err
	}
	l.mu.Lock()
	if !l.leading {
		l.mu.Unlock()
		return nil, 0, ErrNotLeader
	}
	l.entries++
	results, err := l.apply(commands...)
	index := l.index
	l.mu.Unlock()
	if err != nil {
		return nil, 0, err
	}
	l.applied(index)
	if err := l.pass(false, commands); err != nil {
		return nil, 0, err
	}
	return results, index, nil
}

func (l *memLog) pass(before bool, commands []*logpb.Command) error {
	l.mu.RLock()
	f := l.after
	if before {
		f = l.gate
	}
	l.mu.RUnlock()
	if f == nil {
		return nil
	}
	return f(commands)
}

// applies is the index of the last entry.
func (l *memLog) applies() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.index
}

// meet sets what proposals meet before they are appended, and after.
func (l *memLog) meet(gate, after func([]*logpb.Command) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate, l.after = gate, after
}

func (l *memLog) ReadIndex(context.Context) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.leading {
		return 0, ErrNotLeader
	}
	return l.index, nil
}

func (l *memLog) WaitApplied(ctx context.Context, index uint64) error {
	for {
		l.mu.RLock()
		there := l.index >= index
		l.mu.RUnlock()
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (l *memLog) View(f func(*fsm.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

func (l *memLog) Leader() (LeaderInfo, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.leader, l.leader.ID != ""
}

// pass lets the cluster's time go on by d, in steps that one entry may make.
func (l *memLog) leap(d time.Duration) {
	for ; d > 0; d -= 10 * time.Second {
		l.mu.Lock()
		l.skew += min(d, 10*time.Second)
		_, _ = l.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
		index := l.index
		l.mu.Unlock()
		l.applied(index)
	}
}

// node is a Coordinator over a memLog.
type node struct {
	*Coordinator
	t   testing.TB
	log *memLog
	ctx context.Context
}

func newNode(t testing.TB, change ...func(*Config)) *node {
	t.Helper()
	n := followingNode(t, change...)
	n.lead()
	return n
}

func followingNode(t testing.TB, change ...func(*Config)) *node {
	t.Helper()
	l := newMemLog(t)
	cfg := Config{Log: l, NodeID: "self", Logger: testkit.Logger(t), Settings: FastSettings()}
	cfg.Settings.BackoffMin, cfg.Settings.BackoffMax = 2*time.Millisecond, 20*time.Millisecond
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.applied = c.Applied
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(func() {
		cancel()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		// Whatever became of what was asked: a place that is not given back is lost for
		// as long as the process lives.
		if n := c.pending.Load(); n != 0 {
			t.Errorf("%d callers' places are not given back", n)
		}
		// The core's goroutine has ended. Whoever came has left, or was told.
		if w, s := len(c.waiters), len(c.sessions); w != 0 || s != 0 {
			t.Errorf("%d waiters and %d sessions are kept", w, s)
		}
		testkit.Eventually(t, 5*time.Second, func() bool { return !c.watchers.any() }, "who watched has left")
	})
	return &node{Coordinator: c, t: t, log: l, ctx: ctx}
}

func (n *node) lead() {
	n.t.Helper()
	n.Leadership(true, n.log.elect())
	testkit.Eventually(n.t, 5*time.Second, func() bool { return n.Stats().Leading }, "the coordinator leads")
}

func (n *node) follow(other string) {
	n.t.Helper()
	n.log.depose(other)
	n.Leadership(false, 0)
	testkit.Eventually(n.t, 5*time.Second, func() bool { return !n.Stats().Leading }, "the coordinator follows")
}

// begin begins a transaction, explicit, and enlists branches without a holder.
func (n *node) begin(key string, branches ...*logpb.BranchSpec) fsm.GID {
	n.t.Helper()
	s, err := n.Begin(n.ctx, &logpb.Begin{Key: key, TimeoutMs: 60_000})
	n.must(err)
	for _, b := range branches {
		_, err := n.Enlist(n.ctx, s.GID, b)
		n.must(err)
	}
	return s.GID
}

func (n *node) prepare(gid fsm.GID, branches ...*logpb.BranchSpec) {
	n.t.Helper()
	for _, b := range branches {
		_, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: b, Kind: prepared})
		n.must(err)
	}
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) attach(holder []byte, resources ...string) *Session {
	n.t.Helper()
	s, err := n.Attach(n.ctx, AttachRequest{Holder: holder, Resources: resources, Name: "test"})
	n.must(err)
	return s
}

// next is the next message of a session.
func (n *node) next(s *Session) Message {
	n.t.Helper()
	select {
	case m := <-s.Outgoing():
		return m
	case <-s.Done():
		n.t.Fatalf("the session ended: %v", s.Err())
	case <-n.ctx.Done():
		n.t.Fatal("no message in time")
	}
	return Message{}
}

func wantRefusal(t testing.TB, err error, code fsm.Code) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("error %v, want %v", err, code)
	}
	return r
}
