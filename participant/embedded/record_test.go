package embedded

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
)

func sample() *record {
	return &record{
		Prepared: participant.Prepared{
			BranchRef: participant.BranchRef{GID: "01JD9S7KQZZZZZZZZZZZZZZZZZ", ID: "1.2"},
			Cluster:   "01JD9S7KQAAAAAAAAAAAAAAAAA", Timeout: 42 * time.Second,
		},
		keys: []string{"a", "b", "read only"},
		writes: []write{
			{key: "a", value: []byte("new")}, {key: "b", del: true}, {key: "c", value: []byte{}},
		},
	}
}

func TestRecordsReadBack(t *testing.T) {
	for _, want := range []*record{sample(), {Prepared: participant.Prepared{BranchRef: participant.BranchRef{GID: "g", ID: "1"}}}} {
		got, err := decodeRecord(want.encode())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("read back %+v, want %+v", got, want)
		}
	}
}

// S18: "a flipped bit is detected", wherever it is.
func TestADamagedRecordIsNoticed(t *testing.T) {
	whole := sample().encode()
	for i := range whole {
		for bit := range 8 {
			b := append([]byte(nil), whole...)
			b[i] ^= 1 << bit
			if _, err := decodeRecord(b); err == nil {
				t.Fatalf("bit %d of byte %d is flipped, and nobody noticed", bit, i)
			}
		}
	}
	for n := range whole {
		if _, err := decodeRecord(whole[:n]); err == nil {
			t.Fatalf("a record cut to %d of %d bytes was read", n, len(whole))
		}
	}
	other := append([]byte(nil), whole...)
	other[0] = 9
	if _, err := decodeRecord(other); !errors.Is(err, errRecordVersion) {
		t.Errorf("a record of version 9: %v", err)
	}
}

// Whatever the bytes are, reading them ends, allocates no more than they hold, and
// what it accepts is written the same way again.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(sample().encode())
	f.Add([]byte{})
	f.Add([]byte{recordVersion, 0, 0, 0, 0})
	f.Add(seal([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}))
	f.Add(seal([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 5 { // most inputs would fall to the checksum: let them through
			b = seal(b[5:])
		}
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := decodeRecord(r.encode())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v was written as %+v, %v", r, again, err)
		}
	})
}
