package fsm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// What is looked at sixteen and eight bytes at a time is what is looked at one by one.
func TestPlain(t *testing.T) {
	for length := range 26 {
		if !plain(strings.Repeat(" ", length)) || !plain(strings.Repeat("~", length)) {
			t.Errorf("%d printable bytes are not plain", length)
		}
		for at := range length {
			for c := range 256 {
				for _, other := range []byte{' ', 'a', '~'} {
					text := bytes.Repeat([]byte{other}, length)
					text[at] = byte(c)
					if want := c >= 0x20 && c <= 0x7E; plain(string(text)) != want {
						t.Fatalf("%q: plain is %v", text, !want)
					}
				}
			}
		}
	}
}

// A name that comes again is the one that stands, and one in its place is itself.
func TestNames(t *testing.T) {
	kept := new(names)
	read := func(v string) string {
		f := fields{message: protowire.AppendString(nil, v), names: kept, kind: 2}
		text := f.text()
		if f.bad || f.at < len(f.message) {
			t.Fatalf("%q cannot be read", v)
		}
		return text
	}
	var all []string
	for i := range 5000 {
		all = append(all, strings.Repeat(string(rune('a'+i%26)), i%(nameBytesMax+3))+testGID(1, uint64(i)).String()[20:])
	}
	for _, v := range append(all, all...) {
		if got := read(v); got != v {
			t.Fatalf("%q was read as %q", v, got)
		}
		if a, b := read(v), read(v); len(v) <= nameBytesMax && unsafe.StringData(a) != unsafe.StringData(b) {
			t.Fatalf("%q was copied again", v)
		}
		if got := kept.blob([]byte(v)); string(got) != v || &got[0] != &kept.blob([]byte(v))[0] {
			t.Fatalf("%q: another blob, or copied again", v)
		}
	}
	if f := (fields{message: []byte{2, 0xC3, 0x28}, names: kept, kind: 2}); f.text() != "" || !f.bad || read("") != "" {
		t.Error("what is no UTF-8 was taken")
	}
	for _, v := range kept.texts {
		if v == "\xC3\x28" || len(v) > nameBytesMax {
			t.Errorf("%q is kept", v)
		}
	}
}

// A branch whose bytes come again is the one that stands; those with a payload, and long
// ones, are read each time. Whatever stands in its place, it is the branch that was written.
func TestKnownBranches(t *testing.T) {
	d := &decoder{names: new(names)}
	read := func(want *logpb.BranchSpec) *logpb.BranchSpec {
		raw := appendSpec(nil, want)
		var room []logpb.BranchSpec
		got := d.branch(raw, &room, 1)
		clear(raw) // the library's, for the next one
		if !proto.Equal(got, want) {
			t.Fatalf("%v was read as %v", want, got)
		}
		return got
	}
	paid := spec("2")
	paid.Payload = []byte("payload")
	long := spec("3")
	long.Endpoint = strings.Repeat("x", nameSpecBytesMax)
	for _, c := range []struct {
		name  string
		spec  *logpb.BranchSpec
		known bool
	}{{"short", spec("1"), true}, {"with a payload", paid, false}, {"long", long, false}} {
		first, second, third := read(c.spec), read(c.spec), read(c.spec)
		if first == second || second == third || (third == read(c.spec)) != c.known {
			t.Errorf("one %s: kept at once, or is kept otherwise than %v", c.name, c.known)
		}
	}
	for i := range 20_000 { // many to a place
		s := spec(testGID(1, uint64(i%5000)).String())
		for range 1 + i%3 {
			read(s)
		}
	}
	var room []logpb.BranchSpec
	for range 4 {
		if d.branch([]byte{10, 1, 0xC3}, &room, 1) != nil {
			t.Fatal("what is no UTF-8 was taken")
		}
	}
}

