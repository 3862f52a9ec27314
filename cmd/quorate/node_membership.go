package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/quorate/quorate/api"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/raftnode"
)

// membership brings a node into its cluster and keeps the others' knowledge of
// it right: that it is in, that it votes, and at which addresses it is reached.
// A node asks the leader itself, again and again, so that nothing is forgotten
// when leaders change.
type membership struct {
	cfg     *config.Config
	node    *raftnode.Node
	cluster *nodeCluster
	creds   credentials.TransportCredentials
	logger  *slog.Logger

	said string // what was said last, so that it is not said each second
}

const (
	// membershipInterval is how long passes between two looks at whether all is
	// in order.
	membershipInterval = time.Second
	// joinInterval is the same while it is not.
	joinInterval = 100 * time.Millisecond
	// askTimeout bounds one request to the leader, elections included.
	askTimeout = 5 * time.Second
	// seedTimeout is how long a seed may take to say whether it is in a cluster.
	seedTimeout = 2 * time.Second
)

// errNoCluster means that a node has neither a cluster nor a way into one.
var errNoCluster = errors.New("this node is in no cluster yet: give --bootstrap to the first node of a new cluster, --join HOST:PORT to every other one")

// start founds a cluster where that is asked for, or refuses a node that could
// never get into one. It returns at once for a node that joins.
func (m *membership) start(ctx context.Context) error {
	id := m.node.Identity()
	in := len(m.node.Status().Servers) > 0
	switch {
	case in:
		if m.cfg.Cluster.Bootstrap || len(m.cfg.Cluster.Join) > 0 {
			m.logger.Info("the data directory is of a node of a cluster already: --bootstrap, --join and --seeds are not needed any more", "cluster", id.ClusterID.String())
		}
		return nil
	case m.cfg.Cluster.Bootstrap:
		if err := m.refuseFormed(ctx); err != nil {
			return err
		}
		if err := m.node.Bootstrap(ctx); err != nil {
			return err
		}
		m.logger.Info("founded a cluster", "cluster", m.node.Identity().ClusterID.String())
		return nil
	case len(m.cfg.Cluster.Join) > 0 || !id.ClusterID.IsZero():
		return nil
	}
	return withCode(exitUsage, errNoCluster)
}

// refuseFormed refuses to found a cluster when a seed answers as a node of one:
// this node's disk was wiped, and it must join.
func (m *membership) refuseFormed(ctx context.Context) error {
	answers, err := m.askAll(ctx, m.cfg.Cluster.Seeds)
	if err != nil {
		return err
	}
	for _, seed := range m.cfg.Cluster.Seeds {
		switch answer := answers[seed]; {
		case answer == nil:
			m.logger.Info("a seed does not answer, so it is taken for one that has not started", "seed", seed)
		case len(answer.GetNodes()) > 0:
			return m.formedError(seed, answer)
		}
	}
	return nil
}

// askAll asks nodes, all at once, for their status; those that do not answer
// within seedTimeout are not in the result.
func (m *membership) askAll(ctx context.Context, addresses []string) (map[string]*quoratev1.StatusResponse, error) {
	return m.askAllFor(ctx, addresses, &quoratev1.StatusRequest{})
}

func (m *membership) askAllFor(ctx context.Context, addresses []string, request *quoratev1.StatusRequest) (map[string]*quoratev1.StatusResponse, error) {
	c := m.client(addresses)
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait() // before Close, also where an address is malformed
	answers := make(map[string]*quoratev1.StatusResponse)
	for _, address := range addresses {
		conn, err := c.conn(address)
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			answer, err := quoratev1.NewClusterServiceClient(conn).Status(ctx, request)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[address] = answer
		})
	}
	wg.Wait()
	return answers, nil
}

// checkForeign refuses to go on in a cluster other than that of the nodes that
// the command line names: the data directory is somebody else's.
func (m *membership) checkForeign(ctx context.Context) error {
	us := m.node.Identity().ClusterID
	if us.IsZero() {
		return nil // ask finds out
	}
	named := slices.Concat(m.cfg.Cluster.Join, m.cfg.Cluster.Seeds)
	answers, err := m.askAll(ctx, named)
	if err != nil {
		return err
	}
	for _, address := range named {
		them := answers[address].GetHeader().GetClusterId()
		if them != "" && them != us.String() {
			return withCode(exitRejected, fmt.Errorf("the data directory %s is of a node of cluster %s, and %s is of cluster %s: name the directory, or the nodes, that belong together; to move this machine to the other cluster, start it with an empty directory",
				m.cfg.Node.DataDir, us, address, them))
		}
	}
	return nil
}

