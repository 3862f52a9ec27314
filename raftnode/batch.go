package raftnode

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// commandOverheadBytes is what one command costs in an entry beside its bytes.
const commandOverheadBytes = 8

// entriesApplyingMax is how many entries may wait to be applied, beside those that
// wait to be committed.
const entriesApplyingMax = 4

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
	proposed Proposed // with err the answer, once done holds its token
	err      error
	done     chan struct{} // holds one
}

func newCall() any { return &call{done: make(chan struct{}, 1)} }

// free keeps a call that was answered, or never taken, for the next caller.
func (n *Node) free(c *call) {
	clear(c.commands)
	c.commands, c.bytes, c.proposed, c.err = c.commands[:0], 0, Proposed{}, nil
	c.state.Store(callWaiting)
	n.calls.Put(c)
}

// answer tells the caller; the call is the caller's from then on.
func (c *call) answer(proposed Proposed, err error) {
	c.proposed, c.err = proposed, err
	c.done <- struct{}{}
}

// Propose appends commands to the log, all in one entry, and returns when they
// were applied here. The caller must not change their bytes afterwards.
//
// When ctx ends first the error tells what is known: ErrUnknown when the
// commands had been packed, else the context's error alone, and they are not
// appended.
func (n *Node) Propose(ctx context.Context, commands ...[]byte) (Proposed, error) {
	bytes, err := n.size(commands)
	if err != nil {
		return Proposed{}, err
	}
	c := n.calls.Get().(*call)
	c.commands, c.bytes = append(c.commands, commands...), bytes
	if err := n.enqueue(ctx, c); err != nil {
		n.free(c)
		return Proposed{}, err
	}
	// Whatever becomes of the node, pack or answer will say so. This select waits
	// for no channel that callers share: its lock would be what they wait for.
	select {
	case <-c.done:
	case <-ctx.Done():
		return n.abandon(c, context.Cause(ctx))
	}
	proposed, err := c.proposed, c.err
	n.free(c)
	return proposed, err
}

// size returns how many bytes of an entry the commands of one call take, unless
// that is beyond a limit.
func (n *Node) size(commands [][]byte) (bytes int, err error) {
	for _, command := range commands {
		if len(command) > n.cfg.CommandBytesMax {
			return 0, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTooLarge, len(command), n.cfg.CommandBytesMax)
		}
		bytes += len(command) + commandOverheadBytes
	}
	if len(commands) == 0 || len(commands) > n.cfg.EntryCommandsMax || bytes > n.cfg.EntryBytesMax+commandOverheadBytes {
		return 0, fmt.Errorf("%w: %d commands of %d bytes in one call, the limits are %d and %d",
			ErrTooLarge, len(commands), bytes, n.cfg.EntryCommandsMax, n.cfg.EntryBytesMax)
	}
	return bytes, nil
}

// enqueue puts a call where the batcher finds it, or refuses it at once.
func (n *Node) enqueue(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.reign.Load() == nil {
		return n.notServing()
	}
	n.counters.pending.Add(1)
	err := n.queue.push(c)
	if err != nil {
		n.counters.pending.Add(-1)
	}
	if errors.Is(err, ErrBusy) {
		n.counters.busy.Add(1)
	}
	return err
}

// notServing says why a node that does not lead takes no commands.
func (n *Node) notServing() error {
	select {
	case <-n.closing:
		return ErrClosed
	case <-n.fail.failed:
		return ErrFailed
	default:
		return ErrNotLeader
	}
}

// abandon ends a call whose caller waits no longer: with why alone when it was
// not packed yet, else with ErrUnknown because of why. An answer that came at
// the same moment is used.
func (n *Node) abandon(c *call, why error) (Proposed, error) {
	if c.state.CompareAndSwap(callWaiting, callAbandoned) {
		n.counters.pending.Add(-1)
		return Proposed{}, why
	}
	select {
	case <-c.done:
		return c.proposed, c.err
	default:
		return Proposed{}, fmt.Errorf("%w: %w", ErrUnknown, why)
	}
}

// entry is calls packed together, proposed as one log entry.
type entry struct {
	calls    []*call
	commands int
	bytes    int
	data     []byte   // what was proposed
	library  *library // that it was proposed to
	future   raft.ApplyFuture

	slot     atomic.Bool // it has given back its slot
	answered atomic.Bool // somebody answers its calls, or has
}

func (e *entry) add(c *call) {
	e.calls = append(e.calls, c)
	e.commands += len(c.commands)
	e.bytes += c.bytes
}

