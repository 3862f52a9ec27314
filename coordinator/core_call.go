package coordinator

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// call is a request to an endpoint that is under way. It holds its place in the
// pool until it ends, and no other call to its branch begins before: of an action
// and its compensation that ran side by side nobody could say what was done.
//
// A branch has at most one. It outlives its delivery where the branch is asked
// for something else meanwhile.
type call struct {
	ref      BranchRef
	op       fsm.Operation
	mode     fsm.Mode
	attempt  uint32
	protocol string
	r        *resource
	d        *delivery // nil once it is due no more
	began    time.Time
	// most is the core's own limit. flying calls are in Core.flying, between before and after;
	// limit is the timer of one that is not.
	most          time.Duration
	flying        bool
	before, after *call
	limit         timer
	// hangs: it takes so long that its resource's share is not kept from others for
	// it. doubtful: it hangs, or began while its resource failed.
	hangs, doubtful bool
	standing        standing // its resource's, when it began
}

// callHangsAfter is how long a call may take before it stops counting against its
// resource's share.
const callHangsAfter = time.Second

// routeCall calls a branch, or the initiator back.
func (c *Core) routeCall(d *delivery) {
	endpoint := endpointOf(d.spec, d.op)
	switch other := c.under[d.ref()]; {
	case other != nil:
		d.phase = phaseHeld
		d.lastErr = fmt.Sprintf("waits for the end of the branch's %s, which is in flight", operationName(other.op))
	case endpoint != "":
		c.queueCall(d)
	case callsBack(d.op):
		c.park(d, "the transaction names no endpoint to call back")
	default:
		c.answered(d, Answered{Detail: "nothing to call"})
	}
}

func (d *delivery) ref() BranchRef { return BranchRef{GID: d.t.gid, Branch: d.branch} }

// queueCall queues a delivery for a place in the pool.
func (c *Core) queueCall(d *delivery) {
	d.phase = phaseReady
	if d.attempts == 0 {
		d.r.fresh.push(d)
	} else {
		d.r.ready.push(d)
	}
	c.turn(d.r)
}

// startCall calls an endpoint. The caller's context ends at the call's timeout; the
// core's own limit is there for a Caller that does not heed it.
func (c *Core) startCall(r *resource, d *delivery) {
	d.leave(queueLink)
	d.phase, d.last = phaseInFlight, c.now
	d.attempts++
	k := &call{
		ref: d.ref(), op: d.op, mode: d.t.mode(), attempt: d.attempts, protocol: protocolOf(endpointOf(d.spec, d.op)),
		r: r, d: d, began: c.now, most: 2 * c.callTimeout(d), standing: r.standing(),
	}
	d.call = k
	c.under[k.ref] = k
	c.takePlace(k)
	r.freshNext = k.attempt > 1
	if k.attempt == 1 {
		r.newcomers++
	}
	if r.failures > 0 {
		c.doubt(k)
	}
	c.watchCall(k)
	c.ask(StartCall{Delivery: c.told(d)})
}

func protocolOf(endpoint string) string {
	if strings.HasPrefix(endpoint, "grpc") {
		return ProtocolGRPC
	}
	return ProtocolHTTP
}

// endCall gives back the call's place.
func (c *Core) endCall(k *call) {
	c.flying.remove(k)
	c.timers.stop(&k.limit)
	if !k.hangs && k.attempt == 1 {
		k.r.newcomers--
	}
	c.givePlaceBack(k)
	if k.d != nil {
		k.d.call = nil
	}
	c.turn(k.r)
}

// afterCall lets go on what waited for the call's end.
func (c *Core) afterCall(k *call) {
	delete(c.under, k.ref)
	if k.d == nil {
		c.tidy(k.r)
	}
	t := c.txns[k.ref.GID]
	if t == nil {
		return
	}
	for _, d := range t.due {
		if d.phase == phaseHeld && d.branch == k.ref.Branch {
			c.route(d)
		}
	}
}

// Called brings what a StartCall effect came to. An outcome that comes late still
// counts: it says what the branch did.
func (c *Core) Called(now time.Time, told Delivery, a Answered, err error) {
	if !c.leading {
		return
	}
	c.begin(now)
	ref := BranchRef{GID: told.GID, Branch: told.Branch}
	k := c.under[ref]
	if k == nil || k.op != told.Operation || k.attempt != told.Attempt || told.Epoch.Term != c.term {
		c.calledLate(ref, told, a, err)
	} else {
		c.calledInTime(k, a, err)
	}
	c.end()
}

func (c *Core) calledInTime(k *call, a Answered, err error) {
	result := resultOf(a, err)
	c.obs.BranchCall(k.mode, k.op, k.protocol, result, c.now.Sub(k.began))
	d := k.d
	c.endCall(k)
	if err != nil {
		k.r.callFailed()
	} else {
		c.callAnswered(k.r)
	}
	if d == nil {
		c.answeredForNobody(k, a, err)
		return
	}
	delete(c.under, k.ref) // nothing waits for it while its delivery stands
	switch {
	case err != nil:
		c.attemptFailed(d, result, err.Error())
	case a.Busy:
		c.attemptFailed(d, result, a.Detail)
	default:
		c.answered(d, a)
	}
}

func resultOf(a Answered, err error) string {
	switch {
	case err != nil:
		return ResultError
	case a.Busy:
		return ResultBusy
	case a.Refused:
		return ResultRefused
	default:
		return ResultDone
	}
}

// calledLate: the core had given up on the call, or it was an earlier leadership's.
// That a branch has done what it is still asked for is a fact; all else is stale,
// a refusal too: a fence refuses an older leader.
func (c *Core) calledLate(ref BranchRef, told Delivery, a Answered, err error) {
	d := c.find(ref)
	if d == nil || d.op != told.Operation || callsBack(d.op) || err != nil || a.Busy || a.Refused || d.word != nil {
		return
	}
	c.answered(d, a)
}
