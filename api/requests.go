package api

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Namespace is every caller's until identity exists. It is taken from nothing
// that a caller sends.
const Namespace = "default"

// initiatorHeader is metadata by which a caller says who it is, for people.
const initiatorHeader = "quorate-initiator"

// begin reads a Begin and puts the defaults in, so that repeating it with or
// without them is the same.
func (r *reader) begin(ctx context.Context, prefix string, req *quoratev1.BeginRequest) *logpb.Begin {
	begin := r.newBegin()
	*begin = logpb.Begin{
		Namespace: Namespace, Key: req.GetKey(), Mode: logpb.Mode(req.GetMode()), Entry: logpb.Entry(req.GetEntry()),
		Traceparent: traceparent(ctx), Initiator: initiator(ctx), Holder: r.holder(r.at(prefix, "holder"), req.GetHolder()),
	}
	if req.GetGid() != "" {
		begin.Gid = r.bytesOf(r.gid(r.at(prefix, "gid"), req.GetGid()))
	}
	r.text(r.at(prefix, "key"), req.GetKey(), r.limits.GetKeyBytesMax())
	if begin.Mode == logpb.Mode_MODE_UNSPECIFIED {
		begin.Mode = logpb.Mode_MODE_TWO_PHASE
	}
	if _, ok := logpb.Mode_name[int32(begin.Mode)]; !ok {
		r.refuse(r.at(prefix, "mode"), "%d is unknown", begin.Mode)
	}
	begin.TimeoutMs = r.modeTimeout(r.at(prefix, "timeout"), begin.Mode, req.GetTimeout())
	begin.Plan = r.plan(r.at(prefix, "plan"), begin.Mode, req.GetPlan())
	if delay := begin.GetPlan().GetDelayMs(); begin.Mode == logpb.Mode_MODE_SAGA && begin.TimeoutMs != 0 && delay >= begin.TimeoutMs {
		r.refuse(r.at(prefix, "plan.delay"), "is %v, and the timeout of %v ends the saga before its first step: give a longer timeout, or none",
			req.GetPlan().GetDelay().AsDuration(), req.GetTimeout().AsDuration())
	}
	begin.Branches = r.specs(r.at(prefix, "branches"), req.GetBranches())
	if begin.Entry == logpb.Entry_ENTRY_UNSPECIFIED {
		begin.Entry = logpb.Entry_ENTRY_EXPLICIT
	}
	if _, ok := logpb.Entry_name[int32(begin.Entry)]; !ok {
		r.refuse(r.at(prefix, "entry"), "%d is neither explicit nor named", begin.Entry)
	} else if begin.Entry == logpb.Entry_ENTRY_NAMED && traitsOf(begin.Mode).called {
		r.refuse(r.at(prefix, "entry"), "by name belongs to branches that vote: %s has none, so leave it out", modeText(begin.Mode))
	}
	begin.Labels = r.labels(r.at(prefix, "labels"), req.GetLabels())
	return begin
}

func (r *reader) timeout(field string, timeout *durationpb.Duration) uint64 {
	longest := r.limits.GetTransactionTimeoutMaxMs()
	if timeout == nil {
		return r.limits.GetTransactionTimeoutDefaultMs()
	}
	if err := timeout.CheckValid(); err != nil {
		r.refuse(field, "is no duration")
		return 0
	}
	asked := timeout.AsDuration()
	if asked < time.Millisecond || asked > time.Duration(min(longest, math.MaxInt64/uint64(time.Millisecond)))*time.Millisecond {
		r.refuse(field, "is %v: it must lie between 1ms and %v, or be left out for the cluster's default",
			asked, time.Duration(longest)*time.Millisecond)
		return 0
	}
	return uint64((asked + time.Millisecond - 1) / time.Millisecond)
}

func (r *reader) labels(field string, labels map[string]string) []*logpb.Label {
	if most := r.limits.GetLabelsMax(); len(labels) > int(most) {
		r.refuse(field, "are %d: at most %d are allowed", len(labels), most)
		return nil
	}
	if len(labels) == 0 {
		return nil
	}
	sorted, own := make([]*logpb.Label, 0, len(labels)), make([]logpb.Label, len(labels))
	for name, value := range labels {
		label := &own[len(sorted)]
		label.Name, label.Value = name, value
		sorted = append(sorted, label)
	}
	slices.SortFunc(sorted, func(a, b *logpb.Label) int { return strings.Compare(a.Name, b.Name) })
	for _, label := range sorted {
		if label.Name == "" {
			r.refuse(field, "hold one without a name")
		}
		r.text(field, label.Name, r.limits.GetTextBytesMax())
		r.text(field, label.Value, r.limits.GetTextBytesMax())
	}
	return sorted
}

