package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/raftnode"
)

// nodeCluster is the Raft node as the API sees it: the cluster's nodes by name
// and with the addresses of their APIs, which stand in the log beside Raft's own
// configuration (PutNode, RemoveNode). Raft's configuration says who is in; the
// directory, how they are reached.
type nodeCluster struct {
	node *raftnode.Node
	log  *replicatedLog
	self *logpb.Node
}

var _ api.Cluster = (*nodeCluster)(nil)

// Status tells what this node knows.
func (c *nodeCluster) Status() api.ClusterStatus {
	s := c.node.Status()
	status := api.ClusterStatus{
		NodeID: s.Identity.NodeID, Name: c.self.GetName(), Role: apiRole(s), LeaderID: s.Leader.ID, Term: s.Term,
		CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, LastLogIndex: s.LastLogIndex, SnapshotIndex: s.SnapshotIndex,
		DataDir: s.DataDir, LogStore: s.LogStore,
		LogWrite: apiHistogram(s.Metrics.LogWrite), Snapshot: apiHistogram(s.Metrics.Snapshot), LogBytes: s.Metrics.LogBytes,
		Committed: s.Metrics.Committed, Refused: s.Metrics.Refused, Unknown: s.Metrics.Unknown,
		Pending: s.Metrics.Pending, LeaderChanges: s.Metrics.LeaderChanges,
	}
	if !s.Identity.ClusterID.IsZero() {
		status.ClusterID = s.Identity.ClusterID.String()
	}
	var directory []*logpb.Node
	c.log.View(func(state *fsm.State) {
		directory = state.Nodes()
		status.AppliedIndex = state.Clock().AppliedIndex
		status.Digest = state.Digest().String()
	})
	status.AppliedIndex = max(status.AppliedIndex, s.AppliedIndex)
	for _, server := range s.Servers {
		status.Nodes = append(status.Nodes, nodeStatus(server, directory))
	}
	slices.SortStableFunc(status.Nodes, func(a, b api.NodeStatus) int {
		if a.Name != b.Name {
			if a.Name < b.Name {
				return -1
			}
			return 1
		}
		return 0
	})
	return status
}

// Brief is of that what needs no look at the state, which would hold up what is applied.
func (c *nodeCluster) Brief() api.ClusterStatus {
	s := c.node.Brief()
	return api.ClusterStatus{
		NodeID: s.Identity.NodeID, LeaderID: s.Leader.ID, Term: s.Term,
		CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, LastLogIndex: s.LastLogIndex,
	}
}

// DigestAt is the state's digest right after the entry at index.
func (c *nodeCluster) DigestAt(ctx context.Context, index uint64) (digest string, err error) {
	if err := c.log.WaitApplied(ctx, index); err != nil {
		return "", err
	}
	c.log.View(func(state *fsm.State) {
		if d, known := state.DigestAt(index); known {
			digest = d.String()
		}
	})
	return digest, nil
}

// nodeStatus joins a server of Raft's configuration with the directory.
func nodeStatus(server raftnode.Server, directory []*logpb.Node) api.NodeStatus {
	status := api.NodeStatus{
		Node:  api.Node{ID: server.ID, RaftAddress: server.Address},
		Voter: server.Voter, Leader: server.Leader, Healthy: server.Healthy,
		LastContact: server.LastContact, MatchIndex: server.MatchIndex,
	}
	for _, n := range directory {
		if n.GetId() == server.ID {
			status.Name, status.Version = n.GetName(), n.GetVersion()
			status.GRPCAddress, status.HTTPAddress = n.GetGrpcAddress(), n.GetHttpAddress()
		}
	}
	return status
}

func apiRole(s raftnode.Status) api.Role {
	switch s.Role {
	case raftnode.RoleLeader:
		// Elected, and not serving yet: to a caller that is no leader.
		if s.Leader.ID != s.Identity.NodeID {
			return api.RoleCandidate
		}
		return api.RoleLeader
	case raftnode.RoleCandidate:
		return api.RoleCandidate
	case raftnode.RoleNonvoter:
		return api.RoleNonVoter
	}
	return api.RoleFollower
}

func apiHistogram(h raftnode.Histogram) api.Histogram {
	return api.Histogram{
		Bounds: h.Bounds, Counts: h.Counts, Count: h.Count, SumSeconds: h.SumSeconds,
		P50: h.P50, P90: h.P90, P99: h.P99, Max: h.Max,
	}
}

