package bench

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/quorate/quorate/internal/callheader"
	"github.com/quorate/quorate/internal/wire"
)

// The methods of the branches.
const (
	branchService   = "quorate.bench.v1.Branch"
	methodDo        = "Do"
	methodUndo      = "Undo"
	methodCheckBack = "CheckBack"
)

// branches serves the calls to branches, in this process: each is done at once.
type branches struct {
	address string
	server  *grpc.Server
	conn    *grpc.ClientConn // for the tries, which an initiator makes itself
	gate    *gate            // before the answers to a coordinator
	// calls counts those that were answered, of each method.
	done, undone, asked atomic.Int64
}

// serveBranches counts what it is sent, where seen is not nil.
func serveBranches(g *gate, seen *wireCount) (*branches, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	options := append(wire.ServerOptions(), grpc.ForceServerCodecV2(rawCodec{}))
	if seen != nil {
		options = append(options, grpc.StatsHandler(seen))
	}
	b := &branches{address: l.Addr().String(), server: grpc.NewServer(options...), gate: g}
	b.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: branchService, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: methodDo, Handler: b.handler(&b.done)},
			{MethodName: methodUndo, Handler: b.handler(&b.undone)},
			{MethodName: methodCheckBack, Handler: b.handler(&b.asked)},
		},
	}, b)
	if b.conn, err = grpc.NewClient(b.address, append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	go func() { _ = b.server.Serve(l) }() // ends with close
	return b, nil
}

func (b *branches) close() {
	_ = b.conn.Close()
	b.server.Stop()
}

// endpoint names a method as a branch's endpoint.
func (b *branches) endpoint(method string) string {
	return "grpc://" + b.address + "/" + branchService + "/" + method
}

// handler counts a call, and has done what it asks.
func (b *branches) handler(count *atomic.Int64) grpc.MethodHandler {
	return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var body []byte
		if err := decode(&body); err != nil {
			return nil, err
		}
		if opened := b.gate.wait(); opened != nil && byCoordinator(ctx) {
			select {
			case <-opened:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		count.Add(1)
		return &[]byte{}, nil
	}
}

// byCoordinator says that no initiator called.
func byCoordinator(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return len(md.Get(callheader.GID)) > 0
}

// try calls a branch as an initiator does.
func (b *branches) try(ctx context.Context, payload []byte) error {
	var answer []byte
	return b.conn.Invoke(ctx, "/"+branchService+"/"+methodDo, &payload, &answer, grpc.ForceCodecV2(rawCodec{}))
}

// rawCodec passes messages as the bytes they are.
type rawCodec struct{}

// Name is protobuf's: to the other side it is an ordinary call.
func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
