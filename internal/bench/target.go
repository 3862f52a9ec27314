package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/timebox"
	"github.com/quorate/quorate/internal/wire"
)

const (
	// callersPerConnection keeps below what a node takes at once on one connection.
	callersPerConnection = 64
	// answerMax bounds an operation with all its repetitions.
	answerMax = 15 * time.Second
	// attemptMax bounds one try; those that begin together share a deadline. *Because* a
	// context with a timer of its own is a tenth of what a call costs whoever makes it.
	attemptMax = 5 * time.Second
	// retryPause lies between two tries.
	retryPause = 20 * time.Millisecond
	// leaderMax is how long a leader is looked for.
	leaderMax = 15 * time.Second
)

// target is a cluster under load: connections to its leader, and what was heard of its clock.
type target struct {
	seeds []string
	dial  []grpc.DialOption
	clock atomic.Uint64 // newest heard, milliseconds
	// newest is the newest index heard: a read at another node is at least as new.
	newest atomic.Uint64

	mu     sync.Mutex
	pools  map[string][]*grpc.ClientConn
	size   int // connections of a pool
	leader atomic.Pointer[leaderConns]

	streams sync.Map // *frames.Submits by connection
	bounds  timebox.Contexts
}

// leaderConns are the connections to the node that led last.
type leaderConns struct {
	address string
	conns   []*grpc.ClientConn
}

// answer is any answer of the API: all of them carry a header.
type answer interface {
	GetHeader() *quoratev1.ResponseHeader
}

// newTarget finds the leader of the cluster that seeds belong to.
func newTarget(ctx context.Context, seeds []string, creds credentials.TransportCredentials, dial ...grpc.DialOption) (*target, error) {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	dial = append(append(wire.DialOptions(), dial...), grpc.WithTransportCredentials(creds))
	t := &target{seeds: seeds, dial: dial, pools: map[string][]*grpc.ClientConn{}, size: 1}
	return t, t.findLeader(ctx)
}

// submits is the stream of submits over a connection.
func (t *target) submits(conn *grpc.ClientConn) *frames.Submits {
	if s, ok := t.streams.Load(conn); ok {
		return s.(*frames.Submits)
	}
	s, _ := t.streams.LoadOrStore(conn, frames.NewSubmits(conn))
	return s.(*frames.Submits)
}

func (t *target) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pool := range t.pools {
		for _, conn := range pool {
			_ = conn.Close()
		}
	}
}

// resize has as many connections to the leader as so many callers need.
func (t *target) resize(ctx context.Context, callers int) error {
	t.mu.Lock()
	t.size = max(1, (callers+callersPerConnection-1)/callersPerConnection)
	t.mu.Unlock()
	return t.findLeader(ctx)
}

// pool returns the connections to a node. t.mu must be held.
func (t *target) pool(address string) ([]*grpc.ClientConn, error) {
	for len(t.pools[address]) < t.size {
		conn, err := grpc.NewClient(address, t.dial...)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", address, err)
		}
		t.pools[address] = append(t.pools[address], conn)
	}
	return t.pools[address][:t.size], nil
}

// node returns a connection to one of the seeds, for reads that any node answers.
func (t *target) node(i int) (*grpc.ClientConn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pool, err := t.pool(t.seeds[i%len(t.seeds)])
	if err != nil {
		return nil, err
	}
	return pool[0], nil
}

// findLeader asks every node who leads until one says so and serves.
func (t *target) findLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderMax)
	defer cancel()
	last := errors.New("no node says that it leads")
	for {
		for i := range t.seeds {
			conn, err := t.node(i)
			if err != nil {
				return err
			}
			address, err := leaderOf(ctx, conn)
			if err != nil {
				last = err
				continue
			}
			if address != "" {
				return t.follow(ctx, address)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("find the leader of %v: %w", t.seeds, last)
		case <-time.After(retryPause):
		}
	}
}

func leaderOf(ctx context.Context, conn *grpc.ClientConn) (address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	got, err := quoratev1.NewClusterServiceClient(conn).Status(ctx, &quoratev1.StatusRequest{})
	if err != nil {
		return "", err
	}
	if got.GetRole() != quoratev1.Role_ROLE_LEADER {
		return "", nil // the leader itself is asked, too
	}
	for _, n := range got.GetNodes() {
		if n.GetLeader() {
			return n.GetGrpcAddress(), nil
		}
	}
	return "", nil
}

// follow makes the node at address the one that is called.
func (t *target) follow(_ context.Context, address string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	pool, err := t.pool(address)
	if err != nil {
		return err
	}
	t.leader.Store(&leaderConns{address: address, conns: pool})
	return nil
}

// hear keeps what an answer's header says.
func (t *target) hear(h *quoratev1.ResponseHeader) {
	raise(&t.clock, h.GetClockMs())
	raise(&t.newest, h.GetAppliedIndex())
}

func raise(to *atomic.Uint64, v uint64) {
	for old := to.Load(); v > old; old = to.Load() {
		if to.CompareAndSwap(old, v) {
			return
		}
	}
}

// ask makes a call of the leader until it is answered, with the same content each
// time: an operation takes as long as it takes, a change of leader included.
func ask[A answer](ctx context.Context, t *target, caller int, call func(ctx context.Context, conn *grpc.ClientConn) (A, error)) (A, error) {
	begun := time.Now()
	for {
		leader := t.leader.Load()
		got, err := call(t.bounds.Get(ctx, attemptMax), leader.conns[caller%len(leader.conns)])
		if err == nil {
			t.hear(got.GetHeader())
			return got, nil
		}
		if ctx.Err() != nil || !again(err) || time.Since(begun) > answerMax {
			return got, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
			_ = t.findLeader(ctx)
		}
	}
}

// again says whether an error may pass: every request is idempotent by its GID.
func again(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled:
		return true
	}
	return false
}
