package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// filledCommands is one command of each kind, with every field filled.
func filledCommands() (list []*logpb.Command) {
	kinds := new(logpb.Command).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	n := uint64(0)
	for i := range kinds.Len() {
		c := new(logpb.Command)
		fill(c.ProtoReflect().Mutable(kinds.Get(i)).Message(), &n)
		list = append(list, c)
	}
	return list
}

// byHand are the kinds that are read without the library.
var byHand = []string{
	"*logpb.Command_Begin", "*logpb.Command_Enlist", "*logpb.Command_Vote", "*logpb.Command_Decide", "*logpb.Command_Submit",
	"*logpb.Command_Report", "*logpb.Command_Reports", "*logpb.Command_Answer", "*logpb.Command_Answers", "*logpb.Command_Tick",
}

// What common commands hold is read by hand, field for field as the library does:
// a field that is added to the proto and forgotten here costs time, and fails this.
func TestCommonCommandsAreReadByHand(t *testing.T) {
	read := 0
	for _, c := range filledCommands() {
		switch k := c.GetKind().(type) { // what is rare in common commands
		case *logpb.Command_Begin:
			k.Begin.Branches = nil
		case *logpb.Command_Submit:
			k.Submit.Begin.Branches = nil
		case *logpb.Command_Decide:
			k.Decide.Branches, k.Decide.Operator, k.Decide.Result = nil, "", nil
		}
		got := new(logpb.Command)
		d := decoder{left: 1}
		if ok := d.command(MarshalCommand(c), got); ok != slices.Contains(byHand, fmt.Sprintf("%T", c.GetKind())) {
			t.Errorf("%T: read by hand is %v", c.GetKind(), ok)
		} else if ok {
			read++
			if !proto.Equal(got, c) {
				t.Errorf("read as\n%v\nwritten as\n%v", got, c)
			}
		}
	}
	if read != len(byHand) {
		t.Errorf("%d kinds of %d", read, len(byHand))
	}
}

// A ballot whose branch is written as the set's is the set's.
func TestBallotsShareTheSetsBranches(t *testing.T) {
	g := testGID(testStartMS, 1)
	c := submit(namedBegin(g), specs("1", "2", "3"), ballot(spec("1"), votePrepared), ballot(other(spec("2")), votePrepared), ballot(spec("3"), voteReadOnly))
	b, err := decodeBatch(EncodeEntry(nil, &logpb.Batch{Commands: []*logpb.Command{c}})[EntryOverheadBytes:])
	if err != nil {
		t.Fatal(err)
	}
	got := b.GetCommands()[0].GetSubmit()
	for i, shared := range []bool{true, false, true} {
		if (got.GetVotes()[i].GetBranch() == got.GetSet()[i]) != shared {
			t.Errorf("branch %d: shared is %v", i+1, !shared)
		}
	}
	if !proto.Equal(got, c.GetSubmit()) {
		t.Errorf("%v", got)
	}
}

// What is out of the ordinary is the library's: it is read, merged or refused by
// its rules.
func TestOddEntriesAreLeftToTheLibrary(t *testing.T) {
	g := testGID(testStartMS, 1)
	whole := func(c *logpb.Command) []byte { return MarshalCommand(c) }
	field := func(n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), v)
	}
	begin, _ := proto.Marshal(explicitBegin(g))
	label, _ := proto.Marshal(&logpb.Begin{Labels: []*logpb.Label{{Name: "a"}}})
	for name, command := range map[string][]byte{
		"nothing":                 nil,
		"two kinds":               slices.Concat(whole(explicit(g)), whole(tick())),
		"one kind twice":          slices.Concat(whole(explicit(g)), whole(named(g))),
		"a begin twice in one":    field(5, slices.Concat(field(1, begin), field(1, label))),
		"an unknown field":        field(1, append(slices.Clone(begin), field(99, []byte("x"))...)),
		"a kind of a later time":  field(99, []byte("x")),
		"a varint for a text":     field(1, protowire.AppendVarint(protowire.AppendTag(slices.Clone(begin), 2, protowire.VarintType), 7)),
		"a gid of three bytes":    field(1, field(1, []byte("abc"))),
		"a text that is no UTF-8": field(1, append(slices.Clone(begin), field(2, []byte{0xFF})...)),
		"cut":                     field(1, append(slices.Clone(begin), 0x12, 0x50)),
		"a group":                 field(1, append(slices.Clone(begin), 0x13, 0x14)),
	} {
		d := decoder{left: 1}
		if d.command(command, new(logpb.Command)) {
			t.Errorf("%s: read by hand", name)
		}
		body := field(4, command)
		want := new(logpb.Batch)
		refused := proto.Unmarshal(body, want)
		got, err := decodeBatch(body)
		if (err == nil) != (refused == nil) || err == nil && !proto.Equal(got, want) {
			t.Errorf("%s: %v %v, the library says %v %v", name, got, err, want, refused)
		}
	}
}

// Wherever a message ends too early, what is read by hand is what the library reads.
func TestCutMessages(t *testing.T) {
	for _, c := range filledCommands() {
		whole := EncodeEntry(nil, &logpb.Batch{Commands: []*logpb.Command{c}})[EntryOverheadBytes:]
		command := MarshalCommand(c)
		for n := range whole {
			want := new(logpb.Batch)
			got, err := decodeBatch(bytes.Clone(whole[:n]))
			if refused := proto.Unmarshal(whole[:n], want); (err == nil) != (refused == nil) || err == nil && !proto.Equal(got, want) {
				t.Fatalf("%x: %v, the library says %v", whole[:n], err, refused)
			}
		}
		for n := range command { // the batch's own length fits
			body := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), command[:n])
			want := new(logpb.Batch)
			got, err := decodeBatch(body)
			if refused := proto.Unmarshal(body, want); (err == nil) != (refused == nil) || err == nil && !proto.Equal(got, want) {
				t.Fatalf("%x: %v, the library says %v", body, err, refused)
			}
		}
	}
	for _, record := range someRecords(t) {
		for n := range record {
			want, refused := byLibrary(record[:n])
			got, err := parseTransaction(bytes.Clone(record[:n]))
			if (err == nil) != (refused == nil) || err == nil && !proto.Equal(got.proto(), want.proto()) {
				t.Fatalf("%x: %v, the library says %v", record[:n], err, refused)
			}
		}
	}
}

// A follower's way through the log leads where the leader's does.
func TestFollowIsApplyEntry(t *testing.T) {
	for _, dir := range []string{formatDir, formatDir2, formatDir3} {
		a, b := New(), New()
		for _, e := range readLog(t, dir) {
			if _, err := a.ApplyEntry(e.index, e.term, e.entry); err != nil {
				t.Fatal(err)
			}
			if err := b.Follow(e.index, e.term, e.entry); err != nil {
				t.Fatal(err)
			}
			if err := b.CheckInvariants(); err != nil || a.Digest() != b.Digest() {
				t.Fatalf("%s: after index %d: %v", dir, e.index, err)
			}
		}
		if err := b.Follow(b.Clock().AppliedIndex, 9, entryOf(nil)); !errors.Is(err, ErrOrder) {
			t.Fatal(err)
		}
		if err := b.Follow(1_000, 9, []byte("x")); !errors.Is(err, ErrEntryMalformed) {
			t.Fatal(err)
		}
	}
}
