package api

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/wire"
)

// newGRPC returns a server with every service registered. The outer one has
// the listener's TLS and limits; the inner one is reached by the gateway only.
// No decompressor is registered: compressed messages are refused as
// UNIMPLEMENTED, so that a small message never becomes a large one.
func (s *Server) newGRPC(outer bool) *grpc.Server {
	options := append(wire.ServerOptions(),
		grpc.MaxRecvMsgSize(MessageBytesMax),
		grpc.MaxHeaderListSize(HeaderListBytesMax),
		grpc.WaitForHandlers(true), // what handlers use is closed after Stop
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		// Runs behind the interceptor, which finds no policy and says so.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return &Error{Reason: ReasonUnimplemented} }),
	)
	if outer {
		options = append(options,
			grpc.MaxConcurrentStreams(StreamsPerConnectionMax),
			grpc.ConnectionTimeout(HandshakeTimeout),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: KeepaliveInterval, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: HandshakeTimeout}),
		)
		if s.cfg.TLS != nil {
			options = append(options, grpc.Creds(credentials.NewTLS(withProtocols(s.cfg.TLS, "h2"))))
		}
	} else {
		// One connection carries every HTTP call; they are few, for workers to stand ready.
		options = append(options, grpc.MaxConcurrentStreams(ConnectionsMax), grpc.NumStreamWorkers(0))
	}
	server := grpc.NewServer(options...)
	quoratev1.RegisterTransactionServiceServer(server, &transactions{Server: s})
	quoratev1.RegisterParticipantServiceServer(server, &participants{Server: s})
	quoratev1.RegisterClusterServiceServer(server, &administration{Server: s})
	if outer {
		s.dtm.Register(server)
		healthpb.RegisterHealthServer(server, s.health)
		reflection.Register(server)
	}
	return server
}

// unary stands before every unary handler: policy, time limit, panics, errors.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	rule, ok := policies[info.FullMethod]
	if !ok || rule.access == denied {
		return nil, Errorf(ReasonUnimplemented, "method %s is not served", info.FullMethod)
	}
	defer func() {
		if cause := recover(); cause != nil {
			answer, err = nil, s.panicked(info.FullMethod, cause)
		}
		err = s.answered(ctx, info.FullMethod, rule.effect, err)
	}()
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
	}
	return handler(ctx, req)
}

// stream stands before every streaming handler.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	rule, ok := policies[info.FullMethod]
	if !ok || rule.access == denied {
		return Errorf(ReasonUnimplemented, "method %s is not served", info.FullMethod)
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = s.panicked(info.FullMethod, cause)
		}
		if s.stopping.Err() != nil && err != nil {
			err = &Error{Reason: ReasonNoLeader, Message: "this node is stopping", Next: "go on at another node"}
		}
		err = s.answered(stream.Context(), info.FullMethod, rule.effect, err)
	}()
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.stopping, func() { cancel(errStopping) })()
	return handler(srv, &boundStream{ServerStream: stream, ctx: ctx})
}

// boundStream ends with the server, too.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (b *boundStream) Context() context.Context { return b.ctx }

func (s *Server) panicked(method string, cause any) error {
	s.cfg.Logger.Error("a handler panicked", "method", method, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return fmt.Errorf("the handler of %s panicked", method)
}

// answered makes err what goes over the wire, and counts it.
func (s *Server) answered(ctx context.Context, method string, did effect, err error) error {
	if err == nil {
		s.cfg.Metrics.answered(method, "")
		return nil
	}
	if st, ok := status.FromError(err); ok && st.Code() != codes.Unknown && ReasonOf(err) == "" && untouched(err) {
		// grpc-go's own answer, of health, of reflection, or a stream that the client ended.
		s.cfg.Metrics.answered(method, Reason(st.Code().String()))
		return err
	}
	return s.typed(ctx, method, did, err).GRPCStatus().Err()
}

// typed makes the error of a handler of ours what its caller is told, and counts it.
func (s *Server) typed(ctx context.Context, method string, did effect, err error) *Error {
	typed := translate(err, did)
	s.enrich(ctx, typed)
	s.cfg.Metrics.answered(method, typed.Reason)
	if typed.Reason == ReasonInternal {
		s.cfg.Logger.Error("a call failed", "method", method, "error", err)
	}
	return typed
}

// untouched tells of a status that no handler of ours made.
func untouched(err error) bool {
	_, is := err.(interface{ GRPCStatus() *status.Status })
	return is
}

// enrich adds what the error's own maker does not know.
func (s *Server) enrich(ctx context.Context, e *Error) {
	switch e.Reason {
	case ReasonExpired, ReasonInvalid:
		// The SDK makes its next GID from a fresh clock.
		e.add("clock_ms", fmt.Sprint(s.coordinator.Header().ClockMS))
	case ReasonAlreadyDecided:
		gid, err := fsm.ParseGID(e.Metadata["gid"])
		if err != nil {
			return
		}
		view, err := s.coordinator.Get(ctx, coordinator.GetRequest{Transaction: coordinator.ByGID(gid), Consistency: coordinator.Local})
		if err != nil {
			return
		}
		if wall := view.Transaction.GetDecided().GetWallMs(); wall != 0 {
			e.add("decided_at", time.UnixMilli(int64(wall)).UTC().Format(time.RFC3339Nano))
		}
	}
}
