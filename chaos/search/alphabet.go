package search

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// branchesMax bounds the branches of a world.
const branchesMax = 3

// command is one of the commands that a world's log may hold. Those of a branch
// are numbered from the first one's.
type command uint8

const (
	cmdTick command = iota
	cmdBegin
	cmdCommit
	cmdCommitBare // a careless initiator's, that does not name the set (named mode)
	cmdSubmit
	cmdRollback
	cmdEnlist     // + branch
	cmdVote       = cmdEnlist + branchesMax
	cmdRefuse     = cmdVote + branchesMax
	cmdCommitted  = cmdRefuse + branchesMax    // its report
	cmdRolledBack = cmdCommitted + branchesMax // its report
	cmdPresume    = cmdRolledBack + branchesMax
	commandCount  = cmdPresume + branchesMax

	// Packed commands are made by a leader; nobody sends them.
	cmdPacked   = commandCount
	letterCount = int(cmdPacked) + packedCount
)

// branch returns whose command it is, -1 for nobody's.
func (c command) branch() int {
	if c < cmdEnlist || c >= cmdPacked {
		return -1
	}
	return int(c-cmdEnlist) % branchesMax
}

func (c command) kind() command {
	if c.branch() < 0 {
		return c
	}
	return cmdEnlist + (c-cmdEnlist)/branchesMax*branchesMax
}

// The clocks, in milliseconds, and what they follow from.
const (
	timeoutMS   = 1_000
	retentionMS = 1_800_000
	startMS     = 1_000_000
	unseenMS    = startMS + fsm.ClockStaleMaxMS + timeoutMS + 1 // an unseen GID may be ended
)

// clocks are the phases of time. What ended at the first is old enough to be dropped
// at the fourth, what ended by the third at the fifth. The sixth is for checking
// S5: by then every deadline has passed.
var clocks = [...]uint64{
	startMS,
	startMS + timeoutMS + 1,
	unseenMS,
	startMS + retentionMS, // the horizon is the GID's born, to the millisecond
	unseenMS + retentionMS + 1,
	unseenMS + 2*(retentionMS+1),
}

// clocksMax bounds Config.Clocks.
const clocksMax = len(clocks) - 1

// phaseUnseen is the first phase in which a participant may end an unseen GID.
const phaseUnseen = 2

// theGID is the one transaction of a world, born at the start.
var theGID = fsm.NewGID(startMS, [10]byte{9: 1})

func branchID(b int) string { return strconv.Itoa(b + 1) }

func spec(b int) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: branchID(b), Resource: "r-" + branchID(b)}
}

// alphabet makes the commands of a world.
func alphabet(c Config) [letterCount]*logpb.Command {
	gid := theGID.Bytes()
	entry := logpb.Entry_ENTRY_NAMED
	if c.Mode == Explicit {
		entry = logpb.Entry_ENTRY_EXPLICIT
	}
	begin := &logpb.Begin{Gid: gid, Namespace: "default", Mode: logpb.Mode_MODE_TWO_PHASE, Entry: entry, TimeoutMs: timeoutMS}
	commit := &logpb.Decide{Gid: gid, Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT}
	rollback := &logpb.Decide{Gid: gid, Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT}
	submit := &logpb.Submit{Begin: begin}
	set := &logpb.BranchSet{}
	for b := range c.Branches {
		set.Ids = append(set.Ids, branchID(b))
		submit.Set = append(submit.Set, spec(b))
		submit.Votes = append(submit.Votes, ballot(b, logpb.VoteKind_VOTE_KIND_PREPARED))
		if c.Mode != Explicit {
			rollback.Branches = append(rollback.Branches, spec(b)) // so that those it called hear
		}
	}
	bare := proto.CloneOf(commit)
	if c.Mode != Explicit {
		commit.Set = set
	}
	letters := [letterCount]*logpb.Command{
		cmdTick:       {Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}},
		cmdBegin:      {Kind: &logpb.Command_Begin{Begin: begin}},
		cmdCommit:     {Kind: &logpb.Command_Decide{Decide: commit}},
		cmdCommitBare: {Kind: &logpb.Command_Decide{Decide: bare}},
		cmdSubmit:     {Kind: &logpb.Command_Submit{Submit: submit}},
		cmdRollback:   {Kind: &logpb.Command_Decide{Decide: rollback}},
	}
	for b := range c.Branches {
		n := command(b)
		letters[cmdEnlist+n] = &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid, Branch: spec(b)}}}
		letters[cmdVote+n] = vote(gid, b, logpb.VoteKind_VOTE_KIND_PREPARED)
		letters[cmdRefuse+n] = vote(gid, b, logpb.VoteKind_VOTE_KIND_REFUSED)
		letters[cmdCommitted+n] = report(gid, b, logpb.Outcome_OUTCOME_COMMITTED)
		letters[cmdRolledBack+n] = report(gid, b, logpb.Outcome_OUTCOME_ROLLED_BACK)
		letters[cmdPresume+n] = &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
			Gid: gid, Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_PARTICIPANT, Branches: []*logpb.BranchSpec{spec(b)},
		}}}
	}
	packs(c, &letters)
	return letters
}

func ballot(b int, kind logpb.VoteKind) *logpb.Ballot {
	return &logpb.Ballot{Branch: spec(b), Kind: kind}
}

func vote(gid []byte, b int, kind logpb.VoteKind) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid, Ballot: ballot(b, kind)}}}
}

func report(gid []byte, b int, o fsm.Outcome) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{Gid: gid, Branch: branchID(b), Outcome: o}}}
}
