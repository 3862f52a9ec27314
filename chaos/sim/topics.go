package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Topics: shops subscribe and unsubscribe while messages go to them. Whoever is in the
// list when a message is created gets it, nobody else.

// subscriber is a shop's endpoint at a topic.
func (s *shop) subscriber() string { return s.url + "topics" }

func (t *topicChange) name() string { return fmt.Sprintf("change-%d", t.ID) }

// changeTopic asks for a change until it is answered.
func (c *client) changeTopic(t *topicChange) {
	change := &logpb.PutTopic{Namespace: namespace, Name: t.Topic, Change: t.Change, Subscriber: &logpb.Subscriber{Remark: t.name()}}
	if t.Change != logpb.PutTopic_CHANGE_DELETE {
		change.Subscriber.Endpoint = c.w.shops[t.Shop%len(c.w.shops)].subscriber()
	}
	what := map[logpb.PutTopic_Change]string{
		logpb.PutTopic_CHANGE_SUBSCRIBE: "subscribe", logpb.PutTopic_CHANGE_UNSUBSCRIBE: "unsubscribe", logpb.PutTopic_CHANGE_DELETE: "delete topic",
	}[t.Change]
	c.dials.call(what, fsm.GID{}, 20*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: change}}), func(a answer) {
		c.say("%s %s %s: %v", what, t.Topic, change.GetSubscriber().GetEndpoint(), a)
		if a.err == nil && a.code == fsm.OK {
			c.w.oracle.topicAcknowledged(t)
		}
	})
}

// topicAccount is the oracle's own list of who is subscribed, by the order of the log.
type topicAccount struct {
	stands      map[string]bool
	subscribers map[string][]string
	logged      map[string]bool // by the changes' names, which are their remarks
}

func newTopicAccount() topicAccount {
	return topicAccount{stands: map[string]bool{}, subscribers: map[string][]string{}, logged: map[string]bool{}}
}

// topicAcknowledged: what was acknowledged is in the log, so that whatever is asked
// from here on comes after it.
func (o *oracle) topicAcknowledged(t *topicChange) {
	if !o.topics.logged[t.name()] {
		o.violate("S6", "", "a change of topic %s is acknowledged, and nobody has applied it", t.Topic)
	}
}

// topicLogged follows a change, as it was asked for.
func (o *oracle) topicLogged(c *logpb.PutTopic) {
	o.topics.logged[c.GetSubscriber().GetRemark()] = true
	name, endpoint := c.GetName(), c.GetSubscriber().GetEndpoint()
	at := slices.Index(o.topics.subscribers[name], endpoint)
	switch {
	case c.GetChange() == logpb.PutTopic_CHANGE_DELETE:
		delete(o.topics.stands, name)
		delete(o.topics.subscribers, name)
	case c.GetChange() == logpb.PutTopic_CHANGE_SUBSCRIBE && at < 0:
		o.topics.stands[name] = true
		o.topics.subscribers[name] = append(o.topics.subscribers[name], endpoint)
	case c.GetChange() == logpb.PutTopic_CHANGE_UNSUBSCRIBE && at >= 0:
		o.topics.subscribers[name] = slices.Delete(o.topics.subscribers[name], at, at+1)
	}
}

// expands notes who is to get a transaction that the log has just created, by the
// plan of its initiator and the lists of this moment.
func (o *oracle) expands(a *account) {
	for _, s := range a.called.plan.Steps {
		if s.Topic == "" {
			continue
		}
		if !o.topics.stands[s.Topic] {
			o.violate("S9", a.gid.String(), "is created, and topic %s does not stand", s.Topic)
			return
		}
		if a.heirs == nil {
			a.heirs = map[string][]heir{}
		}
		subscribers := o.topics.subscribers[s.Topic]
		o.w.cover.meet(fmt.Sprintf("topic of %d", len(subscribers)))
		a.heirs[s.ID] = []heir{}
		for i, endpoint := range subscribers {
			id := s.ID
			if len(subscribers) > 1 {
				id = fmt.Sprintf("%s-%02d", s.ID, i+1)
			}
			a.heirs[s.ID] = append(a.heirs[s.ID], heir{id, endpoint})
		}
	}
}

// heir is a branch that stands for a subscriber.
type heir struct{ id, endpoint string }

// goesToSubscribers: what was created is called where the subscribers of that moment
// are, and nowhere else.
func (o *oracle) goesToSubscribers(n *node, a *account) {
	rec, ok := n.state.Get(a.gid)
	if !ok || a.heirs == nil {
		return
	}
	for _, b := range rec.GetBranches() {
		id, endpoint := b.GetSpec().GetId(), b.GetSpec().GetEndpoint()
		heirs, isTopic := a.heirs[stepID(id)]
		if isTopic && endpoint != "" && !slices.Contains(heirs, heir{id, endpoint}) {
			o.violate("S9", a.gid.String(), "branch %s goes to %s, and subscribed when it was created are %v", id, endpoint, heirs)
			return
		}
	}
	for _, s := range a.called.plan.Steps {
		for _, h := range a.heirs[s.ID] {
			if !slices.ContainsFunc(rec.GetBranches(), func(b *logpb.Branch) bool {
				return b.GetSpec().GetId() == h.id && b.GetSpec().GetEndpoint() == h.endpoint
			}) {
				o.violate("S10", a.gid.String(), "step %s was created with subscriber %s, who does not get it", s.ID, h.endpoint)
				return
			}
		}
	}
}
