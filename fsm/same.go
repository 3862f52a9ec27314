package fsm

import (
	"bytes"
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// What tells "same" from "other", so that a command may be repeated after any
// error (PROTOCOL.md, section 2).

// sameBegin compares the content of Begin, but for the GID: what stands for a
// key is compared by it too. Trace and initiator never count. branches are
// those that the command carries, of a Begin or of a Submit.
func (t *transaction) sameBegin(b *logpb.Begin, branches []*logpb.BranchSpec) bool {
	mine := t.begin
	if t.tombstone || mine.GetNamespace() != b.GetNamespace() || mine.GetKey() != b.GetKey() ||
		mine.GetMode() != b.GetMode() || mine.GetEntry() != b.GetEntry() ||
		mine.GetTimeoutMs() != b.GetTimeoutMs() || len(mine.GetLabels()) != len(b.GetLabels()) {
		return false
	}
	for i, l := range mine.GetLabels() {
		other := b.GetLabels()[i]
		if l.GetName() != other.GetName() || l.GetValue() != other.GetValue() {
			return false
		}
	}
	return t.rules().votes || bytes.Equal(t.content(), contentOf(b.GetPlan(), branches))
}

// contentOf is the hash of a plan and branches, nil where there are none.
// Branches of a prepared message and the set of one that is submitted at once
// are the same content.
func contentOf(plan *logpb.Plan, branches []*logpb.BranchSpec) []byte {
	if plan == nil && len(branches) == 0 {
		return nil
	}
	h := hashRecord(appendContent(nil, plan, branches))
	return h[:]
}

// appendContent appends what contentOf hashes.
func appendContent(b []byte, plan *logpb.Plan, branches []*logpb.BranchSpec) []byte {
	b = appendMessage(b, 1, func(d []byte) []byte { return appendPlan(d, plan) })
	for _, spec := range branches {
		b = appendMessage(b, 2, func(d []byte) []byte { return appendSpec(d, spec) })
	}
	return b
}

// contentMore is what a record has more whose creating command had that plan and those
// branches.
func (s *State) contentMore(plan *logpb.Plan, branches []*logpb.BranchSpec) *txMore {
	if plan == nil && len(branches) == 0 {
		return new(txMore)
	}
	s.scratch = appendContent(s.scratch[:0], plan, branches)
	m := &struct { // one piece of memory
		txMore
		hash Digest
	}{hash: hashRecord(s.scratch)}
	m.content = m.hash[:]
	return &m.txMore
}

// same compares the content of Enlist with what stands.
func (b *branch) same(spec *logpb.BranchSpec) bool {
	return sameSpec(b.spec, spec) && b.samePayload(spec.GetPayload())
}

// sameSpec compares the content of Enlist, but for the payload.
func sameSpec(a, b *logpb.BranchSpec) bool {
	return a.GetResource() == b.GetResource() && a.GetEndpoint() == b.GetEndpoint() &&
		a.GetHeld() == b.GetHeld() && string(a.GetHolder()) == string(b.GetHolder()) &&
		a.GetUndo() == b.GetUndo() && slices.Equal(a.GetAfter(), b.GetAfter()) &&
		a.GetAttemptsMax() == b.GetAttemptsMax() && a.GetCallTimeoutMs() == b.GetCallTimeoutMs()
}

// samePayload compares a payload with what stands, or stood.
func (b *branch) samePayload(payload []byte) bool {
	if len(b.payloadHash()) == 0 {
		return bytes.Equal(b.spec.GetPayload(), payload)
	}
	return len(payload) > 0 && bytes.Equal(b.payloadHash(), hashPayload(payload))
}

func hashPayload(payload []byte) []byte {
	h := hashRecord(payload)
	return h[:]
}

// gone is what a branch has in place of its payload once that was let go of.
type gone struct {
	spec logpb.BranchSpec
	more branchMore
	hash Digest
}