// pack makes entries of waiting calls. With few entries in flight a call is
// proposed at once; otherwise calls wait in the queue until one of these is
// committed, so that the entry, not the command, pays for the disk. There is no timer.
func (n *Node) pack() {
	defer n.wait.Done()
	defer close(n.inFlight)
	for {
		select {
		case <-n.queue.came:
		case <-n.closing:
			n.refuseQueued(ErrClosed)
			return
		case <-n.fail.failed:
			n.refuseQueued(ErrFailed)
			return
		}
		for more := true; more; {
			select {
			case n.slots <- struct{}{}:
			case <-n.closing:
				n.refuseQueued(ErrClosed)
				return
			case <-n.fail.failed:
				n.refuseQueued(ErrFailed)
				return
			}
			// An entry that was answered wakes its callers by the dozen, and the first
			// of them wakes this goroutine. Those behind it get their turn first: their
			// next commands are in this entry then, and not in one of their own.
			runtime.Gosched()
			e := &entry{}
			if more = n.queue.take(e, n.cfg.EntryCommandsMax, n.cfg.EntryBytesMax); len(e.calls) == 0 {
				<-n.slots // all of them were abandoned
				continue
			}
			n.propose(e)
		}
	}
}

// propose hands an entry to the library, stamped with the reign's clock.
func (n *Node) propose(e *entry) {
	reign := n.reign.Load()
	if reign == nil {
		n.committed(e)
		n.refuse(e, ErrNotLeader)
		return
	}
	n.packed = n.packed[:0]
	for _, c := range e.calls {
		n.packed = append(n.packed, c.commands...)
	}
	e.library, e.data = n.raft(), n.encode(reign.clockMS(n.cfg.Clock()), n.packed)
	clear(n.packed)
	n.machine.awaited.Add(1) // answer takes it back, and lets the entry land
	n.flights.add(e)
	e.future = e.library.Apply(e.data, enqueueMax)
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
// proposed, and answers the calls of those that the machine has not.
func (n *Node) answer() {
	defer close(n.answered)
	for e := range n.inFlight {
		err := n.outcomeOf(e)
		n.machine.awaited.Add(-1)
		n.flights.land(e)
		n.committed(e)
		switch {
		case !e.answered.CompareAndSwap(false, true):
		case err != nil:
			n.refuse(e, outcome(err))
		default: // the machine stopped while it applied this entry
			n.refuse(e, fmt.Errorf("%w: %w", ErrUnknown, ErrFailed))
		}
	}
}

// committed lets the next entry be packed, once.
func (n *Node) committed(e *entry) {
	if e.slot.CompareAndSwap(false, true) {
		<-n.slots
	}
}

// hand gives the calls of an entry that was applied their results.
func (n *Node) hand(e *entry, a applied) {
	if len(a.results) != e.commands || !e.answered.CompareAndSwap(false, true) {
		return
	}
	results := a.results
	for _, c := range e.calls {
		k := len(c.commands)
		n.count(c, nil)
		c.answer(Proposed{Results: results[:k:k], Index: a.index, Term: a.term}, nil)
		results = results[k:]
	}
}

// outcomeOf returns when the library has answered, or was replaced, or the node has
// stopped itself or was closed: what the library's main goroutine had not taken by
// then it never answers.
func (n *Node) outcomeOf(e *entry) error {
	done := make(chan error, 1)
	go func() { done <- e.future.Error() }()
	select {
	case err := <-done:
		return err
	case <-e.library.gone:
		return raft.ErrRaftShutdown
	case <-n.fail.failed:
		return ErrFailed
	case <-n.closed:
		return ErrClosed
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
		c.answer(Proposed{}, err)
	}
}

// refuseQueued answers the calls that were never packed, and takes no more.
func (n *Node) refuseQueued(why error) {
	for _, c := range n.queue.close(why) {
		if c.state.CompareAndSwap(callWaiting, callPacked) {
			n.count(c, why)
			c.answer(Proposed{}, why)
		}
	}
}

// count keeps the counters of finished calls. While nothing is pending, all are counted.
func (n *Node) count(c *call, err error) {
	defer n.counters.pending.Add(-1)
	switch {
	case err == nil:
		n.counters.committed.Add(uint64(len(c.commands)))
	case errors.Is(err, ErrUnknown):
		n.counters.unknown.Add(uint64(len(c.commands)))
	default:
		n.counters.refused.Add(uint64(len(c.commands)))
	}
}
