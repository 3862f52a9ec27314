package floor

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quorate/quorate/fsm"
)

// below remembers what reaches it.
type below struct {
	commands [][]byte
	followed [][]byte
	results  []fsm.Result
}

func (b *below) ApplyEntry(_, _ uint64, entry []byte) ([]fsm.Result, error) {
	b.commands = append(b.commands, bytes.Clone(entry))
	return b.results, nil
}
func (b *below) Follow(_, _ uint64, entry []byte) error {
	b.followed = append(b.followed, bytes.Clone(entry))
	return nil
}
func (b *below) Pin() io.WriterTo         { return nil }
func (b *below) Restore(io.Reader) error  { return nil }
func (b *below) ClockMS() uint64          { return 0 }
func (b *below) NextFeatureLevel() uint32 { return fsm.LevelModes }

// TestMachinePassesByWhatIsTheFloors, and hands on the rest with its stamps, in order,
// each result in its place.
func TestMachinePassesByWhatIsTheFloors(t *testing.T) {
	b := &below{results: []fsm.Result{{Detail: "first"}, {Detail: "second"}}}
	m := Over(b)
	own := append(Command(3), "own"...)
	entry := fsm.EncodeEntryRaw(nil, 11, 22, 2, [][]byte{own, []byte("x"), own, []byte("y")})
	got, err := m.ApplyEntry(5, 1, entry)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got[1].Detail != "first" || got[3].Detail != "second" || got[0].Code != fsm.OK || got[2].Code != fsm.OK {
		t.Errorf("%+v", got)
	}
	want := fsm.EncodeEntryRaw(nil, 11, 22, 2, [][]byte{[]byte("x"), []byte("y")})
	if len(b.commands) != 1 || !bytes.Equal(b.commands[0], want) {
		t.Errorf("handed on: %q, want %q", b.commands, want)
	}
	if !m.Changed() || m.Changed() {
		t.Error("the machine below was changed once")
	}
	if got, err = m.ApplyEntry(6, 1, fsm.EncodeEntryRaw(nil, 12, 23, 2, [][]byte{own, own})); err != nil || len(got) != 2 {
		t.Errorf("%v %v", got, err)
	}
	if len(b.commands) != 1 || m.Changed() {
		t.Error("an entry of the floor's alone reached the machine below")
	}
	if err := m.Follow(7, 1, entry); err != nil || len(b.followed) != 1 || !bytes.Equal(b.followed[0], want) || !m.Changed() {
		t.Errorf("followed: %v, handed on %q", err, b.followed)
	}
	if err := m.Follow(8, 1, fsm.EncodeEntryRaw(nil, 12, 23, 2, [][]byte{own})); err != nil || len(b.followed) != 1 || len(b.commands) != 1 || m.Changed() {
		t.Errorf("an entry of the floor's alone was followed below: %v", err)
	}
}

func TestMachineFindsDamage(t *testing.T) {
	m := Over(&below{})
	good := fsm.EncodeEntryRaw(nil, 1, 1, 1, [][]byte{append(Command(8), "command"...)})
	for i := 1; i < len(good); i++ { // the version is the product's to judge
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := m.ApplyEntry(1, 1, bad); !errors.Is(err, errDamaged) {
			t.Errorf("a flipped bit in byte %d: %v", i, err)
		}
	}
	if _, err := m.ApplyEntry(1, 1, good[:3]); !errors.Is(err, errDamaged) {
		t.Errorf("an entry that is cut off: %v", err)
	}
}
