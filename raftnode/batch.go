package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// commandOverheadBytes is what one command costs in an entry beside its bytes.
const commandOverheadBytes = 8

// enqueueMax is how long an entry may wait for the library's main goroutine.
const enqueueMax = 2 * time.Second

// Proposed is the answer to commands that were applied.
type Proposed struct {
	// Results holds one result for each command, in order.
	Results []fsm.Result
	// Index and Term are those of the log entry.
	Index, Term uint64
}

// States of a call: whoever changes it first decides.
const (
	callWaiting   = iota
	callPacked    // it is in an entry: from now on its outcome may be unknown
	callAbandoned // its caller has gone: it will not be packed
)

// call is one call of Propose.
type call struct {
	commands [][]byte
	bytes    int
	state    atomic.Int32
	done     chan callAnswer // holds one
}

type callAnswer struct {
	proposed Proposed
	err      error
}

// Propose appends commands to the log, all in one entry, and returns when they
// were applied here. The caller must not change their bytes afterwards.
//
// When ctx ends first the error tells what is known: ErrUnknown when the
// commands had been packed, else the context's error alone, and they are not
// appended.
func (n *Node) Propose(ctx context.Context, commands ...[]byte) (Proposed, error) {
	c := &call{commands: commands, done: make(chan callAnswer, 1)}
	for _, command := range commands {
		if len(command) > n.cfg.CommandBytesMax {
			return Proposed{}, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTooLarge, len(command), n.cfg.CommandBytesMax)
		}
		c.bytes += len(command) + commandOverheadBytes
	}
	if len(commands) == 0 || len(commands) > n.cfg.EntryCommandsMax || c.bytes > n.cfg.EntryBytesMax+commandOverheadBytes {
		return Proposed{}, fmt.Errorf("%w: %d commands of %d bytes in one call, the limits are %d and %d",
			ErrTooLarge, len(commands), c.bytes, n.cfg.EntryCommandsMax, n.cfg.EntryBytesMax)
	}
	if err := n.enqueue(ctx, c); err != nil {
		return Proposed{}, err
	}
	select {
	case a := <-c.done:
		return a.proposed, a.err
	case <-ctx.Done():
		return c.abandon(context.Cause(ctx))
	case <-n.closed: // the library may leave futures unanswered then
		return c.abandon(ErrClosed)
	case <-n.fail.failed:
		return c.abandon(ErrFailed)
	}
}

// enqueue puts a call where the batcher finds it, or refuses it at once.
func (n *Node) enqueue(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-n.closing:
		return ErrClosed
	case <-n.fail.failed:
		return ErrFailed
	default:
	}
	if n.reign.Load() == nil {
		return ErrNotLeader
	}
	if n.queuedBytes.Add(int64(c.bytes)) > int64(n.cfg.QueueBytesMax) {
		n.queuedBytes.Add(-int64(c.bytes))
		n.counters.busy.Add(1)
		return ErrBusy
	}
	select {
	case n.queue <- c:
		n.counters.pending.Add(1)
		return nil
	default:
		n.queuedBytes.Add(-int64(c.bytes))
		n.counters.busy.Add(1)
		return ErrBusy
	}
}

// abandon ends a call whose caller waits no longer: with why alone when it was
// not packed yet, else with ErrUnknown because of why. An answer that came at
// the same moment is used.
func (c *call) abandon(why error) (Proposed, error) {
	if c.state.CompareAndSwap(callWaiting, callAbandoned) {
		return Proposed{}, why
	}
	select {
	case a := <-c.done:
		return a.proposed, a.err
	default:
		return Proposed{}, fmt.Errorf("%w: %w", ErrUnknown, why)
	}
}

// entry is calls packed together, proposed as one log entry.
type entry struct {
	calls    []*call
	commands int
	bytes    int
	library  *library // that it was proposed to
	future   raft.ApplyFuture
}

// pack makes entries of waiting calls. With few entries in flight a call is
// proposed at once; otherwise calls accumulate until one of these is done, so
// that the entry, not the command, pays for the disk. There is no timer.
func (n *Node) pack() {
	defer n.wait.Done()
	defer close(n.inFlight)
	var carried *call // did not fit into the last entry
	for {
		e := &entry{}
		if carried == nil {
			select {
			case carried = <-n.queue:
			case <-n.closing:
				n.refuseQueued(nil)
				return
			}
		}
		n.add(e, carried)
		carried = n.fill(e)
		select {
		case n.slots <- struct{}{}:
		case <-n.closing:
			n.refuse(e, ErrClosed)
			n.refuseQueued(carried)
			return
		}
		if len(e.calls) == 0 { // all of them were abandoned
			<-n.slots
			continue
		}
		n.propose(e)
	}
}

