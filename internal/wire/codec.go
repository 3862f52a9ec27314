package wire

import (
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Codec is protobuf's codec, on the wire: the messages that every transaction is made of
// are written and read without reflection, the others, and whatever is unusual about those,
// as gRPC does.
type Codec struct{}

var (
	_ encoding.CodecV2 = Codec{}

	protobuf = encoding.GetCodecV2(grpcproto.Name)
)

// Name is protobuf's: the bytes are its own.
func (Codec) Name() string { return grpcproto.Name }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(quoratev1.WireMessage)
	if !ok {
		return protobuf.Marshal(v)
	}
	size := m.WireSize()
	if mem.IsBelowBufferPoolingThreshold(size) {
		one := &single{SliceBuffer: make([]byte, size)}
		if !m.WireWrite(one.SliceBuffer) {
			return protobuf.Marshal(v)
		}
		one.slice[0] = one
		return one.slice[:], nil
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(size)
	if !m.WireWrite((*buffer)[:size]) {
		pool.Put(buffer)
		return protobuf.Marshal(v)
	}
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}

// single is a slice of one buffer, and that buffer.
type single struct {
	mem.SliceBuffer
	slice [1]mem.Buffer
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(quoratev1.WireMessage)
	if !ok {
		return protobuf.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	if m.WireRead(buffer.ReadOnlyData()) {
		return nil
	}
	return proto.Unmarshal(buffer.ReadOnlyData(), m)
}

// Size is how many bytes a message takes.
func Size(m proto.Message) int {
	if w, ok := m.(quoratev1.WireMessage); ok {
		return w.WireSize()
	}
	return proto.Size(m)
}
