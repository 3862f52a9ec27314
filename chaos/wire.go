package chaos

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/linearizability"
)

// host is a machine that clients run on: it has one connection to each node and
// its own opinion about who leads. Its links may be cut without those of others.
type host struct {
	name  string
	nodes []*cluster.Node
	conns []*grpc.ClientConn
	// leader is the index of the node that was last said to lead.
	leader atomic.Int32
}

const (
	// callTimeout is how long a client waits for one answer.
	callTimeout = 1500 * time.Millisecond
	// answerBytesMax bounds an answer: a page of a list may be long.
	answerBytesMax = 64 << 20
)

// newHost connects to every node; nothing is dialled before the first call.
func newHost(env *Env, name string) (*host, error) {
	h := &host{name: name, nodes: env.Cluster.Nodes()}
	for _, n := range h.nodes {
		conn, err := grpc.NewClient("passthrough:///"+env.Address(name, n),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytesMax)),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: 500 * time.Millisecond,
			}))
		if err != nil {
			h.close()
			return nil, err
		}
		h.conns = append(h.conns, conn)
	}
	return h, nil
}

func (h *host) close() {
	for _, conn := range h.conns {
		_ = conn.Close()
	}
}

// pick chooses the node to ask: mostly the one that is said to lead.
func (h *host) pick(r *rand.Rand) int {
	if r.Float64() < 0.08 {
		return r.IntN(len(h.nodes))
	}
	return int(h.leader.Load())
}

// other chooses a node that is not said to lead.
func (h *host) other(r *rand.Rand) int {
	return (int(h.leader.Load()) + 1 + r.IntN(len(h.nodes)-1)) % len(h.nodes)
}

// learn takes over what an answer says about the leader: its address in a
// refusal, or that the node asked does not answer.
func (h *host) learn(asked int, a answer, r *rand.Rand) {
	switch {
	case a.status == linearizability.StatusOK || a.status == linearizability.StatusRefused:
	case a.leader != "":
		for i, n := range h.nodes {
			if n.GRPC == a.leader {
				h.leader.Store(int32(i))
			}
		}
	case int(h.leader.Load()) == asked:
		h.leader.Store(int32((asked + 1 + r.IntN(len(h.nodes)-1)) % len(h.nodes)))
	}
}

// answer is how a call ended.
type answer struct {
	status linearizability.Status
	reason string // our typed reason; empty without one
	leader string // gRPC address of the leader, where a refusal names it
	gid    string // that a refusal names: it is another one where a key stood for it
	err    error
}

// failures are our own words for "nothing was done, and nothing will be".
var failures = map[string]bool{"NOT_LEADER": true, "NO_LEADER": true, "QUOTA": true, "INVALID": true, "LAGGING": true, "DENIED": true}

// unknowns are our own words for "it may have been done".
var unknowns = map[string]bool{"OUTCOME_UNKNOWN": true, "DEADLINE": true, "INTERNAL": true, "SESSION_LOST": true}

// undelivered is the reason of a call that never left: no connection came about.
const undelivered = "UNDELIVERED"

// classify tells how a call ended. Only our own typed words are definite, and
// an error of a dial: what was never sent did nothing. Everything else is unknown.
func classify(err error) answer {
	if err == nil {
		return answer{status: linearizability.StatusOK}
	}
	a := answer{status: linearizability.StatusUnknown, err: err}
	if s, ok := status.FromError(err); ok {
		for _, detail := range s.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "quorate" {
				a.reason, a.leader, a.gid = info.GetReason(), info.GetMetadata()["leader_grpc"], info.GetMetadata()["gid"]
			}
		}
	}
	switch {
	case failures[a.reason]:
		a.status = linearizability.StatusFailed
	case a.reason != "" && !unknowns[a.reason]:
		a.status = linearizability.StatusRefused
	case a.reason == "" && strings.Contains(strings.ToLower(err.Error()), "error while dialing"):
		a.status, a.reason = linearizability.StatusFailed, undelivered
	}
	return a
}

// heard is what the clients of a run have heard of the cluster together: the
// newest clock, by which GIDs are made, and the newest index.
type heard struct {
	clock, index atomic.Uint64
}

func (h *heard) header(header *quoratev1.ResponseHeader) {
	raise(&h.clock, header.GetClockMs())
	raise(&h.index, header.GetAppliedIndex())
}

func raise(to *atomic.Uint64, value uint64) {
	for {
		old := to.Load()
		if value <= old || to.CompareAndSwap(old, value) {
			return
		}
	}
}

// pause waits a little, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
