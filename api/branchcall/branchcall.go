// Package branchcall calls branches with an endpoint of their own, by HTTP or
// gRPC. Two-phase branches are told what was decided: their contract is
// BranchService in api/v1/branch.proto. In the other modes the branch is the
// call itself (call.go): an action, a compensation, a confirmation; its body is
// the branch's payload, and the status of the answer says what came of it. A
// transaction that came in another tongue is called in that tongue (dtm.go).
//
// Endpoints are named by clients, so every connection is checked against
// --endpoint-allow after DNS; redirects are not followed, the environment's
// proxy is not used, and answers are bounded.
package branchcall

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

const (
	// AnswerBytesMax is the largest answer read from a branch.
	AnswerBytesMax = 64 << 10
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 10 * time.Second
	// connectionsMax bounds the connections kept without a call on them, HTTP and gRPC each.
	connectionsMax = 256
	// idleTimeout is how long an idle connection is kept.
	idleTimeout = 90 * time.Second
	// detailBytesMax bounds what is quoted from an answer in an error for people.
	detailBytesMax = 256
)

// Caller calls branches. Make one with New, and Close it.
type Caller struct {
	allow     *Allow
	clusterID func() string
	http      *http.Client
	transport *http.Transport
	tls       *tls.Config
	detour    func(string) (string, error)

	mu     sync.RWMutex
	conns  map[string]*connection // gRPC, by scheme and address
	closed bool
	uses   atomic.Uint64 // of connections
}

// connection is a gRPC connection, the calls under way on it, and which use was its last.
// Calls begin while Caller.mu is held, to read.
type connection struct {
	conn  *grpc.ClientConn
	calls atomic.Int64
	used  atomic.Uint64
}

var _ coordinator.Caller = (*Caller)(nil)

// Config says how branches are called.
type Config struct {
	// Allow is what may be called. Required.
	Allow *Allow
	// TLS is used for https and grpcs; nil trusts the system's authorities.
	TLS *tls.Config
	// Detour, when set, returns the address to dial instead of an allowed one that
	// is meant: for tests that put a proxy between node and branch.
	Detour func(meant string) (string, error)
	// ClusterID is told to branches; nil tells none.
	ClusterID func() string
}

// New returns a Caller.
func New(cfg Config) *Caller {
	c := &Caller{allow: cfg.Allow, clusterID: cfg.ClusterID, tls: cfg.TLS, detour: cfg.Detour, conns: make(map[string]*connection)}
	if c.clusterID == nil {
		c.clusterID = func() string { return "" }
	}
	c.transport = &http.Transport{
		Proxy:                  nil, // never the environment's
		DialContext:            c.dial,
		TLSClientConfig:        c.tls.Clone(),
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
		MaxIdleConns:           connectionsMax,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        idleTimeout,
		ForceAttemptHTTP2:      true,
	}
	c.http = &http.Client{
		Transport:     c.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Call implements coordinator.Caller.
func (c *Caller) Call(ctx context.Context, d coordinator.Delivery) (coordinator.Answered, error) {
	target, err := c.allow.target(spelled(d))
	if err != nil {
		return coordinator.Answered{}, err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	switch {
	case isCall(d.Operation) && target.overGRPC():
		return c.invoke(ctx, target, d)
	case isCall(d.Operation):
		return c.post(ctx, target, d)
	case target.overGRPC() && target.method != "":
		return coordinator.Answered{}, fmt.Errorf("%w: %s names a method, and a two-phase branch is told by BranchService: leave the path out", ErrNotAllowed, d.Endpoint)
	case target.overGRPC():
		return c.callGRPC(ctx, target, d, c.request(d))
	default:
		return c.callHTTP(ctx, target, d, c.request(d))
	}
}

// Close closes every connection. Calls under way fail.
func (c *Caller) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for key, conn := range c.conns {
		_ = conn.conn.Close()
		delete(c.conns, key)
	}
	c.transport.CloseIdleConnections()
	return nil
}

func (c *Caller) request(d coordinator.Delivery) *quoratev1.DeliverRequest {
	return &quoratev1.DeliverRequest{
		Gid: d.GID.String(), Branch: d.Branch, Resource: d.Resource, Verdict: quoratev1.Verdict(d.Verdict), Attempt: d.Attempt,
		Epoch:   &quoratev1.Epoch{Incarnation: d.Epoch.Incarnation, Term: d.Epoch.Term},
		FloorMs: d.FloorMS, ClockMs: d.ClockMS, ClusterId: c.clusterID(),
	}
}

// answered reads what a branch says it did; nothing said means as told.
func answered(d coordinator.Delivery, answer *quoratev1.DeliverResponse) (coordinator.Answered, error) {
	outcome := fsm.Outcome(answer.GetOutcome())
	if answer.GetOutcome() == quoratev1.Outcome_OUTCOME_UNSPECIFIED {
		outcome = asTold(d.Verdict)
	} else if _, known := quoratev1.Outcome_name[int32(answer.GetOutcome())]; !known || answer.GetOutcome() == quoratev1.Outcome_OUTCOME_GAVE_UP {
		return coordinator.Answered{}, fmt.Errorf("the branch answered outcome %d, which is unknown", answer.GetOutcome())
	}
	return coordinator.Answered{Outcome: outcome, Detail: quoted(answer.GetDetail())}, nil
}

func asTold(v fsm.Verdict) fsm.Outcome {
	if v == fsm.VerdictCommit {
		return fsm.Outcome(quoratev1.Outcome_OUTCOME_COMMITTED)
	}
	return fsm.Outcome(quoratev1.Outcome_OUTCOME_ROLLED_BACK)
}

// dialer is grpc's way through the allow list.
func (c *Caller) dialer(ctx context.Context, address string) (net.Conn, error) {
	return c.dial(ctx, "tcp", address)
}

// dial goes through the allow list, and then by the detour if there is one.
func (c *Caller) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.detour == nil {
		return c.allow.dial(ctx, network, address)
	}
	meant, err := netip.ParseAddrPort(address)
	if err != nil {
		return c.allow.dial(ctx, network, address) // a name: detours are of addresses
	}
	if err := c.allow.checkHost(meant.Addr().String()); err != nil {
		return nil, err
	}
	instead, err := c.detour(address)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, instead)
}
