package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/failpoint"
)

// Machine is what the log is applied to. The node calls its methods one at a
// time, ApplyEntry and Restore under the lock that View takes for reading.
type Machine interface {
	// ApplyEntry applies one log entry, as packed by fsm.EncodeEntryRaw, and
	// returns one result for each of its commands. An error means that the node
	// cannot go on: the entry cannot be read, or the machine found itself broken.
	ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error)
	// Pin returns what would be restored from now on. It must be quick; the
	// writing happens later while further entries are applied.
	Pin() io.WriterTo
	// Restore replaces the content by what a Pin wrote.
	Restore(io.Reader) error
	// ClockMS returns the machine's clock in milliseconds.
	ClockMS() uint64
	// NextFeatureLevel returns what the next entry, if this node leads, is stamped
	// with: what its readers must understand. It changes by what is applied only.
	NextFeatureLevel() uint32
}

// Follower is a Machine that applies an entry whose results nobody waits for with
// less ado.
type Follower interface {
	Follow(index, term uint64, entry []byte) error
}

var _ Follower = state{}

// applied is the answer of one applied entry.
type applied struct {
	results     []fsm.Result
	index, term uint64
}

// machine feeds the library's calls to the Machine. Apply, Snapshot and Restore
// come from one goroutine of the library.
type machine struct {
	m  Machine
	mu sync.RWMutex // held for writing while m changes

	level      atomic.Uint32 // of the next entry
	awaited    atomic.Int64  // entries whose answers this node will look at
	progress   *progress
	fail       *failStop
	notify     func(index uint64)
	flights    *flights // nil in tests of the machine alone
	unreadable error    // why the last Restore failed

	pinning func()        // called before the machine is pinned
	unsaved int64         // bytes of commands applied after the last snapshot
	due     func() int64  // how many make the next one due
	grown   chan struct{} // holds one token once it is due
}

var (
	_ raft.BatchingFSM = (*machine)(nil)
	_ raft.FSM         = (*machine)(nil)
)

// Apply applies one entry; the library uses ApplyBatch.
func (a *machine) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries in order. Being a BatchingFSM also makes
// the library count configuration entries as applied, without which it could
// not take a snapshot after a change of membership.
func (a *machine) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	if a.fail.cause() != nil {
		return answers // nothing is applied to a broken machine; nil means unknown
	}
	a.flights.committed(logs)
	if err := a.applyLocked(logs, answers); err != nil {
		a.fail.fail(err)
		return answers
	}
	last := logs[len(logs)-1].Index
	a.progress.advance(last)
	a.notify(last)
	a.flights.applied(logs, answers)
	a.grow(logs)
	return answers
}

// grow counts what a restarted node would have to apply, and asks for a snapshot
// when that is much.
func (a *machine) grow(logs []*raft.Log) {
	for _, l := range logs {
		a.unsaved += int64(len(l.Data))
	}
	if a.unsaved < a.due() {
		return
	}
	select {
	case a.grown <- struct{}{}:
	default: // it has been asked for
	}
}

func (a *machine) applyLocked(logs []*raft.Log, answers []any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.readLevel()
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		answer, err := a.applyEntry(l)
		if err != nil {
			return fmt.Errorf("apply log entry %d of term %d: %w", l.Index, l.Term, err)
		}
		answers[i] = answer
	}
	return nil
}

// applyEntry applies one entry; nil where this node has proposed none whose answer
// it waits for.
func (a *machine) applyEntry(l *raft.Log) (answer any, err error) {
	if f, ok := a.m.(Follower); ok && a.awaited.Load() == 0 {
		return nil, f.Follow(l.Index, l.Term, l.Data)
	}
	results, err := a.m.ApplyEntry(l.Index, l.Term, l.Data)
	return applied{results: results, index: l.Index, term: l.Term}, err
}

// snapshotHeader opens a snapshot's bytes: eight bytes that name the format,
// then the index up to which the machine had applied.
const snapshotMagic = "QRTSNAP1"

// Snapshot pins the machine; the library writes it while entries are applied.
func (a *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := a.fail.cause(); err != nil {
		return nil, errors.Join(ErrFailed, err)
	}
	a.pinning()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unsaved = 0
	select {
	case <-a.grown: // this is the one that was due
	default:
	}
	return &pinned{state: a.m.Pin(), index: a.progress.applied()}, nil
}

// Restore replaces the machine's content. When that fails the content is neither
// the old nor the new one: a node that runs stops, one that is being opened is
// not.
func (a *machine) Restore(source io.ReadCloser) error {
	index, err := a.restore(source)
	if err != nil {
		a.unreadable = fmt.Errorf("restore a snapshot: %w", err)
		if a.fail.running.Load() {
			a.fail.fail(a.unreadable)
		}
		return err
	}
	a.unsaved = 0
	a.progress.advance(index)
	a.notify(index)
	if !a.fail.running.Load() {
		return nil // it was found on the disk at the start
	}
	if err := failpoint.Hit(failpoint.InstallRestored, ""); err != nil {
		a.fail.fail(err)
		return err
	}
	return nil
}

func (a *machine) restore(source io.Reader) (index uint64, err error) {
	header := make([]byte, len(snapshotMagic)+8)
	if _, err := io.ReadFull(source, header); err != nil {
		return 0, fmt.Errorf("read its head: %w", err)
	}
	if string(header[:len(snapshotMagic)]) != snapshotMagic {
		return 0, errors.New("it is none of ours, or of a later version")
	}
	return binary.BigEndian.Uint64(header[len(snapshotMagic):]), a.restoreLocked(source)
}

func (a *machine) restoreLocked(source io.Reader) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.readLevel()
	return a.m.Restore(source)
}

// readLevel notes the level for whoever packs entries, who must not wait for the
// lock.
func (a *machine) readLevel() { a.level.Store(a.m.NextFeatureLevel()) }

// pinned is a state to be written.
type pinned struct {
	state io.WriterTo
	index uint64
}

func (p *pinned) Persist(sink raft.SnapshotSink) error {
	header := binary.BigEndian.AppendUint64([]byte(snapshotMagic), p.index)
	if _, err := sink.Write(header); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if _, err := p.state.WriteTo(&paced{w: sink, begun: time.Now()}); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (p *pinned) Release() {}

// paced lets others work for as long as it has: all nodes make a snapshot of the same
// entry, and where they share processors or a disk clients would wait for all of them.
type paced struct {
	w     io.Writer
	begun time.Time
	bytes int
}

const (
	// pacedBytes is written between two pauses.
	pacedBytes = 1 << 20
	// pauseMax bounds one.
	pauseMax = 100 * time.Millisecond
)

func (p *paced) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if p.bytes += n; p.bytes >= pacedBytes && err == nil {
		time.Sleep(min(time.Since(p.begun), pauseMax))
		p.bytes, p.begun = 0, time.Now()
	}
	return n, err
}
