package api

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The enumerations of the wire and of the log have the same numbers, on
// purpose and by a test, so that a conversion between them is a cast.

// header is what every answer carries. It must be taken after the work is
// applied, so that it is not older than what it answers.
func (s *Server) header() *quoratev1.ResponseHeader { return s.headerAt(s.coordinator.Header()) }

// headerOfWrites is for answers that say what became of a command, and nothing that was
// read: for all who are answered at once it is the same, and waits for nothing. It must not
// be changed: they share it.
func (s *Server) headerOfWrites() *quoratev1.ResponseHeader {
	h := s.coordinator.HeaderOfWrites()
	if said := s.said.Load(); said != nil && said.of == h {
		return said.header
	}
	said := &saidHeader{h, s.headerAt(h)}
	s.said.Store(said)
	return said.header
}

// saidHeader is the header that the last answers had.
type saidHeader struct {
	of     coordinator.Header
	header *quoratev1.ResponseHeader
}

// headerAt is for what was read: its index is that of the state that was looked at.
// A newer one would let a client that watches from there on miss what happened
// between the two.
func (s *Server) headerAt(h coordinator.Header) *quoratev1.ResponseHeader {
	answer := &quoratev1.ResponseHeader{
		AppliedIndex: h.AppliedIndex, ClockMs: h.ClockMS, FloorMs: h.FloorMS,
		Epoch: epochAnswer(h.Epoch), NodeId: s.cfg.NodeID,
	}
	if !h.ClusterID.IsZero() {
		answer.ClusterId = s.clusterText(h.ClusterID)
	}
	return answer
}

// clusterText is the cluster's id as every answer says it: it never changes once it is known.
func (s *Server) clusterText(id fsm.GID) string {
	if known := s.clusterID.Load(); known != nil && known.id == id {
		return known.text
	}
	known := &namedCluster{id, id.String()}
	s.clusterID.Store(known)
	return known.text
}

type namedCluster struct {
	id   fsm.GID
	text string
}

func epochAnswer(e coordinator.Epoch) *quoratev1.Epoch {
	return &quoratev1.Epoch{Incarnation: e.Incarnation, Term: e.Term}
}

func verdictAnswer(v fsm.Verdict) quoratev1.Verdict { return quoratev1.Verdict(v) }

// transactionAnswer turns a view into the wire's transaction.
func transactionAnswer(view coordinator.View) *quoratev1.Transaction {
	t := view.Transaction
	begin := t.GetBegin()
	answer := &quoratev1.Transaction{
		Gid: gidAnswer(begin.GetGid()), Namespace: begin.GetNamespace(), Key: begin.GetKey(),
		Mode: quoratev1.Mode(begin.GetMode()), Entry: quoratev1.Entry(begin.GetEntry()),
		State: quoratev1.State(t.GetState()), Decision: quoratev1.Decision(t.GetDecision()),
		Reason: quoratev1.RollbackReason(t.GetReason()), Detail: t.GetDetail(),
		DeadlineMs: t.GetDeadlineMs(), Tombstone: t.GetTombstone(), Quarantined: t.GetQuarantined(),
		Withheld: t.GetWithheld(), Operator: t.GetOperator(), Initiator: begin.GetInitiator(),
		Traceparent: begin.GetTraceparent(),
		Began:       stampAnswer(t.GetBegan()), Sealed: stampAnswer(t.GetSealedAt()),
		Decided: stampAnswer(t.GetDecided()), Finished: stampAnswer(t.GetFinished()),
		Plan: planAnswer(begin.GetPlan()), Result: t.GetResult(), Stopped: t.GetStopped(), Callback: callbackAnswer(view.Callback),
	}
	if !t.GetTombstone() {
		answer.Timeout = millisecondsAnswer(begin.GetTimeoutMs())
	}
	if begin.GetTimeoutMs() == 0 && traitsOf(begin.GetMode()).endless {
		answer.DeadlineMs = 0 // the record holds the end of time
	}
	for _, label := range begin.GetLabels() {
		if answer.Labels == nil {
			answer.Labels = make(map[string]string)
		}
		answer.Labels[label.GetName()] = label.GetValue()
	}
	deliveries := view.Deliveries
	for _, branch := range t.GetBranches() {
		b := branchAnswer(branch, t.GetDecision())
		b.Operation, b.Terminal = quoratev1.Operation(operationOf(t, branch)), ended(t, branch)
		// Both are in the order of their ids.
		for len(deliveries) > 0 && deliveries[0].Branch < branch.GetSpec().GetId() {
			deliveries = deliveries[1:]
		}
		if len(deliveries) > 0 && deliveries[0].Branch == branch.GetSpec().GetId() {
			b.Delivery = deliveryAnswer(deliveries[0])
			b.Operation = quoratev1.Operation(deliveries[0].Operation)
		}
		answer.Branches = append(answer.Branches, b)
	}
	return answer
}

