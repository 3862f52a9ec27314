package quoratev1_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
)

// wireMessages are those at the top, and through them all that have the methods.
func wireMessages() []quoratev1.WireMessage {
	return []quoratev1.WireMessage{
		&quoratev1.SubmitRequest{}, &quoratev1.SubmitResponse{}, &quoratev1.SubmitStreamRequest{}, &quoratev1.SubmitStreamResponse{},
		&quoratev1.SessionRequest{}, &quoratev1.SessionResponse{}, &quoratev1.BeginRequest{}, &quoratev1.BeginResponse{},
		&quoratev1.EnlistRequest{}, &quoratev1.EnlistResponse{}, &quoratev1.VoteRequest{}, &quoratev1.VoteResponse{},
		&quoratev1.CommitRequest{}, &quoratev1.CommitResponse{}, &quoratev1.GetRequest{},
	}
}

// fresh is another message of the same kind.
func fresh(m quoratev1.WireMessage) quoratev1.WireMessage {
	return m.ProtoReflect().New().Interface().(quoratev1.WireMessage)
}

// TestWireWritesAndReadsWhatProtobufDoes: filled at random, a message takes the same size,
// becomes the same bytes (but for the order of maps), and is read again as it was. What is
// left to protobuf is what protobuf refuses, and what has unknown fields.
func TestWireWritesAndReadsWhatProtobufDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	written, left := 0, 0
	for round := range 120 {
		for _, m := range wireMessages() {
			testkit.FillMessage(r, m, 5, round%4 == 0)
			if got, want := m.WireSize(), proto.Size(m); got != want {
				t.Fatalf("the size is %d, want %d: %v", got, want, m)
			}
			want, refused := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			bytes := make([]byte, m.WireSize())
			if done := m.WireWrite(bytes); done != (refused == nil) {
				t.Fatalf("written: %v, protobuf says: %v: %v", done, refused, m)
			}
			if refused != nil {
				left++
				continue
			}
			written++
			same(t, m, bytes, want)
		}
	}
	if left < 30 || written < 500 {
		t.Errorf("only %d messages were written, and %d refused", written, left)
	}
}

// same holds that both encodings are read as m, by both.
func same(t *testing.T, m quoratev1.WireMessage, ours, theirs []byte) {
	t.Helper()
	for _, encoded := range [][]byte{ours, theirs} {
		byProtobuf, byWire := fresh(m), fresh(m)
		if err := proto.Unmarshal(encoded, byProtobuf); err != nil || !proto.Equal(byProtobuf, m) {
			t.Fatalf("protobuf reads (%v)\n%v\nof\n%v", err, byProtobuf, m)
		}
		if !byWire.WireRead(encoded) {
			if !bytes.Contains(encoded, protowire.AppendTag(nil, 1000, protowire.VarintType)) {
				t.Fatalf("not read: %v", m)
			}
			continue
		}
		if !proto.Equal(byWire, m) {
			t.Fatalf("read\n%v\nwant\n%v", byWire, m)
		}
		clear(encoded)
		if !proto.Equal(byWire, m) {
			t.Fatalf("what was read lies in the bytes that it was read from: %v", byWire)
		}
	}
	if deterministic := (proto.MarshalOptions{Deterministic: true}); !maps(m.ProtoReflect()) {
		want, _ := deterministic.Marshal(m)
		again := make([]byte, m.WireSize())
		if !m.WireWrite(again) || !bytes.Equal(again, want) {
			t.Fatalf("wrote\n%x\nwant\n%x", again, want)
		}
	}
}

// maps says that a message has a map of more than one entry somewhere.
func maps(m protoreflect.Message) (found bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			found = v.Map().Len() > 1
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				found = found || maps(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			found = maps(v.Message())
		}
		return !found
	})
	return found
}

// TestWireLeavesTheUnusualToProtobuf.
func TestWireLeavesTheUnusualToProtobuf(t *testing.T) {
	field := func(number protowire.Number, bytes ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), bytes)
	}
	deep := []byte{}
	for range 20000 {
		deep = field(10, field(1, deep...)...)
		if len(deep) > 100<<10 {
			break
		}
	}
	for name, c := range map[string]struct {
		m     quoratev1.WireMessage
		bytes []byte
	}{
		"a message that comes twice is merged": {&quoratev1.SubmitRequest{}, append(field(1, field(1, 'a')...), field(1, field(2, 'b')...)...)},
		"one of several that comes twice":      {&quoratev1.SessionRequest{}, append(field(3), field(4)...)},
		"an unknown field":                     {&quoratev1.CommitRequest{}, field(900, 'x')},
		"a text that is no UTF-8":              {&quoratev1.CommitRequest{}, field(1, 0xff)},
		"a batch in a batch in a batch":        {&quoratev1.SessionRequest{}, deep},
		"a length beyond the end":              {&quoratev1.CommitRequest{}, []byte{0x0a, 5, 'x'}},
		"a length beyond any end":              {&quoratev1.CommitRequest{}, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
		"a number without an end":              {&quoratev1.SessionRequest{}, []byte{8, 0xff}},
		"a number of more than 64 bits":        {&quoratev1.SessionRequest{}, []byte{8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}},
		"a field of another kind":              {&quoratev1.CommitRequest{}, []byte{8, 1}},
	} {
		if c.m.WireRead(c.bytes) {
			t.Errorf("%s: read as %v", name, c.m)
		}
	}
	if (&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{}}).WireWrite(make([]byte, 2)) {
		t.Error("one of several without its message was written")
	}
}

// FuzzWireReads holds that whatever is read is what protobuf reads.
func FuzzWireReads(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		for i, m := range wireMessages() {
			testkit.FillMessage(r, m, 4, false)
			encoded, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(i, encoded)
		}
	}
	f.Fuzz(func(t *testing.T, kind int, encoded []byte) {
		all := wireMessages()
		byWire := all[int(uint(kind)%uint(len(all)))]
		if !byWire.WireRead(encoded) {
			return
		}
		byProtobuf := fresh(byWire)
		if err := proto.Unmarshal(encoded, byProtobuf); err != nil || !proto.Equal(byWire, byProtobuf) {
			t.Fatalf("read\n%v\nprotobuf (%v)\n%v", byWire, err, byProtobuf)
		}
		if byWire.WireSize() != proto.Size(byProtobuf) || !byWire.WireWrite(make([]byte, byWire.WireSize())) {
			t.Fatalf("size %d, want %d, or not written: %v", byWire.WireSize(), proto.Size(byProtobuf), byWire)
		}
	})
}

// decide is what `quorate bench decide` submits.
func decide() *quoratev1.SubmitRequest {
	label := strings.Repeat("0123456789abcdef", 16)
	req := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Gid: "01KAHKFD10000000000000000A", Labels: map[string]string{"a": label, "b": label}}}
	for _, id := range []string{"1", "2"} {
		spec := &quoratev1.BranchSpec{Id: id, Resource: "bench-abcdefghij-a"}
		req.Set = append(req.Set, spec)
		req.Votes = append(req.Votes, &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED})
	}
	req.Begin.Timeout = durationpb.New(30e9)
	return req
}

func BenchmarkWire(b *testing.B) {
	m := decide()
	encoded, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !new(quoratev1.SubmitRequest).WireRead(encoded) {
				b.Fatal("not read")
			}
		}
	})
	b.Run("read-protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if proto.Unmarshal(encoded, new(quoratev1.SubmitRequest)) != nil {
				b.Fatal("not read")
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !m.WireWrite(make([]byte, m.WireSize())) {
				b.Fatal("not written")
			}
		}
	})
	b.Run("write-protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proto.Marshal(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
