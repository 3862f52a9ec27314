package floor

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/wire"
)

// work is what is left to do of a transaction once it is decided.
type work struct {
	gid      string
	mu       sync.Mutex
	branches []*quoratev1.BranchSpec
	reports  []*quoratev1.ReportRequest
	heard    []func() // answer the reports once they are in the log
}

// add names one more branch.
func (w *work) add(spec *quoratev1.BranchSpec) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.branches = append(w.branches, spec)
}

// specs are the branches so far.
func (w *work) specs() []*quoratev1.BranchSpec {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.branches
}

// finishLater does what its caller does not wait for. The comparison at the end of a
// run finds what was not done: it stays open.
func (s *Server) finishLater(ctx context.Context, w *work) {
	switch branches := w.specs(); {
	case len(branches) == 0:
		s.open.Delete(w.gid)
	case branches[0].GetEndpoint() != "":
		go func() { _ = s.finish(context.WithoutCancel(ctx), w) }()
	default:
		s.tell(w, branches) // it ends with the last report
	}
}

// finish calls the branches, all at once, and makes one record of all that they say.
func (s *Server) finish(ctx context.Context, w *work) error {
	branches := w.specs()
	errs := make(chan error, len(branches))
	for _, b := range branches[1:] {
		go func() { errs <- s.calls.call(ctx, w.gid, b) }()
	}
	errs <- s.calls.call(ctx, w.gid, branches[0])
	for range branches {
		if err := <-errs; err != nil {
			return err
		}
	}
	err := s.record(ctx, reportsOf(w.gid, branches)...)
	s.open.Delete(w.gid)
	return err
}

// tell sends the decision over the sessions.
func (s *Server) tell(w *work, branches []*quoratev1.BranchSpec) {
	for _, b := range branches {
		to := s.session(b.GetResource())
		if to == nil {
			continue // nobody will report
		}
		to.push(&quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Deliver{Deliver: &quoratev1.Deliver{
			Gid: w.gid, Branch: b.GetId(), Resource: b.GetResource(), Verdict: quoratev1.Verdict_VERDICT_COMMIT, Attempt: 1,
			Epoch: &quoratev1.Epoch{Incarnation: 1, Term: 1}, FloorMs: 1 << 20, ClockMs: 1 << 20,
		}}})
	}
}

// caller calls branches over gRPC with the bytes that they are to get.
type caller struct {
	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

func newCaller() *caller { return &caller{conns: map[string]*grpc.ClientConn{}} }

func (c *caller) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// call makes the call that the product would make, with as much metadata.
func (c *caller) call(ctx context.Context, gid string, b *quoratev1.BranchSpec) error {
	address, method, _ := strings.Cut(strings.TrimPrefix(b.GetEndpoint(), "grpc://"), "/")
	conn, err := c.conn(address)
	if err != nil {
		return err
	}
	ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs(
		"quorate-gid", gid, "quorate-op", "action", "quorate-mode", "saga", "quorate-attempt", "1", "quorate-epoch", "1.1",
		"quorate-floor", "1048576", "quorate-clock", "1048576", "quorate-cluster", "00000000000000000000000000", "quorate-branch", b.GetId()))
	body, answer := b.GetPayload(), []byte(nil)
	return conn.Invoke(ctx, "/"+method, &body, &answer, grpc.ForceCodecV2(rawCodec{}))
}

func (c *caller) conn(address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[address]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err == nil {
		c.conns[address] = conn
	}
	return conn, err
}

// rawCodec passes messages as the bytes they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// canned is a finished transaction of two branches.
func canned(gid string) *quoratev1.Transaction {
	stamp := &quoratev1.Stamp{Index: 1 << 20, Term: 1, ClockMs: 1 << 20, WallTime: timestamppb.Now()}
	branch := func(id string) *quoratev1.Branch {
		return &quoratev1.Branch{
			Spec: &quoratev1.BranchSpec{Id: id, Resource: "bench-0000000000-a"}, Vote: quoratev1.Vote_VOTE_READ_ONLY,
			Enlisted: stamp, Voted: stamp, Terminal: true,
		}
	}
	return &quoratev1.Transaction{
		Gid: gid, Namespace: "default", Mode: quoratev1.Mode_MODE_TWO_PHASE, Entry: quoratev1.Entry_ENTRY_NAMED, State: quoratev1.State_STATE_COMMITTED,
		Decision: quoratev1.Decision_DECISION_COMMIT, Labels: map[string]string{"a": cannedText, "b": cannedText},
		Branches: []*quoratev1.Branch{branch("1"), branch("2")}, Began: stamp, Sealed: stamp, Decided: stamp, Finished: stamp, Initiator: "127.0.0.1:40000",
	}
}

var cannedText = strings.Repeat("x", 256)
