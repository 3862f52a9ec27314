package coordinator

import (
	"context"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// Begin creates a transaction. Without a GID one is made from the applied
// clock; a caller that wants to repeat an unknown Begin makes its own. It takes begin
// over, which may be used for the same request once more, and for nothing else.
func (c *Coordinator) Begin(ctx context.Context, begin *logpb.Begin) (Status, error) {
	if begin == nil {
		begin = new(logpb.Begin)
	}
	gid, err := c.complete(begin)
	if err != nil {
		return Status{}, err
	}
	if err := c.passKey(failpoint.BeforeBegin, gid, begin.GetKey()); err != nil {
		return Status{}, err
	}
	r, err := c.proposeOne(ctx, gid, ordinary, &logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}})
	if err != nil {
		return Status{}, err
	}
	if err := refusal(r, "", ""); err != nil {
		return Status{}, err
	}
	if err := c.passKey(failpoint.Begun, r.GID, begin.GetKey()); err != nil {
		return Status{}, err
	}
	return statusOfResult(r), nil
}

// complete fills in what the caller left to the cluster: a GID, namespace, mode, entry,
// timeout; and sorts labels, headers and branches. A caller that repeats a Begin names
// the same timeout as before, or leaves it out as before.
func (c *Coordinator) complete(begin *logpb.Begin) (fsm.GID, error) {
	if begin.Namespace == "" {
		begin.Namespace = DefaultNamespace
	}
	if begin.Mode == logpb.Mode_MODE_UNSPECIFIED {
		begin.Mode = logpb.Mode_MODE_TWO_PHASE
	}
	if begin.Entry == logpb.Entry_ENTRY_UNSPECIFIED {
		begin.Entry = logpb.Entry_ENTRY_EXPLICIT
	}
	if begin.TimeoutMs == 0 && !endless(begin.Mode) {
		c.replog.View(func(s *fsm.State) { begin.TimeoutMs = s.Limits().GetTransactionTimeoutDefaultMs() })
	}
	slices.SortFunc(begin.Labels, byName)
	slices.SortFunc(begin.Plan.GetHeaders(), byName)
	sortBranches(begin.Branches)
	if len(begin.Gid) != 0 {
		gid, err := fsm.GIDFromBytes(begin.Gid)
		if err != nil {
			return fsm.GID{}, invalid(fsm.GID{}, "%v", err)
		}
		return gid, nil
	}
	gid := c.newGID()
	begin.Gid = gid.Bytes()
	return gid, nil
}

func byName(a, b *logpb.Label) int { return strings.Compare(a.GetName(), b.GetName()) }

// sortBranches brings branches into the order that the log wants, and what each
// comes after.
func sortBranches(branches []*logpb.BranchSpec) {
	slices.SortFunc(branches, func(a, b *logpb.BranchSpec) int { return strings.Compare(a.GetId(), b.GetId()) })
	for _, b := range branches {
		sortAfter(b)
	}
}

func sortAfter(b *logpb.BranchSpec) {
	if len(b.GetAfter()) > 1 {
		slices.Sort(b.After)
		b.After = slices.Compact(b.After)
	}
}

// endless modes have no deadline unless one is asked: what they began must come
// to an end, and time alone does not tell which.
func endless(m fsm.Mode) bool {
	switch m {
	case logpb.Mode_MODE_SAGA, logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_WORKFLOW, logpb.Mode_MODE_NOTIFY:
		return true
	default:
		return false
	}
}

// newGID makes a GID born at the applied clock, never at wall time: a node whose
// clock runs ahead would make GIDs that are refused, one behind GIDs that expire
// early.
func (c *Coordinator) newGID() fsm.GID {
	var born uint64
	c.replog.View(func(s *fsm.State) { born = s.ClockMS() })
	born = max(born, 1) // zero is the horizon of a cluster's first day: EXPIRED
	var random [10]byte
	c.entropyLock.Lock()
	defer c.entropyLock.Unlock()
	if _, err := io.ReadFull(c.entropy, random[:]); err != nil {
		panic("coordinator: no entropy for a gid: " + err.Error()) // crypto/rand never fails
	}
	return fsm.NewGID(born, random)
}

