package fsm

import (
	"bufio"
	"bytes"
	"errors"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// someRecords are records of all kinds, as they are written.
func someRecords(t testing.TB) (records [][]byte) {
	for _, dir := range []string{formatDir, formatDir2, formatDir3} {
		s := New()
		if err := s.Restore(bytes.NewReader(readFile(t, dir, "snapshot"))); err != nil {
			t.Fatal(err)
		}
		for r := range s.begun.all() {
			records = append(records, appendTransaction(nil, s.find(r.GID)))
		}
	}
	if len(records) < 20 {
		t.Fatalf("%d records", len(records))
	}
	return records
}

// byLibrary reads a record as the library does.
func byLibrary(b []byte) (*transaction, error) {
	m := new(logpb.Transaction)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, err
	}
	return fromProto(m)
}

// FuzzParseTransaction: what is read by hand is what the library reads, nothing is
// read that the library refuses, and memory that is used again holds nothing of the last.
func FuzzParseTransaction(f *testing.F) {
	records := someRecords(f)
	for _, r := range records {
		f.Add(bytes.Clone(r))
	}
	n := uint64(0)
	filled := new(logpb.Transaction)
	fill(filled.ProtoReflect(), &n)
	filled.Begin.Branches = nil
	whole, err := proto.Marshal(filled)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(whole))
	f.Add(append(bytes.Clone(whole), whole...))
	again := &recordParser{decoder: decoder{names: new(names)}}
	f.Fuzz(func(t *testing.T, b []byte) {
		want, refused := byLibrary(b)
		was := bytes.Clone(b)
		fresh, err := parseTransaction(b)
		again.reset()
		for _, other := range [][]byte{records[len(b)%len(records)], whole} {
			if again.record(other) == nil {
				t.Fatalf("%x is left to the library", other)
			}
		}
		again.reset()
		reused, errAgain := again.parse(b)
		if (err == nil) != (refused == nil) || (errAgain == nil) != (refused == nil) {
			t.Fatalf("%v and %v, the library says %v", err, errAgain, refused)
		}
		if refused != nil {
			return
		}
		clear(b) // what was read must not alias it
		bytesOf := appendTransaction(nil, want)
		for _, got := range []*transaction{fresh, reused} {
			if got.gid != want.gid || !proto.Equal(got.proto(), want.proto()) {
				t.Fatalf("%x is read as\n%v\nand by the library as\n%v", was, got.proto(), want.proto())
			}
			if !bytes.Equal(appendTransaction(nil, got), bytesOf) {
				t.Fatalf("%x is written otherwise", was)
			}
			for i, b := range got.branches {
				if b.idle != want.branches[i].idle {
					t.Fatalf("%x: branch %d is not as idle", was, i)
				}
			}
		}
	})
}

// What is written is read by hand: where it were not, all would be right, and slow.
func TestRecordsAreReadByHand(t *testing.T) {
	p := new(recordParser)
	for i, r := range someRecords(t) {
		read := p.record(r)
		if read == nil {
			m := new(logpb.Transaction)
			_ = proto.Unmarshal(r, m)
			if len(m.GetBegin().GetBranches()) == 0 { // a prepared message's begin names them
				t.Errorf("record %d is left to the library: %v", i, m)
			}
		}
	}
}

// Payloads come back whole, those that fit into what is read ahead and those that do not.
func TestFramesOfAnyLength(t *testing.T) {
	var file bytes.Buffer
	out := &frameWriter{w: bufio.NewWriter(&file)}
	var want [][]byte
	for _, n := range []int{0, 1, 100, 1<<16 - frameHeadBytes, 1<<16 - 1, 1 << 16, 1<<16 + 1, 7, 300_000, 2} {
		want = append(want, bytes.Repeat([]byte{byte(len(want) + 1)}, n))
		out.frame(want[len(want)-1])
	}
	if err := out.w.Flush(); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	in := newRecordReader(iotest.OneByteReader(&file))
	for i, w := range want {
		if got, err := in.frame(); err != nil || !bytes.Equal(got, w) {
			t.Errorf("frame %d: %d bytes, want %d: %v", i, len(got), len(w), err)
		}
	}
	if _, err := newRecordReader(bytes.NewReader(whole[:frameHeadBytes-1])).frame(); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a head that is cut: %v", err)
	}
	cut := whole[len(whole)-2*frameHeadBytes-300_000-2:] // the last two frames
	for _, most := range []int{frameHeadBytes, frameHeadBytes + 1, 1 << 17} {
		if _, err := newRecordReader(bytes.NewReader(cut[:most])).frame(); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%d bytes of a longer frame: %v", most, err)
		}
	}
}
