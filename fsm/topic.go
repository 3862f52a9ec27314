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
