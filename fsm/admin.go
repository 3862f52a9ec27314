package fsm

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// found gives the cluster its id, once. Whoever repeats it after an unknown
// outcome finds the standing id in the refusal.
func (s *State) found(c *logpb.Found) Result {
	id, err := GIDFromBytes(c.GetClusterId())
	if err != nil || id.IsZero() {
		return invalid("cluster_id", "is no ULID")
	}
	if s.Founded() {
		return Result{Code: AlreadyFounded, GID: s.clusterID, Detail: "the cluster is " + s.clusterID.String()}
	}
	limits := mergeLimits(DefaultLimits(), c.GetLimits())
	if problem := checkLimits(limits); problem != "" {
		return invalid("limits", "are refused: %s", problem)
	}
	s.clusterID, s.limits, s.incarnation = id, limits, 1
	s.settings = s.hashSettings()
	return Result{Code: OK, GID: id, Changed: true}
}

// setLimits changes the limits that it names.
func (s *State) setLimits(c *logpb.SetLimits) Result {
	if c.GetOperator() == "" {
		return invalid("operator", "is empty: an operator's word carries a name")
	}
	limits := mergeLimits(s.limits, c.GetLimits())
	if problem := checkLimits(limits); problem != "" {
		return invalid("limits", "are refused: %s", problem)
	}
	changed := !proto.Equal(s.limits, limits)
	s.limits = limits
	s.settings = s.hashSettings()
	return Result{Code: OK, Changed: changed}
}

// findNode is a node's place in the directory.
func (s *State) findNode(id string) (int, bool) {
	return slices.BinarySearchFunc(s.nodes, id, func(n *logpb.Node, id string) int {
		return strings.Compare(n.GetId(), id)
	})
}

// putNode adds a node to the directory, or replaces what is said of it. The
// directory is for people and clients; who is a member is Raft's to say.
func (s *State) putNode(n *logpb.Node) Result {
	if n.GetId() == "" {
		return invalid("node.id", "is empty")
	}
	for _, f := range []struct{ field, value string }{
		{"node.id", n.GetId()}, {"node.name", n.GetName()}, {"node.raft_address", n.GetRaftAddress()},
		{"node.grpc_address", n.GetGrpcAddress()}, {"node.http_address", n.GetHttpAddress()}, {"node.version", n.GetVersion()},
	} {
		if refusal, ok := checkPrintable(f.field, f.value); !ok {
			return refusal
		}
		if refusal, ok := checkLength(f.field, f.value, s.limits.GetTextBytesMax()); !ok {
			return refusal
		}
	}
	i, ok := s.findNode(n.GetId())
	if ok && proto.Equal(s.nodes[i], n) {
		return Result{Code: OK}
	}
	if !ok && len(s.nodes) >= NodesMax {
		return quota(GID{}, "nodes_max", NodesMax)
	}
	// A pinned snapshot may share the list: it is replaced.
	nodes := slices.Clone(s.nodes)
	if ok {
		nodes[i] = n
	} else {
		nodes = slices.Insert(nodes, i, n)
	}
	s.nodes = nodes
	s.settings = s.hashSettings()
	return Result{Code: OK, Changed: true}
}

// removeNode takes a node out of the directory; an unknown one is gone already.
func (s *State) removeNode(id string) Result {
	i, ok := s.findNode(id)
	if !ok {
		return Result{Code: OK}
	}
	s.nodes = slices.Delete(slices.Clone(s.nodes), i, i+1)
	s.settings = s.hashSettings()
	return Result{Code: OK, Changed: true}
}
