// Package fsm is what is true: the replicated state machine of transactions,
// votes and decisions. It is pure: the same log gives the same state and the
// same results on every node, in the simulator, and after a restart.
package fsm

import (
	"io"
	"iter"

	"github.com/quorate/quorate/fsm/logpb"
)

// State is everything the log has said. It is not safe for concurrent use: the
// node's lock guards it.
type State struct {
	clock Clock
}

// New returns the state before the first entry.
func New() *State { return &State{} }

// ApplyEntry decodes and applies one entry.
func (s *State) ApplyEntry(index, term uint64, entry []byte) ([]Result, error) {
	b, err := DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	return s.Apply(Meta{Index: index, Term: term}, b)
}

// Apply applies one batch.
func (s *State) Apply(m Meta, b *logpb.Batch) ([]Result, error) {
	s.clock.AppliedIndex, s.clock.AppliedTerm = m.Index, m.Term
	return make([]Result, len(b.GetCommands())), nil
}

func (s *State) Clock() Clock                             { return s.clock }
func (s *State) ClockMS() uint64                          { return s.clock.ClockMS }
func (s *State) ClusterID() GID                           { return GID{} }
func (s *State) Founded() bool                            { return false }
func (s *State) Get(GID) (*logpb.Transaction, bool)       { return nil, false }
func (s *State) Lookup(namespace, key string) (GID, bool) { return GID{}, false }
func (s *State) Inquire(gid GID, branch string) Inquiry   { return Inquiry{} }
func (s *State) Due() iter.Seq[DueBranch]                 { return func(func(DueBranch) bool) {} }
func (s *State) DueOf(GID) []DueBranch                    { return nil }
func (s *State) NextDeadlineMS() (uint64, bool)           { return 0, false }
func (s *State) NextRetentionMS() (uint64, bool)          { return 0, false }
func (s *State) Limits() *logpb.Limits                    { return DefaultLimits() }
func (s *State) Nodes() []*logpb.Node                     { return nil }
func (s *State) Active() iter.Seq[*logpb.Transaction]     { return func(func(*logpb.Transaction) bool) {} }
func (s *State) List(after Cursor, q ListQuery) ListPage  { return ListPage{} }
func (s *State) Events(after uint64, most int) (events []Event, oldest uint64, ok bool) {
	return nil, 0, true
}
func (s *State) Digest() Digest                       { return Digest{} }
func (s *State) DigestAt(index uint64) (Digest, bool) { return Digest{}, false }
func (s *State) Counts() Counts                       { return Counts{} }
func (s *State) Pin() *Pinned                         { return &Pinned{} }
func (s *State) Restore(r io.Reader) error            { return nil }
func DefaultLimits() *logpb.Limits                    { return &logpb.Limits{} }

// Cursor is a place in the stable order of List: begin index, then GID.
type Cursor struct {
	Index uint64
	GID   GID
}

// ListQuery says what List reads.
type ListQuery struct {
	// Finished transactions too; without it only those that have not ended, or
	// whose end still waits for a report or an operator.
	Finished bool
	// Keep chooses; nil keeps all. It must not keep or change its argument.
	Keep func(*logpb.Transaction) bool
	// LimitMax is how many are returned at most; 0 means 100.
	LimitMax int
	// ScanMax is how many are looked at in one call at most; 0 means 10000.
	ScanMax int
}

// ListPage is one page; the next one is read after Next while More.
type ListPage struct {
	Transactions []*logpb.Transaction
	Next         Cursor
	More         bool
}

// EventKind says what happened to a transaction. The numbers are those of the API.
type EventKind uint8

const (
	EventBegun EventKind = iota + 1
	EventEnlisted
	EventVoted
	EventSealed
	EventDecided
	EventReported
	EventResolved
	EventFinished
	EventDropped
	EventQuarantined
)

// EventsKept is how many events the ring holds.
const EventsKept = 65536

// Event is one thing that happened.
type Event struct {
	Index, Term, ClockMS, WallMS uint64
	GID                          GID
	Kind                         EventKind
	Branch                       string
	State                        TxState
	Decision                     Decision
	Namespace                    string
}

// Digest is equal on nodes whose states are equal.
type Digest [16]byte

// Counts are for metrics.
type Counts struct {
	// Open[mode][state] counts transactions that have not ended.
	Open            [7][7]int
	Live            int // records not filed for retention yet
	Finished        int // filed: ended, waiting for retention
	Tombstones      int
	InDoubt         int    // branches prepared and not terminal
	OldestInDoubtMS uint64 // the cluster clock of the oldest one's vote, 0 when none
	Quarantined     int
	Withheld        int
	Due             int // transactions with a branch due
}

// Pinned is a snapshot's content.
type Pinned struct{}

// WriteTo writes the snapshot.
func (p *Pinned) WriteTo(w io.Writer) (int64, error) { return 0, nil }
