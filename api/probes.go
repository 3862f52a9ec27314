package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// readinessInterval is how often gRPC's health follows the node's readiness.
	readinessInterval = 100 * time.Millisecond
	// checkEvery is how many of those intervals pass between two runs of the
	// node's other checks, which may cost something.
	checkEvery = 5
	// checkTimeout bounds one check.
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
	var lines strings.Builder
	for _, check := range append(s.checks(), s.cfg.Checks...) {
		if err := check.run(req.Context()); err != nil {
			ready = false
			fmt.Fprintf(&lines, "[-] %s: %v\n", check.Name, err)
		} else {
			fmt.Fprintf(&lines, "[+] %s\n", check.Name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	verdict := "ready"
	if !ready {
		verdict = "not ready"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if req.URL.Query().Has("verbose") || !ready {
		_, _ = io.WriteString(w, lines.String())
	}
	_, _ = fmt.Fprintln(w, verdict)
}

// run runs a check within its time.
func (c Check) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.Run(ctx)
}

// checks are this package's own conditions. They cost nothing to run.
func (s *Server) checks() []Check {
	status := s.cluster.Brief()
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

// pass tells whether every check does.
func (s *Server) pass(checks []Check) bool {
	for _, check := range checks {
		if check.run(s.stopping) != nil {
			return false
		}
	}
	return true
}

// watchReadiness lets gRPC's health say whether this node is ready, until Stop.
func (s *Server) watchReadiness() {
	tick := time.NewTicker(readinessInterval)
	defer tick.Stop()
	var others bool
	for round := 0; ; round++ {
		if leader := s.cluster.Brief().LeaderID; leader != "" {
			s.leader.Store(&leader)
		}
		if round%checkEvery == 0 {
			others = s.pass(s.cfg.Checks)
		}
		now := healthpb.HealthCheckResponse_NOT_SERVING
		if s.pass(s.checks()) && others {
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
