package fsm

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/quorate/quorate/fsm/logpb"
)

// fill sets every field of a message, and every field below, to something that
// is not its default; each value is another one.
func fill(m protoreflect.Message, n *uint64) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.IsList() {
			list := m.Mutable(f).List()
			for range 3 {
				if f.Message() != nil {
					fill(list.AppendMutable().Message(), n)
				} else {
					list.Append(value(f, n))
				}
			}
			continue
		}
		if f.Message() != nil {
			fill(m.Mutable(f).Message(), n)
			continue
		}
		m.Set(f, value(f, n))
	}
}

func value(f protoreflect.FieldDescriptor, n *uint64) protoreflect.Value {
	*n += 97 // above 127 soon, so that lengths and numbers take two bytes
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(1 + *n%2))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(*n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(*n)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(bytes.Repeat([]byte{byte(*n)}, 16))
	default:
		return protoreflect.ValueOfString(string(bytes.Repeat([]byte{'a' + byte(*n%26)}, int(*n%60)+1)))
	}
}

// Every field of a record, and of what it is made of, goes through parse,
// message and bytes: one that is added to the proto and forgotten here fails.
func TestRecordKeepsEveryField(t *testing.T) {
	n := uint64(0)
	want := new(logpb.Transaction)
	fill(want.ProtoReflect(), &n)
	encoded, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	record, err := parseTransaction(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if got := record.proto(); !proto.Equal(got, want) {
		t.Errorf("message:\n%v\nwant\n%v", got, want)
	}
	ours := appendTransaction(nil, record)
	got := new(logpb.Transaction)
	if err := proto.Unmarshal(ours, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("bytes:\n%v\nwant\n%v", got, want)
	}
	if !bytes.Equal(ours, encoded) {
		t.Error("our bytes are not those of the library's present version")
	}
	if filedMSOf(ours) != want.GetFiledMs() {
		t.Errorf("filed_ms %d, want %d", filedMSOf(ours), want.GetFiledMs())
	}
	// What is empty takes no room.
	if b := appendTransaction(nil, &transaction{begin: &logpb.Begin{}}); len(b) != 2 {
		t.Errorf("an empty record is of %d bytes", len(b))
	}
}

func TestLimitsAndNodesAreHashedWhole(t *testing.T) {
	n := uint64(0)
	limits, node := new(logpb.Limits), new(logpb.Node)
	fill(limits.ProtoReflect(), &n)
	fill(node.ProtoReflect(), &n)
	gotLimits, gotNode := new(logpb.Limits), new(logpb.Node)
	if err := proto.Unmarshal(appendLimits(nil, limits), gotLimits); err != nil || !proto.Equal(limits, gotLimits) {
		t.Errorf("%v %v", gotLimits, err)
	}
	if err := proto.Unmarshal(appendNode(nil, node, true), gotNode); err != nil || !proto.Equal(node, gotNode) {
		t.Errorf("%v %v", gotNode, err)
	}
}

func TestFiledMSOfGarbage(t *testing.T) {
	for _, b := range [][]byte{nil, {0xFF}, {0x98, 0x01}, {0x98, 0x01, 0xFF}, {0x08}, {0x08, 5}} {
		if got := filedMSOf(b); got != 0 {
			t.Errorf("%x: %d", b, got)
		}
	}
	if _, err := parseTransaction(appendMessage(nil, 14, func(d []byte) []byte { return d })); err == nil {
		t.Error("a record without a GID was read")
	}
	cut := append(appendTransaction(nil, &transaction{begin: &logpb.Begin{Gid: testCluster.Bytes()}}), 0x08)
	if _, err := parseTransaction(cut); err == nil {
		t.Error("a record that is cut was read")
	}
	withBranch := appendMessage(nil, 1, func(d []byte) []byte { return appendText(d, 1, string(testCluster[:])) })
	withBranch = appendMessage(withBranch, 14, func(d []byte) []byte { return d })
	if r, err := parseTransaction(withBranch); err != nil || r.branches[0].spec == nil {
		t.Errorf("a branch without a spec: %v", err)
	}
}

// "No protobuf maps in the log": a map has no order. And numbers are never
// reused: a field that goes must leave its number reserved.
func TestLogFormatHasNoMapsAndNoHoles(t *testing.T) {
	messages := logpb.File_log_proto.Messages()
	if messages.Len() < 20 {
		t.Fatalf("%d messages", messages.Len())
	}
	for i := range messages.Len() {
		m := messages.Get(i)
		for n := range m.Fields().Len() {
			if f := m.Fields().Get(n); f.IsMap() {
				t.Errorf("%s is a map", f.FullName())
			}
		}
		for n := protoreflect.FieldNumber(1); int(n) <= m.Fields().Len(); n++ {
			if m.Fields().ByNumber(n) == nil && !m.ReservedRanges().Has(n) {
				t.Errorf("%s: number %d is neither used nor reserved", m.FullName(), n)
			}
		}
	}
}

// What is copied by hand without a part is copied whole but for it.
func TestCopiesKeepEveryField(t *testing.T) {
	n := uint64(0)
	spec, begin := new(logpb.BranchSpec), new(logpb.Begin)
	fill(spec.ProtoReflect(), &n)
	fill(begin.ProtoReflect(), &n)

	lean := withoutPayload(spec)
	lean.Payload = spec.GetPayload()
	if !proto.Equal(lean, spec) {
		t.Errorf("a branch without its payload:\n%v\nof\n%v", lean, spec)
	}
	if plan := copyPlan(begin.GetPlan()); !proto.Equal(plan, begin.GetPlan()) {
		t.Errorf("a plan:\n%v\nof\n%v", plan, begin.GetPlan())
	}
	alone := withPlan(begin, begin.GetPlan())
	if len(alone.GetBranches()) != 0 {
		t.Error("its branches stay")
	}
	alone.Branches = begin.GetBranches()
	if !proto.Equal(alone, begin) {
		t.Errorf("a begin:\n%v\nof\n%v", alone, begin)
	}
}

// A topic is hashed, and kept in a snapshot, whole.
func TestTopicsAreHashedWhole(t *testing.T) {
	n := uint64(0)
	topic, got := new(logpb.Topic), new(logpb.Topic)
	fill(topic.ProtoReflect(), &n)
	if err := proto.Unmarshal(appendTopic(nil, topic), got); err != nil || !proto.Equal(topic, got) {
		t.Errorf("%v %v", got, err)
	}
}
