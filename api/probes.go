package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// readinessInterval is how often gRPC's health follows the node's readiness.
	readinessInterval = 100 * time.Millisecond
	// checkTimeout bounds one check of /readyz.
	checkTimeout = 2 * time.Second
)

// serveLive answers while the process can answer at all.
func (s *Server) serveLive(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, "ok")
}

// serveReady answers 200 when this node can serve calls, 503 otherwise;
// ?verbose lists what was looked at.
func (s *Server) serveReady(w http.ResponseWriter, req *http.Request) {
	ready := true
	var lines string
	for _, check := range append(s.checks(), s.cfg.Checks...) {
		ctx, cancel := context.WithTimeout(req.Context(), checkTimeout)
		err := check.Run(ctx)
		cancel()
		if err != nil {
			ready = false
			lines += fmt.Sprintf("[-] %s: %v\n", check.Name, err)
		} else {
			lines += fmt.Sprintf("[+] %s\n", check.Name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	verdict := "ready"
	if !ready {
		verdict = "not ready"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if req.URL.Query().Has("verbose") || !ready {
		_, _ = fmt.Fprint(w, lines)
	}
	_, _ = fmt.Fprintln(w, verdict)
}

// checks are this package's own conditions. They cost nothing to run.
func (s *Server) checks() []Check {
	status := s.cluster.Status()
	return []Check{
		{"not stopping", func(context.Context) error {
			if s.stopping.Err() != nil {
				return errStopping
			}
			return nil
		}},
		{"a leader is known", func(context.Context) error {
			if status.LeaderID == "" {
				return errors.New("none is; see: quorate cluster status")
			}
			return nil
		}},
		{"the log is applied", func(context.Context) error {
			if lag := status.lag(); lag > s.cfg.ReadyLagMax {
				return fmt.Errorf("%d entries are committed and not applied yet; up to %d are fine", lag, s.cfg.ReadyLagMax)
			}
			return nil
		}},
	}
}

// ready tells whether every own condition holds.
func (s *Server) ready() bool {
	for _, check := range s.checks() {
		if check.Run(s.stopping) != nil {
			return false
		}
	}
	return true
}

// watchReadiness lets gRPC's health say whether this node is ready, until Stop.
func (s *Server) watchReadiness() {
	tick := time.NewTicker(readinessInterval)
	defer tick.Stop()
	for {
		if leader := s.cluster.Status().LeaderID; leader != "" {
			s.leader.Store(&leader)
		}
		now := healthpb.HealthCheckResponse_NOT_SERVING
		if s.ready() {
			now = healthpb.HealthCheckResponse_SERVING
		}
		s.health.SetServingStatus("", now)
		select {
		case <-tick.C:
		case <-s.stopping.Done():
			return
		}
	}
}