// formedError tells how a wiped node gets back into its cluster.
func (m *membership) formedError(seed string, answer *quoratev1.StatusResponse) error {
	var text strings.Builder
	fmt.Fprintf(&text, "bootstrap refused: %s answers as a node of cluster %s, which has %s. A second cluster would not know its decisions.",
		seed, answer.GetHeader().GetClusterId(), plural(len(answer.GetNodes()), "node", "nodes"))
	text.WriteString("\nIf this node was one of them and lost its disk, it comes back as a new node:")
	for _, n := range answer.GetNodes() {
		if n.GetRaftAddress() == m.cfg.RaftAddress() {
			fmt.Fprintf(&text, "\n  quorate cluster remove %s --endpoints %s", n.GetId(), strings.Join(m.cfg.Cluster.Seeds, ","))
		}
	}
	fmt.Fprintf(&text, "\n  quorate serve --data-dir %s --name %s --join %s ...", m.cfg.Node.DataDir, m.cfg.Node.Name, strings.Join(m.cfg.Cluster.Seeds, ","))
	return withCode(exitRejected, errors.New(text.String()))
}

// run keeps this node in order until ctx ends. It returns an error when the
// node must not go on: it was removed, or it belongs elsewhere.
func (m *membership) run(ctx context.Context) error {
	if err := m.checkForeign(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	wasIn := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		interval := membershipInterval
		switch inOrder, err := m.look(ctx); {
		case err != nil && (isFinal(err) || errors.Is(err, errRemoved)):
			return err
		case err != nil:
			m.say(describe(err))
			interval = joinInterval
		case !inOrder:
			interval = joinInterval
		case !wasIn:
			wasIn = true
			m.logger.Info("in the cluster", "cluster", m.node.Identity().ClusterID.String(), "voter", m.votes())
		}
		timer.Reset(interval)
	}
}

// say logs what holds the node up, once until it changes.
func (m *membership) say(what string) {
	if what != m.said {
		m.logger.Warn("not in the cluster as it should be; asking again", "why", what)
		m.said = what
	}
}

// errRemoved ends a node that is no longer one of its cluster.
var errRemoved = errors.New("this node was removed from its cluster")

// isFinal says whether asking again cannot help.
func isFinal(err error) bool {
	reason, _ := reasonOf(err)
	return reason == string(api.ReasonForeignCluster) || reason == string(api.ReasonInvalid) ||
		errors.Is(err, raftnode.ErrOtherCluster)
}

// look sees whether all is in order and does the next thing where it is not.
func (m *membership) look(ctx context.Context) (inOrder bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status := m.node.Status()
	self, in := serverOf(status.Servers, status.Identity.NodeID)
	known := known(m.cluster.self, m.cluster.entry(status.Identity.NodeID), m.cluster.entry(status.Leader.ID))
	leads := status.Leader.ID == status.Identity.NodeID
	// Its own log may well name other nodes and not this one: a new node reads the
	// cluster's past first. Only the leader can say that it was removed.
	switch {
	case in && self.Address == m.cfg.RaftAddress() && known && (self.Voter || m.cfg.Cluster.NonVoter):
		if leads {
			return true, m.cluster.tidy(ctx)
		}
		if status.Leader.ID == "" {
			return true, m.checkRemoved(ctx)
		}
		return true, nil
	case leads:
		_, err := m.cluster.AddNode(ctx, m.entry(status), m.cfg.Cluster.NonVoter)
		return false, err
	}
	return false, m.ask(ctx, m.entry(status))
}

func serverOf(servers []raftnode.Server, id string) (raftnode.Server, bool) {
	i := slices.IndexFunc(servers, func(s raftnode.Server) bool { return s.ID == id })
	if i < 0 {
		return raftnode.Server{}, false
	}
	return servers[i], true
}

func (m *membership) votes() bool {
	status := m.node.Status()
	self, _ := serverOf(status.Servers, status.Identity.NodeID)
	return self.Voter
}

// entry is this node as it wants to be known.
func (m *membership) entry(status raftnode.Status) api.Node {
	self := m.cluster.self
	node := api.Node{
		ID: self.GetId(), Name: self.GetName(), RaftAddress: self.GetRaftAddress(),
		GRPCAddress: self.GetGrpcAddress(), HTTPAddress: self.GetHttpAddress(), Version: self.GetVersion(),
		FeatureLevel: self.GetFeatureLevel(),
	}
	if !status.Identity.ClusterID.IsZero() {
		node.ClusterID = status.Identity.ClusterID.String()
	}
	return node
}

