package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// findTopic is a topic's place in the list.
func (s *State) findTopic(namespace, name string) (int, bool) {
	return slices.BinarySearchFunc(s.topics, name, func(t *logpb.Topic, name string) int {
		if c := strings.Compare(t.GetNamespace(), namespace); c != 0 {
			return c
		}
		return strings.Compare(t.GetName(), name)
	})
}

// Topic reads one topic. It must not be changed.
func (s *State) Topic(namespace, name string) (*logpb.Topic, bool) {
	if i, ok := s.findTopic(namespace, name); ok {
		return s.topics[i], true
	}
	return nil, false
}

// subscribed is the branch once for each subscriber of its topic: under its own
// id where there is one at most, else numbered. One for nobody is terminal as
// soon as it is decided.
func subscribed(spec *logpb.BranchSpec, topic *logpb.Topic) []*logpb.BranchSpec {
	n := len(topic.GetSubscribers())
	width := max(2, len(fmt.Sprint(n)))
	list := make([]*logpb.BranchSpec, max(n, 1))
	for i := range list {
		member := withoutPayload(spec)
		member.Payload, member.Topic, member.Endpoint = spec.GetPayload(), topic.GetName(), ""
		if n > 0 {
			member.Endpoint = topic.GetSubscribers()[i].GetEndpoint()
		}
		if n > 1 {
			member.Id = fmt.Sprintf("%s-%0*d", spec.GetId(), width, i+1)
		}
		list[i] = member
	}
	return list
}

// follow is the branch with every branch in its order that was a topic replaced
// by those that stand for it.
func follow(spec *logpb.BranchSpec, heirs map[string][]string) *logpb.BranchSpec {
	var after []string
	changed := false
	for _, id := range spec.GetAfter() {
		if ids := heirs[id]; ids != nil {
			after, changed = append(after, ids...), true
			continue
		}
		after = append(after, id)
	}
	if !changed {
		return spec
	}
	slices.Sort(after)
	next := withoutPayload(spec)
	next.Payload, next.After = spec.GetPayload(), slices.Compact(after)
	return next
}

// Topics lists topics of a namespace in the order of their names, those after a
// name, at most so many. They must not be changed.
func (s *State) Topics(namespace, after string, most int) (page []*logpb.Topic, more bool) {
	i, ok := s.findTopic(namespace, after)
	if ok {
		i++
	}
	for ; i < len(s.topics) && s.topics[i].GetNamespace() == namespace; i++ {
		if len(page) >= most {
			return page, true
		}
		page = append(page, s.topics[i])
	}
	return page, false
}

// putTopic changes one topic, at once: what is created from here on goes to the
// subscribers that stand then. Each change may be repeated: what is so already
// is OK, and unchanged.
func (s *State) putTopic(c *logpb.PutTopic) Result {
	if refusal, ok := checkTopic(c); !ok {
		return refusal
	}
	i, stands := s.findTopic(c.GetNamespace(), c.GetName())
	if c.GetChange() == logpb.PutTopic_CHANGE_DELETE {
		if !stands {
			return Result{Code: OK}
		}
		return s.setTopics(slices.Delete(slices.Clone(s.topics), i, i+1))
	}
	topic := &logpb.Topic{Namespace: c.GetNamespace(), Name: c.GetName(), Created: s.now.proto()}
	if stands {
		old := s.topics[i]
		topic.Subscribers, topic.Version, topic.Created = old.GetSubscribers(), old.GetVersion(), old.GetCreated()
	}
	k := slices.IndexFunc(topic.GetSubscribers(), func(m *logpb.Subscriber) bool {
		return m.GetEndpoint() == c.GetSubscriber().GetEndpoint()
	})
	subscribes := c.GetChange() == logpb.PutTopic_CHANGE_SUBSCRIBE
	switch {
	case !subscribes && k < 0,
		subscribes && k >= 0 && topic.GetSubscribers()[k].GetRemark() == c.GetSubscriber().GetRemark():
		return Result{Code: OK}
	case !subscribes:
		topic.Subscribers = slices.Delete(slices.Clone(topic.GetSubscribers()), k, k+1)
	default:
		if refusal, ok := s.limitTopic(c, topic, k < 0); !ok {
			return refusal
		}
		topic.Subscribers = slices.Clone(topic.GetSubscribers())
		if k < 0 {
			topic.Subscribers = append(topic.Subscribers, c.GetSubscriber())
		} else {
			topic.Subscribers[k] = c.GetSubscriber()
		}
	}
	topic.Version++
	topic.Updated = s.now.proto()
	// A pinned snapshot may share the list: it is replaced.
	topics := slices.Clone(s.topics)
	if stands {
		topics[i] = topic
	} else {
		topics = slices.Insert(topics, i, topic)
	}
	return s.setTopics(topics)
}

