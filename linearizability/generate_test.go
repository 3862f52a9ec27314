package linearizability

import (
	"fmt"
	"math/rand/v2"
)

// generator makes valid histories without the contract's code: a scheduler picks
// instants, a coordinator of a few lines (a map of votes and a word) answers at
// each, and clients are told before and after.
type generator struct {
	r       *rand.Rand
	h       *History
	gids    int
	each    int
	unknown float64
}

// toy is the coordinator: explicit entry, branches 1 to 3.
type toy struct {
	begun, sealed bool
	decision      Decision
	reason        string
	enlisted      []string
	votes         map[string]Vote
	done          map[string]bool
}

func generate(seed uint64, gids, each int, unknown float64) *History {
	g := &generator{
		r: rand.New(rand.NewPCG(seed, 7)), gids: gids, each: each, unknown: unknown,
		h: &History{Header: Header{Format: Format, Seed: seed}, Operations: make([]Operation, 0, gids*each)},
	}
	for n := range gids {
		g.life(fmt.Sprintf("01JD9S7KQ0%016d", n), int64(1+n*100))
	}
	return g.h
}

// life is one transaction: clients that want opposite things, and ask again and
// again.
func (g *generator) life(gid string, start int64) {
	t := toy{votes: map[string]Vote{}, done: map[string]bool{}}
	now := start * 1000
	for range g.each {
		now += 1 + g.r.Int64N(2000)
		op := Operation{
			Client: g.r.IntN(1000), GID: gid, Call: max(1, now-g.r.Int64N(4000)), Return: now + g.r.Int64N(4000), Status: StatusOK,
		}
		g.choose(&op, &t)
		lost := g.r.Float64() < g.unknown
		if lost && g.r.IntN(2) == 0 {
			// It never arrived.
			op.Status, op.Return = StatusUnknown, 0
			g.h.Operations = append(g.h.Operations, op)
			continue
		}
		g.answer(&op, &t)
		if lost {
			op.Status, op.Return, op.Output = StatusUnknown, 0, Output{}
		}
		g.h.Operations = append(g.h.Operations, op)
	}
}

func (g *generator) choose(op *Operation, t *toy) {
	op.Branch = string(rune('1' + g.r.IntN(3)))
	op.Input.Resource = "r" + op.Branch
	progress := 20
	if t.decision != DecisionNone {
		progress = 4
	}
	switch n := g.r.IntN(60 + progress); {
	case n < 10 || !t.begun && n < 50:
		op.Kind, op.Branch, op.Input = KindBegin, "", Input{TimeoutMS: 600_000}
	case n < 20:
		op.Kind = KindEnlist
	case n < 35:
		op.Kind, op.Input.Vote = KindVote, VotePrepared
		if g.r.IntN(10) == 0 {
			op.Input.Vote = VoteReadOnly
		}
	case n < 38:
		op.Kind, op.Branch, op.Input = KindCommit, "", Input{Bare: true, Wait: WaitNone}
	case n < 40:
		op.Kind, op.Branch, op.Input = KindRollback, "", Input{}
	case n < 50:
		op.Kind, op.Input = KindInquire, Input{}
	case n < 55 && t.decision != DecisionNone:
		op.Kind, op.Input = KindReport, Input{Outcome: OutcomeRolledBack}
		if t.decision == DecisionCommit {
			op.Input.Outcome = OutcomeCommitted
		}
	default:
		op.Kind, op.Branch, op.Input = KindGet, "", Input{}
	}
}

func (op *Operation) refuse(reason string) {
	op.Status, op.Output.Refusal = StatusRefused, reason
}

func (g *generator) answer(op *Operation, t *toy) {
	if !t.begun && t.decision == DecisionNone {
		switch op.Kind {
		case KindBegin:
			t.begun = true
			op.Output = Output{Created: true, State: StateActive}
		case KindRollback:
			t.decision, t.reason = DecisionRollback, reasonRequested
			op.Output = Output{Decision: DecisionRollback, State: StateRolledBack}
		case KindInquire:
			op.Output = Output{Verdict: VerdictWait, Unseen: true}
		default:
			op.refuse(refusalNotFound)
		}
		return
	}
	has := t.has(op.Branch)
	switch op.Kind {
	case KindBegin:
		if !t.begun {
			op.refuse(refusalDecided)
			return
		}
		op.Output = Output{Decision: t.decision, State: t.state()}
	case KindGet:
		op.Output = Output{Decision: t.decision, State: t.state(), Reason: t.reason, Tombstone: !t.begun}
	case KindInquire:
		op.Output.Verdict = t.verdict(op.Branch)
	case KindReport:
		if has {
			t.done[op.Branch] = true
		}
	case KindRollback:
		switch {
		case t.decision == DecisionCommit:
			op.refuse(refusalDecided)
			return
		case t.decision == DecisionNone:
			t.decision, t.reason = DecisionRollback, reasonRequested
		}
		op.Output = Output{Decision: DecisionRollback, State: t.state()}
	case KindCommit:
		if t.decision == DecisionRollback {
			op.refuse(refusalDecided)
			return
		}
		t.sealed = true
		t.settle()
		op.Output = Output{Decision: t.decision, State: t.state()}
	case KindEnlist:
		g.enlist(op, t, has)
	case KindVote:
		g.vote(op, t, has)
	}
}

func (g *generator) enlist(op *Operation, t *toy, has bool) {
	switch {
	case t.decision != DecisionNone && !has:
		op.refuse(refusalDecided)
	case t.sealed && !has:
		op.refuse(refusalSealed)
	case !has:
		t.enlisted = append(t.enlisted, op.Branch)
	}
	op.Output.Verdict = t.verdict(op.Branch)
}

func (g *generator) vote(op *Operation, t *toy, has bool) {
	switch {
	case t.decision == DecisionRollback, t.decision == DecisionCommit && !has:
		op.refuse(refusalDecided)
	case t.sealed && !has:
		op.refuse(refusalSealed)
	case !has:
		op.refuse(refusalEnlisted)
	case t.votes[op.Branch] != "" && t.votes[op.Branch] != op.Input.Vote:
		op.refuse(refusalVote)
	default:
		t.votes[op.Branch] = op.Input.Vote
		t.settle()
	}
	op.Output.Verdict = t.verdict(op.Branch)
}

func (t *toy) has(id string) bool {
	for _, have := range t.enlisted {
		if have == id {
			return true
		}
	}
	return false
}

func (t *toy) settle() {
	if t.sealed && t.decision == DecisionNone && len(t.votes) == len(t.enlisted) {
		t.decision = DecisionCommit
	}
}

func (t *toy) verdict(id string) Verdict {
	switch {
	case t.decision == DecisionCommit && t.votes[id] == VotePrepared:
		return VerdictCommit
	case t.decision != DecisionNone, t.sealed && !t.has(id):
		return VerdictRollback
	default:
		return VerdictWait
	}
}

func (t *toy) state() State {
	over := true
	for _, id := range t.enlisted {
		over = over && (t.done[id] || t.votes[id] == VoteReadOnly)
	}
	switch {
	case t.decision == DecisionCommit && over:
		return StateCommitted
	case t.decision == DecisionCommit:
		return StateCommitting
	case t.decision == DecisionRollback && over:
		return StateRolledBack
	case t.decision == DecisionRollback:
		return StateRollingBack
	case t.sealed:
		return StateSealed
	default:
		return StateActive
	}
}