// Enlist adds a branch. A held branch enlists over its session only.
func (c *Coordinator) Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (Status, error) {
	if branch.GetHeld() {
		return Status{}, heldElsewhere(gid, branch)
	}
	return c.enlist(ctx, gid, branch)
}

func heldElsewhere(gid fsm.GID, branch *logpb.BranchSpec) error {
	return invalid(gid, "branch %s is held: it enlists and votes over the session of the process that holds it", branch.GetId())
}

func (c *Coordinator) enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (Status, error) {
	if err := c.pass(failpoint.BeforeEnlist, gid); err != nil {
		return Status{}, err
	}
	r, err := c.proposeOne(ctx, gid, ordinary, enlistOf(gid, branch))
	if err != nil {
		return Status{}, err
	}
	return c.enlisted(r, branch)
}

// enlistOf is the command that adds a branch.
func enlistOf(gid fsm.GID, branch *logpb.BranchSpec) *logpb.Command {
	if len(branch.GetAfter()) > 1 {
		branch = proto.CloneOf(branch)
		sortAfter(branch)
	}
	c := &struct { // one piece of memory
		command logpb.Command
		kind    logpb.Command_Enlist
		enlist  logpb.Enlist
		gid     fsm.GID
	}{gid: gid}
	c.enlist.Gid, c.enlist.Branch = c.gid[:], branch
	c.kind.Enlist = &c.enlist
	c.command.Kind = &c.kind
	return &c.command
}

// enlisted is the answer once that was applied.
func (c *Coordinator) enlisted(r fsm.Result, branch *logpb.BranchSpec) (Status, error) {
	if err := refusal(r, "", branch.GetId()); err != nil {
		return Status{}, err
	}
	if err := c.pass(failpoint.Enlisted, r.GID); err != nil {
		return Status{}, err
	}
	return statusOfResult(r), nil
}

// Vote records a branch's vote. A held branch votes over its session only.
func (c *Coordinator) Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (Status, error) {
	if ballot.GetBranch().GetHeld() {
		return Status{}, heldElsewhere(gid, ballot.GetBranch())
	}
	return c.vote(ctx, gid, ballot)
}

func (c *Coordinator) vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (Status, error) {
	if err := c.pass(failpoint.BeforeVote, gid); err != nil {
		return Status{}, err
	}
	r, err := c.proposeOne(ctx, gid, ending, voteOf(gid, ballot))
	if err != nil {
		return Status{}, err
	}
	return c.voted(r, ballot)
}

// voteOf is the command that records a vote.
func voteOf(gid fsm.GID, ballot *logpb.Ballot) *logpb.Command {
	c := &struct { // one piece of memory
		command logpb.Command
		kind    logpb.Command_Vote
		vote    logpb.Vote
		gid     fsm.GID
	}{gid: gid}
	c.vote.Gid, c.vote.Ballot = c.gid[:], ballot
	c.kind.Vote = &c.vote
	c.command.Kind = &c.kind
	return &c.command
}

// voted is the answer once that was applied.
func (c *Coordinator) voted(r fsm.Result, ballot *logpb.Ballot) (Status, error) {
	if err := refusal(r, "", ballot.GetBranch().GetId()); err != nil {
		return Status{}, err
	}
	if r.Changed && r.Decision == fsm.DecisionCommit {
		if err := c.pass(failpoint.AtDecision, r.GID); err != nil {
			return Status{}, err
		}
	}
	if err := c.pass(failpoint.Voted, r.GID); err != nil {
		return Status{}, err
	}
	return statusOfResult(r), nil
}

// pass hits a failpoint with the transaction's key, if any is armed. Once
// something was appended, an injected error is an unknown outcome.
func (c *Coordinator) pass(name string, gid fsm.GID) error {
	if !failpoint.Armed() {
		return nil
	}
	return c.passKey(name, gid, c.keyOf(gid))
}

func (c *Coordinator) passKey(name string, gid fsm.GID, key string) error {
	if err := failpoint.Hit(name, key); err != nil {
		return &UnknownError{GID: gid, Cause: err}
	}
	return nil
}

func (c *Coordinator) keyOf(gid fsm.GID) (key string) {
	c.replog.View(func(s *fsm.State) {
		if rec, ok := s.Read(gid); ok {
			key = rec.GetBegin().GetKey()
		}
	})
	return key
}
