package fsm

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/fsm/logpb"
)

// A record's bytes are hashed into the digest that nodes compare and are what
// a snapshot holds. They are written here by hand, field by field in order of
// number, because the protobuf library promises no stable bytes from one
// version of itself to the next, and nodes of two versions must agree.

// appendTransaction appends the logpb.Transaction of t.
func appendTransaction(dst []byte, t *transaction) []byte {
	var memo stampMemo
	if t.written != "" {
		dst = appendText(dst, 1, t.written)
	} else {
		dst = appendMessage(dst, 1, func(d []byte) []byte { return appendBegin(d, t.begin) })
	}
	dst = appendUint(dst, 2, uint64(t.state))
	dst = appendBool(dst, 3, t.tombstone)
	dst = appendBool(dst, 4, t.quarantined)
	dst = appendBool(dst, 5, t.sealed)
	dst = appendBool(dst, 6, t.submitted)
	dst = appendUint(dst, 7, uint64(t.decision))
	dst = appendUint(dst, 8, uint64(t.reason))
	dst = appendText(dst, 9, t.detail)
	dst = appendUint(dst, 10, uint64(t.origin))
	dst = appendText(dst, 11, t.operator)
	dst = appendUint(dst, 12, t.deadlineMS)
	dst = appendBool(dst, 13, t.withheld)
	for _, b := range t.branches {
		at := 0
		dst, at = openMessage(dst, 14)
		dst = closeMessage(appendBranch(dst, b, &memo), at)
	}
	dst = memo.append(dst, 15, t.began)
	dst = memo.append(dst, 16, t.sealedAt)
	dst = memo.append(dst, 17, t.decided)
	dst = memo.append(dst, 18, t.finished)
	dst = appendUint(dst, 19, t.filedMS)
	dst = appendBytes(dst, 20, t.content())
	dst = appendBytes(dst, 21, t.result())
	return appendBool(dst, 22, t.stopped)
}

func appendBegin(dst []byte, b *logpb.Begin) []byte {
	dst = appendBytes(dst, 1, b.GetGid())
	dst = appendText(dst, 2, b.GetNamespace())
	dst = appendText(dst, 3, b.GetKey())
	dst = appendUint(dst, 4, uint64(b.GetMode()))
	dst = appendUint(dst, 5, uint64(b.GetEntry()))
	dst = appendUint(dst, 6, b.GetTimeoutMs())
	dst = appendLabels(dst, 7, b.GetLabels())
	dst = appendText(dst, 8, b.GetTraceparent())
	dst = appendText(dst, 9, b.GetInitiator())
	if b.GetPlan() != nil {
		dst = appendMessage(dst, 10, func(d []byte) []byte { return appendPlan(d, b.GetPlan()) })
	}
	for _, spec := range b.GetBranches() {
		dst = appendMessage(dst, 11, func(d []byte) []byte { return appendSpec(d, spec) })
	}
	return appendBytes(dst, 12, b.GetHolder())
}

func appendLabels(dst []byte, field protowire.Number, labels []*logpb.Label) []byte {
	for _, l := range labels {
		dst = appendMessage(dst, field, func(d []byte) []byte {
			d = appendText(d, 1, l.GetName())
			return appendText(d, 2, l.GetValue())
		})
	}
	return dst
}

func appendPlan(dst []byte, p *logpb.Plan) []byte {
	if r := p.GetRetry(); r != nil {
		dst = appendMessage(dst, 1, func(d []byte) []byte {
			d = appendUint(d, 1, r.GetIntervalMs())
			d = appendUint(d, 2, r.GetIntervalMaxMs())
			d = appendUint(d, 3, uint64(r.GetAttemptsMax()))
			return appendUint(d, 4, r.GetCallTimeoutMs())
		})
	}
	dst = appendText(dst, 2, p.GetCallback())
	dst = appendBytes(dst, 3, p.GetCallbackPayload())
	dst = appendUint(dst, 4, p.GetCallbackAfterMs())
	dst = appendUint(dst, 5, uint64(p.GetConcurrencyMax()))
	dst = appendUint(dst, 6, p.GetDelayMs())
	dst = appendLabels(dst, 7, p.GetHeaders())
	dst = appendUint(dst, 8, uint64(p.GetDialect()))
	dst = appendText(dst, 9, p.GetDialectMode())
	dst = appendBytes(dst, 10, p.GetDialectData())
	return appendText(dst, 11, p.GetWorkflow())
}

func appendSpec(dst []byte, spec *logpb.BranchSpec) []byte {
	dst = appendText(dst, 1, spec.GetId())
	dst = appendText(dst, 2, spec.GetResource())
	dst = appendText(dst, 3, spec.GetEndpoint())
	dst = appendBool(dst, 4, spec.GetHeld())
	dst = appendBytes(dst, 5, spec.GetHolder())
	dst = appendText(dst, 6, spec.GetUndo())
	dst = appendBytes(dst, 7, spec.GetPayload())
	for _, id := range spec.GetAfter() {
		dst = protowire.AppendTag(dst, 8, protowire.BytesType)
		dst = protowire.AppendString(dst, id)
	}
	dst = appendUint(dst, 9, uint64(spec.GetAttemptsMax()))
	dst = appendUint(dst, 10, spec.GetCallTimeoutMs())
	return appendText(dst, 11, spec.GetTopic())
}

