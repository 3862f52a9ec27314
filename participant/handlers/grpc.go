package handlers

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that ours falls back on
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/participant"
)

// Methods serves calls over gRPC by functions that take the raw message. Services of
// generated code stay as they are; see [UnaryServerInterceptor] for those.
type Methods struct{ funcs map[string]Func }

// NewMethods has no method yet.
func NewMethods() *Methods { return &Methods{funcs: make(map[string]Func)} }

// Handle serves a method, such as `/shop.Stock/Take`. All must be named before the
// server starts.
func (m *Methods) Handle(method string, f Func) { m.funcs[method] = f }

// Options make a gRPC server serve the methods, beside the services registered with it.
func (m *Methods) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ForceServerCodecV2(Codec()), grpc.UnknownServiceHandler(m.serve)}
}

func (m *Methods) serve(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	f, ok := m.funcs[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "handlers: no method %s here", method)
	}
	call, err := parseMetadata(stream.Context())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	var in Raw
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	said, err := f(WithCall(stream.Context(), call), in)
	if err != nil {
		return Error(err)
	}
	out := Raw(said)
	return stream.SendMsg(&out)
}

// UnaryServerInterceptor gives the handlers of generated services the [Call] of a branch
// call in their context, and turns what they return into the answer. Other calls pass.
func UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		call, err := parseMetadata(ctx)
		if err != nil {
			return handler(ctx, req)
		}
		said, err := handler(WithCall(ctx, call), req)
		return said, Error(err)
	}
}

// Error is the gRPC status that tells the coordinator what an error means.
func Error(err error) error {
	switch {
	case errors.Is(err, participant.ErrOngoing):
		s, withErr := status.New(codes.Unavailable, err.Error()).WithDetails(&errdetails.ErrorInfo{Reason: "ONGOING", Domain: "quorate"})
		if withErr != nil {
			return withErr
		}
		return s.Err()
	case errors.Is(err, participant.ErrRefused):
		return status.Error(codes.Aborted, err.Error())
	}
	return err
}

func parseMetadata(ctx context.Context) (Call, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return Parse(func(name string) string {
		if v := md.Get(name); len(v) > 0 {
			return v[0]
		}
		return ""
	})
}

// Raw is a message that is sent and taken as it is, with [Codec].
type Raw []byte

// Codec takes *[Raw] as it is, and everything else as protobuf.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.(*Raw); ok {
		return mem.BufferSlice{mem.SliceBuffer(*raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if raw, ok := v.(*Raw); ok {
		*raw = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
