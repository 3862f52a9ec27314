package coordinator

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Bounds of what a transaction may ask of the driver, whatever its plan says.
const (
	// RetryIntervalMax caps the delay between two calls.
	RetryIntervalMax = 24 * time.Hour
	// CallTimeoutMax caps the deadline of one call.
	CallTimeoutMax = 10 * time.Minute
)

func (d *delivery) plan() *logpb.Plan { return d.t.rec.GetBegin().GetPlan() }

// busyIntervalMax caps the delay before a branch that is still working is asked
// again, where its plan does not say.
const busyIntervalMax = time.Second

// backoff doubles with each failure up to its cap; half of it is jitter, so that
// branches that failed together are not asked again together. A called branch that
// is still working keeps to the interval that its plan gives.
func (c *Core) backoff(d *delivery) time.Duration {
	delay, most := c.intervals(d)
	doublings := d.failures
	switch {
	case d.busy > 0 && d.plan().GetRetry().GetIntervalMs() == 0:
		doublings, most = d.busy, min(most, busyIntervalMax)
	case d.busy > 0:
		doublings = 0 // its failures are over
	}
	for i := 1; i < doublings && delay < most; i++ {
		delay *= 2
	}
	delay = min(delay, most)
	return delay - time.Duration(c.random.Int64N(int64(delay)/2+1))
}

// intervals are the first delay and the longest: the plan's, or the node's.
func (c *Core) intervals(d *delivery) (least, most time.Duration) {
	least, most = c.cfg.BackoffMin, c.cfg.BackoffMax
	if !called(d.op) {
		return least, most
	}
	retry := d.plan().GetRetry()
	if ms := retry.GetIntervalMs(); ms > 0 {
		least = atMost(ms, RetryIntervalMax)
		most = max(least, most)
	}
	if ms := retry.GetIntervalMaxMs(); ms > 0 {
		most = atMost(ms, RetryIntervalMax)
		least = min(least, most)
	}
	return least, most
}

func atMost(ms uint64, most time.Duration) time.Duration {
	if ms > uint64(most.Milliseconds()) {
		return most
	}
	return milliseconds(ms)
}

// callTimeout bounds one call: the step's own word, the plan's, or the node's.
func (c *Core) callTimeout(d *delivery) time.Duration {
	if called(d.op) {
		if ms := d.spec.GetCallTimeoutMs(); ms > 0 {
			return atMost(ms, CallTimeoutMax)
		}
		if ms := d.plan().GetRetry().GetCallTimeoutMs(); ms > 0 {
			return atMost(ms, CallTimeoutMax)
		}
	}
	return c.cfg.DeliveryTimeout
}

// attemptsMax bounds the attempts without an answer; 0 for no bound. Only actions
// that may fail have one: what must be done is tried for ever.
func (c *Core) attemptsMax(d *delivery) uint32 {
	if d.op != fsm.OperationAction {
		return 0
	}
	most := d.spec.GetAttemptsMax()
	if most == 0 {
		most = d.plan().GetRetry().GetAttemptsMax()
	}
	switch d.t.mode() {
	case logpb.Mode_MODE_SAGA:
		return most
	case logpb.Mode_MODE_NOTIFY:
		if most == 0 {
			return uint32(c.cfg.NotifyAttemptsMax)
		}
		return most
	default:
		return 0
	}
}

// notBefore is the cluster clock before which something due is not called. A plan
// that does not say when to call back leaves it to the node.
func (c *Core) notBefore(t *txn, b fsm.DueBranch) uint64 {
	if callsBack(b.Operation) && t.rec.GetBegin().GetPlan().GetCallbackAfterMs() == 0 {
		return t.rec.GetBegan().GetClockMs() + uint64(c.cfg.CallbackAfter.Milliseconds())
	}
	return b.NotBeforeMS
}

// delay holds a delivery back until the cluster clock has come to its time. A
// message whose initiator is lost is checked back at once.
func (c *Core) delay(d *delivery) bool {
	if d.notBeforeMS == 0 || d.notBeforeMS <= c.tick.clockMS(c.now) || c.initiatorLost(d) {
		return false
	}
	d.phase = phaseDelayed
	left := d.notBeforeMS - c.tick.clockMS(c.now)
	c.timers.await(d, c.now.Add(atMost(left, RetryIntervalMax)))
	return true
}

func (c *Core) initiatorLost(d *delivery) bool {
	if d.op != fsm.OperationCheckBack {
		return false
	}
	id, ok := instanceOf(d.t.rec.GetBegin().GetHolder())
	return ok && c.holders[id] != nil && c.holders[id].lost
}

// checkBackIfLost asks at once about a message whose initiator was just lost.
func (c *Core) checkBackIfLost(t *txn) {
	for _, d := range t.due {
		if d.phase == phaseDelayed && c.initiatorLost(d) {
			c.route(d)
		}
	}
}

// operationName is an operation as people and headers say it.
func operationName(op fsm.Operation) string {
	switch op {
	case fsm.OperationCommit:
		return "commit"
	case fsm.OperationRollback:
		return "rollback"
	case fsm.OperationAction:
		return "action"
	case fsm.OperationCompensate:
		return "compensate"
	case fsm.OperationConfirm:
		return "confirm"
	case fsm.OperationCancel:
		return "cancel"
	case fsm.OperationCheckBack:
		return "check-back"
	case fsm.OperationResume:
		return "resume"
	default:
		return "nothing"
	}
}
