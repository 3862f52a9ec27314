package bank

import (
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant"
)

// Line is one line of a participant's journal.
type Line struct {
	At int64 `json:"at"`
	// Holder is set in the first line: the process' instance id; and Pid with it.
	Holder string `json:"holder,omitempty"`
	Pid    int    `json:"pid,omitempty"`

	// Work: the branch is about to be begun with these moves. It is written before
	// the work, so a branch that is not in any journal never worked.
	Work []bankstore.Move `json:"work,omitempty"`
	// Late: the caller does not wait for the branch, so that it may come after the seal.
	Late bool `json:"late,omitempty"`

	// Failed says why the work of a branch failed.
	Failed string `json:"failed,omitempty"`

	// A step of a branch, by the SDK's witness; before the step's effect for what is
	// prepared, heard and voted, after it for what has ended.
	Step     participant.Step     `json:"step,omitempty"`
	GID      string               `json:"gid,omitempty"`
	Branch   string               `json:"branch,omitempty"`
	Resource string               `json:"resource,omitempty"`
	Vote     participant.VoteKind `json:"vote,omitempty"`
	Verdict  participant.Verdict  `json:"verdict,omitempty"`
	Outcome  participant.Outcome  `json:"outcome,omitempty"`

	Incarnation uint64 `json:"incarnation,omitempty"`
	Term        uint64 `json:"term,omitempty"`
	Attempt     uint32 `json:"attempt,omitempty"`

	// Seat and Start say whose journal it is; they are not in the file.
	Seat  string `json:"-"`
	Start int    `json:"-"`
}

// ref names the line's branch as evidence rows are named.
func (l Line) ref() string { return l.GID + "/" + l.Branch }

// Word is what an initiator was told of a transaction.
type Word string

// The words. An initiator that hears nothing definite writes unknown.
const (
	WordBegun    Word = "begun" // a begin was acknowledged
	WordCommit   Word = "commit"
	WordRollback Word = "rollback"
	WordUnknown  Word = "unknown"
	WordRefused  Word = "refused" // nothing was done
)

// Ask is what an initiator asked for.
type Ask string

// The asks.
const (
	AskBegin    Ask = "begin"
	AskCommit   Ask = "commit"
	AskRollback Ask = "rollback"
	AskOutcome  Ask = "outcome" // of whoever has the key
)

// Entry is one line of an initiator's ledger: a call, written before it is sent,
// or what came of it, written before anybody acts on it.
type Entry struct {
	At int64 `json:"at"`
	// Op numbers the operations of the file; a call and its return have one number.
	Op     int64 `json:"op"`
	Client int   `json:"client,omitempty"`
	// Ask is set in a call.
	Ask Ask    `json:"ask,omitempty"`
	GID string `json:"gid,omitempty"`
	Key string `json:"key,omitempty"`
	// Named, TimeoutMS and Shape say what was begun.
	Named     bool   `json:"named,omitempty"`
	TimeoutMS int64  `json:"timeout_ms,omitempty"`
	Shape     Shape  `json:"shape,omitempty"`
	Word      Word   `json:"word,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// Index is the decision's in the log, where it was told.
	Index uint64 `json:"index,omitempty"`

	// Seat and Start say whose ledger it is; they are not in the file.
	Seat  string `json:"-"`
	Start int    `json:"-"`
}
