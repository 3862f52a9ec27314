package branchcall

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/coordinator"
)

// invoke makes one call over gRPC: the payload is the message, byte by byte,
// whatever its type.
func (c *Caller) invoke(ctx context.Context, t target, d coordinator.Delivery) (coordinator.Answered, error) {
	if t.method == "" {
		return coordinator.Answered{}, fmt.Errorf("%w: %s names no method: give %s://host:port/package.Service/Method", ErrNotAllowed, d.Endpoint, t.scheme)
	}
	body, read := payloadOf(d), codeMeaning
	if dialect := dialectOf(d); dialect != nil {
		body, read = dialect.grpcBody(d), meaningDTMCode
	}
	conn, err := c.connection(t)
	if err != nil {
		return coordinator.Answered{}, err
	}
	defer conn.release()
	var answer []byte
	err = conn.conn.Invoke(outgoing(ctx, d, c.clusterID()), t.method, &body, &answer, raw...)
	st := status.Convert(err)
	said := read(st)
	if said == done {
		return answeredCall(d, done, "", "") // of which nobody reads more
	}
	return answeredCall(d, said, fmt.Sprintf("%s → %s", d.Endpoint, st.Code()), st.Message())
}

// raw are the options of such a call.
var raw = []grpc.CallOption{grpc.ForceCodecV2(rawCodec{})}

// codeMeaning is gRPC's column of the table.
func codeMeaning(st *status.Status) meaning {
	switch {
	case st.Code() == codes.OK:
		return done
	case st.Code() == codes.Aborted:
		return refused
	case st.Code() == codes.Unavailable && infoOf(st).GetReason() == reasonOngoing:
		return working
	default:
		return again
	}
}

// rawCodec passes messages as the bytes they are.
type rawCodec struct{}

// Name is protobuf's: to the server it is an ordinary call.
func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
