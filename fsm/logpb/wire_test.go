package logpb_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// TestACommandIsWrittenAsProtobufWritesIt: the log is a file format.
func TestACommandIsWrittenAsProtobufWritesIt(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	kinds := map[any]bool{}
	refused := 0
	for round := range 1500 {
		c := &logpb.Command{}
		testkit.FillMessage(r, c, 4, round%4 == 0)
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		got := make([]byte, c.WireSize())
		if written := c.WireWrite(got); written != (err == nil) {
			t.Fatalf("written: %v, protobuf says: %v: %v", written, err, c)
		}
		if err != nil {
			refused++
			continue
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("wrote\n%x\nwant\n%x\nof %v", got, want, c)
		}
		if kind := c.ProtoReflect().WhichOneof(c.ProtoReflect().Descriptor().Oneofs().Get(0)); kind != nil {
			kinds[kind.Name()] = true
		}
	}
	if all := (&logpb.Command{}).ProtoReflect().Descriptor().Fields().Len(); len(kinds) != all || refused < 10 {
		t.Errorf("%d kinds of %d were written, %d refused", len(kinds), all, refused)
	}
}
