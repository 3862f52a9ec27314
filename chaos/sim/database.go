package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

type ref = coordinator.BranchRef

// database is a resource: what it has prepared, its evidence rows and its effects
// are durable; a local transaction that is open is lost with its connection.
// PROTOCOL.md section 5 says what it may and must answer.
type database struct {
	w    *World
	name string
	held bool // it cannot prepare: a branch is a local transaction kept open
	rng  *rand.Rand

	prepared map[ref]*preparedTx
	order    []ref // of preparing, so that a scan does not depend on a map
	rows     map[ref]row
	open     []*localTx
	sweptTo  uint64
}

// row is evidence: what a branch's local transaction did, or that it never can.
type row uint8

const (
	rowDone row = iota + 1
	rowFenced
)

// preparedTx waits for its outcome. Its session, while that lives, is the only
// one that can end it.
type preparedTx struct {
	owner     *process
	life      int
	timeoutMS uint64
}

// localTx is work that is neither prepared nor ended.
type localTx struct {
	ref       ref
	owner     *process
	life      int
	timeoutMS uint64
	votes     bool // held: its evidence row is written, and its vote is said
}

func (w *World) newDatabase(i int, held bool) *database {
	return &database{
		w: w, name: fmt.Sprintf("db%d", i+1), held: held, rng: w.source(3000 + uint64(i)),
		prepared: make(map[ref]*preparedTx), rows: make(map[ref]row),
	}
}

func (t *preparedTx) sessionLives() bool { return t.owner.up && t.owner.life == t.life }

func (d *database) begin(p *process, at ref, timeoutMS uint64) *localTx {
	t := &localTx{ref: at, owner: p, life: p.life, timeoutMS: timeoutMS}
	d.open = append(d.open, t)
	return t
}

func (d *database) isOpen(t *localTx) bool { return slices.Contains(d.open, t) }

func (d *database) close(t *localTx) {
	d.open = slices.DeleteFunc(d.open, func(o *localTx) bool { return o == t })
}

// openOf finds a process' own open transaction of a branch.
func (d *database) openOf(p *process, at ref) *localTx {
	for _, t := range d.open {
		if t.ref == at && t.owner == p && t.life == p.life {
			return t
		}
	}
	return nil
}

// othersHold: another living process keeps the branch open, in a held database.
func (d *database) othersHold(p *process, at ref) bool {
	for _, t := range d.open {
		if t.ref == at && t.owner != p {
			return true
		}
	}
	return false
}

// prepare makes work durable, able to go either way. The evidence row is part of
// it, so whoever has written that row first keeps it from preparing.
func (d *database) prepare(t *localTx) bool {
	if !d.isOpen(t) {
		return false // the connection is gone
	}
	d.close(t)
	switch {
	case d.rows[t.ref] != 0, d.prepared[t.ref] != nil, t.ref.GID.BornMS() <= d.sweptTo:
		return false
	}
	d.prepared[t.ref] = &preparedTx{owner: t.owner, life: t.life, timeoutMS: t.timeoutMS}
	d.order = append(d.order, t.ref)
	d.w.oracle.branchPrepared(d, t.ref)
	return true
}

// mayHold writes the evidence row of a held branch into its transaction, before it
// votes: the work is there, and nobody has fenced it off.
func (d *database) mayHold(t *localTx) bool {
	if !d.isOpen(t) {
		return false
	}
	if d.rows[t.ref] != 0 || t.ref.GID.BornMS() <= d.sweptTo {
		d.close(t)
		return false
	}
	t.votes = true
	return true
}

func (d *database) forget(at ref) {
	delete(d.prepared, at)
	d.order = slices.DeleteFunc(d.order, func(o ref) bool { return o == at })
}

// end obeys a verdict; busy means that it cannot be said yet.
func (d *database) end(p *process, at ref, v fsm.Verdict) (o fsm.Outcome, busy bool) {
	if t := d.prepared[at]; t != nil {
		if t.owner != p && t.sessionLives() {
			return 0, true // only the session that prepared it can end it
		}
		d.forget(at)
		return d.finish(at, v == fsm.VerdictCommit), false
	}
	if t := d.openOf(p, at); t != nil {
		if v == fsm.VerdictCommit && !t.votes {
			return 0, true // a call that was repeated: its own work must end first
		}
		d.close(t)
		if v == fsm.VerdictCommit {
			return d.finish(at, true), false
		}
		d.w.oracle.openUndone(d, at)
		return d.notFound(at, v), false // what its evidence row says of an earlier time
	}
	if d.held && d.othersHold(p, at) {
		return 0, true // its evidence row cannot be inserted while they hold it
	}
	return d.notFound(at, v), false
}

// notFound settles a branch by its evidence row. Where there is none it is
// inserted: then the branch can never happen any more.
func (d *database) notFound(at ref, v fsm.Verdict) fsm.Outcome {
	switch {
	case d.w.bug == BugNotFoundIsSuccess && v == fsm.VerdictCommit:
		return committed
	case d.rows[at] == rowDone:
		return committed
	case d.rows[at] == rowFenced:
		return rolledBack
	case v == fsm.VerdictCommit && at.GID.BornMS() <= d.sweptTo:
		return hazard
	}
	d.fence(at)
	return rolledBack
}

// fence makes sure that the branch can never happen any more.
func (d *database) fence(at ref) {
	d.w.oracle.branchFenced(at)
	if d.rows[at] == 0 && d.w.bug != BugNoFence {
		d.rows[at] = rowFenced
	}
}

func (d *database) finish(at ref, commit bool) fsm.Outcome {
	d.w.oracle.branchEnded(d, at, commit)
	if !commit {
		return rolledBack
	}
	d.rows[at] = rowDone
	return committed
}

// crash loses every connection, and with it what is open. What is prepared stays.
func (d *database) crash() {
	d.w.say(d.name, "CRASHES: %d open transactions are lost", len(d.open))
	for _, t := range d.open {
		d.w.oracle.openLost(d, t.ref)
		if t.owner.up && t.owner.life == t.life {
			t.owner.after(between(d.rng, 0, time.Second), func() { t.owner.connectionLost(t.ref) })
		}
	}
	d.open = nil
	for _, at := range d.order {
		d.prepared[at].life = -1
	}
}

// endByHand lets an operator end what is prepared, whatever was or will be decided.
func (d *database) endByHand(commit bool) bool {
	if len(d.order) == 0 || d.w.history != nil { // its judge knows of no such hand
		return false
	}
	at := d.order[0]
	d.forget(at)
	if commit {
		d.rows[at] = rowDone // its evidence row is a part of what was prepared
	}
	d.w.oracle.endedByHand(at, commit)
	d.w.say(d.name, "an operator ends %s by hand, commit %v", short(at), commit)
	return true
}

// disconnect ends the sessions of a process' life.
func (d *database) disconnect(p *process) {
	var left []*localTx
	for _, t := range d.open {
		if t.owner != p {
			left = append(left, t)
			continue
		}
		d.w.oracle.openLost(d, t.ref)
	}
	d.open = left
}

// sweep drops the rows at or below the floor, and refuses to prepare what is as old.
func (d *database) sweep(floorMS uint64) {
	if floorMS <= d.sweptTo {
		return
	}
	d.sweptTo = floorMS
	for at := range d.rows { // the order does not matter: nothing is drawn
		if at.GID.BornMS() <= floorMS {
			delete(d.rows, at)
		}
	}
}
