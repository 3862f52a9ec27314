package api

import (
	"context"
	"strings"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Record keeps a step of a workflow's code.
func (t *transactions) Record(ctx context.Context, req *quoratev1.RecordRequest) (*quoratev1.RecordResponse, error) {
	r := t.reader()
	ask := coordinator.RecordRequest{
		Transaction: r.ref("gid", req.GetGid()), Branch: &logpb.BranchSpec{Id: req.GetBranch()}, Operation: req.GetOperation(),
		Failed: req.GetFailed(), Result: req.GetResult(), Detail: r.shownText(req.GetDetail()),
	}
	r.branchID("branch", req.GetBranch())
	r.required("operation", req.GetOperation(), "the code's own word for the step")
	r.text("operation", req.GetOperation(), StepWordBytesMax)
	r.payload("result", req.GetResult())
	if err := r.err(); err != nil {
		return nil, err
	}
	if _, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Record(ctx, ask) }); err != nil {
		return nil, err
	}
	return &quoratev1.RecordResponse{Header: t.header()}, nil
}

// Stop ends a transaction by an operator's word.
func (t *transactions) Stop(ctx context.Context, req *quoratev1.StopRequest) (*quoratev1.StopResponse, error) {
	r := t.endingReader()
	ask := coordinator.StopRequest{
		Transaction: r.ref("transaction", req.GetTransaction()),
		Operator:    r.required("operator", req.GetOperator(), "an operator's word carries a name"),
		Reason:      r.required("reason", req.GetReason(), "an operator's word carries a reason"),
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Stop(ctx, ask) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.StopResponse{Header: t.header(), State: quoratev1.State(status.State)}, nil
}

// Subscribe adds an endpoint to a topic.
func (t *transactions) Subscribe(ctx context.Context, req *quoratev1.SubscribeRequest) (*quoratev1.SubscribeResponse, error) {
	r := t.reader()
	topic, err := t.putTopic(ctx, r, &logpb.PutTopic{
		Namespace: Namespace, Name: r.topicName("topic", req.GetTopic()), Change: logpb.PutTopic_CHANGE_SUBSCRIBE,
		Subscriber: r.subscriber("subscriber", req.GetSubscriber()),
	})
	if err != nil {
		return nil, err
	}
	return &quoratev1.SubscribeResponse{Header: t.header(), Topic: topicAnswer(topic)}, nil
}

// Unsubscribe takes an endpoint out of a topic. Its form is not checked again: one
// that is not allowed any more must be got rid of.
func (t *transactions) Unsubscribe(ctx context.Context, req *quoratev1.UnsubscribeRequest) (*quoratev1.UnsubscribeResponse, error) {
	r := t.endingReader()
	topic, err := t.putTopic(ctx, r, &logpb.PutTopic{
		Namespace: Namespace, Name: r.topicName("topic", req.GetTopic()), Change: logpb.PutTopic_CHANGE_UNSUBSCRIBE,
		Subscriber: &logpb.Subscriber{Endpoint: r.required("endpoint", req.GetEndpoint(), "whose calls are to end?")},
	})
	if err != nil {
		return nil, err
	}
	return &quoratev1.UnsubscribeResponse{Header: t.header(), Topic: topicAnswer(topic)}, nil
}

// DeleteTopic takes a topic out with all its subscribers.
func (t *transactions) DeleteTopic(ctx context.Context, req *quoratev1.DeleteTopicRequest) (*quoratev1.DeleteTopicResponse, error) {
	r := t.endingReader()
	if _, err := t.putTopic(ctx, r, &logpb.PutTopic{
		Namespace: Namespace, Name: r.topicName("topic", req.GetTopic()), Change: logpb.PutTopic_CHANGE_DELETE,
	}); err != nil {
		return nil, err
	}
	return &quoratev1.DeleteTopicResponse{Header: t.header()}, nil
}

func (t *transactions) putTopic(ctx context.Context, r *reader, change *logpb.PutTopic) (*logpb.Topic, error) {
	if err := r.err(); err != nil {
		return nil, err
	}
	return hold(ctx, t.Server, func() (*logpb.Topic, error) { return t.coordinator.PutTopic(ctx, change) })
}

// ListTopics reads a page of topics, by name.
func (t *transactions) ListTopics(ctx context.Context, req *quoratev1.ListTopicsRequest) (*quoratev1.ListTopicsResponse, error) {
	r := t.endingReader()
	ask := coordinator.TopicsRequest{
		Namespace: Namespace, Name: req.GetTopic(), PageSize: r.pageSize("page_size", req.GetPageSize()), PageToken: req.GetPageToken(),
	}
	if req.GetTopic() != "" {
		r.topicName("topic", req.GetTopic())
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	for {
		page, err := hold(ctx, t.Server, func() (coordinator.TopicPage, error) { return t.coordinator.Topics(ctx, ask) })
		if err != nil {
			return nil, err
		}
		answer := &quoratev1.ListTopicsResponse{Header: t.headerAt(page.At), NextPageToken: page.NextPageToken}
		for _, topic := range page.Topics {
			answer.Topics = append(answer.Topics, topicAnswer(topic))
		}
		if !shorter(&ask.PageSize, answer) {
			return answer, nil
		}
	}
}

// enlistMode refuses a branch whose endpoint does not fit the mode that the
// transaction is known here to have: two-phase branches are told by BranchService,
// all others name the method that is called. The state machine knows no endpoints.
func (t *transactions) enlistMode(ctx context.Context, r *reader, gid fsm.GID, spec *logpb.BranchSpec) {
	if strings.HasPrefix(spec.GetEndpoint(), topicScheme) {
		r.refuse("branch.endpoint", "is a topic: a branch of a message, or of a notification, may have one")
		return
	}
	if scheme, _ := grpcMethod(spec.GetEndpoint()); scheme == "" {
		return
	}
	view, err := t.coordinator.Get(ctx, coordinator.GetRequest{Transaction: coordinator.ByGID(gid), Consistency: coordinator.Local})
	if err != nil {
		return // the state machine says what is wrong
	}
	switch mode := view.Transaction.GetBegin().GetMode(); {
	case traitsOf(mode).called:
		r.methodNamed("branch.endpoint", spec.GetEndpoint())
	case mode == logpb.Mode_MODE_TWO_PHASE:
		r.plainSpec("branch", spec)
	}
}