func branchAnswer(b *logpb.Branch, decision fsm.Decision) *quoratev1.Branch {
	return &quoratev1.Branch{
		Spec: specAnswer(b.GetSpec()), Vote: quoratev1.Vote(b.GetVote()), MaybePrepared: b.GetMaybePrepared(),
		Outcome: quoratev1.Outcome(b.GetOutcome()), Heuristic: heuristicAnswer(b.GetOwn(), decision),
		Resolved: quoratev1.Outcome(b.GetResolved()), ResolvedBy: b.GetResolvedBy(), ResolvedReason: b.GetResolvedReason(),
		Enlisted: stampAnswer(b.GetEnlisted()), Voted: stampAnswer(b.GetVoted()), Reported: stampAnswer(b.GetReported()),
		ResolvedAt: stampAnswer(b.GetResolvedAt()), Detail: b.GetDetail(), Hint: b.GetHint(), Terminal: terminal(b),
		Recorded: b.GetOperation(), Result: b.GetResult(),
	}
}

// terminal tells whether nothing more is expected of a branch: it voted
// read-only or refused without a doubt, it reported, or an operator spoke for it.
func terminal(b *logpb.Branch) bool {
	switch {
	case b.GetOwn() != logpb.Own_OWN_UNSPECIFIED, b.GetResolved() != logpb.Outcome_OUTCOME_UNSPECIFIED:
		return true
	case b.GetVote() == logpb.VoteKind_VOTE_KIND_READ_ONLY:
		return true
	default:
		return b.GetVote() == logpb.VoteKind_VOTE_KIND_REFUSED && !b.GetMaybePrepared()
	}
}

// heuristicAnswer names how a branch's own word differs from the decision.
func heuristicAnswer(own logpb.Own, decision fsm.Decision) quoratev1.Heuristic {
	switch own {
	case logpb.Own_OWN_CONTRARY:
		if decision == fsm.DecisionCommit {
			return quoratev1.Heuristic_HEURISTIC_ROLLBACK
		}
		return quoratev1.Heuristic_HEURISTIC_COMMIT
	case logpb.Own_OWN_MIXED:
		return quoratev1.Heuristic_HEURISTIC_MIXED
	case logpb.Own_OWN_HAZARD:
		return quoratev1.Heuristic_HEURISTIC_HAZARD
	default:
		return quoratev1.Heuristic_HEURISTIC_UNSPECIFIED
	}
}

func deliveryAnswer(d coordinator.DeliveryStatus) *quoratev1.Delivery {
	return &quoratev1.Delivery{
		Attempts: d.Attempts, LastAttempt: timeAnswer(d.LastAttempt), NextAttempt: timeAnswer(d.NextAttempt),
		LastError: d.LastError, DueFor: durationpb.New(d.DueFor), Stuck: d.Stuck, Attached: d.Attached,
	}
}

func specAnswer(spec *logpb.BranchSpec) *quoratev1.BranchSpec {
	return &quoratev1.BranchSpec{
		Id: spec.GetId(), Resource: spec.GetResource(), Endpoint: spec.GetEndpoint(),
		Held: spec.GetHeld(), Holder: gidAnswer(spec.GetHolder()),
		Undo: spec.GetUndo(), Payload: spec.GetPayload(), After: spec.GetAfter(), AttemptsMax: spec.GetAttemptsMax(),
		CallTimeout: someMilliseconds(spec.GetCallTimeoutMs()), Topic: spec.GetTopic(),
	}
}

func stampAnswer(s *logpb.Stamp) *quoratev1.Stamp {
	if s.GetIndex() == 0 {
		return nil
	}
	return &quoratev1.Stamp{
		Index: s.GetIndex(), Term: s.GetTerm(), ClockMs: s.GetClockMs(),
		WallTime: timestamppb.New(time.UnixMilli(int64(s.GetWallMs()))),
	}
}

func eventAnswer(e fsm.Event) *quoratev1.Event {
	return &quoratev1.Event{
		Gid: e.GID.String(), Kind: quoratev1.EventKind(e.Kind), Branch: e.Branch,
		State: quoratev1.State(e.State), Decision: quoratev1.Decision(e.Decision),
		Stamp: stampAnswer(&logpb.Stamp{Index: e.Index, Term: e.Term, ClockMs: e.ClockMS, WallMs: e.WallMS}),
	}
}

// gidAs is a GID's text: the one that was asked with, where that is the same.
func gidAs(asked string, gid fsm.GID) string {
	if gid.String() == asked { // which makes no text, but to compare it
		return asked
	}
	return gid.String()
}

// gidAnswer is the text form of 16 bytes, "" where there are none.
func gidAnswer(b []byte) string {
	gid, err := fsm.GIDFromBytes(b)
	if err != nil {
		return ""
	}
	return gid.String()
}

func timeAnswer(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func millisecondsAnswer(ms uint64) *durationpb.Duration {
	return durationpb.New(time.Duration(min(ms, 1<<43)) * time.Millisecond)
}
