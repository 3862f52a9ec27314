package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

func TestEntryRoundTrip(t *testing.T) {
	g := testGID(testStartMS, 1)
	want := &logpb.Batch{ClockMs: 5, WallMs: 7, FeatureLevel: 1, Commands: []*logpb.Command{explicit(g), tick(), commit(g, "1")}}
	entry := EncodeEntry([]byte("before"), want)
	if !bytes.HasPrefix(entry, []byte("before\x01")) {
		t.Fatalf("%q", entry)
	}
	entry = entry[len("before"):]
	got, err := DecodeEntry(entry)
	if err != nil || !proto.Equal(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	body, err := proto.Marshal(want)
	if err != nil || !bytes.Equal(body, entry[EntryOverheadBytes:]) {
		t.Error("the body is not the batch's protobuf")
	}
	if sum := binary.LittleEndian.Uint32(entry[1:]); sum != crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) {
		t.Error("the checksum is not CRC-32C")
	}
	raw := EncodeEntryRaw(nil, 5, 7, 1, [][]byte{MarshalCommand(want.Commands[0]), MarshalCommand(want.Commands[1]), MarshalCommand(want.Commands[2])})
	if !bytes.Equal(raw, entry) {
		t.Error("the two ways to encode differ")
	}
	if empty, err := DecodeEntry(EncodeEntryRaw(nil, 0, 0, 0, nil)); err != nil || len(empty.GetCommands()) != 0 {
		t.Errorf("%v %v", empty, err)
	}
	// What is decoded owns its memory.
	clear(entry)
	if !proto.Equal(got, want) {
		t.Error("the batch aliases the entry")
	}
}

func TestEntryFindsDamage(t *testing.T) {
	good := EncodeEntry(nil, &logpb.Batch{ClockMs: 5, Commands: []*logpb.Command{tick()}})
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			want := ErrEntryChecksum
			if i == 0 {
				want = ErrEntryVersion
			}
			if _, err := DecodeEntry(bad); !errors.Is(err, want) {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	for n := range len(good) {
		if _, err := DecodeEntry(good[:n]); err == nil {
			t.Errorf("%d bytes are an entry", n)
		}
	}
	if _, err := DecodeEntry(good[:4]); !errors.Is(err, ErrEntryMalformed) {
		t.Error(err)
	}
	if _, err := DecodeEntry(sealEntry([]byte{0, 0, 0, 0, 0, 0xFF})); !errors.Is(err, ErrEntryMalformed) {
		t.Error(err)
	}
	if _, err := DecodeEntry(sealEntry(make([]byte, EntryOverheadBytes))); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a command with text that is not UTF-8 was marshalled")
		}
	}()
	MarshalCommand(report(testGID(1, 1), "\xff", committed))
}

func TestWordsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Codes() {
		if name := c.String(); name == "" || name == "UNKNOWN" || seen[name] {
			t.Errorf("code %d is %q", c, name)
		} else {
			seen[name] = true
		}
	}
	if len(seen) != int(codeCount) || Code(200).String() != "UNKNOWN" {
		t.Error("codes")
	}
	verdicts := ""
	for _, v := range []Verdict{VerdictNone, VerdictWait, VerdictCommit, VerdictRollback, 9} {
		verdicts += v.String() + " "
	}
	if verdicts != "NONE WAIT COMMIT ROLLBACK NONE " {
		t.Error(verdicts)
	}
	for m, want := range map[Mode]string{
		logpb.Mode_MODE_TWO_PHASE: "two-phase", logpb.Mode_MODE_TCC: "tcc", logpb.Mode_MODE_SAGA: "saga", logpb.Mode_MODE_MESSAGE: "message",
		logpb.Mode_MODE_WORKFLOW: "workflow", logpb.Mode_MODE_NOTIFY: "notify", 0: "", -1: "", 7: "",
	} {
		if got := ModeName(m); got != want {
			t.Errorf("mode %d is %q", m, got)
		}
	}
}

// The mode table is PROTOCOL.md's, section 4.
func TestModeTable(t *testing.T) {
	for m, want := range map[Mode]modeRules{
		logpb.Mode_MODE_TWO_PHASE: {name: "two-phase", votes: true, expires: true, onCommit: OperationCommit, onRollback: OperationRollback},
		logpb.Mode_MODE_TCC:       {name: "tcc", expires: true, onCommit: OperationConfirm, onRollback: OperationCancel},
		logpb.Mode_MODE_SAGA:      {name: "saga", endless: true, expires: true, phaseOne: OperationAction, onRollback: OperationCompensate},
		logpb.Mode_MODE_MESSAGE:   {name: "message", endless: true, callback: OperationCheckBack, onCommit: OperationAction},
		logpb.Mode_MODE_WORKFLOW:  {name: "workflow", endless: true, callback: OperationResume},
		logpb.Mode_MODE_NOTIFY:    {name: "notify", endless: true, givesUp: true, onCommit: OperationAction},
	} {
		rules, ok := rulesOf(m)
		got := modeRules{
			name: rules.name, votes: rules.votes, endless: rules.endless, expires: rules.expires, givesUp: rules.givesUp,
			phaseOne: rules.phaseOne, callback: rules.callback, onCommit: rules.onCommit, onRollback: rules.onRollback,
		}
		if !ok || got != want {
			t.Errorf("%v: %+v, want %+v", m, got, want)
		}
	}
	// Time ends only what rolls back by time.
	s := New()
	for m := range modes {
		tx := s.toActive(new(transaction), &logpb.Begin{Mode: Mode(m), TimeoutMs: 5}, testGID(1, 1))
		want := m == 1 || m == 2 || m == 3 || m == 0
		if got := onHeap(tx) && heapTime(tx) == 5; got != want {
			t.Errorf("mode %d: %v", m, got)
		}
	}
}
