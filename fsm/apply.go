package fsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// Errors of Apply. Each is a global breach: the node that meets one must stop,
// and must not apply anything more.
var (
	// ErrOrder: the entry does not follow what was applied.
	ErrOrder = errors.New("log entry is out of order")
	// ErrDigest: this node's state differs from the one that a quorum agreed on.
	ErrDigest = errors.New("this node's state differs from the majority's")
	// ErrInvariant: a check of the whole state failed.
	ErrInvariant = errors.New("the state machine's invariant is broken")
)

// ApplyEntry decodes and applies one log entry. An error means that the node
// must stop: those of DecodeEntry and those of Apply.
func (s *State) ApplyEntry(index, term uint64, entry []byte) ([]Result, error) {
	b, err := s.decode(entry)
	if err != nil {
		return nil, fmt.Errorf("apply index %d: %w", index, err)
	}
	defer s.decoder.reset()
	return s.Apply(Meta{Index: index, Term: term}, b)
}

// Follow is ApplyEntry for an entry whose results nobody waits for, as on a
// follower: they are made in memory that the next one uses again.
func (s *State) Follow(index, term uint64, entry []byte) error {
	b, err := s.decode(entry)
	if err != nil {
		return fmt.Errorf("apply index %d: %w", index, err)
	}
	defer s.decoder.reset()
	s.follows = true
	s.unheard, err = s.applyInto(Meta{Index: index, Term: term}, b, s.unheard[:0])
	s.follows = false
	return err
}

// decode reads an entry into memory that the next one uses again.
func (s *State) decode(entry []byte) (*logpb.Batch, error) {
	if s.decoder == nil {
		s.decoder = &decoder{names: new(names)}
	}
	return s.decoder.entry(entry)
}

// Apply applies one batch and returns one result for each command. It keeps
// parts of b, which must not be changed afterwards. An error means that the
// node must stop.
func (s *State) Apply(m Meta, b *logpb.Batch) ([]Result, error) {
	return s.applyInto(m, b, nil)
}

// applyInto appends the results to room, which is let go of where it is too small.
func (s *State) applyInto(m Meta, b *logpb.Batch, room []Result) ([]Result, error) {
	if b.GetFeatureLevel() > FeatureLevel {
		return nil, fmt.Errorf("apply index %d: %w: feature level %d, this one has %d",
			m.Index, ErrFeatureLevel, b.GetFeatureLevel(), FeatureLevel)
	}
	if m.Index <= s.appliedIndex || m.Term < s.appliedTerm {
		return nil, fmt.Errorf("%w: index %d of term %d after index %d of term %d",
			ErrOrder, m.Index, m.Term, s.appliedIndex, s.appliedTerm)
	}
	s.appliedIndex, s.appliedTerm = m.Index, m.Term
	s.reach(b.GetFeatureLevel())
	beforeMS := s.clockMS
	s.advanceClock(b.GetClockMs())
	s.now = stamp{index: m.Index, term: m.Term, clockMS: s.clockMS, wallMS: b.GetWallMs()}
	s.level = b.GetFeatureLevel()

	results := slices.Grow(room, len(b.GetCommands()))
	for i, c := range b.GetCommands() {
		r, err := s.apply(c)
		if err != nil {
			return nil, fmt.Errorf("apply index %d, command %d: %w", m.Index, i, err)
		}
		results = append(results, r)
	}
	s.findOldest()
	if s.worthRemembering(m.Index, len(results), beforeMS) {
		s.remember(m.Index)
	} else {
		s.boundUnhashed()
	}
	if checkEveryApply {
		if err := s.CheckInvariants(); err != nil {
			return nil, fmt.Errorf("apply index %d: %w", m.Index, err)
		}
	}
	return results, nil
}

// advanceClock takes the batch's clock over. The clock never falls, and one
// entry moves it by a bounded step only, so that a leader that was paused
// expires nobody in one leap.
func (s *State) advanceClock(ms uint64) {
	if ms > s.clockMS {
		s.clockMS = min(ms, s.clockMS+s.limits.GetClockAdvanceMaxMs(), MaxBornMS)
		s.now.clockMS = s.clockMS
	}
}

// apply is the one switch over the commands. A command without a kind was
// written by nobody: a newer version's batch asks for a higher feature level
// and never gets here.
func (s *State) apply(c *logpb.Command) (Result, error) {
	switch k := c.GetKind().(type) {
	case *logpb.Command_Tick:
		return s.tick(), nil
	case *logpb.Command_Found:
		return s.found(k.Found), nil
	case *logpb.Command_CheckDigest:
		return s.checkDigest(k.CheckDigest)
	}
	if !s.Founded() {
		return Result{Code: NotFounded, Detail: "the cluster has no id yet: its first node must be bootstrapped"}, nil
	}
	switch k := c.GetKind().(type) {
	case *logpb.Command_Begin:
		return s.beginCommand(k.Begin), nil
	case *logpb.Command_Enlist:
		return s.enlistCommand(k.Enlist), nil
	case *logpb.Command_Vote:
		return s.voteCommand(k.Vote), nil
	case *logpb.Command_Decide:
		return s.decideCommand(k.Decide), nil
	case *logpb.Command_Submit:
		return s.submitCommand(k.Submit), nil
	case *logpb.Command_Report:
		return s.reportCommand(k.Report), nil
	case *logpb.Command_Resolve:
		return s.resolveCommand(k.Resolve), nil
	case *logpb.Command_SetLimits:
		return s.setLimits(k.SetLimits), nil
	case *logpb.Command_PutNode:
		return s.putNode(k.PutNode.GetNode()), nil
	case *logpb.Command_RemoveNode:
		return s.removeNode(k.RemoveNode.GetId()), nil
	case *logpb.Command_Recover:
		return s.recoverCommand(k.Recover), nil
	}
	return s.applyLater(c), nil
}

// applyLater knows the commands that came with later feature levels. In a batch
// of a lower level a node of that version, and so every node, knows none of them.
func (s *State) applyLater(c *logpb.Command) Result {
	if s.level >= LevelPacked {
		switch k := c.GetKind().(type) {
		case *logpb.Command_Reports:
			return s.reportsCommand(k.Reports)
		case *logpb.Command_Answers:
			return s.answersCommand(k.Answers)
		}
	}
	if s.level >= LevelModes {
		switch k := c.GetKind().(type) {
		case *logpb.Command_Answer:
			return s.answerCommand(k.Answer)
		case *logpb.Command_Record:
			return s.recordCommand(k.Record)
		case *logpb.Command_Stop:
			return s.stopCommand(k.Stop)
		case *logpb.Command_PutTopic:
			return s.putTopic(k.PutTopic)
		}
	}
	return invalid("kind", "names no command")
}

// checkDigest compares what a quorum had at an index with what this node had.
// The result is the same on every node; a difference is this node's end.
func (s *State) checkDigest(c *logpb.CheckDigest) (Result, error) {
	if len(c.GetDigest()) != len(Digest{}) {
		return invalid("digest", "is not of 16 bytes"), nil
	}
	mine, ok := s.DigestAt(c.GetIndex())
	if ok && mine != Digest(c.GetDigest()) {
		return Result{}, fmt.Errorf("%w: at index %d it is %s, the majority's %x", ErrDigest, c.GetIndex(), mine, c.GetDigest())
	}
	return Result{Code: OK}, nil
}
