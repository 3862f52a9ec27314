package coordinator

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Effect is something that the core asks its runner to do. Effects must be
// performed in the order in which they were asked.
type Effect interface{ effect() }

// SendDeliveries puts all that a step sends on one session on its queue. The core
// never has more outstanding than the session's window.
type SendDeliveries struct {
	Session    SessionID
	Deliveries []Delivery
}

// SendVouchFor asks a session whether it still holds these branches.
type SendVouchFor struct {
	Session  SessionID
	Branches []BranchRef
}

// CloseSession ends a session. The core has forgotten it.
type CloseSession struct {
	Session SessionID
	Cause   error
}

// StartCall calls a branch's endpoint; the answer comes back by Core.Called.
type StartCall struct{ Delivery Delivery }

// Propose appends a command; its result comes back by Core.Proposed with the
// token, unless that is 0. Commands of several effects may share an entry, in any
// order.
type Propose struct {
	Token   uint64
	Command *logpb.Command
	// Replies are told the result first: of a packed command one for each part, in
	// order. One that is nil is nobody's.
	Replies []Reply
	// Rides says that nothing hangs on when it is appended: it may wait for an entry of
	// somebody else's, until HurryReports.
	Rides bool
}

// HurryReports appends what waits for an entry of somebody else's: somebody waits.
type HurryReports struct{}

// Reply hears what came of a report: the result of its command, or why there is none.
// Core does not call it; the runner does.
type Reply func(r fsm.Result, err error)

// AnswerReport answers a report that was not appended.
type AnswerReport struct {
	Reply Reply
	Err   error
}

// AnswerWaiter ends a caller's wait. Lost says that leadership went first: the
// outcome is then unknown, and Status says what stood.
type AnswerWaiter struct {
	Waiter uint64
	Status Status
	Lost   bool
}

// HitFailpoint passes a named place of the protocol for a transaction's key.
// It is asked for only where Core was told that failpoints are armed. A pause
// there holds up the whole driver, as a leader that stalls does; an injected
// error changes nothing.
type HitFailpoint struct{ Name, Key string }

// Warn tells people about a branch that is stuck, or another oddity.
type Warn struct {
	Message string
	GID     fsm.GID
	Branch  string
	Detail  string
}

func (SendDeliveries) effect() {}
func (SendVouchFor) effect()   {}
func (CloseSession) effect()   {}
func (StartCall) effect()      {}
func (Propose) effect()        {}
func (HurryReports) effect()   {}
func (AnswerReport) effect()   {}
func (AnswerWaiter) effect()   {}
func (HitFailpoint) effect()   {}
func (Warn) effect()           {}
