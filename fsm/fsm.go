// Package fsm is what is true: the replicated state machine of transactions,
// votes and decisions.
//
// It is pure. Commands and their place in the log come in, results come out;
// there is no clock, no randomness, no I/O and no goroutine, and the same log
// gives the same state and the same results on every node, in the simulator
// and after a restart. Time enters through the log only. Refusals are results;
// a broken invariant quarantines its transaction, or stops the node.
//
// What is due is listed, never done: the coordinator delivers it.
package fsm

import (
	"iter"

	"github.com/quorate/quorate/fsm/logpb"
)

// State is everything that the log has said. It is not safe for concurrent
// use: the node's lock must guard it, and readers may share it only while
// nothing applies.
type State struct {
	appliedIndex, appliedTerm uint64

	clusterID                   GID
	limits                      *logpb.Limits
	nodes                       []*logpb.Node  // sorted by id
	topics                      []*logpb.Topic // sorted by namespace and name
	featureLevel                uint32
	clockMS, horizonMS          uint64
	incarnation                 uint64
	holdBeforeMS, holdHorizonMS uint64

	// live holds what is not filed; stubs holds the rest.
	live  map[GID]*transaction
	stubs stubs
	keys  map[key]GID

	// begun orders all records; unfiled the live ones, which it holds, so that a
	// snapshot can share them, and sums up: what is due, in doubt, or old.
	begun, unfiled sequence
	// deadlines holds what is in A or S and time may end.
	deadlines heap
	// oldestMS is when the oldest transaction was born that has not ended, if that
	// was at or below the horizon; else noneBornMS. aged asks to look for it again.
	oldestMS uint64
	aged     bool

	counts   Counts
	records  Digest         // sum of the records' hashes, but for those of unhashed
	unhashed []*transaction // live records whose hash is not in the sum yet (digest.go)
	hashHand int            // the place in unhashed that was hashed last, for there were too many
	settings Digest         // hash of identity, limits, nodes and topics
	digests  []indexedDigest
	// remembered is the newest index in digests.
	remembered uint64
	events     eventRing
	lately     latelyFiled // for Read

	now     stamp  // of the entry being applied
	level   uint32 // the feature level of the entry being applied
	scratch []byte
	decoder *decoder // of entries; nil before the first one

	// follows: nobody waits for the results of the entry being applied. unheard and
	// unheardParts are memory for them, and spare for records that are filed at once.
	follows      bool
	unheard      []Result
	unheardParts []Result
	spare        *spare
}

// key is a caller's own id for a transaction, unique in its namespace.
type key struct{ namespace, text string }

// New returns the state before the first entry.
func New() *State {
	s := &State{
		limits:    DefaultLimits(),
		live:      make(map[GID]*transaction),
		stubs:     newStubs(),
		keys:      make(map[key]GID),
		deadlines: newHeap(),
		oldestMS:  noneBornMS,
	}
	s.settings = s.hashSettings()
	return s
}

// Clock is where the state stands in the log and in time.
func (s *State) Clock() Clock {
	return Clock{
		AppliedIndex: s.appliedIndex, AppliedTerm: s.appliedTerm,
		ClockMS: s.clockMS, HorizonMS: s.horizonMS, FloorMS: s.floorMS(),
		Incarnation: s.incarnation, HoldBeforeMS: s.holdBeforeMS,
	}
}

// ClockMS is the cluster clock, in milliseconds.
func (s *State) ClockMS() uint64 { return s.clockMS }

// floorMS is the clock at or below which fence rows may be swept: a fence must
// outlast the horizon while a transaction as old is still undone.
func (s *State) floorMS() uint64 {
	if s.oldestMS <= s.horizonMS {
		return s.oldestMS - 1
	}
	return s.horizonMS
}

// age notes that a transaction which has not ended may be as old as the horizon, or
// no longer: few ever are.
func (s *State) age(t *transaction) {
	s.aged = s.aged || !t.ended() && t.gid.BornMS() <= s.horizonMS
}

// findOldest looks, after an entry that has changed who is, for the oldest
// transaction that has not ended.
func (s *State) findOldest() {
	if s.aged {
		s.aged, s.oldestMS = false, s.unfiled.oldestBornMS(s.horizonMS)
	}
}

// Founded says that the log has given the cluster its id.
func (s *State) Founded() bool { return !s.clusterID.IsZero() }

// ClusterID is the cluster's id, zero before it is founded.
func (s *State) ClusterID() GID { return s.clusterID }

// Limits are the replicated limits. They must not be changed.
func (s *State) Limits() *logpb.Limits { return s.limits }

// Nodes is the directory of nodes, sorted by id. It must not be changed.
func (s *State) Nodes() []*logpb.Node { return s.nodes }

// find returns the record of a GID, or nil. A filed one is decoded.
func (s *State) find(gid GID) *transaction {
	if t, ok := s.live[gid]; ok {
		return t
	}
	record, ok := s.stubs.get(gid)
	if !ok {
		return nil
	}
	t, err := parseTransaction(record)
	if err != nil {
		// The bytes were written by this process, or checked when a snapshot
		// was read: only broken memory brings one here.
		panic("fsm: a filed record of " + gid.String() + " cannot be read: " + err.Error())
	}
	t.hash = hashRecord(record)
	t.survey()
	return t
}

// Get reads one record. It must not be changed.
func (s *State) Get(gid GID) (*logpb.Transaction, bool) {
	t := s.find(gid)
	if t == nil {
		return nil, false
	}
	return t.proto(), true
}

// Lookup returns the GID that a key stands for.
func (s *State) Lookup(namespace, text string) (GID, bool) {
	gid, ok := s.keys[key{namespace, text}]
	return gid, ok
}

// Due lists the deliveries that should be in flight, in the order in which
// their transactions began.
func (s *State) Due() iter.Seq[DueBranch] {
	return func(yield func(DueBranch) bool) {
		for t := range s.unfiled.due() {
			for _, d := range t.appendDue(nil) {
				if !yield(d) {
					return
				}
			}
		}
	}
}

// NextDeadlineMS is the clock at which a Tick rolls something back.
func (s *State) NextDeadlineMS() (uint64, bool) {
	k, ok := s.deadlines.first()
	if !ok || k.timeMS == noDeadline {
		return 0, false
	}
	return k.timeMS, true
}

// NextRetentionMS is the clock at which a Tick drops something. It lies in the
// past while a bounded Tick has left something to drop.
func (s *State) NextRetentionMS() (uint64, bool) {
	if s.stubs.len() == 0 {
		return 0, false
	}
	return s.stubs.headMS + s.limits.GetRetentionMs(), true
}