// branchID checks a call path.
func (r *reader) branchID(field, id string) {
	if id == "" {
		r.refuse(field, "is missing: a branch id is a call path such as 1 or 1.2")
	}
	r.text(field, id, r.limits.GetBranchIdBytesMax())
}

// spec reads a branch. It must not be absent.
func (r *reader) spec(field string, spec *quoratev1.BranchSpec) *logpb.BranchSpec {
	if spec == nil {
		r.refuse(field, "is missing")
		return nil
	}
	r.branchID(r.at(field, ".id"), spec.GetId())
	r.text(r.at(field, ".resource"), spec.GetResource(), r.limits.GetTextBytesMax())
	r.text(r.at(field, ".endpoint"), spec.GetEndpoint(), r.limits.GetTextBytesMax())
	if spec.GetEndpoint() != "" && !strings.HasPrefix(spec.GetEndpoint(), topicScheme) {
		if err := r.endpoints.Check(spec.GetEndpoint()); err != nil {
			r.refuse(r.at(field, ".endpoint"), "%v", err)
		}
	}
	read := r.newSpec()
	*read = logpb.BranchSpec{
		Id: spec.GetId(), Resource: spec.GetResource(), Endpoint: spec.GetEndpoint(), Held: spec.GetHeld(),
		Holder: r.holder(r.at(field, ".holder"), spec.GetHolder()),
	}
	r.calledSpec(field, spec, read)
	return read
}

// specs reads a list of branches with unique ids, sorted by them.
func (r *reader) specs(field string, specs []*quoratev1.BranchSpec) []*logpb.BranchSpec {
	if !r.count(field, len(specs)) {
		return nil
	}
	read := r.slab.setOf(len(specs))
	var seen seen
	for i, spec := range specs {
		at := r.item(field, i)
		if r.again(&seen, spec.GetId()) {
			r.refuse(r.at(at, ".id"), "%q stands twice", spec.GetId())
		}
		one := r.spec(at, spec)
		if r.slab.note(one); one != nil {
			read = append(read, one)
		}
	}
	slices.SortFunc(read, func(a, b *logpb.BranchSpec) int { return strings.Compare(a.Id, b.Id) })
	once(r, read, (*logpb.BranchSpec).GetId)
	return read
}

func (r *reader) count(field string, branches int) bool {
	if most := r.limits.GetBranchesPerTransactionMax(); branches > int(most) {
		r.refuse(field, "are %d branches: at most %d are allowed in a transaction", branches, most)
		return false
	}
	return true
}

// ballot reads a vote. It must not be absent. known is its branch, where that was read
// already.
func (r *reader) ballot(field string, ballot *quoratev1.Ballot, known *logpb.BranchSpec) *logpb.Ballot {
	if ballot == nil {
		r.refuse(field, "is missing")
		return nil
	}
	switch ballot.GetVote() {
	case quoratev1.Vote_VOTE_PREPARED, quoratev1.Vote_VOTE_READ_ONLY, quoratev1.Vote_VOTE_REFUSED:
	default:
		r.refuse(r.at(field, ".vote"), "is missing: VOTE_PREPARED, VOTE_READ_ONLY or VOTE_REFUSED")
	}
	if ballot.GetMaybePrepared() && ballot.GetVote() != quoratev1.Vote_VOTE_REFUSED {
		r.refuse(r.at(field, ".maybe_prepared"), "belongs to a refusal only")
	}
	if known == nil {
		known = r.spec(r.at(field, ".branch"), ballot.GetBranch())
	}
	read := r.newBallot()
	*read = logpb.Ballot{
		Branch: known, Kind: logpb.VoteKind(ballot.GetVote()),
		MaybePrepared: ballot.GetMaybePrepared(), Detail: r.shownText(ballot.GetDetail()),
	}
	return read
}

func (r *reader) ballots(field string, ballots []*quoratev1.Ballot) []*logpb.Ballot {
	if !r.count(field, len(ballots)) {
		return nil
	}
	read := r.slab.votesOf(len(ballots))
	var seen seen
	for i, ballot := range ballots {
		at := r.item(field, i)
		if id := ballot.GetBranch().GetId(); r.again(&seen, id) {
			r.refuse(r.at(at, ".branch.id"), "%q votes twice", id)
		}
		if one := r.ballot(at, ballot, r.slab.known(i, ballot.GetBranch())); one != nil {
			read = append(read, one)
		}
	}
	slices.SortFunc(read, func(a, b *logpb.Ballot) int {
		return strings.Compare(a.GetBranch().GetId(), b.GetBranch().GetId())
	})
	once(r, read, func(b *logpb.Ballot) string { return b.GetBranch().GetId() })
	return read
}

