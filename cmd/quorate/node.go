package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/branchcall"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/raftnode"
)

// servingNode is a running node: the Raft node, the coordinator on it, the API
// over both, and what keeps them together. It is the one place that knows all
// of them.
type servingNode struct {
	cfg    *config.Config
	logger *slog.Logger

	raft        *raftnode.Node
	caller      *branchcall.Caller
	coordinator *coordinator.Coordinator
	api         *api.Server
	membership  *membership
	listeners   api.Listeners

	draining atomic.Bool
	wait     sync.WaitGroup
}

// openNode opens everything and serves nothing yet. What is opened is closed
// again on an error.
func openNode(cfg *config.Config, logger *slog.Logger, seams seams) (_ *servingNode, err error) {
	if seams.fatal == nil {
		seams.fatal = func(err error) {
			logger.Error("the node stops itself", "error", err)
			os.Exit(exitError)
		}
	}
	n := &servingNode{cfg: cfg, logger: logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	tls, err := loadTLS(cfg, logger)
	if err != nil {
		return n, withCode(exitUsage, err)
	}
	if n.listeners.GRPC, err = listen("listen.grpc", cfg.Listen.GRPC); err != nil {
		return n, err
	}
	if n.listeners.HTTP, err = listen("listen.http", cfg.Listen.HTTP); err != nil {
		return n, err
	}
	if cfg.Listen.DTMJSONRPC != "" {
		if n.listeners.JSONRPC, err = listen("listen.dtm_jsonrpc", cfg.Listen.DTMJSONRPC); err != nil {
			return n, err
		}
	}
	raftListener, err := listen("listen.raft", cfg.Listen.Raft)
	if err != nil {
		return n, err
	}

	// The machine is applied to, also while Open replays the log, before there
	// is a coordinator to hear of it.
	state := fsm.New()
	var hears atomic.Pointer[coordinator.Coordinator]
	raftCfg := n.raftConfig(tls, raftListener)
	raftCfg.Fatal = seams.fatal
	raftCfg.Applied = func(index uint64) {
		if c := hears.Load(); c != nil && seams.hears() {
			c.Applied(index)
		}
	}
	if n.raft, err = raftnode.Open(raftCfg, seams.machine(state)); err != nil {
		raftListener.Close()
		return n, err
	}
	log := &replicatedLog{node: n.raft, state: state}
	cluster := &nodeCluster{node: n.raft, log: log, self: selfEntry(cfg, n.raft.Identity().NodeID)}
	n.membership = &membership{cfg: cfg, node: n.raft, cluster: cluster, creds: tls.credentials(), logger: logger}

	metrics := api.NewMetrics(version, thisBuild().Commit)
	allow, err := branchcall.ParseAllow(cfg.Tx.EndpointAllow...)
	if err != nil {
		return n, withCode(exitUsage, fmt.Errorf("tx.endpoint_allow: %w", err))
	}
	calls := branchcall.Config{Allow: allow, TLS: tls.apiClient, ClusterID: n.clusterID}
	if detour.Armed() {
		calls.Detour = detour.Address
	}
	n.caller = branchcall.New(calls)
	if n.coordinator, err = coordinator.New(coordinator.Config{
		Log: log, NodeID: n.raft.Identity().NodeID, Caller: n.caller, Observer: metrics, Logger: logger, Settings: seams.settings(cfg),
		Peers: auditPeers{n.membership}, Fatal: seams.fatal,
	}); err != nil {
		return n, err
	}
	hears.Store(n.coordinator)
	n.coordinator.Applied(n.raft.Status().AppliedIndex)

	if n.api, err = api.NewServer(n.apiConfig(tls, allow, metrics), api.Over(n.coordinator), cluster); err != nil {
		return n, err
	}
	return n, nil
}

// clusterID is the cluster that deliveries are from, "" before there is one.
func (n *servingNode) clusterID() string {
	if id := n.raft.Identity().ClusterID; !id.IsZero() {
		return id.String()
	}
	return ""
}

// listen opens a listener, or says which setting names a taken port.
func listen(key, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return l, nil
}

func (n *servingNode) raftConfig(tls nodeTLS, l net.Listener) raftnode.Config {
	cfg := raftnode.DefaultConfig()
	cfg.DataDir = n.cfg.Node.DataDir
	cfg.Address = n.cfg.RaftAddress()
	cfg.Listener = l
	cfg.ServerTLS, cfg.ClientTLS = tls.raft, tls.raftClient
	if n.cfg.Storage.LogStore != "auto" {
		cfg.LogStore = n.cfg.Storage.LogStore
	}
	cfg.Profile, _ = profileOf(n.cfg.Raft.Profile)
	cfg.StoreOperationMax = n.cfg.Storage.OperationTimeout
	cfg.SnapshotEntries = n.cfg.Raft.SnapshotThreshold
	cfg.SnapshotBytes = int64(n.cfg.Raft.SnapshotBytes)
	cfg.SnapshotInterval = n.cfg.Raft.SnapshotInterval
	cfg.TrailingEntries = n.cfg.Raft.TrailingLogs
	cfg.TrailingBytes = int64(n.cfg.Raft.TrailingBytes)
	cfg.Logger = n.logger
	cfg.Dial = detour.Dial
	injectDiskFaults(&cfg)
	injectEchoes(&cfg)
	return cfg
}

func (n *servingNode) apiConfig(tls nodeTLS, allow *branchcall.Allow, metrics *api.Metrics) api.Config {
	cfg := api.Config{
		NodeID: n.raft.Identity().NodeID, Version: version, Commit: thisBuild().Commit,
		TLS: tls.api, ForwardTLS: tls.apiClient,
		Endpoints: allow, Metrics: metrics, Logger: n.logger,
		Checks: []api.Check{{Name: "not draining", Run: n.checkDraining}},
	}
	if detour.Armed() {
		cfg.Dial = detour.DialTCP
	}
	return cfg
}

// checkDraining makes a node that is being stopped not ready before it stops
// listening, so that load balancers look elsewhere.
func (n *servingNode) checkDraining(context.Context) error {
	if n.draining.Load() {
		return errors.New("this node is being stopped")
	}
	return nil
}

// run serves until ctx ends, and then hands over; or until something fails,
// whose error it returns.
func (n *servingNode) run(ctx context.Context) error {
	n.logStart()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fail := func(err error) {
		if err != nil {
			cancel(&failedError{err})
		}
	}
	n.wait.Go(n.followLeadership)
	n.wait.Go(func() { fail(n.api.Serve(n.listeners)) })
	n.wait.Go(func() {
		if err := n.membership.start(ctx); err != nil {
			fail(err)
			return
		}
		fail(n.membership.run(ctx))
	})
	<-ctx.Done()
	cause := context.Cause(ctx)
	n.logger.Info("stopping", "why", cause.Error())
	n.drain()
	var failed *failedError
	if errors.As(cause, &failed) {
		return failed.err
	}
	return nil
}

// failedError tells a failure of ours from the end that was asked for.
type failedError struct{ err error }

func (e *failedError) Error() string { return e.err.Error() }

// followLeadership tells the coordinator when this node begins and ceases to
// lead; it ends with the Raft node.
func (n *servingNode) followLeadership() {
	for l := range n.raft.Leadership() {
		n.coordinator.Leadership(l.Leader, l.Term)
	}
}

// drain gives leadership to another node, then lets the calls that run end.
func (n *servingNode) drain() {
	n.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Listen.DrainTimeout)
	defer cancel()
	status := n.raft.Status()
	if status.Leader.ID == status.Identity.NodeID && len(status.Servers) > 1 {
		if err := n.raft.TransferLeadership(ctx, ""); err != nil {
			n.logger.Info("leadership was not handed over before the stop; another node takes it", "error", err)
		}
	}
	n.api.Stop(ctx)
}

// close closes what was opened, from the top down, and joins every goroutine.
func (n *servingNode) close() error {
	start := time.Now()
	var errs []error
	for _, l := range []net.Listener{n.listeners.GRPC, n.listeners.HTTP, n.listeners.JSONRPC} {
		if l != nil {
			_ = l.Close() // closed already, where it was served
		}
	}
	if n.coordinator != nil {
		errs = append(errs, n.coordinator.Close())
	}
	if n.caller != nil {
		errs = append(errs, n.caller.Close())
	}
	if n.raft != nil {
		errs = append(errs, n.raft.Close())
	}
	n.wait.Wait()
	n.logger.Info("stopped", "took", time.Since(start).Round(time.Millisecond))
	return errors.Join(errs...)
}
