package fsm

import (
	"bytes"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// What modes with called branches carry beyond Begin: first what is malformed
// whatever stands, then what is over a limit where it would be stored.

// topicScheme is how an endpoint names a topic.
const topicScheme = "topic://"

// topicOf is the topic that an endpoint names.
func topicOf(endpoint string) (name string, ok bool) {
	return strings.CutPrefix(endpoint, topicScheme)
}

// checkPlan refuses a malformed plan, and what the mode has no use for.
func checkPlan(rules *modeRules, b *logpb.Begin) (Result, bool) {
	plan := b.GetPlan()
	if n := len(b.GetHolder()); n != 0 && n != 16 {
		return invalid("holder", "is of %d bytes: an instance id has 16", n), false
	}
	if rules.votes && (plan != nil || len(b.GetBranches()) > 0) {
		return invalid("plan", "belongs to modes whose branches are called: %s has none", rules.name), false
	}
	if !rules.prepares && len(b.GetBranches()) > 0 {
		return invalid("branches", "come with the begin of a message only, not of %s", rules.name), false
	}
	if plan == nil {
		return Result{}, true
	}
	if d := plan.GetDialect(); d < 0 || d > logpb.Dialect_DIALECT_DTM_JSON_RPC {
		return invalid("plan.dialect", "%d is unknown", d), false
	}
	for _, f := range []struct{ field, value string }{
		{"plan.callback", plan.GetCallback()}, {"plan.dialect_mode", plan.GetDialectMode()},
		{"plan.workflow", plan.GetWorkflow()},
	} {
		if refusal, ok := checkPrintable(f.field, f.value); !ok {
			return refusal, false
		}
	}
	return checkLabels("plan.headers", plan.GetHeaders())
}

// checkPrepared refuses what a Begin alone cannot begin with.
func checkPrepared(b *logpb.Begin) (Result, bool) {
	rules, _ := rulesOf(b.GetMode())
	if !rules.prepares {
		return Result{}, true
	}
	if b.GetPlan().GetCallback() == "" && !dialected(b) {
		return invalid("plan.callback", "is empty: nobody could be asked whether the local transaction committed"), false
	}
	return checkCalled(b, "branches", b.GetBranches())
}

// dialected says that the caller speaks another tongue, in which an empty
// endpoint is instant success.
func dialected(b *logpb.Begin) bool { return b.GetPlan().GetDialect() != 0 }

// checkCalled refuses a malformed set of branches that will be called.
func checkCalled(b *logpb.Begin, field string, set []*logpb.BranchSpec) (Result, bool) {
	if len(set) == 0 {
		return invalid(field, "is empty: a %s has at least one branch", ModeName(b.GetMode())), false
	}
	ordered := false
	for i, spec := range set {
		if refusal, ok := checkSpec(field, spec); !ok {
			return refusal, false
		}
		if i > 0 && set[i-1].GetId() >= spec.GetId() {
			return invalid(field, "is not sorted by unique ids at %q", spec.GetId()), false
		}
		if refusal, ok := checkCall(b, field, spec); !ok {
			return refusal, false
		}
		ordered = ordered || len(spec.GetAfter()) > 0
	}
	if !ordered {
		return Result{}, true
	}
	return checkOrder(field, set)
}

// checkCall refuses a branch that could not be called.
func checkCall(b *logpb.Begin, field string, spec *logpb.BranchSpec) (Result, bool) {
	rules, _ := rulesOf(b.GetMode())
	id := spec.GetId()
	name, isTopic := topicOf(spec.GetEndpoint())
	switch {
	case spec.GetHeld():
		return invalid(field+".held", "of branch %q belongs to two-phase", id), false
	case spec.GetTopic() != "":
		return invalid(field+".topic", "of branch %q is not the caller's to set: its endpoint is %sNAME", id, topicScheme), false
	case isTopic && !rules.topics:
		return invalid(field+".endpoint", "of branch %q is a topic: a %s has none", id, rules.name), false
	case isTopic && name == "":
		return invalid(field+".endpoint", "of branch %q names no topic", id), false
	case spec.GetEndpoint() == "" && spec.GetUndo() != "" && !dialected(b):
		return invalid(field+".endpoint", "of branch %q is empty: there is nothing that its undo could undo", id), false
	case spec.GetEndpoint() == "" && !dialected(b):
		return invalid(field+".endpoint", "of branch %q is empty: it names nobody to call", id), false
	case spec.GetUndo() == "" && rules.onCommit == OperationConfirm && !dialected(b):
		return invalid(field+".undo", "of branch %q is empty: what was tried could not be cancelled", id), false
	}
	for i, before := range spec.GetAfter() {
		if refusal, ok := checkBranchID(field+".after", before); !ok {
			return refusal, false
		}
		if before == id {
			return invalid(field+".after", "of branch %q names itself", id), false
		}
		if i > 0 && spec.GetAfter()[i-1] >= before {
			return invalid(field+".after", "of branch %q is not sorted by unique ids at %q", id, before), false
		}
	}
	return Result{}, true
}

// checkPlain refuses what a branch that votes has no use for.
func checkPlain(field string, spec *logpb.BranchSpec) (Result, bool) {
	if spec.GetUndo() != "" || len(spec.GetPayload()) > 0 || len(spec.GetAfter()) > 0 || spec.GetTopic() != "" {
		return invalid(field, "%q has an undo, a payload, an order or a topic: a branch that votes has none", spec.GetId()), false
	}
	return Result{}, true
}

// limitPlan refuses a plan that is over a limit.
func (s *State) limitPlan(plan *logpb.Plan) (Result, bool) {
	if most := s.limits.GetHeadersMax(); len(plan.GetHeaders()) > int(most) {
		return invalid("plan.headers", "are %d: headers_max is %d", len(plan.GetHeaders()), most), false
	}
	texts := []struct{ field, value string }{
		{"plan.callback", plan.GetCallback()}, {"plan.dialect_mode", plan.GetDialectMode()},
		{"plan.workflow", plan.GetWorkflow()},
	}
	for _, h := range plan.GetHeaders() {
		texts = append(texts, struct{ field, value string }{"plan.headers", h.GetName()},
			struct{ field, value string }{"plan.headers", h.GetValue()})
	}
	for _, f := range texts {
		if refusal, ok := checkLength(f.field, f.value, s.limits.GetTextBytesMax()); !ok {
			return refusal, false
		}
	}
	return s.limitPayload("plan.callback_payload", plan.GetCallbackPayload())
}

// limitPayload refuses a payload, or a result, that is too long.
func (s *State) limitPayload(field string, payload []byte) (Result, bool) {
	if most := s.limits.GetPayloadBytesMax(); len(payload) > int(most) {
		return invalid(field, "is of %d bytes: payload_bytes_max is %d", len(payload), most), false
	}
	return Result{}, true
}

// limitCalled refuses branches that t, which they have not joined yet, has no
// room for.
func (s *State) limitCalled(t *transaction, field string, joining ...*logpb.BranchSpec) (Result, bool) {
	if refusal, ok := s.limitJoin(t, field, joining...); !ok {
		return refusal, false
	}
	added := 0
	for _, spec := range joining {
		if refusal, ok := checkLength(field+".undo", spec.GetUndo(), s.limits.GetTextBytesMax()); !ok {
			return refusal, false
		}
		if refusal, ok := s.limitPayload(field+".payload", spec.GetPayload()); !ok {
			return refusal, false
		}
		added += len(spec.GetPayload())
	}
	return s.limitBytes(t, added)
}

// limitBytes refuses what would make the transaction too large.
func (s *State) limitBytes(t *transaction, added int) (Result, bool) {
	if most := s.limits.GetTransactionBytesMax(); uint64(t.payloadBytes()+added) > most {
		return quota(t.gid, "transaction_bytes_max", most), false
	}
	return Result{}, true
}

// payloadBytes counts what callers sent and branches returned.
func (t *transaction) payloadBytes() int {
	plan := t.begin.GetPlan()
	n := len(t.result()) + len(plan.GetCallbackPayload()) + len(plan.GetDialectData())
	for _, h := range plan.GetHeaders() {
		n += len(h.GetName()) + len(h.GetValue())
	}
	for _, b := range t.branches {
		n += len(b.spec.GetPayload()) + len(b.result())
	}
	return n
}

// limitEnlist refuses a branch that the transaction's mode could not call, or
// has no room for.
func (s *State) limitEnlist(t *transaction, spec *logpb.BranchSpec) (Result, bool) {
	if t.rules().votes {
		if refusal, ok := checkPlain("branch", spec); !ok {
			return refusal, false
		}
		return s.limitJoin(t, "branch", spec)
	}
	if refusal, ok := checkCall(t.begin, "branch", spec); !ok {
		return refusal, false
	}
	// Each names such as stand, so that no circle can come about.
	for _, before := range spec.GetAfter() {
		if t.member(before) == nil {
			return invalid("branch.after", "of branch %q names %q, which is no branch of %s", spec.GetId(), before, t.gid), false
		}
	}
	return s.limitCalled(t, "branch", spec)
}

// limitResult refuses a result of the initiator's code that cannot be kept.
func (s *State) limitResult(t *transaction, result []byte) (Result, bool) {
	if len(result) == 0 {
		return Result{}, true
	}
	if !t.rules().records {
		return t.notIn("result"), false
	}
	if refusal, ok := s.limitPayload("result", result); !ok {
		return refusal, false
	}
	return s.limitBytes(t, len(result))
}

// keepResult keeps what comes with a rollback, which no limit may refuse.
func (s *State) keepResult(t *transaction, result []byte) {
	if _, ok := s.limitResult(t, result); ok {
		t.setResult(result)
	}
}

// letGo forgets what nobody will be called with any more: a hash of each
// payload stays. Results stay.
func (s *State) letGo(t *transaction) {
	if t.rules().votes {
		return
	}
	if slices.ContainsFunc(t.branches, func(b *branch) bool { return len(b.spec.GetPayload()) > 0 }) {
		room := s.goneRoom(t)
		for i := range t.branches { // all: decode.go made their specs in one piece of memory
			b, g := t.editAt(nil, i), &room[i]
			if payload := b.spec.GetPayload(); len(payload) > 0 {
				g.hash = hashRecord(payload)
				g.more = branchMore{operation: b.operation(), result: b.result(), payloadHash: g.hash[:]}
				b.more = &g.more
			}
			copyWithoutPayload(&g.spec, b.spec)
			b.spec = &g.spec
		}
	}
	if plan := t.begin.GetPlan(); len(plan.GetCallbackPayload()) > 0 {
		lean := copyPlan(plan)
		lean.CallbackPayload = nil
		t.begin, t.written = withPlan(t.begin, lean), ""
	}
}

// setDelay keeps a message's delay that came with its commit. What its content
// was is kept as a hash, so a repeated Begin is still the same.
func (t *transaction) setDelay(ms uint64) {
	if ms != 0 {
		plan := copyPlan(t.begin.GetPlan())
		plan.DelayMs = ms
		t.begin, t.written = withPlan(t.begin, plan), ""
	}
}

// copyPlan is a copy that shares what it can: what stands is never edited.
func copyPlan(p *logpb.Plan) *logpb.Plan {
	return &logpb.Plan{
		Retry: p.GetRetry(), Callback: p.GetCallback(), CallbackPayload: p.GetCallbackPayload(), CallbackAfterMs: p.GetCallbackAfterMs(),
		ConcurrencyMax: p.GetConcurrencyMax(), DelayMs: p.GetDelayMs(), Headers: p.GetHeaders(),
		Dialect: p.GetDialect(), DialectMode: p.GetDialectMode(), DialectData: p.GetDialectData(), Workflow: p.GetWorkflow(),
	}
}

// withoutPayload is a copy that shares what it can: what stands is never edited.
func withoutPayload(s *logpb.BranchSpec) *logpb.BranchSpec {
	lean := new(logpb.BranchSpec)
	copyWithoutPayload(lean, s)
	return lean
}

// copyWithoutPayload is withoutPayload, with the memory for the copy, which is empty.
func copyWithoutPayload(to, s *logpb.BranchSpec) {
	to.Id, to.Resource, to.Endpoint, to.Held, to.Holder = s.GetId(), s.GetResource(), s.GetEndpoint(), s.GetHeld(), s.GetHolder()
	to.Undo, to.After, to.AttemptsMax, to.CallTimeoutMs = s.GetUndo(), s.GetAfter(), s.GetAttemptsMax(), s.GetCallTimeoutMs()
	to.Topic = s.GetTopic()
}

// withPlan is a copy of a Begin with another plan, and without branches: those
// of a record stand on their own. Its GID is one of its own: decode.go made b's in one
// piece of memory with b, which would keep the other plan.
func withPlan(b *logpb.Begin, plan *logpb.Plan) *logpb.Begin {
	return &logpb.Begin{
		Gid: bytes.Clone(b.GetGid()), Namespace: b.GetNamespace(), Key: b.GetKey(), Mode: b.GetMode(), Entry: b.GetEntry(),
		TimeoutMs: b.GetTimeoutMs(), Labels: b.GetLabels(), Traceparent: b.GetTraceparent(), Initiator: b.GetInitiator(),
		Plan: plan, Holder: b.GetHolder(),
	}
}

// sortSpecs sorts branches by their ids.
func sortSpecs(list []*logpb.BranchSpec) {
	slices.SortFunc(list, func(a, b *logpb.BranchSpec) int { return strings.Compare(a.GetId(), b.GetId()) })
}