// set reads a commit's exact set; nil stands for a bare commit.
func (r *reader) set(field string, set *quoratev1.BranchSet) *logpb.BranchSet {
	if set == nil || !r.count(r.at(field, ".ids"), len(set.GetIds())) {
		return nil
	}
	ids := slices.Clone(set.GetIds())
	slices.Sort(ids)
	for i, id := range ids {
		r.branchID(fmt.Sprintf("%s.ids[%d]", field, i), id)
		if i > 0 && ids[i-1] == id {
			r.refuse(r.at(field, ".ids"), "%q stands twice", id)
		}
	}
	return &logpb.BranchSet{Ids: ids}
}

func (r *reader) wait(field string, wait quoratev1.Wait) coordinator.Wait {
	switch wait {
	case quoratev1.Wait_WAIT_UNSPECIFIED, quoratev1.Wait_WAIT_DECISION:
		return coordinator.WaitDecision
	case quoratev1.Wait_WAIT_FINISH:
		return coordinator.WaitFinish
	case quoratev1.Wait_WAIT_NONE:
		return coordinator.WaitNone
	}
	r.refuse(field, "%d is unknown", wait)
	return coordinator.WaitDecision
}

func (r *reader) consistency(field string, c quoratev1.Consistency) coordinator.Consistency {
	switch c {
	case quoratev1.Consistency_CONSISTENCY_UNSPECIFIED, quoratev1.Consistency_CONSISTENCY_LINEARIZABLE:
		return coordinator.Linearizable
	case quoratev1.Consistency_CONSISTENCY_LOCAL:
		return coordinator.Local
	}
	r.refuse(field, "%d is unknown", c)
	return coordinator.Linearizable
}

// outcome reads an outcome that must be given.
func (r *reader) outcome(field string, o quoratev1.Outcome) fsm.Outcome {
	// Only the driver itself gives up.
	if _, ok := logpb.Outcome_name[int32(o)]; !ok || o == quoratev1.Outcome_OUTCOME_UNSPECIFIED || o == quoratev1.Outcome_OUTCOME_GAVE_UP {
		r.refuse(field, "is missing: OUTCOME_COMMITTED, OUTCOME_ROLLED_BACK, OUTCOME_MIXED or OUTCOME_HAZARD")
	}
	return fsm.Outcome(o)
}

func (r *reader) filter(field string, f *quoratev1.Filter) coordinator.Filter {
	filter := coordinator.Filter{
		Namespace: Namespace, InDoubt: f.GetInDoubt(), Stuck: f.GetStuck(), Resource: f.GetResource(), KeyPrefix: f.GetKeyPrefix(),
		OlderThan: r.duration(r.at(field, ".older_than"), f.GetOlderThan()), Labels: r.labels(r.at(field, ".labels"), f.GetLabels()),
		IncludeFinished: f.GetIncludeFinished(),
	}
	for i, state := range f.GetStates() {
		if _, ok := logpb.State_name[int32(state)]; !ok || state == 0 {
			r.refuse(fmt.Sprintf("%s.states[%d]", field, i), "%d is unknown", state)
		}
		filter.States = append(filter.States, fsm.TxState(state))
	}
	for i, mode := range f.GetModes() {
		if _, ok := logpb.Mode_name[int32(mode)]; !ok || mode == 0 {
			r.refuse(fmt.Sprintf("%s.modes[%d]", field, i), "%d is unknown", mode)
		}
		filter.Modes = append(filter.Modes, fsm.Mode(mode))
	}
	r.text(r.at(field, ".resource"), f.GetResource(), r.limits.GetTextBytesMax())
	r.text(r.at(field, ".key_prefix"), f.GetKeyPrefix(), r.limits.GetKeyBytesMax())
	return filter
}

// traceparent is W3C's header of the caller, if it is well formed enough to keep.
func traceparent(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, "traceparent")
	if len(values) != 1 || len(values[0]) != 55 || strings.ContainsFunc(values[0], func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != '-'
	}) {
		return ""
	}
	return values[0]
}

// initiator says who began a transaction, for people: where the call came from.
func initiator(ctx context.Context) string {
	if from := metadata.ValueFromIncomingContext(ctx, initiatorHeader); len(from) > 0 && len(from[0]) <= 64 && !strings.ContainsFunc(from[0], unprintable) {
		return from[0]
	}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