// AddNode admits a node, or brings its entry up to date, and lets it vote once
// it has caught up, unless nonVoter. A node asks until the answer is that it
// votes: so a change of leader half-way needs no memory.
func (c *nodeCluster) AddNode(ctx context.Context, node api.Node, nonVoter bool) (voter bool, err error) {
	var cluster fsm.GID
	if node.ClusterID != "" {
		if cluster, err = fsm.ParseGID(node.ClusterID); err != nil {
			return false, api.Errorf(api.ReasonInvalid, "add node %s: its cluster id: %v", node.ID, err)
		}
	}
	// Refusals are final for the node that asks: a leader that was deposed, and
	// does not know it yet, must not make them.
	if _, err := c.log.ReadIndex(ctx); err != nil {
		return false, err
	}
	if err := c.checkNode(node); err != nil {
		return false, err
	}
	if err := c.checkLevel(node); err != nil {
		return false, err
	}
	if err := c.node.AddNonvoter(ctx, node.ID, node.RaftAddress, cluster); err != nil {
		return false, c.translate(err)
	}
	entry := &logpb.Node{
		Id: node.ID, Name: node.Name, RaftAddress: node.RaftAddress,
		GrpcAddress: node.GRPCAddress, HttpAddress: node.HTTPAddress, Version: node.Version, FeatureLevel: node.FeatureLevel,
	}
	if err := c.put(ctx, entry); err != nil {
		return false, err
	}
	server, ok := c.server(node.ID)
	if ok && server.Voter || nonVoter {
		return server.Voter, nil
	}
	switch err := c.node.Promote(ctx, node.ID); {
	case errors.Is(err, raftnode.ErrBehind):
		return false, nil
	case err != nil:
		return false, c.translate(err)
	}
	return true, nil
}

// uuid is the form of a node's id.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// metadataRemoved marks the refusal of a node that was removed.
const metadataRemoved = "removed"

// checkLevel refuses a node of a version that cannot read the log: it would stop at
// the first entry that is stamped with what it lacks, and a vote would be missing.
func (c *nodeCluster) checkLevel(node api.Node) error {
	var needed uint32
	c.log.View(func(s *fsm.State) { needed = s.NextFeatureLevel() })
	has := max(node.FeatureLevel, fsm.LevelModes) // versions that do not say have that one
	if has >= needed {
		return nil
	}
	version := node.Version
	if version == "" {
		version = "it does not say which"
	}
	return &api.Error{
		Reason: api.ReasonInvalid,
		Message: fmt.Sprintf("add node %s: its version (%s) reads feature level %d of the log, and this cluster's is at level %d: it would stop at the first entry",
			node.ID, version, has, needed),
		Next: "install the version that the other nodes have (quorate cluster status), and start it again",
	}
}

// checkNode refuses an address that another node of the cluster has: the disk
// of that one was wiped, or somebody mistyped. It refuses a new address for a
// node that is well at its old one: that is a copy of its data directory, and
// two processes with one identity would vote twice. And it refuses a node that
// was in this cluster and is not any more: it was removed, and what it
// acknowledged before no longer counts.
func (c *nodeCluster) checkNode(node api.Node) error {
	if !uuid.MatchString(node.ID) {
		return api.Errorf(api.ReasonInvalid, "add node %q: its id is no UUID; it stands in identity.json in its data directory", node.ID)
	}
	if _, in := c.server(node.ID); !in && node.ClusterID != "" && node.ClusterID == c.node.Identity().ClusterID.String() {
		err := &api.Error{
			Reason:  api.ReasonNodeConflict,
			Message: fmt.Sprintf("add node %s: it was removed from this cluster, and its id is not used again", node.ID),
			Next:    "empty its data directory and start it with --join",
		}
		return err.With(metadataRemoved, "true")
	}
	for _, server := range c.node.Status().Servers {
		if server.ID == node.ID && server.Address != node.RaftAddress && server.Healthy && !server.Self {
			return &api.Error{
				Reason:  api.ReasonNodeConflict,
				Message: fmt.Sprintf("node %s asks from %s, and is well at %s: a data directory must not be used twice", node.ID, node.RaftAddress, server.Address),
				Next:    "stop one of them; a second node starts with an empty directory",
			}
		}
		if server.Address == node.RaftAddress && server.ID != node.ID {
			return &api.Error{
				Reason:  api.ReasonNodeConflict,
				Message: fmt.Sprintf("add node %s: its address %s is that of node %s", node.ID, node.RaftAddress, server.ID),
				Next:    fmt.Sprintf("if the disk of that node is gone, take it out, and this one gets in: quorate cluster remove %s", server.ID),
			}
		}
	}
	return nil
}

// put writes a node's entry into the log unless it stands there already.
func (c *nodeCluster) put(ctx context.Context, entry *logpb.Node) error {
	if proto.Equal(c.entry(entry.GetId()), entry) {
		return nil
	}
	return c.propose(ctx, "put node "+entry.GetId(), &logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: entry}}})
}

// known says whether a node's entry in the directory says what it should. A leader
// of a version that knows no feature levels leaves out the node's: asking it again
// would not help, asking the next leader may.
func known(self, entry, leader *logpb.Node) bool {
	if entry != nil && entry.GetFeatureLevel() == 0 && leader.GetFeatureLevel() == 0 && leader.GetId() != self.GetId() {
		entry = proto.CloneOf(entry)
		entry.FeatureLevel = self.GetFeatureLevel()
	}
	return proto.Equal(entry, self)
}

// entry returns a node's entry in the directory, or nil.
func (c *nodeCluster) entry(id string) (entry *logpb.Node) {
	c.log.View(func(s *fsm.State) {
		for _, n := range s.Nodes() {
			if n.GetId() == id {
				entry = n
			}
		}
	})
	return entry
}

