package linearizability

import (
	"cmp"
	"encoding/json"
	"slices"
)

// partition is what happened to one GID, or to one key.
type partition struct {
	name string
	ops  []*Operation
}

// begun: its begin, or its submit, was recorded.
func (p *partition) begun() bool {
	return slices.ContainsFunc(p.ops, func(op *Operation) bool { return op.Kind == KindBegin || op.Kind == KindSubmit })
}

// partitions sorts operations by the GID that they are about, in the order of
// their first calls. An operation by key belongs to the GID that its answer names.
func partitions(ops []*Operation) []*partition {
	byGID := make(map[string]*partition)
	var all []*partition
	owners := keyOwners(ops)
	for _, op := range ops {
		gid := about(op, owners)
		if gid == "" || op.Output.Refusal == refusalKey {
			continue // no transaction answered: the key's model has it
		}
		p := byGID[gid]
		if p == nil {
			p = &partition{name: gid}
			byGID[gid] = p
			all = append(all, p)
		}
		p.ops = append(p.ops, op)
	}
	return all
}

type keyName struct{ namespace, key string }

func keyOf(op *Operation) keyName {
	if op.Namespace == "" {
		return keyName{namespaceDefault, op.Key}
	}
	return keyName{op.Namespace, op.Key}
}

// keyOwners finds, for each key, the one GID that answered for it; "" where there
// were several.
func keyOwners(ops []*Operation) map[keyName]string {
	owners := map[keyName]string{}
	for _, op := range ops {
		if op.Key == "" || op.Output.GID == "" {
			continue
		}
		if op.Status == StatusRefused && op.Output.GID == op.GID {
			continue // its own GID answered, which need not have taken the key
		}
		if had, ok := owners[keyOf(op)]; ok && had != op.Output.GID {
			owners[keyOf(op)] = ""
			continue
		}
		owners[keyOf(op)] = op.Output.GID
	}
	return owners
}

// about is the GID that an operation is about.
func about(op *Operation, owners map[keyName]string) string {
	switch {
	case op.Kind == KindList || op.Kind == KindWatch:
		return ""
	case op.Output.GID != "":
		return op.Output.GID
	case op.GID != "":
		return op.GID
	default:
		return owners[keyOf(op)]
	}
}

// usable leaves out what says nothing: definite failures, and reads of unknown
// outcome. It drops an unknown repetition of an unknown call, too: a command takes
// effect at most once, and the first one may do so at any time that the second may.
// And where the whole log is known, what it does not hold never happened.
func usable(h *History, log *replay) []*Operation {
	type once struct {
		kind                    Kind
		gid, key, branch, asked string
	}
	seen := map[once]bool{}
	var out []*Operation
	for i := range h.Operations {
		op := &h.Operations[i]
		switch {
		case op.Status == StatusFailed || op.Status == StatusRefused && neverModelled(op.Output.Refusal):
			continue
		case op.Status != StatusUnknown:
			out = append(out, op)
			continue
		}
		switch op.Kind {
		case KindGet, KindList, KindWatch:
			continue
		}
		if log.absent(op) {
			log.removed++
			continue
		}
		switch op.Kind {
		case KindReport, KindResolve:
			out = append(out, op)
			continue
		}
		asked, err := json.Marshal(op.Input)
		id := once{op.Kind, op.GID, op.Key, op.Branch, string(asked)}
		if err != nil || !seen[id] {
			seen[id] = true
			out = append(out, op)
		}
	}
	return out
}

// neverModelled refusals come before the contract of one GID: the request was
// malformed, or a bound was reached, or an operator must decide.
func neverModelled(refusal string) bool {
	switch refusal {
	case "INVALID", "QUOTA", "WITHHELD", "QUARANTINED", "NOT_LEADER", "NO_LEADER", "LAGGING", "DENIED", "COMPACTED":
		return true
	default:
		return false
	}
}

// events compiles a partition. With byItself it holds, too, what the cluster may
// have done of its own accord, and calls that waited have their answers apart.
func (c *compiler) events(p *partition, byItself bool) []event {
	out := make([]event, 0, len(p.ops)+4)
	ops := p.ops
	if slices.ContainsFunc(ops, isLocal) {
		ops = strictest(ops)
	}
	for _, op := range ops {
		e := c.event(op, p.name)
		switch {
		case e.unknown && op.Kind == KindInquire:
			if byItself && e.presumable {
				e.role = rolePresume
				out = append(out, e)
			}
			continue
		case byItself && waited(op):
			await := e
			e.role, await.role = roleAsk, roleAwait
			out = append(out, e, await)
		default:
			out = append(out, e)
		}
	}
	logged := c.unaccounted(p)
	out = append(out, logged...)
	if byItself {
		out = c.addInternal(out, p, len(logged) > 0)
	}
	if slices.ContainsFunc(out, func(e event) bool { return e.assumed() }) {
		out = append(out, event{role: roleOver, from: c.maxTime + 1, to: timeInfinity})
	}
	postpone(out)
	slices.SortStableFunc(out, func(a, b event) int { return cmp.Compare(a.from, b.from) })
	return out
}

