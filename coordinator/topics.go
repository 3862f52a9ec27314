package coordinator

import (
	"context"
	"errors"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// PutTopic changes one topic, and returns it as it stands once the change is
// applied; nil where it was deleted. Messages begun after it see the change.
func (c *Coordinator) PutTopic(ctx context.Context, change *logpb.PutTopic) (*logpb.Topic, error) {
	if change.GetNamespace() == "" {
		change = &logpb.PutTopic{
			Namespace: DefaultNamespace, Name: change.GetName(), Change: change.GetChange(), Subscriber: change.GetSubscriber(),
		}
	}
	res, err := c.proposeOne(ctx, fsm.GID{}, ordinary, &logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: change}})
	if err != nil {
		return nil, err
	}
	if err := refusal(res, "", ""); err != nil {
		return nil, err
	}
	return nil, errTopicsUnread
}

var errTopicsUnread = errors.New("coordinator: topics are not read yet")

// Topics reads a page of topics, by name.
func (c *Coordinator) Topics(ctx context.Context, r TopicsRequest) (TopicPage, error) {
	if err := c.freshen(ctx, r.Consistency, r.MinIndex); err != nil {
		return TopicPage{}, err
	}
	return TopicPage{}, errTopicsUnread
}