// Records share branches, so none is ever edited: not where a topic's subscribers take its
// place in the order, nor where its vote comes late, or its transaction ends.
func TestKnownBranchesAreNotEdited(t *testing.T) {
	w := newWorld(t)
	w.must(subscribe("news", "http://a"))
	w.must(subscribe("news", "http://b"))
	plain := func(id, endpoint string, after ...string) *logpb.BranchSpec {
		return &logpb.BranchSpec{Id: id, Endpoint: endpoint, After: after}
	}
	shared := map[*logpb.BranchSpec]int{}
	for i := range uint64(6) {
		called, voting := testGID(testStartMS, i), testGID(testStartMS, 100+i)
		w.must(submit(beginMode(called, modeMessage, nil), []*logpb.BranchSpec{plain("01", "topic://news"), plain("02", "http://c", "01"), plain("03", "http://d")}))
		w.must(submit(namedBegin(voting), []*logpb.BranchSpec{{Id: "1"}, spec("2")}, ballots(votePrepared, "2")...))
		w.must(vote(voting, spec("1"), votePrepared))
		for _, g := range []GID{called, voting} {
			for _, b := range w.get(g).GetBranches() {
				shared[b.GetSpec()]++
				if id := b.GetSpec().GetId(); id == "02" && !slices.Equal(b.GetSpec().GetAfter(), []string{"01-01", "01-02"}) {
					t.Fatalf("transaction %d: %v", i, b)
				}
			}
		}
		for _, id := range []string{"01-01", "01-02", "02", "03"} {
			w.must(report(called, id, committed))
		}
		w.must(reportsAll(voting, committed, "1", "2"))
		for _, known := range w.s.decoder.names.specs {
			was := new(logpb.BranchSpec)
			if err := proto.Unmarshal([]byte(known.raw), was); known.raw != "" && (err != nil || !proto.Equal(known.spec, was)) {
				t.Fatalf("transaction %d: a branch that records share was edited: %v is %v", i, was, known.spec)
			}
		}
	}
	most := 0
	for _, n := range shared {
		most = max(most, n)
	}
	if most < 3 {
		t.Errorf("a branch stands in %d records at the most", most)
	}
}

// What a batch was read into is used again; what its records keep is not.
func TestDecoderIsUsedAgain(t *testing.T) {
	w := newWorld(t)
	for i := range 200 {
		n := 1 + i*37%100
		submits, reports := fastPath(n, i*100)
		for _, commands := range [][]*logpb.Command{submits, reports[:n/2]} {
			w.index++
			entry := entryOf(commands)
			if _, err := w.s.ApplyEntry(w.index, 1, entry); err != nil {
				t.Fatal(err)
			}
			clear(entry) // the library's, for the next one
		}
		for k := range n {
			g := testGID(testStartMS, uint64(i*100+k))
			tx, ok := w.s.Get(g)
			if !ok || !bytes.Equal(tx.GetBegin().GetGid(), g[:]) || len(tx.GetBegin().GetLabels()) != 1 ||
				string(tx.GetBranches()[1].GetSpec().GetHolder()) != testHolder || tx.GetBranches()[0].GetVote() != votePrepared {
				t.Fatalf("step %d, %s: %v", i, g, tx)
			}
		}
	}
	if err := w.s.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	d := w.s.decoder
	for _, n := range []int{len(d.commands.pieces), len(d.submits.pieces), len(d.ballots.pieces)} {
		if n == 0 || n > slabMax {
			t.Errorf("%d pieces are kept", n)
		}
	}
	for i := range d.commands.pieces {
		if d.commands.pieces[i].GetKind() != nil {
			t.Fatal("a command is kept after its entry was applied")
		}
	}
	submits, _ := fastPath(3*slabMax, 1_000_000)
	w.index++
	if _, err := w.s.ApplyEntry(w.index, 1, entryOf(submits)); err != nil {
		t.Fatal(err)
	}
	if n := len(d.commands.pieces); n > slabMax {
		t.Errorf("%d pieces are kept after a huge entry", n)
	}
}