func appendBranch(dst []byte, b *branch, memo *stampMemo) []byte {
	dst, at := openMessage(dst, 1)
	dst = closeMessage(appendSpec(dst, b.spec), at)
	dst = appendBool(dst, 2, b.hint)
	dst = appendUint(dst, 3, uint64(b.vote))
	dst = appendBool(dst, 4, b.maybePrepared)
	dst = appendUint(dst, 5, uint64(b.own))
	dst = appendUint(dst, 6, uint64(b.resolved))
	dst = appendText(dst, 7, b.resolvedBy)
	dst = appendText(dst, 8, b.resolvedReason)
	dst = memo.append(dst, 9, b.enlisted)
	dst = memo.append(dst, 10, b.voted)
	dst = memo.append(dst, 11, b.reported)
	dst = memo.append(dst, 12, b.resolvedAt)
	dst = appendText(dst, 13, b.detail)
	dst = appendUint(dst, 14, uint64(b.attempts))
	dst = appendUint(dst, 15, uint64(b.outcome))
	dst = appendText(dst, 16, b.operation())
	dst = appendBytes(dst, 17, b.result())
	return appendBytes(dst, 18, b.payloadHash())
}

// appendStamp appends a stamp; nil is absent.
func appendStamp(dst []byte, field protowire.Number, s *stamp) []byte {
	return new(stampMemo).append(dst, field, s)
}

// stampMemo holds the bytes of the last two stamps: those of a record are mostly of
// two entries, of the one that decided it and the one that ended it.
type stampMemo struct {
	of    [2]*stamp
	bytes [2][stampBytesMax]byte
	size  [2]uint8
	older uint8
}

// stampBytesMax is what a stamp's four fields take at most.
const stampBytesMax = 4 * (1 + 10)

// append is appendStamp.
func (m *stampMemo) append(dst []byte, field protowire.Number, s *stamp) []byte {
	if s == nil {
		return dst
	}
	var i uint8
	switch s {
	case m.of[0]:
	case m.of[1]:
		i = 1
	default:
		i = m.older
		b := appendUint(m.bytes[i][:0], 1, s.index)
		b = appendUint(b, 2, s.term)
		b = appendUint(b, 3, s.clockMS)
		b = appendUint(b, 4, s.wallMS)
		m.of[i], m.size[i] = s, uint8(len(b))
	}
	m.older = 1 - i
	dst = appendHead(dst, field, m.size[i])
	return append(dst, m.bytes[i][:m.size[i]]...)
}

// appendMessage appends a nested message.
func appendMessage(dst []byte, field protowire.Number, body func([]byte) []byte) []byte {
	dst, at := openMessage(dst, field)
	return closeMessage(body(dst), at)
}

// openMessage begins a nested message, whose body begins at the place that it returns.
func openMessage(dst []byte, field protowire.Number) ([]byte, int) {
	dst = appendHead(dst, field, 0)
	return dst, len(dst)
}

// closeMessage ends the message whose body begins there. The length stands in front of
// what it measures, so the body is written first and moved up when its length needs more
// than one byte.
func closeMessage(dst []byte, at int) []byte {
	n := len(dst) - at
	if n < 0x80 {
		dst[at-1] = byte(n)
		return dst
	}
	width := protowire.SizeVarint(uint64(n))
	for range width - 1 {
		dst = append(dst, 0)
	}
	copy(dst[at-1+width:], dst[at:at+n])
	protowire.AppendVarint(dst[:at-1], uint64(n))
	return dst
}

// appendHead appends what stands in front of a text or a message of fewer than 0x80 bytes:
// its tag, of one byte mostly, and its length.
func appendHead(dst []byte, field protowire.Number, size byte) []byte {
	if field < 1<<4 {
		return append(dst, byte(field)<<3|byte(protowire.BytesType), size)
	}
	return append(protowire.AppendTag(dst, field, protowire.BytesType), size)
}

// Most fields of a record are absent: that is seen without a call.

func appendText(dst []byte, field protowire.Number, v string) []byte {
	if v == "" {
		return dst
	}
	return putText(dst, field, v)
}

func putText[T string | []byte](dst []byte, field protowire.Number, v T) []byte {
	if len(v) < 0x80 {
		return append(appendHead(dst, field, byte(len(v))), v...)
	}
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	return append(protowire.AppendVarint(dst, uint64(len(v))), v...)
}

func appendBytes(dst []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return putText(dst, field, v)
}

func appendBool(dst []byte, field protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, field, 1)
}

