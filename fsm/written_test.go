package fsm

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// A begin is kept as it stands in the log only where that is how it is written; the
// record is the same either way.
func TestWrittenAsItStandsInTheLog(t *testing.T) {
	g := testGID(testStartMS, 1)
	number := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	field := func(n protowire.Number, parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), slices.Concat(parts...))
	}
	long := func(n protowire.Number, text string) []byte { // with a length that takes a byte too many
		return append(append(protowire.AppendTag(nil, n, protowire.BytesType), byte(len(text))|0x80, 0), text...)
	}
	gid, mode, entry, timeout := field(1, g[:]), number(4, 1), number(5, 2), number(6, 5000)
	space, key, trace, initiator := field(2, []byte("space")), field(3, []byte("key")), field(8, []byte("trace")), field(9, []byte("me"))
	name, value := field(1, []byte("name")), field(2, bytes.Repeat([]byte("v"), 200))
	label, holder := field(7, name, value), field(12, []byte(testHolder))
	for what, c := range map[string]struct {
		begin   [][]byte
		kept    bool
		refused bool
	}{
		"all there is":      {[][]byte{gid, space, key, mode, entry, timeout, field(7, field(1, []byte("a"))), label, trace, initiator, holder}, true, false},
		"one label":         {[][]byte{gid, space, mode, entry, timeout, label}, true, false},
		"little":            {[][]byte{gid, space, mode, entry, timeout, initiator}, false, false},
		"empty labels":      {[][]byte{gid, space, mode, entry, timeout, label, field(7, value), field(7)}, true, true},
		"unsorted":          {[][]byte{gid, space, entry, mode, timeout, label}, false, false},
		"labels apart":      {[][]byte{gid, space, mode, entry, timeout, field(7, field(1, []byte("a"))), trace, label}, false, false},
		"an unsorted label": {[][]byte{gid, space, mode, entry, timeout, field(7, value, name)}, false, false},
		"a name twice":      {[][]byte{gid, space, mode, entry, timeout, field(7, name, name, value)}, false, false},
		"a number twice":    {[][]byte{gid, space, mode, entry, entry, timeout, label}, false, false},
		"a zero":            {[][]byte{gid, space, number(4, 0), mode, entry, timeout, label}, false, false},
		"an empty text":     {[][]byte{gid, space, field(3), mode, entry, timeout, label}, false, false},
		"an empty value":    {[][]byte{gid, space, mode, entry, timeout, field(7, field(1, []byte("a")), field(2)), label}, false, false},
		"a long length":     {[][]byte{gid, long(2, "space"), mode, entry, timeout, label}, false, false},
		"a long name":       {[][]byte{gid, space, mode, entry, timeout, field(7, long(1, "name"), value)}, false, false},
		"a long number":     {[][]byte{gid, space, mode, entry, {6 << 3, 0x85, 0}, label}, false, false},
		"a mode of 33 bits": {[][]byte{gid, space, number(4, 1<<32|1), entry, timeout, label}, false, false},
		"a mode below zero": {[][]byte{gid, space, number(4, math.MaxUint32), entry, {6 << 3, 0x85, 0x80, 0x80, 0x80, 0x80, 0}, label}, false, true},
		"an entry below 0":  {[][]byte{gid, space, mode, number(5, math.MaxUint32), {6 << 3, 0x85, 0x80, 0x80, 0x80, 0x80, 0}, label}, false, true},
		"a plan":            {[][]byte{gid, space, mode, entry, timeout, label, field(10, number(6, 1))}, false, true},
	} {
		command := field(5, field(1, c.begin...), field(2, field(1, []byte("1")), field(2, []byte("r"))))
		raw := EncodeEntryRaw(nil, testStartMS, 1, FeatureLevel, [][]byte{command})
		b := new(logpb.Batch)
		if err := proto.Unmarshal(raw[EntryOverheadBytes:], b); err != nil {
			t.Fatal(err)
		}
		d := new(decoder)
		if _, err := d.entry(raw); err != nil || (len(d.begins) == 1) != c.kept {
			t.Errorf("%s: kept are %d, %v", what, len(d.begins), err)
		}
		byLibrary, byHand := newWorld(t), newWorld(t)
		results, err := byLibrary.s.Apply(Meta{byLibrary.index + 1, 1}, b)
		if err != nil || (results[0].Code != OK) != c.refused {
			t.Fatalf("%s: %v %v", what, results, err)
		}
		if err := byHand.s.Follow(byHand.index+1, 1, raw); err != nil {
			t.Fatal(err)
		}
		if err := byHand.s.CheckInvariants(); err != nil || byHand.s.Digest() != byLibrary.s.Digest() {
			t.Errorf("%s: %v, or another digest", what, err)
		}
		if tx := byHand.s.live[g]; tx != nil && (tx.written != "") != c.kept {
			t.Errorf("%s: the record has what stands in the log: %v", what, !c.kept)
		}
		if d := byHand.s.decoder; d.asked != 0 || slices.ContainsFunc(d.begins[:cap(d.begins)], func(k *keptBegin) bool { return k != nil }) {
			t.Errorf("%s: the decoder keeps begins of an entry that was applied", what)
		}
	}
}

// Begins of one entry keep each their own bytes, whatever was refused or left to the
// library between them.
func TestWrittenIsEachBeginsOwn(t *testing.T) {
	w := newWorld(t)
	odd := named(testGID(testStartMS, 2))
	odd.GetBegin().Branches = specs("1")
	commands := []*logpb.Command{
		named(testGID(testStartMS, 1)),
		named(testGID(testStartMS, 1)), // again
		odd,
		submit(namedBegin(testGID(testStartMS, 3)), append(specs("1"), specs("1")...)), // refused
		submit(namedBegin(testGID(testStartMS, 4)), specs("1")),
	}
	for i, c := range commands {
		if b := c.GetSubmit().GetBegin(); b != nil {
			b.Initiator, b.Traceparent = string(rune('a'+i)), strings.Repeat("t", writtenBytesMin)
		} else {
			c.GetBegin().Initiator, c.GetBegin().Traceparent = string(rune('a'+i)), strings.Repeat("t", writtenBytesMin)
		}
	}
	w.index++
	if _, err := w.s.ApplyEntry(w.index, 1, entryOf(commands)); err != nil {
		t.Fatal(err)
	}
	if err := w.s.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[uint64]string{1: "a", 4: "e"} {
		if tx := w.s.live[testGID(testStartMS, n)]; tx == nil || tx.begin.GetInitiator() != want || tx.written == "" {
			t.Errorf("%d: %+v", n, tx)
		}
	}
}
