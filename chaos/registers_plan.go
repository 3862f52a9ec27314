package chaos

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/linearizability"
)

// plan is one transaction as its clients mean it to be. It is not changed once
// it is made.
type plan struct {
	gid       string
	key       string
	shape     shape
	content   string // of the labels
	timeout   time.Duration
	branches  []planned
	contended bool
	// wish is what the initiator asks in the end, where nobody contends.
	wish wish
}

// planned is one branch of a plan.
type planned struct {
	spec *quoratev1.BranchSpec
	vote quoratev1.Vote
	// by is the participant's process that votes over its session; nil: a vote by
	// a call of its own.
	by *party
}

// contentLabel is the label by which "the same GID, other content" is made.
const contentLabel = "content"

// shape is how a transaction is made.
type shape int

const (
	explicit shape = iota // Begin, Enlist, Vote, Commit
	named                 // Begin, Vote (which enlists), Commit with the set
	submit                // everything in one call, and what votes are missing after
	held                  // as explicit, its branches held over sessions
)

// wish is what an initiator asks for.
type wish int

const (
	wishCommit wish = iota
	wishRollback
	wishNothing // the deadline ends it
)

// newPlan draws the nth transaction.
func (w *registers) newPlan(r *rand.Rand, n int64) *plan {
	p := &plan{
		gid: w.newGID(r), timeout: time.Duration(4000+r.IntN(4000)) * time.Millisecond,
		content: fmt.Sprintf("c%d", r.IntN(1000)), contended: turn(n, contendedShare),
	}
	w.mine.Store(p.gid, true)
	switch d := r.Float64(); {
	case d < 0.42:
		p.shape = explicit
	case d < 0.65:
		p.shape = named
	case d < 0.90:
		p.shape = submit
	default:
		p.shape = held
	}
	switch d := r.Float64(); {
	case d < 0.06:
		p.timeout = time.Duration(200+r.IntN(800)) * time.Millisecond
	case d < 0.08:
		p.wish, p.timeout = wishNothing, time.Duration(500+r.IntN(1500))*time.Millisecond
	case d < 0.16:
		p.wish = wishRollback
	}
	if p.shape != submit && r.Float64() < 0.12 {
		// A few keys come again: the second Begin is answered with the first's GID.
		p.key = fmt.Sprintf("k%d", r.IntN(int(n)))
	}
	for i := range 1 + r.IntN(3) {
		p.branches = append(p.branches, w.newBranch(r, p.shape, i))
	}
	return p
}

// turn says whether the nth thing is one of a share of all: spread like draws, and so
// near to the share after a few dozen that the judge may count on it, which it must
// not on luck. The multiples of the golden ratio have no period to meet another one.
func turn(n int64, share float64) bool {
	_, fraction := math.Modf(float64(n) * math.Phi)
	return fraction < share
}

func (w *registers) newBranch(r *rand.Rand, s shape, i int) planned {
	b := planned{vote: quoratev1.Vote_VOTE_PREPARED}
	switch d := r.Float64(); {
	case d < 0.05:
		b.vote = quoratev1.Vote_VOTE_REFUSED
	case d < 0.12:
		b.vote = quoratev1.Vote_VOTE_READ_ONLY
	}
	b.spec = &quoratev1.BranchSpec{Id: fmt.Sprint(i + 1), Resource: resourceName(r.IntN(resourceCount))}
	if s == held || s == explicit && r.Float64() < 0.3 {
		b.by = w.parties[r.IntN(len(w.parties))]
		b.spec.Resource, b.spec.Holder, b.spec.Held = b.by.resource, b.by.holder, s == held
	}
	return b
}

// resourcePrefix begins the name of every resource of this workload.
const resourcePrefix = "register-"

func resourceName(i int) string { return resourcePrefix + fmt.Sprint(1+i) }

// newGID makes a GID born at the newest clock that any client has heard.
func (w *registers) newGID(r *rand.Rand) string {
	var random [10]byte
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	return fsm.NewGID(w.heard.clock.Load(), random).String()
}

func (p *plan) begin() *quoratev1.BeginRequest {
	req := &quoratev1.BeginRequest{Gid: p.gid, Key: p.key, Timeout: durationpb.New(p.timeout), Labels: map[string]string{contentLabel: p.content}}
	if p.shape == named || p.shape == submit {
		req.Entry = quoratev1.Entry_ENTRY_NAMED
	} else {
		req.Entry = quoratev1.Entry_ENTRY_EXPLICIT
	}
	return req
}

// beginInput is the begin in the history's words.
func (p *plan) beginInput() linearizability.Input {
	return linearizability.Input{
		Entry: linearizability.FromWire[linearizability.Entry](p.begin().GetEntry()), TimeoutMS: uint64(p.timeout.Milliseconds()), Content: p.content,
	}
}

func (p *plan) ids() []string {
	ids := make([]string, len(p.branches))
	for i, b := range p.branches {
		ids[i] = b.spec.GetId()
	}
	return ids
}

// branchOf is a branch in the history's words.
func branchOf(spec *quoratev1.BranchSpec) linearizability.Branch {
	return linearizability.Branch{
		ID: spec.GetId(), Resource: spec.GetResource(), Endpoint: spec.GetEndpoint(), Held: spec.GetHeld(), Holder: spec.GetHolder(),
		Undo: spec.GetUndo(), After: linearizability.IDsOf(spec.GetAfter()), Content: string(spec.GetPayload()),
	}
}
