package participant

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// UnaryClientInterceptor carries the context's transaction to the callee, as the
// next child of the call path, and takes from its trailer what became of it there.
func UnaryClientInterceptor() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		c, err := startCall(ctx)
		if err != nil {
			return err
		}
		if c == nil {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		var md metadata.MD
		err = invoker(withMetadata(ctx, c), method, req, reply, cc, append(opts, grpc.Trailer(&md))...)
		c.ended(trailerFrom(md))
		return err
	}
}

// StreamClientInterceptor is UnaryClientInterceptor for streams. The call ends
// when the stream has been read to its end.
func StreamClientInterceptor() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		c, err := startCall(ctx)
		if err != nil {
			return nil, err
		}
		if c == nil {
			return streamer(ctx, desc, cc, method, opts...)
		}
		st, err := streamer(withMetadata(ctx, c), desc, cc, method, opts...)
		if err != nil {
			c.ended(trailer{})
			return nil, err
		}
		return &clientStream{ClientStream: st, call: c, many: desc.ServerStreams}, nil
	}
}

// clientStream notices its end, which is when the trailer is there.
type clientStream struct {
	grpc.ClientStream
	call *outCall
	many bool // the server streams
	once sync.Once
}

func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil || !s.many { // io.EOF too
		s.once.Do(func() { s.call.ended(trailerFrom(s.Trailer())) })
	}
	return err
}

// UnaryServerInterceptor gives handlers a context that carries the caller's
// transaction, and tells the caller, in the trailer, what became of it here.
func UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, s, err := enterGRPC(ctx)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return handler(ctx, req)
		}
		resp, err := handler(ctx, req)
		_ = grpc.SetTrailer(ctx, trailerMetadata(s.answer()))
		return resp, err
	}
}

// StreamServerInterceptor is UnaryServerInterceptor for streams.
func StreamServerInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, s, err := enterGRPC(ss.Context())
		if err != nil {
			return err
		}
		if s == nil {
			return handler(srv, ss)
		}
		err = handler(srv, &serverStream{ServerStream: ss, ctx: ctx})
		ss.SetTrailer(trailerMetadata(s.answer()))
		return err
	}
}

// serverStream is a stream with another context.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }

func enterGRPC(ctx context.Context) (context.Context, *scope, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	ctx, s, err := enter(ctx, func(name string) string { return first(md, name) })
	if err != nil {
		return ctx, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return ctx, s, nil
}

// withMetadata adds the call's headers, and replaces those that a caller further
// out may have left in the context.
func withMetadata(ctx context.Context, c *outCall) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	for name, value := range c.headers() {
		md.Set(name, value)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

func trailerFrom(md metadata.MD) trailer {
	return readTrailer(func(name string) string { return first(md, name) })
}

func trailerMetadata(t trailer) metadata.MD {
	md := make(metadata.MD, 3)
	t.each(md.Set)
	return md
}

func first(md metadata.MD, name string) string {
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}
