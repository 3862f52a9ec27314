package api

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

// participants is ParticipantService: the side of those who vote and obey.
type participants struct {
	quoratev1.UnimplementedParticipantServiceServer
	*Server
}

// Inquire asks for the verdict on one branch.
func (p *participants) Inquire(ctx context.Context, req *quoratev1.InquireRequest) (*quoratev1.InquireResponse, error) {
	ask, err := readInquire(p.endingReader(), req)
	if err != nil {
		return nil, err
	}
	inquired, err := hold(ctx, p.Server, func() (coordinator.Inquired, error) { return p.coordinator.Inquire(ctx, ask) })
	if err != nil {
		return nil, err
	}
	answer := inquiredAnswer(inquired)
	answer.Header = p.header()
	return answer, nil
}

func inquiredAnswer(i coordinator.Inquired) *quoratev1.InquireResponse {
	return &quoratev1.InquireResponse{Verdict: verdictAnswer(i.Verdict), Unseen: i.Unseen}
}

func readInquire(r *reader, req *quoratev1.InquireRequest) (coordinator.InquireRequest, error) {
	ask := coordinator.InquireRequest{
		GID: r.gid("gid", req.GetGid()), Branch: req.GetBranch(), Resource: req.GetResource(),
		Holder: r.holder("holder", req.GetHolder()), Timeout: r.duration("timeout", req.GetTimeout()),
	}
	r.branchID("branch", req.GetBranch())
	r.text("resource", req.GetResource(), r.limits.GetTextBytesMax())
	return ask, r.err()
}

// Report records a branch's own outcome.
func (p *participants) Report(ctx context.Context, req *quoratev1.ReportRequest) (*quoratev1.ReportResponse, error) {
	ask, err := readReport(p.endingReader(), req)
	if err != nil {
		return nil, err
	}
	if _, err := hold(ctx, p.Server, func() (coordinator.Status, error) { return p.coordinator.Report(ctx, ask) }); err != nil {
		return nil, err
	}
	return &quoratev1.ReportResponse{Header: p.headerOfWrites()}, nil
}

func readReport(r *reader, req *quoratev1.ReportRequest) (coordinator.ReportRequest, error) {
	ask := coordinator.ReportRequest{
		GID: r.gid("gid", req.GetGid()), Branch: req.GetBranch(), Detail: r.shownText(req.GetDetail()),
		Attempt: req.GetAttempt(), Holder: r.holder("holder", req.GetHolder()), Busy: req.GetBusy(),
	}
	switch {
	case !req.GetBusy():
		ask.Outcome = r.outcome("outcome", req.GetOutcome())
	case req.GetOutcome() != quoratev1.Outcome_OUTCOME_UNSPECIFIED:
		r.refuse("outcome", "is given although the branch is busy: it is one or the other")
	}
	r.branchID("branch", req.GetBranch())
	return ask, r.err()
}

// ListInDoubt reads the branches of a resource that were not reported.
func (p *participants) ListInDoubt(ctx context.Context, req *quoratev1.ListInDoubtRequest) (*quoratev1.ListInDoubtResponse, error) {
	r := p.endingReader()
	ask := coordinator.ListInDoubtRequest{
		Namespace: Namespace, Resource: req.GetResource(), PageSize: r.pageSize("page_size", req.GetPageSize()), PageToken: req.GetPageToken(),
	}
	r.text("resource", req.GetResource(), r.limits.GetTextBytesMax())
	if err := r.err(); err != nil {
		return nil, err
	}
	for {
		page, err := hold(ctx, p.Server, func() (coordinator.InDoubtPage, error) { return p.coordinator.ListInDoubt(ctx, ask) })
		if err != nil {
			return nil, err
		}
		answer := &quoratev1.ListInDoubtResponse{Header: p.header(), NextPageToken: page.NextPageToken}
		for _, b := range page.Branches {
			answer.Branches = append(answer.Branches, &quoratev1.InDoubt{
				Gid: b.GID.String(), Branch: branchAnswer(b.Branch, decisionOf(b.Verdict)),
				Verdict: verdictAnswer(b.Verdict), Age: durationpb.New(b.Age),
			})
		}
		if !shorter(&ask.PageSize, answer) {
			return answer, nil
		}
	}
}

// decisionOf is the decision that a branch's verdict follows from, as far as it tells.
func decisionOf(v fsm.Verdict) fsm.Decision {
	switch v {
	case fsm.VerdictCommit:
		return fsm.DecisionCommit
	case fsm.VerdictRollback:
		return fsm.DecisionRollback
	default:
		return fsm.DecisionNone
	}
}
