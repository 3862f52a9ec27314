package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/quorate/quorate/fsm/logpb"
)

// populate makes a world with a record of every kind.
func populate(t testing.TB) *world {
	w := newWorld(t)
	n := uint64(0)
	for _, make := range []situation{explicitSituation, namedSituation, heldSituation} {
		for _, column := range []string{"A", "S", "C", "C+", "R", "R+", "T", "T+"} {
			n++
			// The situations all use one GID: rename it in what they sent.
			scratch := newWorld(t)
			g := make(scratch, column)
			for _, e := range scratch.log[2:] {
				b, err := DecodeEntry(e.entry)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range b.GetCommands() {
					renameGID(c, g, testGID(testStartMS, 100+n))
					w.do(c)
				}
			}
		}
	}
	return w
}

// renameGID replaces a GID wherever a command names it.
func renameGID(c *logpb.Command, from, to GID) {
	c.ProtoReflect().Range(func(_ protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		rename(v.Message(), from, to)
		return true
	})
}

func rename(m protoreflect.Message, from, to GID) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "gid" && bytes.Equal(v.Bytes(), from[:]):
			m.Set(f, protoreflect.ValueOfBytes(to.Bytes()))
		case f.Message() != nil && !f.IsList():
			rename(v.Message(), from, to)
		}
		return true
	})
}

// "Snapshots that stall Apply": what commands wait for is a word for some hundred
// live records, and nothing that grows with each.
func TestAPinIsSmall(t *testing.T) {
	if raceDetector || checkEveryApply {
		t.Log("what allocates is counted by a plain go test")
		return
	}
	w := newWorld(t)
	const live = 20_000
	for i := 0; i < live; i += 100 {
		batch := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
		for k := range 100 {
			batch.Commands = append(batch.Commands, explicit(testGID(testStartMS, uint64(i+k))))
		}
		w.applied(batch)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := w.s.Pin()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > live {
		t.Errorf("a pin of %d live records allocates %d bytes", live, got)
	}
	// What is changed afterwards is copied a chunk at a time.
	for i := range 100 {
		w.applied(&logpb.Batch{ClockMs: testStartMS, Commands: []*logpb.Command{clientRollback(testGID(testStartMS, uint64(i*200)))}})
	}
	fresh := New()
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if c := fresh.Counts(); c.Live != live || c.Finished != 0 {
		t.Errorf("the snapshot holds %+v", c)
	}
}

func TestSnapshotHoldsEverything(t *testing.T) {
	w := populate(t)
	if c := w.s.Counts(); c.Live < 10 || c.Finished < 8 {
		t.Fatalf("the world is poor: %+v", c)
	}
	bytesOf := snapshotOf(t, w.s)
	r := reborn(t, w.s)
	if err := r.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	if r.Digest() != w.s.Digest() || r.Clock() != w.s.Clock() || r.ClusterID() != w.s.ClusterID() ||
		!proto.Equal(r.Limits(), w.s.Limits()) || r.Counts() != w.s.Counts() {
		t.Fatal("a restored state differs")
	}
	if !bytes.Equal(snapshotOf(t, r), bytesOf) {
		t.Fatal("a restored state's snapshot differs")
	}
	if d, ok := r.DigestAt(w.index); !ok || d != w.s.Digest() {
		t.Error("the digest of the snapshot's index is not known")
	}
	if slices.Compare(due(r), due(w.s)) != 0 || len(due(r)) == 0 {
		t.Error("something else is due")
	}
	if _, oldest, ok := r.Events(w.index-1, 10); ok || oldest != w.index {
		t.Errorf("events before the snapshot: %d %v", oldest, ok)
	}
	if e, _, ok := r.Events(w.index, 10); !ok || len(e) != 0 {
		t.Error("events after the snapshot")
	}
}

func due(s *State) (list []string) {
	for d := range s.Due() {
		list = append(list, d.GID.String()+d.Branch.GetId()+d.Verdict.String())
	}
	return list
}

// A pin is the state as it was, whatever applies after it.
func TestPinIsUnmoved(t *testing.T) {
	w := populate(t)
	want := snapshotOf(t, w.s)
	pin := w.s.Pin()
	if pin.Index() != w.index {
		t.Errorf("index %d", pin.Index())
	}
	// Everything moves: late heuristics re-file, time ends and drops, others come.
	for at := range w.s.begun.all() {
		for _, b := range w.s.find(at.GID).branches {
			w.do(report(at.GID, b.spec.GetId(), committed))
			w.do(report(at.GID, b.spec.GetId(), rolledBack))
		}
	}
	for n := range uint64(50) {
		w.must(clientRollback(testGID(w.clock, 1000+n)))
	}
	w.leap(w.clock + 3*w.s.Limits().GetRetentionMs())
	for n := range uint64(50) {
		w.must(clientRollback(testGID(w.clock, 2000+n)))
	}
	for range 2 { // and may be written twice
		var got bytes.Buffer
		if _, err := pin.WriteTo(&got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatal("a pinned snapshot moved")
		}
	}
}

// A pin is written while commands apply: the race detector watches.
func TestPinIsWrittenWhileCommandsApply(t *testing.T) {
	w := populate(t)
	want := snapshotOf(t, w.s)
	pin := w.s.Pin()
	got := make(chan []byte)
	go func() {
		var b bytes.Buffer
		for range 20 {
			b.Reset()
			if _, err := pin.WriteTo(&b); err != nil {
				break
			}
		}
		got <- b.Bytes()
	}()
	for n := range uint64(300) {
		w.must(clientRollback(testGID(w.clock, 1000+n)))
		if n%10 == 0 {
			w.leap(w.clock + 100_000)
		}
	}
	if !bytes.Equal(<-got, want) {
		t.Fatal("a pinned snapshot moved")
	}
}

// failing writes so many bytes and no more.
type failing int

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if int(*f) < len(b) {
		n := int(*f)
		*f = 0
		return n, errFull
	}
	*f -= failing(len(b))
	return len(b), nil
}

