package search

import (
	"fmt"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// letter is one entry of the log: a command at a clock.
type letter struct {
	command command
	clock   uint8
}

// machines are the distinct states of the real machine that a search has met. A
// world holds the number of one; what a letter makes of it is computed once, by
// applying it to a fresh fsm.State that has applied the letters which first led
// there, and remembered.
//
// Two states are one when they differ only in what no rule may depend on: places
// in the log, and texts for people. TestMergedStatesBehaveAlike holds the machine
// to that.
type machines struct {
	commands [letterCount]*logpb.Command
	branches int
	all      []*machine
	byShape  map[string]uint32
	records  map[string]uint32
	looks    map[string]uint16
	err      error // the machine stopped: a global breach
}

// machine is one state and the edges out of it that were looked at.
type machine struct {
	path  []letter
	edges [letterCount][len(clocks)]*edge
	// mirrors are the same state with branches in another order.
	mirrors map[order]uint32
	view
}

// edge is where a letter leads, and what the machine answers.
type edge struct {
	to     uint32
	result fsm.Result
}

// view is what a world needs to know of a machine's state.
type view struct {
	known    bool   // the machine holds a record
	record   uint32 // the number of the state without its clock
	expired  bool   // it holds none, and would create none: born <= horizon
	clock    uint8
	sealed   bool // commit was asked
	decision fsm.Decision
	state    fsm.TxState
	breach   string // why it is quarantined, or an invariant does not hold
	members  uint8  // branches, as bits
	due      uint8  // branches to be told the decision
	verdicts [branchesMax]fsm.Verdict
	looks    [branchesMax]uint16 // the number of what its record says of a branch
}

func newMachines(c Config) (*machines, error) {
	m := &machines{commands: alphabet(c), branches: c.Branches, byShape: map[string]uint32{}, records: map[string]uint32{}, looks: map[string]uint16{}}
	s, err := m.replay(nil)
	if err != nil {
		return nil, err
	}
	m.intern(s, nil)
	return m, nil
}

// replay brings a fresh machine to where a path leads.
func (m *machines) replay(path []letter) (*fsm.State, error) {
	s := fsm.New()
	found := &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{
		ClusterId: fsm.NewGID(7, [10]byte{7}).Bytes(),
		Limits:    &logpb.Limits{RetentionMs: retentionMS, ClockAdvanceMaxMs: 3_600_000}, // a phase in one step
	}}}
	if _, err := s.Apply(fsm.Meta{Index: 1, Term: 1}, &logpb.Batch{ClockMs: startMS, Commands: []*logpb.Command{found}}); err != nil {
		return nil, err
	}
	for i, l := range path {
		if _, err := m.feed(s, uint64(i+2), l); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (m *machines) feed(s *fsm.State, index uint64, l letter) (fsm.Result, error) {
	results, err := s.Apply(fsm.Meta{Index: index, Term: 1}, &logpb.Batch{
		ClockMs: clocks[l.clock], FeatureLevel: fsm.FeatureLevel, Commands: []*logpb.Command{m.commands[l.command]},
	})
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

// apply follows an edge.
func (m *machines) apply(from uint32, l letter) (uint32, fsm.Result) {
	at := m.all[from]
	e := &at.edges[l.command][l.clock]
	if *e == nil {
		*e = m.explore(from, at, l)
	}
	return (*e).to, (*e).result
}

func (m *machines) explore(from uint32, at *machine, l letter) *edge {
	s, err := m.replay(at.path)
	if err != nil {
		m.err = fmt.Errorf("replay of %v: %w", at.path, err)
		return &edge{to: from}
	}
	r, err := m.feed(s, uint64(len(at.path)+2), l)
	if err != nil {
		m.err = fmt.Errorf("%v after %v: %w", l, at.path, err)
		return &edge{to: from}
	}
	return &edge{m.intern(s, append(at.path[:len(at.path):len(at.path)], l)), r}
}

// intern returns the number of a state.
func (m *machines) intern(s *fsm.State, path []letter) uint32 {
	record := m.shape(s)
	shape := fmt.Sprintf("%d;%s", s.ClockMS(), record)
	if n, ok := m.byShape[shape]; ok {
		return n
	}
	v := m.look(s)
	if _, ok := m.records[record]; !ok {
		m.records[record] = uint32(len(m.records))
	}
	v.record = m.records[record]
	n := uint32(len(m.all))
	m.all = append(m.all, &machine{path: path, view: v})
	m.byShape[shape] = n
	return n
}

// shape is a state without its clock, and without what no rule may depend on.
func (m *machines) shape(s *fsm.State) string {
	var b strings.Builder
	t, ok := s.Get(theGID)
	if !ok {
		fmt.Fprint(&b, s.Clock().HorizonMS >= theGID.BornMS())
		return b.String()
	}
	fmt.Fprintf(&b, "%d %v %v %v %v %v %d", t.State, t.Tombstone, t.Quarantined, t.Withheld, t.Sealed, t.Submitted, t.Decision)
	if t.Decision == fsm.DecisionNone {
		fmt.Fprintf(&b, " %d %d", t.Origin, t.DeadlineMs)
	} else {
		fmt.Fprintf(&b, " %d %d", dropPhase(t.Finished.GetClockMs()), dropPhase(t.FiledMs))
	}
	for _, br := range t.Branches {
		fmt.Fprintf(&b, ";%s %s", br.Spec.GetId(), branchShape(br))
	}
	return b.String()
}

// branchShape leaves out the branch's name, and that of its resource, which
// follows from it.
func branchShape(b *logpb.Branch) string {
	return fmt.Sprintf("%v %v %d %v %d %d", b.Spec.GetResource() != "", b.Hint, b.Vote, b.MaybePrepared, b.Own, b.Resolved)
}

// dropPhase is the first phase whose horizon lies at what ended at a clock.
func dropPhase(endedMS uint64) int {
	for i, ms := range clocks {
		if ms >= endedMS+retentionMS {
			return i
		}
	}
	return len(clocks)
}

func (m *machines) look(s *fsm.State) view {
	v := view{expired: s.Clock().HorizonMS >= theGID.BornMS()}
	for i, ms := range clocks {
		if s.ClockMS() >= ms {
			v.clock = uint8(i)
		}
	}
	if err := s.CheckInvariants(); err != nil {
		v.breach = err.Error()
	}
	for b := range m.branches {
		v.verdicts[b] = s.Inquire(theGID, branchID(b)).Verdict
	}
	t, ok := s.Get(theGID)
	if !ok {
		return v
	}
	v.known, v.expired, v.sealed, v.decision, v.state = true, false, t.Sealed, t.Decision, t.State
	if t.Quarantined {
		v.breach = t.Detail
	}
	for b := range m.branches {
		for _, br := range t.Branches {
			if br.Spec.GetId() == branchID(b) {
				v.members |= 1 << b
				v.looks[b] = m.lookNumber(branchShape(br))
			}
		}
		for _, d := range s.DueOf(theGID) {
			if d.Branch.GetId() == branchID(b) {
				v.due |= 1 << b
			}
		}
	}
	return v
}

func (m *machines) lookNumber(shape string) uint16 {
	n, ok := m.looks[shape]
	if !ok {
		n = uint16(len(m.looks) + 1)
		m.looks[shape] = n
	}
	return n
}
