package linearizability

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// The second model: a key names the first GID that was created with it, for as long
// as that is kept. Its state is that GID, or "".

// keyEvent is an operation that names a key.
type keyEvent struct {
	op *Operation
	// mayTake: it takes the key if it is free, for the GID own.
	mayTake bool
	own     string
	// freed tells whether what the key stands for may have been dropped by then.
	freed func(gid string) bool
}

func keyModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := input.(*keyEvent).step(state.(string))
			return ok, next
		},
		DescribeOperation: func(input, _ any) string { return describeOperation(input.(*keyEvent).op) },
		DescribeState: func(state any) string {
			if state == "" {
				return "free"
			}
			return "stands for " + state.(string)
		},
	}
}

func (e *keyEvent) step(stands string) (bool, string) {
	if e.op.Status == StatusUnknown {
		if stands == "" && e.mayTake {
			return true, e.own
		}
		return true, stands
	}
	if ok, next := e.answered(stands); ok {
		return true, next
	}
	if stands != "" && e.freed(stands) {
		return e.answered("")
	}
	return false, ""
}

// answered tells whether the answer fits a key that stands for a GID, or for none.
func (e *keyEvent) answered(stands string) (bool, string) {
	out := &e.op.Output
	if !e.mayTake { // by key: it must be known
		switch {
		case out.Refusal == refusalNotFound && stands == "":
			return true, stands
		case out.Refusal == refusalNotFound || stands == "":
			return false, ""
		default:
			return out.GID == "" || out.GID == stands, stands
		}
	}
	answers := out.GID
	if answers == "" {
		answers = e.op.GID
	}
	switch {
	case out.Refusal == refusalKey:
		return stands != "" && stands != e.op.GID && (out.GID == "" || out.GID == e.op.GID || out.GID == stands), stands
	case e.op.Status == StatusRefused:
		// By what the key stands for, or, where its own GID was decided before it
		// could take the key, by that.
		return answers == e.op.GID || answers == stands, stands
	case stands == "":
		return answers == e.op.GID || e.op.GID == "", answers
	default:
		return answers == stands && (!out.Created || answers == e.op.GID || e.op.GID == ""), stands
	}
}

// keyPartitions sorts the operations that name a key.
func keyPartitions(ops []*Operation) []*partition {
	byKey := map[keyName]*partition{}
	var all []*partition
	for _, op := range ops {
		if op.Key == "" {
			continue
		}
		k := keyOf(op)
		p := byKey[k]
		if p == nil {
			p = &partition{name: fmt.Sprintf("key:%s in %s", k.key, k.namespace)}
			byKey[k] = p
			all = append(all, p)
		}
		p.ops = append(p.ops, op)
	}
	return all
}

func (c *compiler) keyEvents(p *partition) []porcupine.Operation {
	owners := keyOwners(p.ops)
	out := make([]porcupine.Operation, 0, len(p.ops))
	for _, op := range p.ops {
		takes := op.Kind == KindBegin || op.Kind == KindSubmit
		own := op.GID
		if own == "" {
			own = owners[keyOf(op)] // made by a node
		}
		e := &keyEvent{op: op, mayTake: takes, own: own, freed: func(gid string) bool { return c.expirable(op, gid) }}
		entry := porcupine.Operation{ClientId: op.Client, Input: e, Call: op.Call, Return: op.Return}
		switch {
		case op.Status == StatusUnknown && (!takes || own == ""):
			continue // whatever it does, it does to a GID; or nobody ever heard of it
		case op.Status == StatusUnknown:
			entry.Return = timeInfinity
		case op.Kind == KindGet && op.Input.Consistency == Local:
			entry.Call = 0
		}
		out = append(out, entry)
	}
	slices.SortStableFunc(out, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return out
}
