package wire

import (
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// TestCodecIsProtobufs, for a message that it writes itself, short and long, and for one
// that it does not know: the bytes are protobuf's, and are read from however many pieces.
func TestCodecIsProtobufs(t *testing.T) {
	for name, m := range map[string]proto.Message{
		"short":   &quoratev1.CommitRequest{Transaction: "key:1", Wait: quoratev1.Wait_WAIT_FINISH},
		"long":    &quoratev1.CommitRequest{Transaction: strings.Repeat("x", 10000)},
		"empty":   &quoratev1.CommitRequest{},
		"another": durationpb.New(5),
	} {
		written, err := Codec{}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := proto.Marshal(m)
		got := written.Materialize()
		if string(got) != string(want) || written.Len() != Size(m) {
			t.Errorf("%s: wrote %x, want %x", name, got, want)
		}
		if len(got) < 2 {
			continue
		}
		pieces := mem.BufferSlice{mem.SliceBuffer(got[:1]), mem.SliceBuffer(got[1:])}
		read := m.ProtoReflect().New().Interface()
		if err := (Codec{}).Unmarshal(pieces, read); err != nil || !proto.Equal(read, m) {
			t.Errorf("%s: read %v %v", name, read, err)
		}
		written.Free()
	}
}

// TestCodecAsksProtobufAboutTheUnusual: what it refuses is refused in its words, what it
// merges is merged, and what it does not know is kept.
func TestCodecAsksProtobufAboutTheUnusual(t *testing.T) {
	for _, size := range []int{1, 10000} {
		bad := &quoratev1.CommitRequest{Transaction: strings.Repeat("\xff", size)}
		_, want := proto.Marshal(bad)
		if _, err := (Codec{}).Marshal(bad); err == nil || err.Error() != want.Error() {
			t.Errorf("%v, want %v", err, want)
		}
	}
	read := &quoratev1.CommitRequest{Transaction: "of before"}
	if err := (Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x0a\x01\xff")}, read); err == nil {
		t.Errorf("read %v", read)
	}
	twice := &quoratev1.SubmitRequest{}
	if err := (Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x0a\x03\x0a\x01a\x0a\x03\x12\x01b")}, twice); err != nil ||
		twice.GetBegin().GetGid() != "a" || twice.GetBegin().GetKey() != "b" {
		t.Errorf("merged: %v %v", twice, err)
	}
	later := &quoratev1.CommitRequest{}
	if err := (Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xf8\x3f\x05")}, later); err != nil || len(later.ProtoReflect().GetUnknown()) != 3 {
		t.Errorf("of a later version: %v %v", later, err)
	}
	if _, err := (Codec{}).Marshal("no message"); err == nil {
		t.Error("a text was written")
	}
	if err := (Codec{}).Unmarshal(nil, "no message"); err == nil {
		t.Error("a text was read")
	}
}

// TestCodecAllocates no more than the bytes and what holds them.
func TestCodecAllocates(t *testing.T) {
	m := &quoratev1.CommitRequest{Transaction: "01KAHKFD10000000000000000A"}
	if n := testing.AllocsPerRun(100, func() { _, _ = Codec{}.Marshal(m) }); n > 2 {
		t.Errorf("written with %v allocations, want 2", n)
	}
}
