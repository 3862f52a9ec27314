package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
)

// system is one cluster under load: the product, or its floor.
type system struct {
	name    string
	product bool
	t       *target
	http    *http.Client
	cluster *cluster.Cluster // nil where it is not ours
	wire    *wireCount       // nil: nothing is counted
	// profile says that its nodes write CPU profiles, profiles counts those of the load.
	profile  bool
	profiles int
}

// startSystem starts a cluster of processes; command is what each runs.
func startSystem(ctx context.Context, o Options, name, command string) (*system, error) {
	var env func(string, int) []string
	if o.ProfileDir != "" {
		dir := filepath.Join(o.ProfileDir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		env = func(string, int) []string { return []string{ProfileVariable + "=" + dir} }
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Binary: o.Binary, Command: command, Nodes: o.Nodes, Dir: filepath.Join(o.Dir, name), Profile: o.Profile,
		Env:  env,
		Args: []string{"--log-store", o.LogStore, "--endpoint-allow", "127.0.0.0/8", "--log-level", "warn"},
	})
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	s, err := newSystem(ctx, o, name, c.Endpoints())
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	s.cluster, s.product, s.profile = c, command == commandServe, o.ProfileDir != ""
	return s, nil
}

// The commands of the nodes.
const (
	commandServe = "serve"
	// CommandFloor runs a node of the floor.
	CommandFloor = "floor"
)

// newSystem measures the cluster that seeds belong to.
func newSystem(ctx context.Context, o Options, name string, seeds []string) (*system, error) {
	t, err := newTarget(ctx, seeds, o.Creds)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &system{name: name, product: true, t: t, http: &http.Client{Timeout: 5 * time.Second}}, nil
}

func (s *system) stop() error {
	s.t.close()
	s.http.CloseIdleConnections()
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Stop()
}

// meters are the nodes' figures at one moment.
type meters struct {
	leader    nodeMeter
	followers time.Duration // CPU of all of them
	at        time.Time
}

// read reads them: nil where there is no cluster, or one that cannot be measured from here.
func (s *system) read(ctx context.Context) (*meters, error) {
	if s == nil {
		return nil, nil
	}
	conn, err := s.t.node(0)
	if err != nil {
		return nil, err
	}
	status, err := quoratev1.NewClusterServiceClient(conn).Status(ctx, &quoratev1.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	pids := map[string]int{}
	if s.cluster != nil {
		for _, n := range s.cluster.Nodes() {
			pids[n.HTTP] = n.Pid()
		}
	}
	leader := s.t.leader.Load().address
	m := &meters{at: time.Now()}
	for _, n := range status.GetNodes() {
		one, err := settled(ctx, s.http, "http://"+n.GetHttpAddress()+"/metrics", pids[n.GetHttpAddress()])
		switch {
		case err != nil && s.cluster == nil:
			return nil, nil // its metrics are not reachable from here
		case err != nil:
			return nil, fmt.Errorf("measure %s: %w", n.GetName(), err)
		case n.GetGrpcAddress() == leader:
			m.leader = one
		default:
			m.followers += one.cpu
		}
	}
	return m, nil
}

// minus is what happened in between.
func (m *meters) minus(o *meters) *meters {
	if m == nil || o == nil {
		return nil
	}
	return &meters{leader: m.leader.minus(o.leader), followers: m.followers - o.followers}
}
