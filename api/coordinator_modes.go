package api

import (
	"context"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm/logpb"
)

// The driver's calls of the modes whose branches are called, where it has them.
type (
	recordsSteps interface {
		Record(ctx context.Context, r coordinator.RecordRequest) (coordinator.Status, error)
	}
	stops interface {
		Stop(ctx context.Context, r coordinator.StopRequest) (coordinator.Status, error)
	}
	keepsTopics interface {
		PutTopic(ctx context.Context, change *logpb.PutTopic) (*logpb.Topic, error)
		Topics(ctx context.Context, r coordinator.TopicsRequest) (coordinator.TopicPage, error)
	}
)

func (o over) Record(ctx context.Context, r coordinator.RecordRequest) (coordinator.Status, error) {
	if c, ok := any(o.Coordinator).(recordsSteps); ok {
		return c.Record(ctx, r)
	}
	return coordinator.Status{}, &Error{Reason: ReasonUnimplemented}
}

func (o over) Stop(ctx context.Context, r coordinator.StopRequest) (coordinator.Status, error) {
	if c, ok := any(o.Coordinator).(stops); ok {
		return c.Stop(ctx, r)
	}
	return coordinator.Status{}, &Error{Reason: ReasonUnimplemented}
}

func (o over) PutTopic(ctx context.Context, change *logpb.PutTopic) (*logpb.Topic, error) {
	if c, ok := any(o.Coordinator).(keepsTopics); ok {
		return c.PutTopic(ctx, change)
	}
	return nil, &Error{Reason: ReasonUnimplemented}
}

func (o over) Topics(ctx context.Context, r coordinator.TopicsRequest) (coordinator.TopicPage, error) {
	if c, ok := any(o.Coordinator).(keepsTopics); ok {
		return c.Topics(ctx, r)
	}
	return coordinator.TopicPage{}, &Error{Reason: ReasonUnimplemented}
}
