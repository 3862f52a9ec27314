package api

import (
	"context"
	"net"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// administration is ClusterService: the operator's side.
type administration struct {
	quoratev1.UnimplementedClusterServiceServer
	*Server
}

// Status tells what this node knows. It answers without a leader, too.
func (a *administration) Status(ctx context.Context, req *quoratev1.StatusRequest) (*quoratev1.StatusResponse, error) {
	status, stats := a.cluster.Status(), a.coordinator.Stats()
	header := a.header()
	// Entries that change the nodes' set never reach the state machine; against the
	// commit index they count as applied.
	header.AppliedIndex = max(header.AppliedIndex, status.AppliedIndex)
	answer := &quoratev1.StatusResponse{
		Header: header, Role: quoratev1.Role(status.Role), LeaderId: status.LeaderID, Term: status.Term,
		CommitIndex: status.CommitIndex, LastLogIndex: status.LastLogIndex, SnapshotIndex: status.SnapshotIndex,
		Version: a.cfg.Version, FinishedTransactions: uint64(stats.Counts.Finished), InDoubtBranches: uint64(stats.Counts.InDoubt),
		Digest: status.Digest, LogStore: status.LogStore, FsyncP99: durationpb.New(status.LogWrite.P99), DataDir: status.DataDir,
	}
	if index := req.GetDigestAt(); index != 0 {
		var err error
		if answer.Digest, err = a.cluster.DigestAt(ctx, index); err != nil {
			return nil, a.lagging(err, index)
		}
		answer.DigestAt = index
	}
	for _, states := range stats.Counts.Open {
		for _, number := range states {
			answer.ActiveTransactions += uint64(number)
		}
	}
	for _, node := range status.Nodes {
		answer.Nodes = append(answer.Nodes, nodeAnswer(node, status.Role == RoleLeader))
	}
	return answer, nil
}

func nodeAnswer(n NodeStatus, byLeader bool) *quoratev1.Node {
	answer := &quoratev1.Node{
		Id: n.ID, Name: n.Name, RaftAddress: n.RaftAddress, GrpcAddress: n.GRPCAddress, HttpAddress: n.HTTPAddress,
		Version: n.Version, Voter: n.Voter, Leader: n.Leader, Healthy: n.Healthy, MatchIndex: n.MatchIndex,
	}
	if byLeader && !n.Leader {
		answer.LastContact = durationpb.New(n.LastContact)
	}
	return answer
}

// AddNode admits a node as non-voter.
func (a *administration) AddNode(ctx context.Context, req *quoratev1.AddNodeRequest) (*quoratev1.AddNodeResponse, error) {
	r := a.reader()
	node := Node{
		ID: r.required("id", req.GetId(), "a node's id is the UUID of its data directory"), Name: req.GetName(),
		RaftAddress: req.GetRaftAddress(), GRPCAddress: req.GetGrpcAddress(), HTTPAddress: req.GetHttpAddress(),
		Version: req.GetVersion(), FeatureLevel: req.GetFeatureLevel(), ClusterID: req.GetClusterId(),
	}
	r.text("name", node.Name, r.limits.GetTextBytesMax())
	r.text("version", node.Version, r.limits.GetTextBytesMax())
	r.address("raft_address", node.RaftAddress, true)
	r.address("grpc_address", node.GRPCAddress, true)
	r.address("http_address", node.HTTPAddress, false)
	if node.ClusterID != "" {
		r.gid("cluster_id", node.ClusterID)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	if err := a.sameCluster(node.ClusterID, "node "+node.ID); err != nil {
		return nil, err
	}
	voter, err := hold(ctx, a.Server, func() (bool, error) { return a.cluster.AddNode(ctx, node, req.GetNonVoter()) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.AddNodeResponse{Header: a.header(), Voter: voter}, nil
}

// address checks host:port as others dial it.
func (r *reader) address(field, address string, required bool) {
	if address == "" && !required {
		return
	}
	r.text(field, address, r.limits.GetTextBytesMax())
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || port == "0" {
		r.refuse(field, "%q is no host:port that other nodes could dial", address)
		return
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		r.refuse(field, "%q is no address that other nodes could dial: advertise one", address)
	}
}

// sameCluster refuses whoever belonged to another cluster.
func (s *Server) sameCluster(theirs, who string) error {
	ours := s.coordinator.Header().ClusterID
	if theirs == "" || ours.IsZero() {
		return nil
	}
	if id, err := fsm.ParseGID(theirs); err == nil && id == ours {
		return nil
	}
	return Errorf(ReasonForeignCluster, "%s belongs to cluster %s, and this is cluster %s", who, theirs, ours).
		With("cluster_id", ours.String()).With("their_cluster_id", theirs)
}

// Promote makes a caught-up non-voter a voter.
func (a *administration) Promote(ctx context.Context, req *quoratev1.PromoteRequest) (*quoratev1.PromoteResponse, error) {
	r := a.reader()
	node := r.required("node", req.GetNode(), "name the node by id or name")
	if err := r.err(); err != nil {
		return nil, err
	}
	if err := a.holdChange(ctx, func() error { return a.cluster.Promote(ctx, node) }); err != nil {
		return nil, err
	}
	return &quoratev1.PromoteResponse{Header: a.header()}, nil
}

// Remove takes a node out of the cluster, for ever.
func (a *administration) Remove(ctx context.Context, req *quoratev1.RemoveRequest) (*quoratev1.RemoveResponse, error) {
	r := a.reader()
	node := r.required("node", req.GetNode(), "name the node by id or name")
	if err := r.err(); err != nil {
		return nil, err
	}
	if err := a.holdChange(ctx, func() error { return a.cluster.Remove(ctx, node, req.GetForce()) }); err != nil {
		return nil, err
	}
	return &quoratev1.RemoveResponse{Header: a.header()}, nil
}

// TransferLeader hands leadership to another voter.
func (a *administration) TransferLeader(ctx context.Context, req *quoratev1.TransferLeaderRequest) (*quoratev1.TransferLeaderResponse, error) {
	r := a.reader()
	r.text("node", req.GetNode(), r.limits.GetTextBytesMax())
	if err := r.err(); err != nil {
		return nil, err
	}
	leader, err := hold(ctx, a.Server, func() (string, error) { return a.cluster.TransferLeader(ctx, req.GetNode()) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.TransferLeaderResponse{Header: a.header(), LeaderId: leader}, nil
}

// SetLimits changes replicated limits; fields that are not set stay.
func (a *administration) SetLimits(ctx context.Context, req *quoratev1.SetLimitsRequest) (*quoratev1.SetLimitsResponse, error) {
	r := a.reader()
	operator := r.required("operator", req.GetOperator(), "an operator's change carries a name")
	change := r.limitsChange("limits", req.GetLimits())
	if err := r.err(); err != nil {
		return nil, err
	}
	if err := a.holdChange(ctx, func() error { return a.cluster.SetLimits(ctx, change, operator) }); err != nil {
		return nil, err
	}
	return &quoratev1.SetLimitsResponse{Header: a.header(), Limits: limitsAnswer(a.cluster.Limits())}, nil
}

// GetLimits reads them as applied here.
func (a *administration) GetLimits(context.Context, *quoratev1.GetLimitsRequest) (*quoratev1.GetLimitsResponse, error) {
	return &quoratev1.GetLimitsResponse{Header: a.header(), Limits: limitsAnswer(a.cluster.Limits())}, nil
}

func (s *Server) holdChange(ctx context.Context, f func() error) error {
	_, err := hold(ctx, s, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func (r *reader) limitsChange(field string, l *quoratev1.Limits) *logpb.Limits {
	if l == nil {
		r.refuse(field, "are missing: name at least one")
		return nil
	}
	milliseconds := func(name string, d *durationpb.Duration) uint64 {
		asked := r.duration(field+"."+name, d)
		if d != nil && asked < time.Millisecond {
			r.refuse(field+"."+name, "is %v: at least 1ms", asked)
		}
		return uint64(asked / time.Millisecond)
	}
	return &logpb.Limits{
		TransactionTimeoutDefaultMs: milliseconds("transaction_timeout_default", l.GetTransactionTimeoutDefault()),
		TransactionTimeoutMaxMs:     milliseconds("transaction_timeout_max", l.GetTransactionTimeoutMax()),
		RetentionMs:                 milliseconds("retention", l.GetRetention()),
		BranchesPerTransactionMax:   l.GetBranchesPerTransactionMax(),
		ActiveTransactionsMax:       l.GetActiveTransactionsMax(),
		RetainedStubsMax:            l.GetRetainedStubsMax(),
		TombstonesMax:               l.GetTombstonesMax(),
	}
}

func limitsAnswer(l *logpb.Limits) *quoratev1.Limits {
	if l == nil {
		return nil
	}
	return &quoratev1.Limits{
		TransactionTimeoutDefault: millisecondsAnswer(l.GetTransactionTimeoutDefaultMs()),
		TransactionTimeoutMax:     millisecondsAnswer(l.GetTransactionTimeoutMaxMs()),
		Retention:                 millisecondsAnswer(l.GetRetentionMs()),
		BranchesPerTransactionMax: l.GetBranchesPerTransactionMax(),
		ActiveTransactionsMax:     l.GetActiveTransactionsMax(),
		RetainedStubsMax:          l.GetRetainedStubsMax(),
		TombstonesMax:             l.GetTombstonesMax(),
	}
}
