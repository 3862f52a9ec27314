package handlers

import (
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that ours falls back on
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/participant/fence"
)

// Methods serves calls over gRPC by functions that take the raw message. Services of
// generated code stay as they are; see [fence.UnaryServerInterceptor] for those.
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
	ctx := stream.Context()
	method, _ := grpc.MethodFromServerStream(stream)
	f, ok := m.funcs[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "handlers: no method %s here", method)
	}
	call, err := fence.FromGRPC(ctx)
	if err == nil && call == (fence.Call{}) {
		err = fmt.Errorf("handlers: %w: no quorate-operation", fence.ErrCall)
	}
	if err != nil {
		return fence.GRPCError(ctx, err)
	}
	ctx = fence.NewContext(ctx, call)
	var in Raw
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	said, err := f(ctx, in)
	if err != nil {
		return fence.GRPCError(ctx, ownWord(err))
	}
	out := Raw(said)
	return stream.SendMsg(&out)
}

// ownWord hides the status of a service that the Func had called: that one's ABORTED is no
// refusal of this branch.
func ownWord(err error) error {
	if _, isStatus := status.FromError(err); isStatus && fence.HTTPStatus(err) == http.StatusInternalServerError {
		return errors.New(err.Error())
	}
	return err
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
