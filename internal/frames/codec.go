package frames

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/wire"
)

// submitBytesLargest is what a node takes in one message, less what stands around it.
const submitBytesLargest = 1<<20 - 2*frameOverhead

// submitsField is the field SubmitStreamRequest.submits.
const submitsField = 1

// encode makes the bytes of one submit as they stand in its message. Each caller encodes
// its own: so one that cannot be encoded, for a text that is not UTF-8, breaks nobody
// else's, and the sender has nothing to do but to send.
func encode(id uint64, req *quoratev1.SubmitRequest) ([]byte, error) {
	one := &quoratev1.StreamedSubmit{Id: id, Submit: req}
	size := one.WireSize()
	if size > submitBytesLargest {
		// The node would end the stream, with everybody's submits.
		return nil, status.Errorf(codes.InvalidArgument, "the submit is of %d bytes: at most %d are taken", size, submitBytesLargest)
	}
	bytes := make([]byte, 0, size+2*frameOverhead)
	bytes = protowire.AppendTag(bytes, submitsField, protowire.BytesType)
	bytes = protowire.AppendVarint(bytes, uint64(size))
	if start := len(bytes); one.WireWrite(bytes[start : start+size]) {
		return bytes[:start+size], nil
	}
	bytes, err := proto.MarshalOptions{}.MarshalAppend(bytes, one)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "the submit cannot be encoded: %v", err)
	}
	return bytes, nil
}

// encoded is a SubmitStreamRequest of submits that are encoded.
type encoded [][]byte

// submitCodec sends encoded messages as they are.
type submitCodec struct{ wire.Codec }

func (c submitCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(encoded)
	if !ok {
		return c.Codec.Marshal(v)
	}
	pieces := make(mem.BufferSlice, len(message))
	for i, one := range message {
		pieces[i] = mem.SliceBuffer(one)
	}
	return pieces, nil
}
