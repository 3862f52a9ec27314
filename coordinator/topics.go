package coordinator

import (
	"context"
	"encoding/base64"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// PutTopic changes one topic, and returns it as it stands once the change is
// applied; nil where it is deleted, or never was. Messages begun after it see the
// change.
func (c *Coordinator) PutTopic(ctx context.Context, change *logpb.PutTopic) (*logpb.Topic, error) {
	if change.GetNamespace() == "" {
		change = proto.CloneOf(change)
		change.Namespace = DefaultNamespace
	}
	res, err := c.proposeOne(ctx, fsm.GID{}, ordinary, &logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: change}})
	if err != nil {
		return nil, err
	}
	if err := refusal(res, "", ""); err != nil {
		return nil, err
	}
	var topic *logpb.Topic
	c.replog.View(func(s *fsm.State) { topic, _ = s.Topic(change.GetNamespace(), change.GetName()) })
	return topic, nil
}

// Topics reads a page of topics, by name.
func (c *Coordinator) Topics(ctx context.Context, r TopicsRequest) (TopicPage, error) {
	namespace := Ref{Namespace: r.Namespace}.namespace()
	after, err := base64.RawURLEncoding.DecodeString(r.PageToken)
	if err != nil {
		return TopicPage{}, invalid(fsm.GID{}, "page_token %.40q is none that this API gave out", r.PageToken)
	}
	if err := c.freshen(ctx, r.Consistency, r.MinIndex); err != nil {
		return TopicPage{}, err
	}
	size := r.PageSize
	if size <= 0 {
		size = PageSizeDefault
	}
	var page TopicPage
	c.replog.View(func(s *fsm.State) {
		page.At = headerOf(s)
		if r.Name == "" {
			var more bool
			page.Topics, more = s.Topics(namespace, string(after), min(size, PageSizeMax))
			if more {
				last := page.Topics[len(page.Topics)-1].GetName()
				page.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			}
		} else if topic, ok := s.Topic(namespace, r.Name); ok {
			page.Topics = []*logpb.Topic{topic}
		}
	})
	return page, nil
}