func isLocal(op *Operation) bool {
	return op.Kind == KindGet && op.Input.Consistency == Local && op.Status != StatusUnknown
}

// strictest keeps, of the local reads that show the same, the one that was answered
// first: what it saw had stood by then, so the others may have seen it too.
func strictest(ops []*Operation) []*Operation {
	first := map[string]*Operation{}
	shows := func(op *Operation) string {
		out := op.Output
		out.AppliedIndex, out.ClockMS, out.FloorMS, out.Epoch = 0, 0, 0, Epoch{}
		text, _ := json.Marshal(out) // it came from JSON, or is as plain
		return string(text)
	}
	for _, op := range ops {
		if isLocal(op) && (first[shows(op)] == nil || op.Return < first[shows(op)].Return) {
			first[shows(op)] = op
		}
	}
	return slices.DeleteFunc(slices.Clone(ops), func(op *Operation) bool { return isLocal(op) && first[shows(op)] != op })
}

// postpone moves the start of whatever may never happen to the next return of an
// answered operation. That changes no order that anybody could tell, but the search
// tries entries in the order of their starts: so it explains by what was answered
// first, and by what may have happened only where it must.
func postpone(events []event) {
	var returns []int64
	for i := range events {
		if events[i].to != timeInfinity {
			returns = append(returns, events[i].to)
		}
	}
	slices.Sort(returns)
	for i := range events {
		e := &events[i]
		if e.to != timeInfinity {
			continue
		}
		if at, _ := slices.BinarySearch(returns, e.from); at < len(returns) {
			e.from = returns[at]
		}
	}
}

// waited: the answer may tell of a later time than the effect.
func waited(op *Operation) bool {
	if op.Status != StatusOK || op.Input.Wait == WaitNone {
		return false
	}
	return op.Kind == KindCommit || op.Kind == KindSubmit || op.Kind == KindRollback && op.Input.Wait == WaitFinish
}

// addInternal adds the steps that nobody called, each with the earliest time at
// which it could happen.
func (c *compiler) addInternal(events []event, p *partition, logged bool) []event {
	deadline, first := timeInfinity, timeInfinity
	holders, held, called := false, false, false
	for _, op := range p.ops {
		first = min(first, op.Call)
		if op.Kind == KindBegin || op.Kind == KindSubmit {
			if mode := modeIn(&op.Input); expires(mode) && (mode != modeSaga || op.Input.TimeoutMS > 0) {
				deadline = min(deadline, op.Call+c.timeoutNS(op))
			}
			called = called || op.Input.Mode == modeSaga || op.Input.Mode == modeMessage
		}
		holders = holders || op.Input.Holder != "" || slices.ContainsFunc(op.Input.Branches, func(b Branch) bool { return b.Holder != "" })
		held = held || op.Input.Held || slices.ContainsFunc(op.Input.Branches, func(b Branch) bool { return b.Held })
	}
	if deadline <= c.maxTime {
		events = append(events, event{role: roleTimeout, from: deadline, to: timeInfinity})
	}
	if called && !logged && c.header.DeliveriesUnseen {
		events = append(events, event{role: roleDone, from: first, to: timeInfinity}, event{role: roleUndone, from: first, to: timeInfinity})
	}
	if holders {
		events = append(events, event{role: roleLost, from: first, to: timeInfinity})
	}
	if held {
		events = append(events, event{role: roleDrive, from: first, to: timeInfinity})
	}
	return events
}

// unaccounted are the commands of a GID that the whole log holds and that are of
// a kind which no client recorded of it: what the leader's driver wrote, and what
// clients did that write nothing down.
func (c *compiler) unaccounted(p *partition) []event {
	if c.log == nil || !c.log.whole || c.log.from != 1 {
		return nil
	}
	recorded := map[Kind]bool{}
	for _, op := range p.ops {
		recorded[op.Kind] = true
	}
	var out []event
	for _, o := range c.log.byGID[p.name] {
		if recorded[o.Command.Kind] && !o.Command.Driver {
			continue
		}
		out = append(out, event{call: *c.log.call(o), role: roleLogged, to: timeInfinity, place: uint16(len(out))})
	}
	return out
}

// timeoutNS is the least time that can pass on the recorder's clock before a
// transaction that op creates times out.
func (c *compiler) timeoutNS(op *Operation) int64 {
	if c.header.ClockSkewed {
		return 0
	}
	ms := int64(op.Input.TimeoutMS)
	if ms == 0 {
		ms = int64(c.header.TimeoutDefaultMS)
	}
	if ms == 0 {
		ms = timeoutDefault.Milliseconds()
	}
	return ms * (1000 - clockDriftPerMille) * 1000
}
