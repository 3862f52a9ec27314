package chaos

import (
	"context"
	"sync"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
)

// branches are the local transactions of all participants, as a database would
// hold them: prepared before the vote is sent, ended once, by whichever process of
// the resource is told. Each step is a line of the history's journal.
type branches struct {
	recorder *linearizability.Recorder

	mu     sync.Mutex
	states map[branchKey]*local
}

type branchKey struct{ gid, branch string }

// local is one branch's local transaction.
type local struct {
	resource string
	held     bool
	ended    linearizability.Step // empty while it is prepared
}

func newBranches(r *linearizability.Recorder) *branches {
	return &branches{recorder: r, states: map[branchKey]*local{}}
}

// vote does what must be done before a vote is sent: a branch that votes prepared
// is.
func (b *branches) vote(gid string, spec *quoratev1.BranchSpec, vote quoratev1.Vote, process string) {
	if vote != quoratev1.Vote_VOTE_PREPARED {
		return
	}
	key := branchKey{gid, spec.GetId()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.states[key] == nil {
		b.states[key] = &local{resource: spec.GetResource(), held: spec.GetHeld()}
		b.journal(key, process, linearizability.StepPrepared)
	}
}

// end obeys a verdict; the second time nothing happens.
func (b *branches) end(gid, branch, resource, process string, step linearizability.Step) {
	key := branchKey{gid, branch}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.states[key]
	if l == nil {
		// It has not voted yet, and now it never will be prepared.
		l = &local{resource: resource}
		b.states[key] = l
	}
	if l.ended == "" {
		l.ended = step
		b.journal(key, process, step)
	}
}

// journal must be called with mu held: the order of the lines is the order of the steps.
func (b *branches) journal(key branchKey, process string, step linearizability.Step) {
	b.recorder.Observe(linearizability.Observation{
		Sight: linearizability.SightJournal, GID: key.gid, Branch: key.branch, Resource: b.states[key].resource, Held: b.states[key].held, Process: process, Step: step,
	})
}

// inDoubt lists what is prepared and was not told.
func (b *branches) inDoubt() map[branchKey]*quoratev1.BranchSpec {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := map[branchKey]*quoratev1.BranchSpec{}
	for key, l := range b.states {
		if l.ended == "" {
			open[key] = &quoratev1.BranchSpec{Id: key.branch, Resource: l.resource, Held: l.held}
		}
	}
	return open
}

// recoverBranches does what a participant does at its start: it asks for the verdict
// on each branch that is prepared and was not told, and obeys. What the cluster has
// never seen would have to wait for a minute and its timeout; here its initiator
// gives it up, which leaves a tombstone.
func (w *registers) recoverBranches(ctx context.Context) {
	a := w.newActor(w.hosts[0], w.env.NewRand())
	for key, spec := range w.branches.inDoubt() {
		verdict := linearizability.VerdictWait
		for ctx.Err() == nil && verdict == linearizability.VerdictWait {
			got, out := a.try(ctx, inquireRequest(key.gid, spec))
			if got.status != linearizability.StatusOK {
				continue
			}
			if verdict = out.Verdict; verdict == linearizability.VerdictWait && out.Unseen {
				a.try(ctx, rollbackRequest(key.gid, nil, quoratev1.Wait_WAIT_DECISION))
			}
		}
		switch verdict {
		case linearizability.VerdictCommit:
			w.branches.end(key.gid, key.branch, spec.GetResource(), "recovery", linearizability.StepCommitted)
		case linearizability.VerdictRollback:
			w.branches.end(key.gid, key.branch, spec.GetResource(), "recovery", linearizability.StepRolledBack)
		}
	}
}
