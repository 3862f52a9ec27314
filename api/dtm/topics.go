package dtm

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// topicCategory is the one category of DTM's key-value calls.
const topicCategory = "topics"

// kvRow is a topic as scanKV and queryKV show it.
type kvRow struct {
	ID         uint64    `json:"id"`
	CreateTime time.Time `json:"create_time"`
	UpdateTime time.Time `json:"update_time"`
	Cat        string    `json:"cat"`
	K          string    `json:"k"`
	V          string    `json:"v"`
	Version    uint64    `json:"version"`
}

// subscriber is one entry of a row's V.
type subscriber struct {
	URL    string `json:"url"`
	Remark string `json:"remark"`
}

func topicRow(t *quoratev1.Topic) kvRow {
	list := []subscriber{}
	for _, s := range t.GetSubscribers() {
		list = append(list, subscriber{URL: asSent(s.GetEndpoint()), Remark: s.GetRemark()})
	}
	v, _ := json.Marshal(list)
	return kvRow{
		ID: t.GetCreated().GetIndex(), CreateTime: wall(t.GetCreated()), UpdateTime: wall(t.GetUpdated()),
		Cat: topicCategory, K: t.GetName(), V: string(v), Version: t.GetVersion(),
	}
}

func (g *Gateway) topics(ctx context.Context, r *quoratev1.ListTopicsRequest) (*quoratev1.ListTopicsResponse, error) {
	return call(ctx, g, func(ctx context.Context, r *quoratev1.ListTopicsRequest) (*quoratev1.ListTopicsResponse, error) {
		return g.native.ListTopics(ctx, r)
	}, r)
}

// topic reads one topic, nil for none.
func (g *Gateway) topic(ctx context.Context, name string) (*quoratev1.Topic, error) {
	if name == "" {
		return nil, bad("empty topic")
	}
	answer, err := g.topics(ctx, &quoratev1.ListTopicsRequest{Topic: name})
	if reasonOf(err) == reasonNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, t := range answer.GetTopics() {
		if t.GetName() == name {
			return t, nil
		}
	}
	return nil, nil
}

func subscribed(t *quoratev1.Topic, endpoint string) bool {
	return slices.ContainsFunc(t.GetSubscribers(), func(s *quoratev1.Subscriber) bool { return s.GetEndpoint() == endpoint })
}

func (g *Gateway) subscribe(ctx context.Context, name, url, remark string) error {
	t, err := g.topic(ctx, name)
	endpoint := withScheme(url)
	switch {
	case err != nil:
		return err
	case url == "":
		return bad("empty url")
	case subscribed(t, endpoint):
		return bad("this url exists")
	}
	_, err = call(ctx, g, func(ctx context.Context, r *quoratev1.SubscribeRequest) (*quoratev1.SubscribeResponse, error) {
		return g.native.Subscribe(ctx, r)
	}, &quoratev1.SubscribeRequest{Topic: name, Subscriber: &quoratev1.Subscriber{Endpoint: endpoint, Remark: remark}})
	return err
}

func (g *Gateway) unsubscribe(ctx context.Context, name, url string) error {
	t, err := g.topic(ctx, name)
	endpoint := withScheme(url)
	switch {
	case err != nil:
		return err
	case url == "":
		return bad("empty url")
	case t == nil:
		return bad("no such a topic")
	case len(t.GetSubscribers()) == 0:
		return bad("this topic is empty")
	case !subscribed(t, endpoint):
		return bad("no such an url ")
	}
	_, err = call(ctx, g, func(ctx context.Context, r *quoratev1.UnsubscribeRequest) (*quoratev1.UnsubscribeResponse, error) {
		return g.native.Unsubscribe(ctx, r)
	}, &quoratev1.UnsubscribeRequest{Topic: name, Endpoint: endpoint})
	return err
}

func (g *Gateway) deleteTopic(ctx context.Context, name string) error {
	t, err := g.topic(ctx, name)
	if err != nil {
		return err
	}
	if t == nil {
		return bad("storage: NotFound")
	}
	_, err = call(ctx, g, func(ctx context.Context, r *quoratev1.DeleteTopicRequest) (*quoratev1.DeleteTopicResponse, error) {
		return g.native.DeleteTopic(ctx, r)
	}, &quoratev1.DeleteTopicRequest{Topic: name})
	return err
}