// propose proposes one command and makes its refusal an error.
func (c *nodeCluster) propose(ctx context.Context, what string, command *logpb.Command) error {
	results, _, err := c.log.Propose(ctx, command)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if r := results[0]; r.Code != fsm.OK {
		return api.Errorf(api.Reason(r.Code.String()), "%s: %s", what, r.Detail)
	}
	return nil
}

// Promote makes a caught-up non-voter a voter.
func (c *nodeCluster) Promote(ctx context.Context, node string) error {
	id, err := c.resolve(node)
	if err != nil {
		return err
	}
	return c.translate(c.node.Promote(ctx, id))
}

// Remove takes a node out. Should its directory entry survive, because the
// leader dies between the two steps, tidy takes it out later.
func (c *nodeCluster) Remove(ctx context.Context, node string, force bool) error {
	id, err := c.resolve(node)
	if err != nil {
		return err
	}
	if err := c.node.Remove(ctx, id, force); err != nil {
		return c.translate(err)
	}
	return c.forget(ctx, id)
}

func (c *nodeCluster) forget(ctx context.Context, id string) error {
	return c.propose(ctx, "remove node "+id, &logpb.Command{Kind: &logpb.Command_RemoveNode{RemoveNode: &logpb.RemoveNode{Id: id}}})
}

// tidy removes directory entries of nodes that Raft's configuration has not.
// An entry is written after its node is admitted, so such a node was removed.
func (c *nodeCluster) tidy(ctx context.Context) error {
	// In this order: a node that is admitted in between has no entry yet.
	var directory []*logpb.Node
	c.log.View(func(s *fsm.State) { directory = s.Nodes() })
	servers := c.node.Status().Servers
	for _, n := range directory {
		in := slices.ContainsFunc(servers, func(s raftnode.Server) bool { return s.ID == n.GetId() })
		if in {
			continue
		}
		if err := c.forget(ctx, n.GetId()); err != nil {
			return err
		}
	}
	return nil
}

// leaderPoll is how long TransferLeader lets pass between two looks at who leads.
const leaderPoll = 10 * time.Millisecond

// TransferLeader hands leadership over and returns who leads then.
func (c *nodeCluster) TransferLeader(ctx context.Context, node string) (string, error) {
	id := ""
	if node != "" {
		var err error
		if id, err = c.resolve(node); err != nil {
			return "", err
		}
		if server, _ := c.server(id); !server.Voter {
			return "", &api.Error{
				Reason:  api.ReasonNotCaughtUp,
				Message: fmt.Sprintf("transfer leadership to %s: it has no vote", node),
				Next:    "promote it first: quorate cluster promote " + node,
			}
		}
	}
	self := c.self.GetId()
	if err := c.node.TransferLeadership(ctx, id); err != nil {
		return "", c.translate(err)
	}
	for {
		if leader, ok := c.node.Leader(); ok && (leader.ID != self || id == self) {
			return leader.ID, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("transfer leadership: it was given up, and no new leader is known yet: %w", context.Cause(ctx))
		case <-time.After(leaderPoll):
		}
	}
}

// Limits are the replicated limits as applied here.
func (c *nodeCluster) Limits() *logpb.Limits { return c.log.Limits() }

// SetLimits changes the limits that are set in change.
func (c *nodeCluster) SetLimits(ctx context.Context, change *logpb.Limits, operator string) error {
	return c.propose(ctx, "set limits", &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{Limits: change, Operator: operator}}})
}

// server returns a node of Raft's configuration.
func (c *nodeCluster) server(id string) (raftnode.Server, bool) {
	for _, server := range c.node.Status().Servers {
		if server.ID == id {
			return server, true
		}
	}
	return raftnode.Server{}, false
}

// resolve finds a node's id by its id or its name, which must then be unique.
func (c *nodeCluster) resolve(node string) (string, error) {
	var ids []string
	for _, n := range c.Status().Nodes {
		if n.ID == node {
			return n.ID, nil
		}
		if n.Name == node {
			ids = append(ids, n.ID)
		}
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", &api.Error{
			Reason:  api.ReasonNotFound,
			Message: fmt.Sprintf("no node of the cluster has the id or name %q", node),
			Next:    "list them: quorate cluster status -o wide",
		}
	}
	return "", api.Errorf(api.ReasonInvalid, "%d nodes are named %q: use an id: %v", len(ids), node, ids)
}

// translate gives the node's errors the API's reasons.
func (c *nodeCluster) translate(err error) error {
	for _, known := range []struct {
		is     error
		reason api.Reason
	}{
		{raftnode.ErrOtherCluster, api.ReasonForeignCluster},
		{raftnode.ErrUnknownNode, api.ReasonNotFound},
		{raftnode.ErrBehind, api.ReasonNotCaughtUp},
		{raftnode.ErrQuorum, api.ReasonQuorumAtRisk},
	} {
		if errors.Is(err, known.is) {
			return api.Errorf(known.reason, "%v", err)
		}
	}
	if errors.Is(err, raftnode.ErrBusy) {
		return &coordinator.OverloadError{Limit: "changes of membership under way", Max: 1}
	}
	return c.log.translate(err)
}