// ask asks the leader to admit this node, or to bring its entry up to date, and
// takes over the cluster's id.
func (m *membership) ask(ctx context.Context, node api.Node) error {
	seeds, err := m.formed(ctx)
	if err != nil {
		return err
	}
	c := m.client(seeds)
	defer c.Close()
	var answer *quoratev1.AddNodeResponse
	err = c.call(ctx, "join the cluster", func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		answer, err = quoratev1.NewClusterServiceClient(conn).AddNode(ctx, &quoratev1.AddNodeRequest{
			Id: node.ID, Name: node.Name, RaftAddress: node.RaftAddress, GrpcAddress: node.GRPCAddress,
			HttpAddress: node.HTTPAddress, Version: node.Version, FeatureLevel: node.FeatureLevel,
			ClusterId: node.ClusterID, NonVoter: m.cfg.Cluster.NonVoter,
		})
		return err
	})
	if _, metadata := reasonOf(err); metadata[metadataRemoved] != "" {
		return m.removedError()
	}
	if err != nil {
		return err
	}
	cluster, err := fsm.ParseGID(answer.GetHeader().GetClusterId())
	if err != nil {
		return fmt.Errorf("join the cluster: its id: %w", err)
	}
	return m.node.AdoptCluster(cluster)
}

// formed returns those of the other nodes that are in a cluster, leaders first.
// One that is not would keep us waiting for the leader that it has not.
func (m *membership) formed(ctx context.Context) ([]string, error) {
	others := m.others()
	if len(others) == 0 {
		return nil, errors.New("no other node is known: give --join HOST:PORT")
	}
	answers, err := m.askAll(ctx, others)
	if err != nil {
		return nil, err
	}
	var leaders, followers []string
	for _, address := range others {
		switch answer := answers[address]; {
		case len(answer.GetNodes()) == 0:
		case answer.GetRole() == quoratev1.Role_ROLE_LEADER:
			leaders = append(leaders, address)
		default:
			followers = append(followers, address)
		}
	}
	if len(leaders)+len(followers) == 0 {
		return nil, fmt.Errorf("none of %s answers as a node of a cluster yet", strings.Join(others, ", "))
	}
	return append(leaders, followers...), nil
}

// others returns the gRPC addresses of the other nodes: those that were given,
// and those that the log names.
func (m *membership) others() []string {
	addresses := slices.Concat(m.cfg.Cluster.Join, m.cfg.Cluster.Seeds)
	m.cluster.log.View(func(s *fsm.State) {
		for _, n := range s.Nodes() {
			if n.GetId() != m.cluster.self.GetId() && n.GetGrpcAddress() != "" {
				addresses = append(addresses, n.GetGrpcAddress())
			}
		}
	})
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	return slices.DeleteFunc(addresses, func(a string) bool { return a == m.cfg.GRPCAddress() })
}

// checkRemoved asks the others, when no leader is heard, whether that is
// because they removed this node: then no leader ever calls again.
func (m *membership) checkRemoved(ctx context.Context) error {
	c := m.client(m.others())
	defer c.Close()
	for _, address := range c.seeds {
		conn, err := c.conn(address)
		if err != nil {
			continue
		}
		answer, err := statusOf(ctx, conn)
		if err != nil || answer.GetRole() != quoratev1.Role_ROLE_LEADER ||
			answer.GetHeader().GetClusterId() != m.node.Identity().ClusterID.String() {
			continue
		}
		in := slices.ContainsFunc(answer.GetNodes(), func(n *quoratev1.Node) bool { return n.GetId() == m.cluster.self.GetId() })
		if !in {
			return m.removedError()
		}
	}
	return nil
}

func (m *membership) removedError() error {
	return withCode(exitRejected, fmt.Errorf("%w %s: its id %s is not used again. To bring this machine back, empty %s and start with --join",
		errRemoved, m.node.Identity().ClusterID, m.cluster.self.GetId(), m.cfg.Node.DataDir))
}

// client is a client of other nodes, with this node's certificate.
func (m *membership) client(addresses []string) *client {
	c := &client{seeds: addresses, timeout: askTimeout, attempt: attemptTimeout, creds: m.creds, conns: make(map[string]*grpc.ClientConn)}
	if detour.Armed() {
		c.options = append(c.options, grpc.WithContextDialer(detour.DialTCP))
	}
	return c
}

// selfEntry is what the log shall say about a node.
func selfEntry(cfg *config.Config, id string) *logpb.Node {
	return &logpb.Node{
		Id: id, Name: cfg.Node.Name, RaftAddress: cfg.RaftAddress(),
		GrpcAddress: cfg.GRPCAddress(), HttpAddress: cfg.HTTPAddress(), Version: version, FeatureLevel: fsm.FeatureLevel,
	}
}