func (s *State) setTopics(topics []*logpb.Topic) Result {
	s.topics = topics
	s.settings = s.hashSettings()
	return Result{Code: OK, Changed: true}
}

// checkTopic refuses a malformed change of a topic.
func checkTopic(c *logpb.PutTopic) (Result, bool) {
	if c.GetNamespace() == "" {
		return invalid("namespace", "is empty"), false
	}
	if c.GetName() == "" {
		return invalid("name", "is empty"), false
	}
	for _, f := range []struct{ field, value string }{
		{"namespace", c.GetNamespace()}, {"name", c.GetName()},
		{"subscriber.endpoint", c.GetSubscriber().GetEndpoint()}, {"subscriber.remark", c.GetSubscriber().GetRemark()},
	} {
		if refusal, ok := checkPrintable(f.field, f.value); !ok {
			return refusal, false
		}
	}
	switch _, nested := topicOf(c.GetSubscriber().GetEndpoint()); {
	case c.GetChange() < logpb.PutTopic_CHANGE_SUBSCRIBE || c.GetChange() > logpb.PutTopic_CHANGE_DELETE:
		return invalid("change", "is neither subscribe nor unsubscribe nor delete"), false
	case c.GetChange() == logpb.PutTopic_CHANGE_DELETE:
		return Result{}, true
	case c.GetSubscriber().GetEndpoint() == "":
		return invalid("subscriber.endpoint", "is empty"), false
	case nested:
		return invalid("subscriber.endpoint", "is a topic: topics do not nest"), false
	}
	return Result{}, true
}

// TopicsBytesMax bounds the texts of all topics together: each change reads them all, and
// they are one frame of a snapshot.
const TopicsBytesMax = 32 << 20

// limitTopic refuses a subscriber that joins a topic, or changes in it, where there is no
// room for that. A topic of version 0 is a new one.
func (s *State) limitTopic(c *logpb.PutTopic, topic *logpb.Topic, joins bool) (Result, bool) {
	if most := s.limits.GetTopicsMax(); topic.GetVersion() == 0 && len(s.topics) >= int(most) {
		return quota(GID{}, "topics_max", uint64(most)), false
	}
	if most := s.limits.GetSubscribersPerTopicMax(); joins && len(topic.GetSubscribers()) >= int(most) {
		return quota(GID{}, "subscribers_per_topic_max", uint64(most)), false
	}
	for _, f := range []struct {
		field, value string
		most         uint32
	}{
		{"namespace", topic.GetNamespace(), s.limits.GetKeyBytesMax()},
		{"name", topic.GetName(), s.limits.GetKeyBytesMax()},
		{"subscriber.endpoint", c.GetSubscriber().GetEndpoint(), s.limits.GetTextBytesMax()},
		{"subscriber.remark", c.GetSubscriber().GetRemark(), s.limits.GetTextBytesMax()},
	} {
		if refusal, ok := checkLength(f.field, f.value, f.most); !ok {
			return refusal, false
		}
	}
	if s.topicsBytes()+len(c.GetName())+len(c.GetSubscriber().GetEndpoint())+len(c.GetSubscriber().GetRemark()) > TopicsBytesMax {
		return quota(GID{}, "the bytes of all topics", TopicsBytesMax), false
	}
	return Result{}, true
}

func (s *State) topicsBytes() int {
	n := 0
	for _, topic := range s.topics {
		n += len(topic.GetNamespace()) + len(topic.GetName())
		for _, m := range topic.GetSubscribers() {
			n += len(m.GetEndpoint()) + len(m.GetRemark())
		}
	}
	return n
}

// compareTopics orders topics as the list holds them.
func compareTopics(a, b *logpb.Topic) int {
	if c := strings.Compare(a.GetNamespace(), b.GetNamespace()); c != 0 {
		return c
	}
	return strings.Compare(a.GetName(), b.GetName())
}
