package rafttime

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// A disk takes entries up to the term that is on it, and tells of any other.
func TestADiskHoldsEntriesAgainstItsTerm(t *testing.T) {
	var broken []string
	d := newDisk(false, func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) })
	h := d.open(func() {})
	store := func(index, term uint64) {
		t.Helper()
		if err := h.StoreLog(&raft.Log{Index: index, Term: term}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Set([]byte("CurrentTerm"), append(binary.BigEndian.AppendUint64(nil, 7), "a checksum"...)); err != nil {
		t.Fatal(err)
	}
	store(1, 6)
	store(2, 7)
	if len(broken) > 0 {
		t.Errorf("what may be written is a breach: %q", broken)
	}
	store(3, 8)
	if len(broken) != 1 {
		t.Errorf("an entry of term 8 beside term 7: %q", broken)
	}
}
