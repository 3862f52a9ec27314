package branchcall

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/internal/wire"
)

// reasonOngoing is ErrorInfo's reason for "still working".
const reasonOngoing = "ONGOING"

// callGRPC delivers once to a BranchService.
func (c *Caller) callGRPC(ctx context.Context, t target, d coordinator.Delivery, request *quoratev1.DeliverRequest) (coordinator.Answered, error) {
	conn, err := c.connection(t)
	if err != nil {
		return coordinator.Answered{}, err
	}
	defer conn.release()
	answer, err := quoratev1.NewBranchServiceClient(conn.conn).Deliver(ctx, request)
	return readGRPC(d, answer, err)
}

// readGRPC is the gRPC half of BranchService's table of answers.
func readGRPC(d coordinator.Delivery, answer *quoratev1.DeliverResponse, err error) (coordinator.Answered, error) {
	if err == nil {
		return answered(d, answer)
	}
	st := status.Convert(err)
	info := infoOf(st)
	switch {
	case st.Code() == codes.Unavailable && info.GetReason() == reasonOngoing:
		return coordinator.Answered{Busy: true, Detail: quoted(st.Message())}, nil
	case st.Code() == codes.Aborted:
		if outcome, ok := quoratev1.Outcome_value[info.GetMetadata()["outcome"]]; ok && outcome != 0 {
			return answered(d, &quoratev1.DeliverResponse{Outcome: quoratev1.Outcome(outcome), Detail: st.Message()})
		}
		return coordinator.Answered{}, refusal(fmt.Sprintf("%s → %s", d.Endpoint, st.Code()), st.Message())
	default:
		return coordinator.Answered{}, fmt.Errorf("%s → %s%s", d.Endpoint, st.Code(), because(st.Message()))
	}
}

// infoOf returns the first ErrorInfo, of whatever domain; nil for none.
func infoOf(st *status.Status) *errdetails.ErrorInfo {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// reconnecting is how soon a lost connection is made again. The driver's own back-off
// spaces the calls: gRPC's, of up to two minutes, would fail them long after the branch
// is back, "retry now" too.
var reconnecting = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: dialTimeout,
}

// connection returns a connection to the target, made at its first use. It must be
// released once the call on it has ended.
func (c *Caller) connection(t target) (*connection, error) {
	if known := c.known(t); known != nil {
		return known, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, context.Canceled
	}
	known := c.conns[t.server]
	if known == nil {
		var err error
		if known, err = c.connect(t); err != nil {
			return nil, err
		}
		c.makeRoom()
		c.conns[t.server] = known
	}
	c.use(known)
	return known, nil
}

// known is a connection that was made before; nil for none.
func (c *Caller) known(t target) *connection {
	c.mu.RLock()
	defer c.mu.RUnlock()
	known := c.conns[t.server]
	if known != nil {
		c.use(known)
	}
	return known
}

func (c *Caller) use(conn *connection) {
	conn.calls.Add(1)
	conn.used.Store(c.uses.Add(1))
}

func (c *connection) release() { c.calls.Add(-1) }

func (c *Caller) connect(t target) (*connection, error) {
	creds := insecure.NewCredentials()
	if t.scheme == "grpcs" {
		creds = credentials.NewTLS(c.tls.Clone())
	}
	conn, err := grpc.NewClient("passthrough:///"+t.address, append(wire.DialOptions(),
		grpc.WithTransportCredentials(creds), grpc.WithContextDialer(c.dialer), grpc.WithNoProxy(), grpc.WithConnectParams(reconnecting),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(idleTimeout),
		grpc.WithMaxHeaderListSize(16<<10), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(AnswerBytesMax)))...)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn}, nil
}

// makeRoom closes the connections that are unused for longest. Where a call is under
// way on each, there are more for a while: the driver bounds the calls.
func (c *Caller) makeRoom() {
	for len(c.conns) >= connectionsMax {
		var oldest string
		for key, conn := range c.conns {
			if conn.calls.Load() == 0 && (oldest == "" || conn.used.Load() < c.conns[oldest].used.Load()) {
				oldest = key
			}
		}
		if oldest == "" {
			return
		}
		_ = c.conns[oldest].conn.Close()
		delete(c.conns, oldest)
	}
}
