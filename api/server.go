// Package api is how one talks to a node: gRPC services with health and
// reflection, their HTTP gateway, probes and metrics.
//
// It has no opinion about transactions. Requests are checked and turned into
// package coordinator's calls, answers into messages, refusals into typed
// errors by one table (reasons.go). A native gRPC call to a follower is sent to
// the leader by its error, NOT_LEADER; an HTTP call is forwarded, one hop.
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/test/bufconn"

	"github.com/quorate/quorate/api/dtm"
)

// Listeners of one node. Serve closes them.
type Listeners struct {
	GRPC, HTTP net.Listener
	// JSONRPC is a further one for HTTP, for clients that know DTM's port; nil for
	// none.
	JSONRPC net.Listener
}

// Server serves one node's API.
type Server struct {
	cfg         Config
	coordinator Coordinator
	cluster     Cluster

	grpc   *grpc.Server
	inner  *grpc.Server // the gateway's way in, without a socket
	pipe   *bufconn.Listener
	http   *http.Server
	health *health.Server

	forward *forwarder
	workers *workers
	dtm     *dtm.Gateway

	leader    atomic.Pointer[string] // the last one known
	clusterID atomic.Pointer[namedCluster]
	said      atomic.Pointer[saidHeader] // in the last answers to writes

	// stopping ends streams and held calls; stop gives the cause.
	stopping context.Context
	stop     context.CancelCauseFunc
	stopOnce sync.Once
	stopped  chan struct{}
}

// errStopping is the cause of stopping.
var errStopping = errors.New("this node is stopping")

// NewServer returns a server that serves nothing yet. It must be stopped, served
// or not. cfg must be valid: see Config.Validate.
func NewServer(cfg Config, coordinator Coordinator, cluster Cluster) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if coordinator == nil || cluster == nil {
		return nil, errors.New("api: a coordinator and a cluster are required")
	}
	s := &Server{cfg: cfg.withDefaults(), coordinator: coordinator, cluster: cluster, stopped: make(chan struct{})}
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	s.workers = newWorkers(s.stopping.Done())
	s.pipe = bufconn.Listen(1 << 20)
	s.health = health.NewServer()
	var err error
	if s.forward, err = newForwarder(s); err != nil {
		return nil, err
	}
	s.dtm = dtm.New(dtm.Config{Conn: s.forward, Version: s.cfg.Version, Logger: s.cfg.Logger, HoldMax: 3*s.cfg.LeaderWait + time.Second})
	s.grpc = s.newGRPC(true)
	s.inner = s.newGRPC(false)
	if s.http, err = s.newHTTP(); err == nil {
		if err = s.cfg.Metrics.registry.Register(nodeCollector{coordinator, cluster}); err == nil {
			return s, nil
		}
		err = fmt.Errorf("api: metrics: %w", err)
	}
	s.inner.Stop() // their workers run since they were made
	s.grpc.Stop()
	s.forward.close()
	return nil, err
}

// Serve serves until Stop, or until a listener fails, whose error it returns.
// It must be called once.
func (s *Server) Serve(l Listeners) error {
	servers := []func() error{
		func() error { return s.grpc.Serve(limited(l.GRPC)) },
		func() error { return s.inner.Serve(s.pipe) },
		func() error { return s.serveHTTP(limited(l.HTTP)) },
	}
	if l.JSONRPC != nil {
		servers = append(servers, func() error { return s.serveHTTP(limited(l.JSONRPC)) })
	}
	failed := make(chan error, len(servers))
	for _, serve := range servers {
		go func() { failed <- serve() }()
	}
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.watchReadiness()
	}()
	var first error
	for range servers {
		err := <-failed
		if s.stopping.Err() == nil {
			first = fmt.Errorf("api: a listener failed: %w", err)
			s.Stop(canceled())
		}
	}
	<-watching
	<-s.stopped
	return first
}

func (s *Server) serveHTTP(l net.Listener) error {
	if s.cfg.TLS != nil {
		return s.http.ServeTLS(l, "", "")
	}
	return s.http.Serve(l)
}

// Stop ends serving: no new calls, streams are ended, and calls under way have
// until ctx ends to finish. It returns when all is over.
func (s *Server) Stop(ctx context.Context) {
	s.stopOnce.Do(func() {
		defer close(s.stopped)
		s.health.Shutdown()
		s.stop(errStopping)
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close()
		}
		// The gateway's calls are over; what is left in there is cut.
		stopGRPC(ctx, s.inner)
		stopGRPC(ctx, s.grpc)
		s.forward.close()
		_ = s.pipe.Close()
	})
	<-s.stopped
}

// pipeDial is the gateway's way to the inner server.
func (s *Server) pipeDial(ctx context.Context, _ string) (net.Conn, error) {
	return s.pipe.DialContext(ctx)
}

// stopGRPC waits for calls to end, for as long as ctx allows.
func stopGRPC(ctx context.Context, server *grpc.Server) {
	graceful := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		server.Stop()
		<-graceful
	}
}

// canceled is a context that allows no time.
func canceled() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	cancel()
	return ctx
}

// lastLeader is the id of the leader that was known last, "" for none.
func (s *Server) lastLeader() string {
	if id := s.leader.Load(); id != nil {
		return *id
	}
	return ""
}
