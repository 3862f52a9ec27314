package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/headroom"
	"github.com/quorate/quorate/raftnode"
)

// filled is a machine that stands at its first entry where a long log would have
// brought it: the entry founds the cluster, so the cluster is filled right then.
// Entries go on at the index behind the fill.
type filled struct {
	fill func(*filler) error

	f      *filler
	offset uint64
}

var _ raftnode.Machine = (*filled)(nil)

func (m *filled) ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error) {
	if m.f == nil {
		if err := m.begin(index, entry); err != nil {
			return nil, err
		}
	}
	return m.f.s.ApplyEntry(index+m.offset, term, entry)
}

// begin fills a state of the cluster that the first entry founds.
func (m *filled) begin(index uint64, entry []byte) error {
	batch, err := fsm.DecodeEntry(entry)
	if err != nil {
		return err
	}
	var found *logpb.Command
	for _, c := range batch.GetCommands() {
		if c.GetFound() != nil {
			found = c
		}
	}
	if found == nil {
		return errors.New("the first entry founds no cluster")
	}
	if m.f, err = newFiller(found); err != nil {
		return err
	}
	if err := m.fill(m.f); err != nil {
		return err
	}
	m.offset = m.f.index - index + 1
	return nil
}

func (m *filled) Pin() io.WriterTo         { return m.f.s.Pin() }
func (m *filled) Restore(io.Reader) error  { return errors.New("nothing here restores") }
func (m *filled) NextFeatureLevel() uint32 { return fsm.FeatureLevel }

func (m *filled) ClockMS() uint64 {
	if m.f == nil {
		return 0
	}
	return m.f.s.ClockMS()
}

// node is a cluster of one in this process: log, disk and driver are those of a
// node that serves, and there is no network.
type node struct {
	raft    *raftnode.Node
	machine *filled
	c       *coordinator.Coordinator
	term    uint64 // that it leads in, once it has been elected
	wait    sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context
}

// keepHeadroom collects garbage as seldom as nodes do, until the end.
func keepHeadroom() (end func()) { return headroom.Keep(slog.New(slog.DiscardHandler)) }

// openNode starts a node whose state is filled, and waits for its election. Its
// driver does not know of it before lead.
func openNode(ctx context.Context, o *options, fill func(*filler) error) (_ *node, err error) {
	dir, err := o.scratch()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &node{machine: &filled{fill: fill}}
	n.ctx, n.stop = context.WithCancel(ctx)
	cfg := raftnode.DefaultConfig()
	cfg.DataDir, cfg.Address, cfg.Listener, cfg.LogStore = dir, l.Addr().String(), l, o.logStore
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.SnapshotEntries, cfg.SnapshotBytes = 1<<40, 1<<40 // when a part asks for one
	var hears atomic.Pointer[coordinator.Coordinator]
	cfg.Applied = func(index uint64) {
		if c := hears.Load(); c != nil {
			c.Applied(index)
		}
	}
	if n.raft, err = raftnode.Open(cfg, n.machine); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	n.c, err = coordinator.New(coordinator.Config{
		Log: &nodeLog{n}, NodeID: n.raft.Identity().NodeID, Settings: coordinator.DefaultSettings(),
	})
	if err != nil {
		return n, err
	}
	hears.Store(n.c)
	elected := make(chan uint64, 1)
	n.wait.Go(func() {
		for l := range n.raft.Leadership() {
			if l.Leader {
				elected <- l.Term
			}
		}
	})
	if err := n.raft.Bootstrap(ctx); err != nil {
		return n, err
	}
	select {
	case n.term = <-elected:
		return n, nil
	case <-ctx.Done():
		return n, context.Cause(ctx)
	}
}

// lead tells the driver that the node leads.
func (n *node) lead() { n.c.Leadership(true, n.term) }

func (n *node) close() error {
	n.stop()
	var errs []error
	if n.c != nil {
		errs = append(errs, n.c.Close())
	}
	errs = append(errs, n.raft.Close())
	n.wait.Wait()
	return errors.Join(errs...)
}

// nodeLog is the Raft node as the driver sees it.
type nodeLog struct{ n *node }

var _ coordinator.Log = (*nodeLog)(nil)

func (l *nodeLog) Propose(ctx context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	marshalled := make([][]byte, len(commands))
	for i, c := range commands {
		marshalled[i] = fsm.MarshalCommand(c)
	}
	p, err := l.n.raft.Propose(ctx, marshalled...)
	return p.Results, p.Index, err
}

func (l *nodeLog) ReadIndex(ctx context.Context) (uint64, error) { return l.n.raft.ReadIndex(ctx) }

func (l *nodeLog) WaitApplied(ctx context.Context, index uint64) error {
	return l.n.raft.WaitApplied(ctx, index)
}

func (l *nodeLog) View(f func(*fsm.State)) {
	l.n.raft.View(func() {
		if l.n.machine.f != nil {
			f(l.n.machine.f.s)
			return
		}
		f(fsm.New())
	})
}

func (l *nodeLog) Leader() (coordinator.LeaderInfo, bool) {
	return coordinator.LeaderInfo{ID: l.n.raft.Identity().NodeID}, true
}

// submit decides one transaction whose branches are of these resources.
func (n *node) submit(ctx context.Context, resources []string, vote logpb.VoteKind) error {
	submit := &logpb.Submit{Begin: &logpb.Begin{Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: timeoutMS}}
	for i, r := range resources {
		spec := &logpb.BranchSpec{Id: branchIDs[i], Resource: r}
		submit.Set = append(submit.Set, spec)
		submit.Votes = append(submit.Votes, &logpb.Ballot{Branch: spec, Kind: vote})
	}
	s, err := n.c.Submit(ctx, coordinator.SubmitRequest{Submit: submit})
	if err == nil && s.Decision != fsm.DecisionCommit {
		err = fmt.Errorf("%s: decision %v, want a commit: %s", s.GID, s.Decision, s.Detail)
	}
	return err
}

// attendant is a participant that has done what it is told.
type attendant struct {
	reported *atomic.Int64
	first    *atomic.Int64 // nanoseconds since begun of the first delivery, 0 before
	since    func() int64
}

// attend attaches one, as soon as the driver leads, until the node closes.
func (n *node) attend(holder []byte, a attendant, resources ...string) error {
	var s *coordinator.Session
	var err error
	for {
		s, err = n.c.Attach(n.ctx, coordinator.AttachRequest{Holder: holder, Resources: resources, Name: "scale"})
		if err == nil {
			break
		}
		if !errors.Is(err, coordinator.ErrNoLeader) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	n.wait.Go(func() {
		beat := time.NewTicker(s.Heartbeat())
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				s.Alive()
			case m := <-s.Outgoing():
				if m.Deliver == nil {
					continue
				}
				if a.first != nil {
					a.first.CompareAndSwap(0, a.since())
				}
				s.ReportAsync(coordinator.ReportRequest{
					GID: m.Deliver.GID, Branch: m.Deliver.Branch, Outcome: logpb.Outcome_OUTCOME_COMMITTED, Attempt: m.Deliver.Attempt,
				}, func(_ coordinator.Status, err error) {
					if err == nil {
						a.reported.Add(1)
					}
				})
			case <-s.Done():
				return
			}
		}
	})
	return nil
}
