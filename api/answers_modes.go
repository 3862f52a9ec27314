package api

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// dialectNames are dialects' numbers turned back.
var dialectNames = func() map[logpb.Dialect]string {
	names := make(map[logpb.Dialect]string, len(dialects))
	for _, name := range slices.Sorted(maps.Keys(dialects)) {
		names[dialects[name]] = name
	}
	return names
}()

// planAnswer is what the modes with called branches carry; nil stays nil.
func planAnswer(plan *logpb.Plan) *quoratev1.Plan {
	if plan == nil {
		return nil
	}
	answer := &quoratev1.Plan{
		Retry: retryAnswer(plan.GetRetry()), Callback: plan.GetCallback(), CallbackPayload: plan.GetCallbackPayload(),
		CallbackAfter: someMilliseconds(plan.GetCallbackAfterMs()), ConcurrencyMax: plan.GetConcurrencyMax(),
		Delay: someMilliseconds(plan.GetDelayMs()), Workflow: plan.GetWorkflow(),
		Dialect: dialectNames[plan.GetDialect()], DialectMode: plan.GetDialectMode(), DialectData: plan.GetDialectData(),
	}
	for _, header := range plan.GetHeaders() {
		if answer.Headers == nil {
			answer.Headers = make(map[string]string)
		}
		answer.Headers[header.GetName()] = header.GetValue()
	}
	return answer
}

func retryAnswer(retry *logpb.Retry) *quoratev1.Retry {
	if retry == nil {
		return nil
	}
	return &quoratev1.Retry{
		Interval: someMilliseconds(retry.GetIntervalMs()), IntervalMax: someMilliseconds(retry.GetIntervalMaxMs()),
		AttemptsMax: retry.GetAttemptsMax(), CallTimeout: someMilliseconds(retry.GetCallTimeoutMs()),
	}
}

// someMilliseconds is nil for 0, which stands for "as the node has it".
func someMilliseconds(ms uint64) *durationpb.Duration {
	if ms == 0 {
		return nil
	}
	return millisecondsAnswer(ms)
}

// operationOf is what a branch is asked to do, or was asked last, as the record
// tells; a delivery under way knows better.
func operationOf(t *logpb.Transaction, b *logpb.Branch) fsm.Operation {
	committing := t.GetDecision() == fsm.DecisionCommit
	switch mode := t.GetBegin().GetMode(); {
	case mode == logpb.Mode_MODE_SAGA && t.GetDecision() == fsm.DecisionRollback && b.GetOwn() != logpb.Own_OWN_UNSPECIFIED:
		return fsm.OperationCompensate
	case mode == logpb.Mode_MODE_SAGA && b.GetVote() != logpb.VoteKind_VOTE_KIND_UNSPECIFIED:
		return fsm.OperationAction
	case mode == logpb.Mode_MODE_SAGA, mode == logpb.Mode_MODE_WORKFLOW, t.GetDecision() == fsm.DecisionNone:
		return 0
	case mode == logpb.Mode_MODE_TCC && committing:
		return fsm.OperationConfirm
	case mode == logpb.Mode_MODE_TCC:
		return fsm.OperationCancel
	case mode == logpb.Mode_MODE_MESSAGE, mode == logpb.Mode_MODE_NOTIFY:
		return fsm.OperationAction
	case committing:
		return fsm.OperationCommit
	default:
		return fsm.OperationRollback
	}
}

// ended tells whether nothing more is expected of a branch: what it said itself
// ended it, or what became of the transaction.
func ended(t *logpb.Transaction, b *logpb.Branch) bool {
	mode := t.GetBegin().GetMode()
	switch {
	case terminal(b):
		return true
	case !traitsOf(mode).called || t.GetTombstone():
		return false
	case mode == logpb.Mode_MODE_WORKFLOW:
		return true // what is recorded has ended
	case t.GetState() == fsm.StateCommitted, t.GetState() == fsm.StateRolledBack:
		return true
	case t.GetDecision() == fsm.DecisionRollback:
		return b.GetSpec().GetUndo() == "" || mode == logpb.Mode_MODE_SAGA && !mayBeDone(t, b)
	default: // nobody is called where no endpoint is named
		return t.GetDecision() == fsm.DecisionCommit && b.GetSpec().GetEndpoint() == ""
	}
}

// mayBeDone tells whether a saga's step was called, or may have been: what it
// comes after is done.
func mayBeDone(t *logpb.Transaction, b *logpb.Branch) bool {
	if b.GetVote() != logpb.VoteKind_VOTE_KIND_UNSPECIFIED {
		return true
	}
	for _, before := range b.GetSpec().GetAfter() {
		for _, other := range t.GetBranches() {
			if other.GetSpec().GetId() == before && other.GetVote() != logpb.VoteKind_VOTE_KIND_PREPARED {
				return false
			}
		}
	}
	return true
}

// callbackAnswer is nil where the initiator is not being asked.
func callbackAnswer(status *coordinator.DeliveryStatus) *quoratev1.Delivery {
	if status == nil {
		return nil
	}
	return deliveryAnswer(*status)
}

func topicAnswer(topic *logpb.Topic) *quoratev1.Topic {
	if topic == nil {
		return nil
	}
	answer := &quoratev1.Topic{
		Name: topic.GetName(), Version: topic.GetVersion(), Created: stampAnswer(topic.GetCreated()), Updated: stampAnswer(topic.GetUpdated()),
	}
	for _, s := range topic.GetSubscribers() {
		answer.Subscribers = append(answer.Subscribers, &quoratev1.Subscriber{Endpoint: s.GetEndpoint(), Remark: s.GetRemark()})
	}
	return answer
}
