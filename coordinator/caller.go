package coordinator

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Epoch orders leaders: incarnation of the cluster first, then Raft's term.
type Epoch struct{ Incarnation, Term uint64 }

// Delivery tells one branch its outcome. It comes at least once.
type Delivery struct {
	GID      fsm.GID
	Branch   string
	Resource string
	// Endpoint is empty for a delivery over a session.
	Endpoint string
	// Operation is what the branch is asked to do. A check-back and a resume name
	// no branch.
	Operation fsm.Operation
	// Verdict is commit or rollback.
	Verdict fsm.Verdict
	// Attempt counts from 1 under one leader.
	Attempt uint32
	Epoch   Epoch
	// FloorMS bounds what a fence may sweep; ClockMS is the applied clock.
	FloorMS, ClockMS uint64

	// The rest belongs to the modes whose branches are called.

	Mode fsm.Mode
	// Key is the caller's own id of the transaction, or empty.
	Key string
	// Payload is the body of the call, raw. It must not be changed.
	Payload []byte
	// Plan holds headers, dialect and the like; nil for none. It must not be changed.
	Plan *logpb.Plan
	// Topic that the branch was made of, or empty.
	Topic string
	// Traceparent of the transaction (W3C trace context), or empty.
	Traceparent string
	// Timeout bounds the call; ctx carries it already.
	Timeout time.Duration
}

// Called says whether the delivery is a call of the modes that call their
// branches, and not the outcome of a prepared one.
func (d *Delivery) Called() bool { return called(d.Operation) }

// Caller delivers to a branch's endpoint, by gRPC or HTTP.
type Caller interface {
	// Call delivers once and returns what the branch answered. Any error means
	// that it must be asked again, as Busy does, which is no failure. ctx
	// carries the deadline of the attempt, and ends when leadership goes. Call
	// runs in a pool of goroutines.
	Call(ctx context.Context, d Delivery) (Answered, error)
}

// Answered is a branch's answer to a delivery.
type Answered struct {
	// Outcome is what a prepared branch did; it is not read for any other
	// operation, nor when Busy.
	Outcome fsm.Outcome
	// Busy: still working, ask again.
	Busy bool
	// Refused: it says that it did nothing, and never will. Only an action, a
	// check-back and a resume may be refused; the Caller answers an error for any other.
	Refused bool
	Detail  string
}

// Results of a branch call, as metrics name them.
const (
	ResultDone    = "done"    // the branch reported
	ResultBusy    = "busy"    // the branch is still working
	ResultRefused = "refused" // it says that it did nothing
	ResultError   = "error"   // the call failed, or was answered with an error
	ResultLost    = "lost"    // no answer in time, or the session went
)

// Protocols of a branch call, as metrics name them.
const (
	ProtocolSession = "session"
	ProtocolGRPC    = "grpc"
	ProtocolHTTP    = "http"
)

// Observer hears what metrics count. Its methods may be called concurrently,
// must not block, and must not call the coordinator.
type Observer interface {
	// TransactionStarted counts a transaction that this leader saw begin.
	TransactionStarted(mode fsm.Mode)
	// TransactionDecided tells how long a caller's request for a decision (a
	// commit, a submit, a rollback) took until the decision was applied.
	TransactionDecided(mode fsm.Mode, decision fsm.Decision, took time.Duration)
	// TransactionFinished tells that every branch has ended, and how long it took since
	// begin, by the cluster clock.
	TransactionFinished(mode fsm.Mode, decision fsm.Decision, took time.Duration)
	// BranchCall counts one attempt to tell a branch its outcome, or to call it.
	BranchCall(mode fsm.Mode, op fsm.Operation, protocol, result string, took time.Duration)
}
