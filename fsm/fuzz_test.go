package fsm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// FuzzDecodeEntry: whatever the bytes, an entry is read or refused with one of
// the documented errors, and what is read applies without a panic.
func FuzzDecodeEntry(f *testing.F) {
	for _, e := range slices.Concat(readLog(f, formatDir), readLog(f, formatDir2), readLog(f, formatDir3)) {
		f.Add(e.entry)
	}
	f.Add([]byte{})
	f.Add([]byte{EntryVersion, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, entry []byte) {
		b, err := DecodeEntry(entry)
		if err != nil {
			if !errors.Is(err, ErrEntryVersion) && !errors.Is(err, ErrEntryChecksum) && !errors.Is(err, ErrEntryMalformed) {
				t.Fatalf("an error of no kind: %v", err)
			}
			// A fuzzer never hits a checksum: give it one.
			if len(entry) <= EntryOverheadBytes {
				return
			}
			if b, err = DecodeEntry(sealEntry(bytes.Clone(entry))); err != nil {
				return
			}
		}
		w := newWorld(t)
		if _, err := w.s.Apply(Meta{w.index + 1, w.term}, b); err != nil &&
			!errors.Is(err, ErrFeatureLevel) && !errors.Is(err, ErrDigest) {
			t.Fatalf("apply: %v", err)
		}
		if err := w.s.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
		if got := reborn(t, w.s); got.Digest() != w.s.Digest() {
			t.Fatal("a restored state differs")
		}
	})
}

// FuzzDecodeBatch: what is read by hand is what the library reads, and nothing is
// read that the library refuses.
func FuzzDecodeBatch(f *testing.F) {
	for _, e := range slices.Concat(readLog(f, formatDir), readLog(f, formatDir2), readLog(f, formatDir3)) {
		f.Add(e.entry[EntryOverheadBytes:])
	}
	for _, c := range filledCommands() {
		f.Add(EncodeEntry(nil, &logpb.Batch{Commands: []*logpb.Command{c}})[EntryOverheadBytes:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want := new(logpb.Batch)
		refused := proto.Unmarshal(body, want)
		was := bytes.Clone(body)
		d := &decoder{names: new(names)}
		for range 3 { // the same bytes again are read otherwise (names.go)
			copy(body, was)
			got, err := d.decode(body)
			if (err == nil) != (refused == nil) {
				t.Fatalf("%v, the library says %v", err, refused)
			}
			clear(body) // what was read must not alias it
			for _, kept := range d.begins {
				if w := kept.written; w != "" && w != string(appendBegin(nil, &kept.begin)) {
					t.Fatalf("%x is kept as it was read, and written otherwise", w)
				}
			}
			if err == nil && !proto.Equal(got, want) {
				t.Fatalf("%x is read as\n%v\nand by the library as\n%v", was, got, want)
			}
			d.reset()
		}
	})
}

// FuzzRestore: whatever the bytes, a snapshot is read or refused, and what is
// read is sound.
func FuzzRestore(f *testing.F) {
	good, err := os.ReadFile(filepath.Join(formatDir, "snapshot"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(readFile(f, formatDir2, "snapshot"))
	f.Add(readFile(f, formatDir3, "snapshot"))
	f.Add(snapshotOf(f, New()))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New()
		if err := s.Restore(bytes.NewReader(b)); err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if err := s.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
		if got := reborn(t, s); got.Digest() != s.Digest() {
			t.Fatal("a restored state differs")
		}
	})
}

// FuzzApply drives two nodes by commands made of the fuzzer's bytes; one of them
// restarts from snapshots. Invariants are checked after every entry.
func FuzzApply(f *testing.F) {
	f.Add([]byte("begin enlist vote commit report"))
	f.Add(bytes.Repeat([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 20))
	for n := range byte(8) {
		seed := make([]byte, 200)
		for i := range seed {
			seed[i] = byte(i*i) * (2*n + 1)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0]) % n
			b = b[1:]
			return v
		}
		p := newPair(t)
		for len(b) > 0 {
			p.clock = randomClock(next, p.clock)
			var commands []*logpb.Command
			for range 1 + next(3) {
				commands = append(commands, randomCommand(next, p.a.ClockMS()))
			}
			if _, err := p.step(commands...); err != nil {
				t.Fatalf("%v: %v", commands, err)
			}
			if next(8) == 0 {
				p.restart(t)
			}
		}
	})
}
