package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// open makes the record that a Begin, or the Submit of a mode whose branches
// are called, starts with: active, and with the branches it carries.
func (s *State) open(b *logpb.Begin, gid GID, set []*logpb.BranchSpec) (*transaction, Result, bool) {
	rules, _ := rulesOf(b.GetMode())
	if rules.votes {
		return s.toActive(new(transaction), b, gid), Result{}, true
	}
	more := s.contentMore(b.GetPlan(), set)
	if len(b.GetBranches()) > 0 {
		b = withPlan(b, b.GetPlan())
	}
	t := s.toActive(new(transaction), b, gid)
	t.more = more
	if refusal, ok := s.limitBytes(t, 0); !ok {
		return nil, refusal, false
	}
	if rules.topics {
		var refusal Result
		var ok bool
		if set, refusal, ok = s.expand(b.GetNamespace(), gid, set); !ok {
			return nil, refusal, false
		}
	}
	if refusal, ok := s.limitCalled(t, "set", set...); !ok {
		return nil, refusal, false
	}
	fresh := make([]branch, len(set)) // they join together, in one piece of memory
	t.branches = slices.Grow(t.branches, len(set))
	for i, spec := range set {
		b := &fresh[i]
		b.spec, b.enlisted, b.draft = spec, s.stamped(), t
		t.branches = append(t.branches, b)
	}
	return t, Result{}, true
}

// submitCalled applies the Submit rows of docs/modes.md: a saga's steps are
// sealed and called; a message or a notification is committed at once.
func (s *State) submitCalled(c *logpb.Submit) Result {
	b := c.GetBegin()
	rules, _ := rulesOf(b.GetMode())
	if !rules.submits {
		return invalid("mode", "%s has no submit: it begins, and is then committed", rules.name)
	}
	if len(c.GetVotes()) > 0 {
		return invalid("votes", "are given: mode %s has none", rules.name)
	}
	if refusal, ok := checkCalled(b, "set", c.GetSet()); !ok {
		return refusal
	}
	t, gid, refusal, ok := s.locate(b)
	if !ok {
		return refusal
	}
	if t != nil {
		return s.submitAgain(t, c)
	}
	if refusal, ok := s.room(gid, b); !ok {
		return refusal
	}
	next, refusal, ok := s.open(b, gid, c.GetSet())
	if !ok {
		return refusal
	}
	s.submitted(next)
	r := stored(s.put(nil, next))
	r.Created = true
	return r
}

// submitAgain answers for what stands. A message that was only prepared is
// committed by it.
func (s *State) submitAgain(t *transaction, c *logpb.Submit) Result {
	if refusal, ok := t.closed(); !ok {
		return refusal
	}
	switch {
	case t.tombstone:
		return t.answer(AlreadyDecided, "%s was rolled back before it began", t.gid)
	case !t.sameBegin(c.GetBegin(), c.GetSet()):
		return t.answer(GIDConflict, "%s stands with other content", t.gid)
	case t.state == StateActive:
		next := t.clone()
		s.submitted(next)
		return stored(s.put(t, next))
	default:
		return t.answer(OK, "")
	}
}

// submitted takes the edge that a Submit leads to: S where steps must be
// answered first, else C.
func (s *State) submitted(t *transaction) {
	t.submitted = true
	t.origin = logpb.Origin_ORIGIN_CLIENT
	s.toDecidedOrSealed(t)
}

// expand puts in place of each branch that names a topic one for each of its
// subscribers, as they are now.
func (s *State) expand(namespace string, gid GID, set []*logpb.BranchSpec) ([]*logpb.BranchSpec, Result, bool) {
	var whole []*logpb.BranchSpec
	heirs := map[string][]string{}
	for i, spec := range set {
		name, ok := topicOf(spec.GetEndpoint())
		if !ok {
			whole = append(whole, spec)
			continue
		}
		topic, ok := s.Topic(namespace, name)
		if !ok {
			return nil, Result{Code: NotFound, GID: gid, Detail: fmt.Sprintf("no topic %q: branch %q names it", name, spec.GetId())}, false
		}
		if len(whole)+len(topic.GetSubscribers())+len(set)-i-1 > int(s.limits.GetBranchesPerTransactionMax()) {
			return nil, quota(gid, "branches_per_transaction_max", uint64(s.limits.GetBranchesPerTransactionMax())), false
		}
		for _, member := range subscribed(spec, topic) {
			whole = append(whole, member)
			heirs[spec.GetId()] = append(heirs[spec.GetId()], member.GetId())
		}
	}
	if len(heirs) == 0 {
		return set, Result{}, true
	}
	sortSpecs(whole)
	for i, spec := range whole {
		if len(spec.GetId()) > int(s.limits.GetBranchIdBytesMax()) {
			return nil, invalid("set.id", "%q, of a topic's subscriber, is of %d bytes: branch_id_bytes_max is %d",
				spec.GetId(), len(spec.GetId()), s.limits.GetBranchIdBytesMax()), false
		}
		if i > 0 && whole[i-1].GetId() == spec.GetId() {
			return nil, invalid("set.id", "%q is also the id of a topic's subscriber", spec.GetId()), false
		}
		whole[i] = follow(spec, heirs)
	}
	return whole, Result{}, true
}