func TestSnapshotTellsOfAFullDisk(t *testing.T) {
	w := populate(t)
	for n := range uint64(800) {
		w.s.now.index++
		w.s.put(nil, w.s.toTombstone(testGID(testStartMS, 5000+n), specs("1"), logpb.Reason_REASON_PRESUMED))
	}
	size := len(snapshotOf(t, w.s))
	for _, room := range []int{0, 10, 1 << 16, size - 1} {
		f := failing(room)
		if _, err := w.s.Pin().WriteTo(&f); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d: %v", room, size, err)
		}
	}
	f := failing(size)
	if _, err := w.s.Pin().WriteTo(&f); err != nil {
		t.Error(err)
	}
}

// frames takes a snapshot apart.
func frames(t *testing.T, snapshot []byte) (list [][]byte) {
	t.Helper()
	for b := snapshot[len(snapshotMagic)+1:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b)
		list = append(list, slices.Clone(b[8:8+n]))
		b = b[8+n:]
	}
	return list
}

// rebuild puts frames together, with good checksums.
func rebuild(list [][]byte) []byte {
	b := append([]byte(snapshotMagic), snapshotVersion)
	for _, p := range list {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(p, castagnoli))
		b = append(b, p...)
	}
	return b
}

// Every single flipped bit and every cut is found, and leaves the state as it was.
func TestRestoreFindsDamage(t *testing.T) {
	w := populate(t)
	good := snapshotOf(t, w.s)
	s := reborn(t, newWorld(t).s)
	before := s.Digest()
	refuse := func(b []byte, what string, i int) {
		t.Helper()
		if err := s.Restore(bytes.NewReader(b)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("%s at %d: %v", what, i, err)
		}
		if s.Digest() != before {
			t.Fatalf("%s at %d: the state changed", what, i)
		}
	}
	step := max(1, len(good)/700)
	for i := 0; i < len(good); i += step {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		refuse(bad, "flipped bit", i)
		refuse(good[:i], "cut", i)
	}
	refuse(append(slices.Clone(good), 0), "one byte more", len(good))
	huge := slices.Clone(good[:len(snapshotMagic)+1])
	huge = append(huge, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0)
	refuse(huge, "a huge frame", 0)
	large := slices.Clone(good[:len(snapshotMagic)+1])
	large = binary.LittleEndian.AppendUint32(large, frameBytesMax)
	allocated := testing.AllocsPerRun(1, func() { refuse(append(large, 0, 0, 0, 0), "a large frame", 0) })
	if allocated > 1000 {
		t.Errorf("%v allocations for a length that lies", allocated)
	}
	// What is good is still taken afterwards.
	if err := s.Restore(bytes.NewReader(good)); err != nil || s.Digest() != w.s.Digest() {
		t.Fatal(err)
	}
}

