package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/wire"
)

const (
	// hopHeader marks a forwarded call: it is never forwarded again.
	hopHeader = "quorate-hop"
	// answerBytesMax bounds an answer to this node's own calls: a page of a list
	// may be long.
	answerBytesMax = 64 << 20
	// connectTimeout bounds the wait for a connection to the leader.
	connectTimeout = 2 * time.Second
	// connectionsMax bounds the connections kept; a cluster has far fewer nodes.
	connectionsMax = 64
)

// forwarder is the gateway's connection: it asks this node first, and hands a
// call to the leader, one hop, when this node says that it does not lead. What
// it must not do is repeat a call that may have taken effect: only a typed
// NOT_LEADER, and a connection that never came about, say that nothing was done.
type forwarder struct {
	*Server
	inner *grpc.ClientConn

	mu     sync.Mutex
	leader map[string]*grpc.ClientConn // by gRPC address
	closed bool
}

var _ grpc.ClientConnInterface = (*forwarder)(nil)

func newForwarder(s *Server) (*forwarder, error) {
	inner, err := grpc.NewClient("passthrough:///inner",
		grpc.WithContextDialer(s.pipeDial), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytesMax)))
	if err != nil {
		return nil, fmt.Errorf("api: the gateway's way in: %w", err)
	}
	return &forwarder{Server: s, inner: inner, leader: make(map[string]*grpc.ClientConn)}, nil
}

// NewStream serves streams here: a watch reads what this node has applied.
func (f *forwarder) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return f.inner.NewStream(ctx, desc, method, opts...)
}

// Invoke calls method here or on the leader.
func (f *forwarder) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	rule := policies[method]
	ctx, cancel := context.WithTimeout(ctx, f.cfg.CallTimeout)
	defer cancel()
	giveUp := time.Now().Add(f.cfg.LeaderWait)
	for {
		err := f.inner.Invoke(ctx, method, args, reply, opts...)
		if err == nil || ReasonOf(err) != ReasonNotLeader || !rule.forward || hopped(ctx) {
			return err
		}
		err = f.callLeader(ctx, infoOf(err).GetMetadata()["leader_grpc"], method, rule.effect, args, reply, opts)
		if !errors.Is(err, errNotDone) {
			f.cfg.Metrics.forwards.WithLabelValues(forwardResult(err)).Inc()
			return err
		}
		// An election, most likely: ask here again who leads.
		select {
		case <-time.After(holdInterval):
		case <-ctx.Done():
		}
		if ctx.Err() != nil || time.Now().After(giveUp) || f.stopping.Err() != nil {
			f.cfg.Metrics.forwards.WithLabelValues(string(ReasonNoLeader)).Inc()
			return f.noLeader(f.cfg.LeaderWait).GRPCStatus().Err()
		}
	}
}

// errNotDone: the call had no effect, for certain, and may be repeated.
var errNotDone = errors.New("nothing was done")

// callLeader makes one attempt.
func (f *forwarder) callLeader(ctx context.Context, address, method string, did effect, args, reply any, opts []grpc.CallOption) error {
	conn, err := f.connection(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotDone, err)
	}
	if err := connected(ctx, conn); err != nil {
		return fmt.Errorf("%w: %w", errNotDone, err)
	}
	err = conn.Invoke(metadata.AppendToOutgoingContext(ctx, hopHeader, "1"), method, args, reply, opts...)
	switch reason := ReasonOf(err); {
	case err == nil:
		return nil
	case reason == ReasonNotLeader:
		return fmt.Errorf("%w: %w", errNotDone, err)
	case reason != "":
		return err
	case did == changes:
		// Whether the leader took it before it went silent nobody can tell.
		return unknownOutcome(gidOf(args), fmt.Errorf("the leader at %s did not answer: %w", address, err)).GRPCStatus().Err()
	case status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Canceled:
		return (&Error{Reason: ReasonDeadline}).GRPCStatus().Err()
	default:
		return fmt.Errorf("%w: %w", errNotDone, err) // a read: asking again is safe
	}
}

// connection returns the connection to an address, made at its first use.
func (f *forwarder) connection(address string) (*grpc.ClientConn, error) {
	if address == "" {
		return nil, errors.New("the leader's address is not known")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errStopping
	}
	if conn := f.leader[address]; conn != nil {
		return conn, nil
	}
	for other, conn := range f.leader {
		if len(f.leader) < connectionsMax {
			break
		}
		_ = conn.Close()
		delete(f.leader, other)
	}
	creds := insecure.NewCredentials()
	if f.cfg.ForwardTLS != nil {
		creds = credentials.NewTLS(f.cfg.ForwardTLS)
	}
	opts := append(wire.DialOptions(),
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytesMax)),
	)
	if f.cfg.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(f.cfg.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, err
	}
	f.leader[address] = conn
	return conn, nil
}

// connected waits until calls can be sent. *Because* gRPC does not say whether
// a call that failed was sent, while one that was not attempted surely was not.
func connected(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure:
			conn.ResetConnectBackoff() // the next attempt starts at once, not after a minute
			return errors.New("the leader cannot be reached")
		case connectivity.Shutdown:
			return errStopping
		}
		if !conn.WaitForStateChange(ctx, state) {
			return context.Cause(ctx)
		}
	}
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, conn := range f.leader {
		_ = conn.Close()
	}
	_ = f.inner.Close()
}

// hopped tells of a call that another node forwarded.
func hopped(ctx context.Context) bool {
	sent, _ := metadata.FromOutgoingContext(ctx)
	return len(sent.Get(hopHeader)) > 0
}

// gidOf returns the GID that a request names, if it names one.
func gidOf(args any) fsm.GID {
	var text string
	switch request := args.(type) {
	case interface{ GetGid() string }:
		text = request.GetGid()
	case interface{ GetTransaction() string }:
		text = request.GetTransaction()
	}
	gid, err := fsm.ParseGID(text)
	if err != nil {
		return fsm.GID{}
	}
	return gid
}

func forwardResult(err error) string {
	if err == nil {
		return "OK"
	}
	return string(ReasonOf(err))
}