// appendUint appends a varint field; zero is absent, as in proto3.
func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return putUint(dst, field, v)
}

func putUint(dst []byte, field protowire.Number, v uint64) []byte {
	if field < 1<<4 && v < 0x80 {
		return append(dst, byte(field)<<3|byte(protowire.VarintType), byte(v))
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

// fromProto reads a record's message. It takes over m's parts.
func fromProto(m *logpb.Transaction) (*transaction, error) {
	gid, err := GIDFromBytes(m.GetBegin().GetGid())
	if err != nil {
		return nil, err
	}
	t := &transaction{
		gid: gid, begin: m.GetBegin(), state: m.GetState(),
		tombstone: m.GetTombstone(), quarantined: m.GetQuarantined(), withheld: m.GetWithheld(),
		sealed: m.GetSealed(), submitted: m.GetSubmitted(),
		decision: m.GetDecision(), reason: m.GetReason(), origin: m.GetOrigin(),
		detail: m.GetDetail(), operator: m.GetOperator(),
		deadlineMS: m.GetDeadlineMs(), filedMS: m.GetFiledMs(),
		began: fromStamp(m.GetBegan()), sealedAt: fromStamp(m.GetSealedAt()),
		decided: fromStamp(m.GetDecided()), finished: fromStamp(m.GetFinished()),
		stopped: m.GetStopped(),
	}
	if len(m.GetContent()) > 0 || len(m.GetResult()) > 0 {
		t.more = &txMore{content: m.GetContent(), result: m.GetResult()}
	}
	if n := len(m.GetBranches()); n > 0 {
		t.branches = make([]*branch, n)
	}
	for i, b := range m.GetBranches() {
		spec := b.GetSpec()
		if spec == nil {
			spec = new(logpb.BranchSpec)
		}
		t.branches[i] = &branch{
			spec: spec, hint: b.GetHint(), vote: b.GetVote(), maybePrepared: b.GetMaybePrepared(),
			own: b.GetOwn(), outcome: b.GetOutcome(),
			resolved: b.GetResolved(), resolvedBy: b.GetResolvedBy(), resolvedReason: b.GetResolvedReason(),
			enlisted: fromStamp(b.GetEnlisted()), voted: fromStamp(b.GetVoted()),
			reported: fromStamp(b.GetReported()), resolvedAt: fromStamp(b.GetResolvedAt()),
			detail: b.GetDetail(), attempts: b.GetAttempts(),
		}
		if b.GetOperation() != "" || len(b.GetResult()) > 0 || len(b.GetPayloadHash()) > 0 {
			t.branches[i].more = &branchMore{operation: b.GetOperation(), result: b.GetResult(), payloadHash: b.GetPayloadHash()}
		}
	}
	if t.decision != DecisionNone {
		t.markIdle()
	}
	return t, nil
}

// proto is the record as readers get it. Its begin and specs are shared with
// the record, so it must not be changed.
func (t *transaction) proto() *logpb.Transaction {
	m := &logpb.Transaction{
		Begin: t.begin, State: t.state,
		Tombstone: t.tombstone, Quarantined: t.quarantined, Withheld: t.withheld,
		Sealed: t.sealed, Submitted: t.submitted,
		Decision: t.decision, Reason: t.reason, Origin: t.origin,
		Detail: t.detail, Operator: t.operator,
		DeadlineMs: t.deadlineMS, FiledMs: t.filedMS,
		Began: t.began.proto(), SealedAt: t.sealedAt.proto(),
		Decided: t.decided.proto(), Finished: t.finished.proto(),
		Content: t.content(), Result: t.result(), Stopped: t.stopped,
	}
	if n := len(t.branches); n > 0 {
		m.Branches = make([]*logpb.Branch, n)
	}
	for i, b := range t.branches {
		m.Branches[i] = &logpb.Branch{
			Spec: b.spec, Hint: b.hint, Vote: b.vote, MaybePrepared: b.maybePrepared,
			Own: b.own, Outcome: b.outcome,
			Resolved: b.resolved, ResolvedBy: b.resolvedBy, ResolvedReason: b.resolvedReason,
			Enlisted: b.enlisted.proto(), Voted: b.voted.proto(),
			Reported: b.reported.proto(), ResolvedAt: b.resolvedAt.proto(),
			Detail: b.detail, Attempts: b.attempts,
			Operation: b.operation(), Result: b.result(), PayloadHash: b.payloadHash(),
		}
	}
	return m
}

func (s *stamp) proto() *logpb.Stamp {
	if s == nil {
		return nil
	}
	return &logpb.Stamp{Index: s.index, Term: s.term, ClockMs: s.clockMS, WallMs: s.wallMS}
}

// fromStamp reads a stamp; one of zeros did not happen.
func fromStamp(m *logpb.Stamp) *stamp {
	s := stamp{m.GetIndex(), m.GetTerm(), m.GetClockMs(), m.GetWallMs()}
	if s == (stamp{}) {
		return nil
	}
	return &s
}
