package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// shop is a participant whose branches are called: a process with a database that
// survives it. Each operation is one local transaction, with the fence's row in it.
type shop struct {
	*actor
	url     string
	rows    map[ref]*fenceRow
	effects []*shopEffect
}

// fenceRow is what a shop knows of a branch.
type fenceRow struct {
	state shopState
	epoch coordinator.Epoch
}

type shopState uint8

const (
	shopOpen shopState = iota
	shopWorked
	shopRefused
	shopConfirmed
	shopUndone
	shopFenced
)

// shopEffect counts what an operation on a branch did.
type shopEffect struct {
	at   ref
	op   lin.Effect
	n    int64
	when time.Duration
	step int // of the world: the order of what happens at one instant
}

// The operations beside the driver's.
const (
	opTry   = fsm.Operation(100)
	opLocal = fsm.Operation(101)
)

// shopCall is one call.
type shopCall struct {
	ref   ref
	op    fsm.Operation
	epoch coordinator.Epoch
	mode  logpb.Mode
}

type shopAnswer uint8

const (
	shopDone shopAnswer = iota
	shopSaysNo
	shopFails
)

func (w *World) newShop(i int) *shop {
	name := fmt.Sprintf("shop%d", i+1)
	return &shop{actor: w.newActor(name), url: "http://" + name + "/", rows: map[ref]*fenceRow{}}
}

// serve does an operation, and takes its time.
func (s *shop) serve(c shopCall, reply func(shopAnswer)) {
	life := s.life
	s.after(s.takes(c), func() {
		a := s.transact(c)
		s.w.say(s.name, "%v of %s: %v", c.op, short(c.ref), a)
		if s.life == life && s.up {
			reply(a)
		}
	})
}

func (s *shop) takes(c shopCall) time.Duration {
	if step := s.w.oracle.stepOf(c.ref); step != nil {
		return between(s.rng, 0, step.Takes)
	}
	return between(s.rng, 0, 5*time.Millisecond)
}

// transact is the local transaction: the fence's law, written from the protocol.
func (s *shop) transact(c shopCall) shopAnswer {
	if c.op == fsm.OperationCheckBack {
		return s.checkBack(c)
	}
	row := s.rows[c.ref]
	if row == nil || s.w.bug == BugShopWithoutFence && c.op != fsm.OperationCompensate {
		row = &fenceRow{state: s.unfenced(c)}
		s.rows[c.ref] = row
	}
	switch c.op {
	case opTry, opLocal, fsm.OperationAction:
		switch {
		case row.state == shopFenced || row.state == shopUndone:
			return shopSaysNo // too late
		case c.epoch != (coordinator.Epoch{}) && older(c.epoch, row.epoch):
			return shopFails // a leader that is none any more
		}
		row.epoch = c.epoch
		switch {
		case row.state == shopWorked || row.state == shopConfirmed:
			return shopDone
		case s.refuses(c) || row.state == shopRefused:
			row.state = shopRefused
			return shopSaysNo
		}
		row.state = shopWorked
	case fsm.OperationConfirm:
		switch row.state {
		case shopConfirmed:
			return shopDone
		case shopWorked:
			row.state = shopConfirmed
		default:
			return shopFails
		}
	default: // compensate, cancel
		if row.state != shopWorked {
			if row.state != shopUndone {
				row.state = shopFenced
			}
			return shopDone
		}
		row.state = shopUndone
	}
	s.count(c)
	return shopDone
}

// unfenced is what a branch's row is taken for where there is none: with the planted
// bug, always what lets the operation be done.
func (s *shop) unfenced(c shopCall) shopState {
	if s.w.bug == BugShopWithoutFence && c.op != opTry && c.op != opLocal && c.op != fsm.OperationAction {
		return shopWorked
	}
	return shopOpen
}

// checkBack: whether the local transaction has committed; if not, it never can.
func (s *shop) checkBack(c shopCall) shopAnswer {
	at := ref{GID: c.ref.GID, Branch: localBranch}
	if s.rows[at] == nil {
		s.rows[at] = &fenceRow{state: shopFenced}
	}
	if s.rows[at].state == shopWorked {
		return shopDone
	}
	return shopSaysNo
}

func (s *shop) refuses(c shopCall) bool {
	step := s.w.oracle.stepOf(c.ref)
	return step != nil && step.Refuses
}

var shopWords = map[fsm.Operation]lin.Effect{
	opTry: lin.EffectTry, opLocal: lin.EffectLocal, fsm.OperationAction: lin.EffectAction, fsm.OperationCompensate: lin.EffectCompensate,
	fsm.OperationConfirm: lin.EffectConfirm, fsm.OperationCancel: lin.EffectCancel,
}

// count is n = n + 1.
func (s *shop) count(c shopCall) {
	op := shopWords[c.op]
	s.w.cover.meet("effect " + string(op))
	for _, e := range s.effects {
		if e.at == c.ref && e.op == op {
			e.n++
			return
		}
	}
	s.effects = append(s.effects, &shopEffect{at: c.ref, op: op, n: 1, when: s.w.now, step: s.w.steps})
}

var errShop = errors.New("the shop failed")

// callShop is callEndpoint for a shop.
func (n *node) callShop(s *shop, d coordinator.Delivery, called func(coordinator.Answered, error)) {
	c := shopCall{ref: ref{GID: d.GID, Branch: d.Branch}, op: d.Operation, epoch: d.Epoch, mode: d.Mode}
	n.w.net.send(n.actor, s.actor, func() {
		s.serve(c, func(a shopAnswer) {
			n.w.net.send(s.actor, n.actor, func() {
				switch a {
				case shopDone:
					called(coordinator.Answered{}, nil)
				case shopSaysNo:
					called(coordinator.Answered{Refused: true, Detail: "no"}, nil)
				default:
					called(coordinator.Answered{}, errShop)
				}
			})
		})
	})
}

// older orders epochs: incarnation first, then term.
func older(a, b coordinator.Epoch) bool {
	return a.Incarnation < b.Incarnation || a.Incarnation == b.Incarnation && a.Term < b.Term
}
