package participant

// Step is a place in the life of a branch that its process passes.
type Step string

// The steps, in their usual order. A crash before or after each leaves the branch
// differently: that is what a [WithWitness] is for.
const (
	// StepPrepared: the branch is durably prepared, or held, and its vote not sent.
	StepPrepared Step = "prepared"
	// StepUnsure: whether the branch prepared only its database knows, since the answer
	// to the prepare was lost; its refusal has not been sent.
	StepUnsure Step = "unsure"
	// StepVoted: the cluster has answered the vote, of whatever kind, with a verdict.
	StepVoted Step = "voted"
	// StepHeard: a final verdict was heard, and nothing was done yet.
	StepHeard Step = "heard"
	// StepEnded: the manager has done something final, and nothing was reported yet.
	StepEnded Step = "ended"
)

// Moment is one step of one branch.
type Moment struct {
	Step     Step
	Branch   BranchRef
	Resource string
	// Vote is set at StepPrepared, StepUnsure and StepVoted.
	Vote VoteKind
	// Verdict is set from StepVoted on, VerdictNone where a held branch ended unasked.
	Verdict Verdict
	// Outcome is set at StepEnded.
	Outcome Outcome
	// Incarnation and Term are the epoch of a delivery, and Attempt its number; zero
	// where the verdict was not delivered but answered.
	Incarnation, Term uint64
	Attempt           uint32
}

// pass tells the witness, if there is one.
func (c *Client) pass(m Moment) {
	if c.cfg.witness != nil {
		c.cfg.witness(m)
	}
}

// word is a final verdict on its way to a manager. The epoch and the attempt are
// zero when it was not delivered but answered: to a vote, or to a question.
type word struct {
	verdict Verdict
	epoch   epoch
	attempt uint32
}

// moment is a step of a branch that obeys w.
func (a *Attachment) moment(step Step, ref BranchRef, w word, o Outcome) Moment {
	return Moment{
		Step: step, Branch: ref, Resource: a.m.Resource(), Verdict: w.verdict, Outcome: o,
		Incarnation: w.epoch.incarnation, Term: w.epoch.term, Attempt: w.attempt,
	}
}
