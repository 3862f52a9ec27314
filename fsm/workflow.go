package fsm

import (
	"bytes"
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// operationBytesMax is the longest word of a workflow's code for a step.
const operationBytesMax = 45

// recordCommand applies the Record row of docs/modes.md: what a step of a
// workflow's code came to. The first word stands, so that the code can be
// replayed over it.
func (s *State) recordCommand(c *logpb.Record) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	if refusal, ok := checkRecorded(c); !ok {
		return refusal
	}
	t, refusal, ok := s.standing(gid)
	if !ok {
		return refusal
	}
	if !t.rules().records {
		return t.notIn("recorded steps")
	}
	id, operation := c.GetBranch().GetId(), c.GetOperation()
	i, stands := t.findStep(id, operation)
	switch {
	case stands && !sameRecord(t.branches[i], c):
		return t.answer(VoteConflict, "%s of branch %s of %s is recorded otherwise: the first word stands", operation, id, gid)
	case stands:
		return t.answer(OK, "")
	case !t.undecided():
		return t.answer(AlreadyDecided, "%s is decided: nothing more is recorded", gid)
	}
	if refusal, ok := s.limitRecord(t, c); !ok {
		return refusal
	}
	next := t.clone()
	b := &branch{
		spec: c.GetBranch(), more: &branchMore{operation: operation, result: c.GetResult()},
		vote: recordedVote(c), detail: s.clip(c.GetDetail()), enlisted: s.stamped(), voted: s.stamped(),
	}
	next.branches = slices.Insert(next.branches, i, b)
	return stored(s.put(t, next))
}

// checkRecorded refuses a malformed Record.
func checkRecorded(c *logpb.Record) (Result, bool) {
	if refusal, ok := checkSpec("branch", c.GetBranch()); !ok {
		return refusal, false
	}
	if c.GetBranch().GetHeld() || len(c.GetBranch().GetAfter()) > 0 {
		return invalid("branch", "%q is held, or has an order: a recorded step is neither", c.GetBranch().GetId()), false
	}
	if refusal, ok := checkLength("operation", c.GetOperation(), operationBytesMax); !ok {
		return refusal, false
	}
	return checkPrintable("operation", c.GetOperation())
}

func (s *State) limitRecord(t *transaction, c *logpb.Record) (Result, bool) {
	if refusal, ok := s.limitCalled(t, "branch", c.GetBranch()); !ok {
		return refusal, false
	}
	if refusal, ok := s.limitPayload("result", c.GetResult()); !ok {
		return refusal, false
	}
	return s.limitBytes(t, len(c.GetBranch().GetPayload())+len(c.GetResult()))
}

// recordedVote is the vote that a recorded step counts as.
func recordedVote(c *logpb.Record) logpb.VoteKind {
	if c.GetFailed() {
		return voteRefused
	}
	return votePrepared
}

func sameRecord(b *branch, c *logpb.Record) bool {
	return b.vote == recordedVote(c) && bytes.Equal(b.result(), c.GetResult()) && b.same(c.GetBranch())
}
