package linearizability

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
)

// TestRecorder records from several goroutines and reads all of it back.
func TestRecorder(t *testing.T) {
	var file bytes.Buffer
	r := NewRecorder(&file, Header{Seed: 7, Cluster: "c"})
	const clients, each = 8, 50
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := range each {
				p := r.Invoke(Operation{Client: client, Kind: KindGet, GID: "g"})
				switch i % 4 {
				case 0:
					p.Return(StatusOK, Output{State: StateActive, AppliedIndex: 3})
				case 1:
					p.Failed("NO_LEADER", errors.New("nobody leads"))
				case 2:
					p.Unknown(errors.New("reset"))
					p.Return(StatusOK, Output{}) // too late: it is unknown
				default: // the recorder died
				}
			}
		})
	}
	wg.Wait()
	r.Observe(Observation{Sight: SightQuiescent})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	count := map[Status]int{}
	for _, op := range h.Operations {
		count[op.Status]++
		if op.Status == StatusUnknown != (op.Return == 0) {
			t.Fatalf("returned at %d with status %s", op.Return, op.Status)
		}
	}
	// A client's 50 operations: 13 ok, 13 failed, 12 unknown, 12 never answered.
	if len(h.Operations) != clients*each ||
		count[StatusOK] != clients*13 || count[StatusFailed] != clients*13 || count[StatusUnknown] != clients*24 {
		t.Fatalf("%d operations: %v", len(h.Operations), count)
	}
	if len(h.Observations) != 1 || h.Header.Seed != 7 {
		t.Fatalf("read back: %+v, %d observations", h.Header, len(h.Observations))
	}
}

// TestACutLineIsUnknown: a recorder that dies while it writes loses an answer, not
// the history.
func TestACutLineIsUnknown(t *testing.T) {
	const text = `{"line":"header","format":1}
{"line":"call","id":1,"client":1,"at":5,"kind":"begin","gid":"g"}
{"line":"return","id":1,"at":9,"stat`
	h, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Operations) != 1 || h.Operations[0].Status != StatusUnknown {
		t.Fatalf("read %+v", h.Operations)
	}
}
