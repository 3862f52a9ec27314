package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Leadership says that this node begins to lead, and serves, or has ceased to.
type Leadership struct {
	Leader bool
	// Term is the term in which it leads; 0 when it does not.
	Term uint64
}

// Leader is the node that leads, as far as this one knows.
type Leader struct {
	ID      string
	Address string
	Term    uint64
}

// reign is one uninterrupted time of leading, from its first Tick on.
type reign struct {
	term   uint64
	baseMS uint64        // the machine's clock when the reign began
	start  time.Duration // Config.Clock then
	over   chan struct{} // closed when leadership is lost
}

// settlement is a reign that has been prepared, for as long as ctx goes on: it
// ends with the leadership that the reign is of.
type settlement struct {
	ctx   context.Context
	reign *reign
}

// clockMS is the cluster clock that a leader stamps on entries: the machine's
// clock at election and what has passed since on the leader's monotonic clock.
// Wall time plays no part.
func (r *reign) clockMS(now time.Duration) uint64 {
	return r.baseMS + uint64(max(now-r.start, 0)/time.Millisecond)
}

// Leadership returns the channel of changes of this node's own leadership. True
// is sent after an entry of the own term was applied and the term's first Tick
// is in the log; the node serves from then on. Losing it and gaining it again
// are always two events. Events that were not yet received when leadership
// went again are dropped with it, so a slow receiver never falls behind. The
// channel is closed with the node.
func (n *Node) Leadership() <-chan Leadership { return n.leadership }

// Leader returns the leader. There is none during elections, and a node that
// was just elected is none until it serves.
func (n *Node) Leader() (Leader, bool) {
	if reign := n.reign.Load(); reign != nil {
		return Leader{ID: string(n.self), Address: n.cfg.Address, Term: reign.term}, true
	}
	address, id := n.raft().LeaderWithID()
	if id == "" || id == n.self {
		return Leader{}, false
	}
	return Leader{ID: string(id), Address: string(address), Term: n.raft().CurrentTerm()}, true
}

// watchLeadership is the one goroutine that drains the library's LeaderCh.
// When nobody drains it the library overwrites what it has to say; so two true
// in a row mean that leadership was lost and regained in between.
func (n *Node) watchLeadership() {
	defer n.wait.Done()
	defer close(n.leadership)
	var (
		library = n.raft()
		cancel  context.CancelFunc // ends the settling or the reign; nil when neither
		pending []Leadership
	)
	lose := func() {
		if cancel == nil {
			return
		}
		cancel()
		cancel = nil
		if r := n.reign.Swap(nil); r != nil {
			close(r.over)
			n.cfg.Logger.Info("no longer the leader", "term", r.term)
			if k := len(pending); k > 0 && pending[k-1].Leader {
				pending = pending[:k-1]
			} else {
				pending = append(pending, Leadership{})
			}
		}
	}
	defer lose()
	for {
		var send chan Leadership
		var next Leadership
		if len(pending) > 0 {
			send, next = n.leadership, pending[0]
		}
		select {
		case <-library.gone:
			lose() // what it had still to say is lost with it
			library = n.raft()
		case leads := <-library.leads:
			lose()
			if leads {
				ctx, stop := context.WithCancel(context.Background())
				cancel = stop
				n.wait.Add(1)
				go n.settle(ctx)
			}
		case s := <-n.settled:
			// It may have been on its way when leadership went. Begun now it would
			// never end: nobody says again that leadership has gone.
			if s.ctx.Err() != nil {
				continue
			}
			n.reign.Store(s.reign)
			n.counters.elections.Add(1)
			n.cfg.Logger.Info("leader", "term", s.reign.term)
			pending = append(pending, Leadership{Leader: true, Term: s.reign.term})
		case send <- next:
			pending = pending[1:]
		case <-n.closing:
			return
		}
	}
}

// settle prepares a reign and hands it over; it ends without one when ctx does.
func (n *Node) settle(ctx context.Context) {
	defer n.wait.Done()
	for ctx.Err() == nil {
		r, err := n.begin(ctx)
		if err == nil {
			select {
			case n.settled <- settlement{ctx, r}:
			case <-ctx.Done():
			case <-n.closing:
			}
			return
		}
		n.cfg.Logger.Debug("elected, but not serving yet", "error", err)
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		case <-n.closing:
			return
		}
	}
}

// begin makes the first entries of a term: a barrier, behind which everything
// of earlier terms is applied, then a Tick with the clock that is read there.
// A clock read earlier might be behind one that clients have already heard.
func (n *Node) begin(ctx context.Context) (*reign, error) {
	term := n.raft().CurrentTerm()
	if err := n.await(ctx, n.raft().Barrier(enqueueMax)); err != nil {
		return nil, fmt.Errorf("barrier: %w", err)
	}
	// A new cluster's clock begins at 1: born 0 would be at its horizon.
	r := &reign{term: term, baseMS: max(n.clockMS(), 1), start: n.cfg.Clock(), over: make(chan struct{})}
	first, err := n.firstCommands()
	if err != nil {
		return nil, err
	}
	n.machine.awaited.Add(1)
	defer n.machine.awaited.Add(-1)
	future := n.raft().Apply(n.encode(r.baseMS, first), enqueueMax)
	if err := n.await(ctx, future); err != nil {
		return nil, fmt.Errorf("tick: %w", err)
	}
	a, ok := future.Response().(applied)
	if !ok {
		return nil, ErrFailed
	}
	if a.term != term {
		return nil, fmt.Errorf("elected again meanwhile, in term %d", a.term)
	}
	return r, n.foundedBy(a.results)
}

// firstCommands are those of a term's first entry: a Tick, and before it, in a
// new cluster, Found.
func (n *Node) firstCommands() ([][]byte, error) {
	tick := fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	id, founding := n.id.get()
	if !founding {
		return [][]byte{tick}, nil
	}
	found := fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: id.ClusterID[:]}}})
	return [][]byte{found, tick}, nil
}

// foundedBy notes that Found was applied, now or by an entry whose answer was
// lost.
func (n *Node) foundedBy(results []fsm.Result) error {
	id, founding := n.id.get()
	if !founding {
		return nil
	}
	found := results[0]
	if found.Code != fsm.OK && (found.Code != fsm.AlreadyFounded || found.GID != id.ClusterID) {
		return fmt.Errorf("found the cluster: refused: %v %s", found.Code, found.Detail)
	}
	return n.id.founded()
}

// clockMS reads the machine's clock.
func (n *Node) clockMS() (ms uint64) {
	n.View(func() { ms = n.machine.m.ClockMS() })
	return ms
}

// await waits for a future of the library, which itself cannot be told to stop
// waiting. The goroutine that does so outlives the node when the library never
// answers, as it does with what it had not taken when it was shut down; so
// nobody waits for it.
func (n *Node) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.closing:
		return ErrClosed
	case <-n.fail.failed:
		return errors.Join(ErrFailed, n.fail.cause())
	}
}
