package coordinator

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// times are what a plan or a step may say of a time, in milliseconds: nothing, odd and
// usual ones, and such as no clock can hold.
var times = []uint64{0, 1, 50, 100, 700, 2_000, 60_000, 600_000, 3_600_000, 86_400_001, math.MaxInt64, math.MaxUint64}

// The delay before an attempt, its deadline, and how many there may be follow the step's
// own word, then the plan's, then the node's: whatever they say, told here once more
// and in another way.
func TestRetriesFollowThePlan(t *testing.T) {
	setFlag(t, "rapid.checks", "3000")
	w := newWorld(t, func(s *Settings) { s.NotifyAttemptsMax = 7 })
	c, cfg := w.core, w.core.cfg
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(what string, of ...uint64) uint64 { return rapid.SampledFrom(of).Draw(rt, what) }
		retry := &logpb.Retry{
			IntervalMs: pick("interval", times...), IntervalMaxMs: pick("longest", times...),
			CallTimeoutMs: pick("deadline", times...), AttemptsMax: uint32(pick("attempts", 0, 1, 3)),
		}
		spec := &logpb.BranchSpec{
			Id: "1", Endpoint: "http://h/x", Undo: "http://h/u", CallTimeoutMs: pick("step's deadline", times...), AttemptsMax: uint32(pick("step's attempts", 0, 2)),
		}
		mode := rapid.SampledFrom([]fsm.Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_NOTIFY, logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_TCC, logpb.Mode_MODE_TWO_PHASE}).Draw(rt, "mode")
		op := rapid.SampledFrom([]fsm.Operation{fsm.OperationAction, fsm.OperationCompensate, fsm.OperationConfirm, fsm.OperationCommit}).Draw(rt, "operation")
		d := &delivery{
			t: &txn{rec: w.recordWith(mode, retry)}, spec: spec, op: op,
			failures: rapid.IntRange(0, 70).Draw(rt, "failures"), busy: rapid.SampledFrom([]int{0, 0, 1, 4, 70}).Draw(rt, "busy"),
		}
		if !called(op) {
			d.busy = 0
		}
		if mode == logpb.Mode_MODE_TWO_PHASE {
			retry = new(logpb.Retry) // it has no plan
		}

		// The delay, jitter aside, in floating point: nothing overflows there.
		bound := func(ms uint64, most time.Duration) float64 { return min(float64(ms), float64(most.Milliseconds())) }
		first, longest, doublings := float64(cfg.BackoffMin.Milliseconds()), float64(cfg.BackoffMax.Milliseconds()), float64(max(0, d.failures-1))
		if called(op) {
			if retry.IntervalMs > 0 {
				first = bound(retry.IntervalMs, RetryIntervalMax)
				longest = max(longest, first)
			}
			if retry.IntervalMaxMs > 0 {
				longest = bound(retry.IntervalMaxMs, RetryIntervalMax)
			}
		}
		if d.busy > 0 {
			doublings = 0
			if retry.IntervalMs == 0 {
				doublings, longest = float64(d.busy-1), min(longest, float64(busyIntervalMax.Milliseconds()))
			}
		}
		want := min(longest, min(first, longest)*math.Pow(2, doublings))
		for range 20 {
			if got := float64(c.backoff(d)) / 1e6; got > want || got < want/2-1e-5 {
				rt.Fatalf("a delay of %v ms, want %v to %v (%v %v)", got, want/2, want, retry, spec)
			}
		}

		// The deadline of a call.
		deadline := float64(cfg.DeliveryTimeout.Milliseconds())
		switch {
		case !called(op):
		case spec.CallTimeoutMs > 0:
			deadline = bound(spec.CallTimeoutMs, CallTimeoutMax)
		case retry.CallTimeoutMs > 0:
			deadline = bound(retry.CallTimeoutMs, CallTimeoutMax)
		}
		if got := float64(c.callTimeout(d).Milliseconds()); got != deadline {
			rt.Fatalf("a deadline of %v ms, want %v", got, deadline)
		}

		// How often.
		attempts := uint32(0)
		if op == fsm.OperationAction && (mode == logpb.Mode_MODE_SAGA || mode == logpb.Mode_MODE_NOTIFY) {
			for _, n := range []uint32{spec.AttemptsMax, retry.AttemptsMax, map[bool]uint32{true: 7}[mode == logpb.Mode_MODE_NOTIFY]} {
				if attempts == 0 {
					attempts = n
				}
			}
		}
		if got := c.attemptsMax(d); got != attempts {
			rt.Fatalf("at most %d attempts, want %d", got, attempts)
		}
	})
}

// recordWith is a transaction of a mode, with a plan that says how to try again.
func (w *world) recordWith(mode fsm.Mode, retry *logpb.Retry) fsm.Record {
	begin := &logpb.Begin{
		Gid: w.gid().Bytes(), Namespace: DefaultNamespace, Mode: mode, Entry: logpb.Entry_ENTRY_EXPLICIT, Plan: &logpb.Plan{Retry: retry},
	}
	command := &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: begin, Set: []*logpb.BranchSpec{stepOf("01")}}}}
	switch mode {
	case logpb.Mode_MODE_TWO_PHASE:
		begin.Plan, begin.TimeoutMs, command = nil, 60_000, &logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}}
	case logpb.Mode_MODE_TCC:
		begin.TimeoutMs, command = 60_000, &logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}}
	case logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_NOTIFY:
		command.GetSubmit().Set = []*logpb.BranchSpec{actionOf("01")}
	}
	if r := w.apply(command)[0]; r.Code != fsm.OK {
		w.t.Fatalf("%v %s", r.Code, r.Detail)
	}
	rec, ok := w.state.Read(fsm.GID(begin.Gid))
	if !ok {
		w.t.Fatal("no record")
	}
	return rec
}
