package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newClusterStatusCommand is `quorate cluster status`.
func newClusterStatusCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every node: role, term, what it has applied, how fast its disk is",
		Long: `status asks any node for the list of nodes, then each of them for its own figures. LAG is in log entries behind the
leader. The exit code is 5 when no quorum answers.`,
		Args: noArgs,
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, _ []string) error {
		status, err := c.clusterStatus(cmd.Context())
		if err != nil {
			return err
		}
		if machine(flags.output) {
			if err := printMessage(cmd.OutOrStdout(), flags.output, status.view); err != nil {
				return err
			}
		} else if err := writeClusterStatus(cmd.OutOrStdout(), status, flags.output == "wide"); err != nil {
			return err
		}
		return status.health(cmd.ErrOrStderr())
	})
	return cmd
}

// clusterStatus is the leader's view, or another node's where none leads, and
// what each node says of itself.
type clusterStatus struct {
	view *quoratev1.StatusResponse
	own  map[string]*quoratev1.StatusResponse // by node id; those that answered
}

// ownTimeout is how long a node may take to answer for itself.
const ownTimeout = time.Second

func (c *client) clusterStatus(ctx context.Context) (*clusterStatus, error) {
	var view *quoratev1.StatusResponse
	err := c.cluster(ctx, "read the cluster's status", func(ctx context.Context, s quoratev1.ClusterServiceClient) (err error) {
		view, err = s.Status(ctx, &quoratev1.StatusRequest{})
		return err
	})
	if err != nil {
		return nil, err
	}
	status := &clusterStatus{view: view, own: make(map[string]*quoratev1.StatusResponse)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, node := range view.GetNodes() {
		if node.GetGrpcAddress() == "" {
			continue
		}
		conn, err := c.conn(node.GetGrpcAddress())
		if err != nil {
			continue // it is shown as one that does not answer
		}
		wg.Go(func() {
			answer, err := statusOf(ctx, conn)
			if err != nil || answer.GetHeader().GetNodeId() != node.GetId() {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			status.own[node.GetId()] = answer
		})
	}
	wg.Wait()
	// Another node knows less than the leader: who was heard of when.
	if leader := status.own[view.GetLeaderId()]; leader.GetRole() == quoratev1.Role_ROLE_LEADER {
		status.view = leader
	}
	return status, nil
}

func statusOf(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	return quoratev1.NewClusterServiceClient(conn).Status(ctx, &quoratev1.StatusRequest{})
}

// counts returns the voters, those that answer, and the quorum.
func (s *clusterStatus) counts() (voters, up, quorum int) {
	for _, node := range s.view.GetNodes() {
		if !node.GetVoter() {
			continue
		}
		voters++
		if s.own[node.GetId()] != nil {
			up++
		}
	}
	return voters, up, voters/2 + 1
}

// leads says whether a node answers that leads.
func (s *clusterStatus) leads() bool {
	return s.view.GetRole() == quoratev1.Role_ROLE_LEADER
}

// health says in a sentence how the cluster is, and errs when it cannot decide.
func (s *clusterStatus) health(w io.Writer) error {
	voters, up, quorum := s.counts()
	switch {
	case voters == 0:
		return withCode(exitUnhealthy, fmt.Errorf("this node is in no cluster: start it with --bootstrap, or with --join HOST:PORT"))
	case up < quorum:
		return withCode(exitUnhealthy, fmt.Errorf("%d of %d voters answer, and a quorum is %d: nothing can be decided until more are up", up, voters, quorum))
	case !s.leads():
		return withCode(exitUnhealthy, fmt.Errorf("%d of %d voters answer and none of them leads: an election may be under way; if this lasts, look at the nodes' logs", up, voters))
	case voters == 1:
		fmt.Fprintln(w, "quorum 1/1: works, and tolerates no failure.")
	case up == quorum:
		fmt.Fprintf(w, "quorum %d/%d: healthy, but losing one more node stops decisions.\n", up, voters)
	default:
		fmt.Fprintf(w, "quorum %d/%d: healthy, tolerates the loss of %s.\n", up, voters, plural(up-quorum, "node", "nodes"))
	}
	return nil
}

// writeClusterStatus prints a row a node.
func writeClusterStatus(w io.Writer, s *clusterStatus, wide bool) error {
	var t table
	head := []string{"NAME", "GRPC", "ROLE", "TERM", "APPLIED", "LAG", "FSYNC p99", "LAST CONTACT", "VERSION"}
	if wide {
		head = append(head, "ID", "HTTP", "RAFT", "STORE", "SNAPSHOT", "DATA")
	}
	t.row(head...)
	reference := s.view.GetCommitIndex()
	for _, node := range s.view.GetNodes() {
		t.row(nodeCells(node, s.own[node.GetId()], reference, wide)...)
	}
	if err := t.write(w); err != nil || !wide {
		return err
	}
	v := s.view
	_, err := fmt.Fprintf(w, "cluster %s  incarnation %d  term %d  commit index %d  %d active, %d finished, %d branches in doubt  digest %s\n",
		v.GetHeader().GetClusterId(), v.GetHeader().GetEpoch().GetIncarnation(), v.GetTerm(), v.GetCommitIndex(),
		v.GetActiveTransactions(), v.GetFinishedTransactions(), v.GetInDoubtBranches(), orNone(v.GetDigest()))
	return err
}

// nodeCells is one node's row; own is nil for a node that does not answer.
func nodeCells(node *quoratev1.Node, own *quoratev1.StatusResponse, reference uint64, wide bool) []string {
	role, term, applied, lag, fsync := "DOWN", none, none, none, none
	if own != nil {
		role = roleWord(own.GetRole())
		term = strconv.FormatUint(own.GetTerm(), 10)
		index := own.GetHeader().GetAppliedIndex()
		applied = strconv.FormatUint(index, 10)
		lag = strconv.FormatUint(reference-min(index, reference), 10)
		fsync = figure(own.GetFsyncP99().AsDuration())
	} else if !node.GetVoter() {
		role = "DOWN,non-voter"
	}
	contact := none
	if node.GetLastContact() != nil && !node.GetLeader() {
		contact = age(node.GetLastContact().AsDuration())
	}
	version := orNone(node.GetVersion())
	if own.GetVersion() != "" {
		version = own.GetVersion()
	}
	cells := []string{orNone(node.GetName()), orNone(node.GetGrpcAddress()), role, term, applied, lag, fsync, contact, version}
	if wide {
		cells = append(cells, node.GetId(), orNone(node.GetHttpAddress()), orNone(node.GetRaftAddress()),
			orNone(own.GetLogStore()), strconv.FormatUint(own.GetSnapshotIndex(), 10), orNone(own.GetDataDir()))
	}
	return cells
}

// figure is a measured duration with the digits that it deserves.
func figure(d time.Duration) string {
	if d <= 0 {
		return none
	}
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 100*time.Millisecond:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)), ".0") + "ms"
	}
	return age(d)
}