// Snapshots whose checksums are right and whose content no log leads to.
func TestRestoreBelievesNothing(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(begin(keyed(g, "k", logpb.Entry_ENTRY_EXPLICIT)))
	w.must(begin(keyed(testGID(testStartMS, 2), "k2", logpb.Entry_ENTRY_EXPLICIT)))
	w.must(clientRollback(testGID(testStartMS, 3)))
	w.clock++
	w.must(clientRollback(testGID(testStartMS, 4)))
	for _, id := range []string{"a", "b"} {
		w.must(&logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{Id: id}}}})
	}
	good := frames(t, snapshotOf(t, w.s))

	header := func(f func(*logpb.SnapshotHeader)) func([][]byte) [][]byte {
		return func(list [][]byte) [][]byte {
			h := new(logpb.SnapshotHeader)
			if err := proto.Unmarshal(list[0], h); err != nil {
				t.Fatal(err)
			}
			f(h)
			list[0], _ = proto.Marshal(h)
			return list
		}
	}
	record := func(i int, f func(*transaction)) func([][]byte) [][]byte {
		return func(list [][]byte) [][]byte {
			tx, err := parseTransaction(list[i])
			if err != nil {
				t.Fatal(err)
			}
			f(tx)
			list[i] = appendTransaction(nil, tx)
			return list
		}
	}
	raw := func(i int, b []byte) func([][]byte) [][]byte {
		return func(list [][]byte) [][]byte { list[i] = b; return list }
	}
	for _, c := range []struct {
		want   string
		change func([][]byte) [][]byte
	}{
		{"header", raw(0, []byte{0xFF})},
		{"cluster id", header(func(h *logpb.SnapshotHeader) { h.ClusterId = nil })},
		{"feature level 4", header(func(h *logpb.SnapshotHeader) { h.FeatureLevel = FeatureLevel + 1 })},
		{"no limits", header(func(h *logpb.SnapshotHeader) { h.Limits = nil })},
		{"limits", header(func(h *logpb.SnapshotHeader) { h.Limits.TextBytesMax = 0 })},
		{"clock 281474976710656", header(func(h *logpb.SnapshotHeader) { h.ClockMs = MaxBornMS + 1 })},
		{"horizon", header(func(h *logpb.SnapshotHeader) { h.HorizonMs = h.ClockMs + 1 })},
		{"nodes are not sorted", header(func(h *logpb.SnapshotHeader) { slices.Reverse(h.Nodes) })},
		{"nodes are not sorted", header(func(h *logpb.SnapshotHeader) { h.Nodes[1].Id = "a" })},
		{"tombstones", header(func(h *logpb.SnapshotHeader) { h.Tombstones++ })},
		{"digest", header(func(h *logpb.SnapshotHeader) { h.Digest[0]++ })},
		{"digest", header(func(h *logpb.SnapshotHeader) { h.Incarnation++ })},
		{"live record 3", header(func(h *logpb.SnapshotHeader) { h.ActiveCount++ })},
		{"filed record 3", header(func(h *logpb.SnapshotHeader) { h.FinishedCount++ })},
		{"filed record 3 of 18446744073709551615", header(func(h *logpb.SnapshotHeader) { h.FinishedCount = ^uint64(0) })},
		{"more follows", header(func(h *logpb.SnapshotHeader) { h.FinishedCount--; h.Tombstones-- })},
		{"filed record 1", func(l [][]byte) [][]byte { l[3] = l[1]; return l }},
		{"stands twice", func(l [][]byte) [][]byte { l[2] = l[1]; return l }},
		{"stands twice", func(l [][]byte) [][]byte { l[4] = l[3]; return l }},
		{"filed before its predecessor", func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l }},
		{"malformed", raw(1, []byte{0xFF})},
		{"does not know", func(l [][]byte) [][]byte { l[1] = append(l[1], 0xF8, 0x7F, 1); return l }},
		{"gid of 0 bytes", raw(1, nil)},
		{"mode is unknown", record(1, func(t *transaction) { t.begin.Mode = 77 })},
		{"mode is unknown", record(1, func(t *transaction) { t.begin.Mode = 0 })},
		{"mode is unknown", record(3, func(t *transaction) { t.begin.Mode = 1 })},
		{"state is unknown", record(1, func(t *transaction) { t.state = 0 })},
		{"state is unknown", record(1, func(t *transaction) { t.state = 7 })},
		{"decision is unknown", record(1, func(t *transaction) { t.decision = 3; t.quarantined = true })},
		{"decision is unknown", record(1, func(t *transaction) { t.decision = -1; t.quarantined = true })},
		{"with decision", record(1, func(t *transaction) { t.decision = DecisionCommit })},
		{"filed wrongly", record(1, func(t *transaction) { t.filedMS = 5 })},
		{"filed wrongly", record(4, func(t *transaction) { t.filedMS = 0 })},
		{"filed wrongly", record(4, func(t *transaction) { t.filedMS = w.clock + 1 })},
		{"filed wrongly", record(4, func(t *transaction) { t.quarantined = true })},
		{"began at no index", record(1, func(t *transaction) { t.began = nil })},
		{"began at no index", record(1, func(t *transaction) { t.began = &stamp{index: w.index + 1} })},
		{"key stands for another", record(2, func(t *transaction) { t.begin.Key = "k" })},
		{"digest", record(1, func(t *transaction) { t.deadlineMS++ })},
	} {
		var list [][]byte
		for _, f := range good {
			list = append(list, slices.Clone(f))
		}
		err := New().Restore(bytes.NewReader(rebuild(c.change(list))))
		if !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	if err := New().Restore(bytes.NewReader(rebuild(good))); err != nil {
		t.Error(err)
	}
	for want, b := range map[string]string{
		"no header":        "",
		"does not begin":   "something else entirely",
		"version 9":        snapshotMagic + "\x09",
		"it ends too earl": snapshotMagic + "\x01",
	} {
		if err := New().Restore(strings.NewReader(b)); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// What is not founded can be snapshotted too.
func TestSnapshotOfNothing(t *testing.T) {
	if r := reborn(t, New()); r.Founded() || r.Digest() != New().Digest() {
		t.Error("nothing became something")
	}
}