// fill adds waiting calls to an entry: those that are there, and while no slot
// is free those that come. It returns the first that does not fit.
func (n *Node) fill(e *entry) (carried *call) {
	for {
		var c *call
		if len(n.slots) < cap(n.slots) {
			select {
			case c = <-n.queue:
			default:
				return nil
			}
		} else {
			select {
			case c = <-n.queue:
			case n.slots <- struct{}{}:
				<-n.slots // pack takes it
				continue
			case <-n.closing:
				return nil
			}
		}
		if e.commands+len(c.commands) > n.cfg.EntryCommandsMax || e.bytes+c.bytes > n.cfg.EntryBytesMax {
			return c
		}
		n.add(e, c)
	}
}

// add packs one call, unless its caller has gone.
func (n *Node) add(e *entry, c *call) {
	n.queuedBytes.Add(-int64(c.bytes))
	if !c.state.CompareAndSwap(callWaiting, callPacked) {
		n.counters.pending.Add(-1)
		return
	}
	e.calls = append(e.calls, c)
	e.commands += len(c.commands)
	e.bytes += c.bytes
}

// propose hands an entry to the library, stamped with the reign's clock.
func (n *Node) propose(e *entry) {
	reign := n.reign.Load()
	if reign == nil {
		<-n.slots
		n.refuse(e, ErrNotLeader)
		return
	}
	commands := make([][]byte, 0, e.commands)
	for _, c := range e.calls {
		commands = append(commands, c.commands...)
	}
	e.library = n.raft()
	n.machine.awaited.Add(1) // answer takes it back
	e.future = e.library.Apply(n.encode(reign.clockMS(n.cfg.Clock()), commands), enqueueMax)
	n.counters.entries.Add(1)
	n.inFlight <- e
}

// encode builds a log entry.
func (n *Node) encode(clockMS uint64, commands [][]byte) []byte {
	size := 64
	for _, command := range commands {
		size += len(command) + commandOverheadBytes
	}
	return fsm.EncodeEntryRaw(make([]byte, 0, size), clockMS, uint64(n.cfg.Wall().UnixMilli()), n.machine.level.Load(), commands)
}

// answer waits for the entries in flight, in the order in which they were
// proposed, and answers their calls.
func (n *Node) answer() {
	defer close(n.answered)
	for e := range n.inFlight {
		err := e.wait(n.fail.failed)
		n.machine.awaited.Add(-1)
		<-n.slots
		if err != nil {
			n.refuse(e, outcome(err))
			continue
		}
		a, ok := e.future.Response().(applied)
		if !ok || len(a.results) != e.commands {
			// The machine stopped while it applied this entry.
			n.refuse(e, fmt.Errorf("%w: %w", ErrUnknown, ErrFailed))
			continue
		}
		results := a.results
		for _, c := range e.calls {
			k := len(c.commands)
			n.count(c, nil)
			c.done <- callAnswer{proposed: Proposed{Results: results[:k:k], Index: a.index, Term: a.term}}
			results = results[k:]
		}
	}
}

// wait returns when the library has answered, or was replaced, or the node has
// stopped itself: what its main goroutine had not taken by then it never answers.
func (e *entry) wait(failed <-chan struct{}) error {
	done := make(chan error, 1)
	go func() { done <- e.future.Error() }()
	select {
	case err := <-done:
		return err
	case <-e.library.gone:
		return raft.ErrRaftShutdown
	case <-failed:
		return ErrFailed
	}
}

// outcome tells what an error of the library's Apply means. Not appended are
// those that the library says before it writes; all others leave the entry in a
// log that may yet be replicated.
func outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

// refuse answers all calls of an entry with an error.
func (n *Node) refuse(e *entry, err error) {
	for _, c := range e.calls {
		n.count(c, err)
		c.done <- callAnswer{err: err}
	}
}

// refuseQueued answers the calls that were never packed when the node closes.
func (n *Node) refuseQueued(carried *call) {
	if carried != nil {
		carried.done <- callAnswer{err: ErrClosed}
	}
	for {
		select {
		case c := <-n.queue:
			c.done <- callAnswer{err: ErrClosed}
		default:
			return
		}
	}
}

// count keeps the counters of finished calls.
func (n *Node) count(c *call, err error) {
	n.counters.pending.Add(-1)
	switch {
	case err == nil:
		n.counters.committed.Add(uint64(len(c.commands)))
	case errors.Is(err, ErrUnknown):
		n.counters.unknown.Add(uint64(len(c.commands)))
	default:
		n.counters.refused.Add(uint64(len(c.commands)))
	}
}
