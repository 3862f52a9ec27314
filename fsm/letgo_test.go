package fsm

import (
	"runtime"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// Payloads that nobody will be called with any more are in no memory: neither beside what
// stood next to them in the log, nor as neighbours of what stays.
func TestEndedTransactionsKeepNoPayloads(t *testing.T) {
	const many, payload = 128, 64 << 10
	for what, commands := range map[string]func(GID) []*logpb.Command{
		"a plan's payload": func(g GID) []*logpb.Command {
			b := beginMode(g, modeWorkflow, &logpb.Plan{Callback: "http://resume", CallbackPayload: make([]byte, payload), Workflow: "order"})
			return []*logpb.Command{begin(b), clientRollback(g)}
		},
		"a plan's payload beside texts": func(g GID) []*logpb.Command {
			b := beginMode(g, modeWorkflow, &logpb.Plan{Callback: "http://resume", CallbackPayload: make([]byte, payload), Workflow: "order"})
			b.Traceparent = strings.Repeat("t", 55)
			return []*logpb.Command{begin(b), clientRollback(g)}
		},
		"a payload beside a branch without": func(g GID) []*logpb.Command {
			set := []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b")}
			set[0].Payload, set[1].Payload = make([]byte, payload), nil
			return []*logpb.Command{submit(beginMode(g, modeNotify, nil), set), report(g, "1", committed), report(g, "2", committed)}
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			before := heapBytes()
			for i := range uint64(many) {
				g := testGID(testStartMS, i)
				for _, c := range commands(g) {
					w.index++
					if r, err := w.s.ApplyEntry(w.index, 1, entryOf([]*logpb.Command{c})); err != nil || r[0].Code != OK {
						t.Fatal(r, err)
					}
				}
			}
			if grown := heapBytes() - before; grown > many*payload/2 || w.s.counts.Finished != many {
				t.Errorf("%d of %d have ended, and keep %d bytes", w.s.counts.Finished, many, grown)
			}
			runtime.KeepAlive(w)
		})
	}
}

func heapBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
