package floor

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quorate/quorate/api"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/wire"
)

// Log is the replicated log.
type Log interface {
	// Propose appends commands in one entry and returns once they are applied here.
	Propose(ctx context.Context, commands ...[]byte) error
	// ReadIndex confirms that this node leads.
	ReadIndex(ctx context.Context) (uint64, error)
}

// Server answers as a node of the product would, once the bytes are in the log.
type Server struct {
	quoratev1.UnimplementedTransactionServiceServer
	quoratev1.UnimplementedParticipantServiceServer

	log     Log
	started time.Time
	calls   *caller
	reports *reports

	open     sync.Map // by GID: *work of transactions that were begun and not finished
	mu       sync.Mutex
	sessions map[string]*session // by resource
}

// New returns a server over the log.
func New(log Log) *Server {
	s := &Server{log: log, started: time.Now(), calls: newCaller(), sessions: map[string]*session{}}
	s.reports = newReports(s)
	return s
}

// Register returns a gRPC server like a node's own, without what stands before its
// handlers. What the floor does not serve itself (joining, status) it hands to rest.
func (s *Server) Register(rest grpc.ClientConnInterface) *grpc.Server {
	server := grpc.NewServer(append(wire.ServerOptions(),
		grpc.MaxRecvMsgSize(api.MessageBytesMax), grpc.MaxHeaderListSize(api.HeaderListBytesMax),
		grpc.MaxConcurrentStreams(api.StreamsPerConnectionMax), grpc.ConnectionTimeout(api.HandshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: api.KeepaliveInterval, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: api.HandshakeTimeout}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return handOn(rest, stream) }),
	)...)
	quoratev1.RegisterTransactionServiceServer(server, s)
	quoratev1.RegisterParticipantServiceServer(server, s)
	server.RegisterService(s.raw(), s)
	return server
}

// handOn passes a unary call on. An Empty keeps what it does not know, so that
// nothing of the messages is lost.
func handOn(rest grpc.ClientConnInterface, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	request, answer := new(emptypb.Empty), new(emptypb.Empty)
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	if err := rest.Invoke(stream.Context(), method, request, answer); err != nil {
		return err
	}
	return stream.SendMsg(answer)
}

// Close closes the connections to branches, and records no more.
func (s *Server) Close() {
	s.reports.close()
	s.calls.close()
}

// record makes one durable record of messages, as they are.
func (s *Server) record(ctx context.Context, messages ...quoratev1.WireMessage) error {
	command, err := commandOf(messages...)
	if err != nil {
		return err
	}
	return s.propose(ctx, command)
}

// commandOf is the command that holds messages.
func commandOf(messages ...quoratev1.WireMessage) ([]byte, error) {
	size := 0
	for _, m := range messages {
		size += m.WireSize()
	}
	command := Command(size)
	at := len(command)
	command = command[:at+size]
	for _, m := range messages {
		end := at + m.WireSize()
		if !m.WireWrite(command[at:end]) {
			return nil, status.Error(codes.InvalidArgument, "the message cannot be written")
		}
		at = end
	}
	return command, nil
}

func (s *Server) propose(ctx context.Context, command []byte) error {
	if err := s.log.Propose(ctx, command); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

// header is as large as the product's.
func (s *Server) header() *quoratev1.ResponseHeader {
	return &quoratev1.ResponseHeader{
		AppliedIndex: 1 << 20, ClockMs: uint64(time.Since(s.started).Milliseconds()) + 1<<20, FloorMs: 1 << 20,
		Epoch: &quoratev1.Epoch{Incarnation: 1, Term: 1}, NodeId: "00000000-0000-0000-0000-000000000000", ClusterId: "00000000000000000000000000",
	}
}

// Begin implements TransactionService.
func (s *Server) Begin(ctx context.Context, req *quoratev1.BeginRequest) (*quoratev1.BeginResponse, error) {
	if err := s.record(ctx, req); err != nil {
		return nil, err
	}
	s.open.Store(req.GetGid(), &work{gid: req.GetGid(), branches: req.GetBranches()})
	return &quoratev1.BeginResponse{Header: s.header(), Gid: req.GetGid(), Created: true, State: quoratev1.State_STATE_ACTIVE}, nil
}

// Enlist implements TransactionService.
func (s *Server) Enlist(ctx context.Context, req *quoratev1.EnlistRequest) (*quoratev1.EnlistResponse, error) {
	if err := s.record(ctx, req); err != nil {
		return nil, err
	}
	if w, ok := s.open.Load(req.GetGid()); ok {
		w.(*work).add(req.GetBranch())
	}
	return &quoratev1.EnlistResponse{Header: s.header(), Verdict: quoratev1.Verdict_VERDICT_WAIT}, nil
}

// Vote implements TransactionService.
func (s *Server) Vote(ctx context.Context, req *quoratev1.VoteRequest) (*quoratev1.VoteResponse, error) {
	if err := s.record(ctx, req); err != nil {
		return nil, err
	}
	return &quoratev1.VoteResponse{Header: s.header(), Verdict: quoratev1.Verdict_VERDICT_WAIT}, nil
}

// Commit implements TransactionService.
func (s *Server) Commit(ctx context.Context, req *quoratev1.CommitRequest) (*quoratev1.CommitResponse, error) {
	if err := s.record(ctx, req); err != nil {
		return nil, err
	}
	if w, ok := s.open.Load(req.GetTransaction()); ok {
		s.finishLater(ctx, w.(*work))
	}
	return &quoratev1.CommitResponse{
		Header: s.header(), Gid: req.GetTransaction(), Decision: quoratev1.Decision_DECISION_COMMIT, State: quoratev1.State_STATE_COMMITTING, Index: 1 << 20,
	}, nil
}

// Submit implements TransactionService.
func (s *Server) Submit(ctx context.Context, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	if err := s.record(ctx, req); err != nil {
		return nil, err
	}
	answer := &quoratev1.SubmitResponse{
		Header: s.header(), Gid: req.GetBegin().GetGid(), Created: true, Decision: quoratev1.Decision_DECISION_COMMIT, State: quoratev1.State_STATE_COMMITTED, Index: 1 << 20,
	}
	w := &work{gid: req.GetBegin().GetGid(), branches: req.GetSet()}
	switch {
	case len(req.GetVotes()) > 0 && req.GetVotes()[0].GetVote() == quoratev1.Vote_VOTE_READ_ONLY:
	case req.GetWait() == quoratev1.Wait_WAIT_FINISH:
		return answer, s.finish(ctx, w)
	default:
		answer.State = quoratev1.State_STATE_COMMITTING
		s.open.Store(w.gid, w)
		s.finishLater(ctx, w)
	}
	return answer, nil
}

// Get answers with a transaction like those that the benchmark reads.
func (s *Server) Get(ctx context.Context, req *quoratev1.GetRequest) (*quoratev1.GetResponse, error) {
	if _, err := s.log.ReadIndex(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &quoratev1.GetResponse{Header: s.header(), Transaction: canned(req.GetTransaction())}, nil
}

// List tells no more than whether anything is open.
func (s *Server) List(context.Context, *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
	answer := &quoratev1.ListResponse{Header: s.header()}
	s.open.Range(func(gid, _ any) bool {
		answer.Transactions = []*quoratev1.Transaction{{Gid: gid.(string)}}
		return false
	})
	return answer, nil
}

// heartbeat is what participants are told; the floor does not miss any.
const heartbeat = time.Second
