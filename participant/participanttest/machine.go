package participanttest

import (
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Short names of the decisions.
const (
	undecided = quoratev1.Decision_DECISION_UNSPECIFIED
	commit    = quoratev1.Decision_DECISION_COMMIT
	rollback  = quoratev1.Decision_DECISION_ROLLBACK
)

// tx is a transaction: PROTOCOL.md's two-phase mode without its refinements.
type tx struct {
	begin      *quoratev1.BeginRequest
	tombstone  bool
	sealed     bool
	decision   quoratev1.Decision
	reason     quoratev1.RollbackReason
	detail     string
	index      uint64
	deadlineMS uint64
	branches   map[string]*branch
}

type branch struct {
	spec     *quoratev1.BranchSpec
	vote     quoratev1.Vote
	maybe    bool
	detail   string
	outcome  quoratev1.Outcome
	attempts uint32
	vouched  bool
	lostAt   time.Time // when the holder's session went; zero while it is there
}

// ended reports that nothing more is expected of the branch.
func (b *branch) ended(d quoratev1.Decision) bool {
	if b.outcome != quoratev1.Outcome_OUTCOME_UNSPECIFIED || b.spec.GetResource() == "" {
		return true
	}
	return b.vote == quoratev1.Vote_VOTE_READ_ONLY || b.vote == quoratev1.Vote_VOTE_REFUSED && !b.maybe
}

func (x *tx) state() quoratev1.State {
	finished := true
	for _, b := range x.branches {
		finished = finished && b.ended(x.decision)
	}
	switch {
	case x.decision == commit && finished:
		return quoratev1.State_STATE_COMMITTED
	case x.decision == commit:
		return quoratev1.State_STATE_COMMITTING
	case x.decision == rollback && finished:
		return quoratev1.State_STATE_ROLLED_BACK
	case x.decision == rollback:
		return quoratev1.State_STATE_ROLLING_BACK
	case x.sealed:
		return quoratev1.State_STATE_SEALED
	}
	return quoratev1.State_STATE_ACTIVE
}

func (x *tx) proto() *quoratev1.Transaction {
	out := &quoratev1.Transaction{
		Gid: x.begin.GetGid(), Key: x.begin.GetKey(), Entry: x.begin.GetEntry(), State: x.state(),
		Decision: x.decision, Reason: x.reason, Detail: x.detail, Timeout: x.begin.GetTimeout(),
		Labels: x.begin.GetLabels(), Tombstone: x.tombstone,
	}
	if x.decision != undecided {
		out.Decided = &quoratev1.Stamp{Index: x.index}
	}
	for _, b := range x.branches {
		out.Branches = append(out.Branches, &quoratev1.Branch{
			Spec: b.spec, Vote: b.vote, MaybePrepared: b.maybe, Outcome: b.outcome, Detail: b.detail,
			Terminal: b.ended(x.decision),
		})
	}
	return out
}

// find resolves a gid or `key:K`.
func (c *Cluster) find(name string) *tx {
	if key, ok := strings.CutPrefix(name, "key:"); ok {
		name = c.keys[key]
	}
	return c.txs[name]
}

// doBegin is Begin.
func (c *Cluster) doBegin(r *quoratev1.BeginRequest) (x *tx, created bool, err error) {
	born, err := ulid.ParseStrict(r.GetGid())
	switch {
	case err != nil:
		return nil, false, refuse("INVALID", "no GID", nil)
	case born.Time() > c.clockMS():
		return nil, false, refuse("INVALID", "born after the clock", nil)
	case c.txs[r.GetGid()] != nil:
		x = c.txs[r.GetGid()]
		if x.tombstone {
			return nil, false, c.decided(x)
		}
		return x, false, nil
	case born.Time() <= c.horizonMS():
		return nil, false, refuse("EXPIRED", "born at or below the horizon", nil)
	case r.GetKey() != "" && c.keys[r.GetKey()] != "":
		return c.txs[c.keys[r.GetKey()]], false, nil
	}
	x = c.newTx(r)
	if r.GetKey() != "" {
		c.keys[r.GetKey()] = r.GetGid()
	}
	return x, true, nil
}

func (c *Cluster) newTx(r *quoratev1.BeginRequest) *tx {
	x := &tx{begin: r, branches: make(map[string]*branch)}
	x.deadlineMS = c.clockMS() + uint64(r.GetTimeout().AsDuration().Milliseconds())
	c.txs[r.GetGid()] = x
	c.notify()
	return x
}

// doEnlist is Enlist.
func (c *Cluster) doEnlist(r *quoratev1.EnlistRequest) (quoratev1.Verdict, error) {
	x, id := c.txs[r.GetGid()], r.GetBranch().GetId()
	if x == nil {
		return 0, refuse("NOT_FOUND", "unseen", nil)
	}
	b := x.branches[id]
	switch {
	case b != nil && b.spec.GetHolder() != r.GetBranch().GetHolder():
		return 0, refuse("BRANCH_CONFLICT", "another process has the branch", nil)
	case b != nil:
		return c.verdict(x, id), nil
	case x.decision != undecided:
		return 0, c.decided(x)
	case x.sealed:
		return 0, refuse("SEALED", "commit was asked", nil)
	}
	x.branches[id] = &branch{spec: r.GetBranch()}
	c.notify()
	return quoratev1.Verdict_VERDICT_WAIT, nil
}

// doVote is Vote.
func (c *Cluster) doVote(r *quoratev1.VoteRequest) (quoratev1.Verdict, error) {
	x, ballot := c.txs[r.GetGid()], r.GetBallot()
	id := ballot.GetBranch().GetId()
	if x == nil {
		return 0, refuse("NOT_FOUND", "unseen", nil)
	}
	b := x.branches[id]
	switch {
	case b != nil && b.vote == ballot.GetVote():
		return c.verdict(x, id), nil
	case b != nil && b.vote != quoratev1.Vote_VOTE_UNSPECIFIED:
		return 0, refuse("VOTE_CONFLICT", "another vote stands", nil)
	case x.decision == rollback && ballot.GetVote() == quoratev1.Vote_VOTE_REFUSED:
		if b != nil {
			b.vote, b.maybe = ballot.GetVote(), ballot.GetMaybePrepared()
		}
		return quoratev1.Verdict_VERDICT_ROLLBACK, nil
	case x.decision != undecided:
		return 0, c.decided(x)
	case b == nil && x.sealed:
		return 0, refuse("SEALED", "commit was asked", nil)
	case b == nil && x.begin.GetEntry() != quoratev1.Entry_ENTRY_NAMED:
		return 0, refuse("NOT_ENLISTED", "enlist first", nil)
	case b == nil:
		b = &branch{spec: ballot.GetBranch()}
		x.branches[id] = b
	}
	b.vote, b.maybe, b.detail = ballot.GetVote(), ballot.GetMaybePrepared(), ballot.GetDetail()
	if b.vote == quoratev1.Vote_VOTE_REFUSED {
		c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_REFUSED, b.detail)
	}
	c.settle(x)
	c.notify()
	return c.verdict(x, id), nil
}

// doCommit is Commit, up to the decision, which may have to be waited for.
func (c *Cluster) doCommit(r *quoratev1.CommitRequest) (*tx, error) {
	x := c.find(r.GetTransaction())
	switch {
	case x == nil:
		return nil, refuse("NOT_FOUND", "unseen", nil)
	case x.decision == rollback:
		return nil, c.decided(x)
	case x.decision == commit:
		return x, nil
	case x.begin.GetEntry() == quoratev1.Entry_ENTRY_NAMED && r.GetSet() == nil:
		return nil, refuse("SET_REQUIRED", "name the set", nil)
	}
	if r.GetSet() != nil {
		set := make(map[string]bool)
		for _, id := range r.GetSet().GetIds() {
			set[id] = true
			if x.branches[id] == nil {
				return nil, refuse("NOT_ENLISTED", id, nil)
			}
		}
		for id := range x.branches {
			if !set[id] {
				return nil, refuse("SET_MISMATCH", id, nil)
			}
		}
	}
	x.sealed = true
	c.settle(x)
	c.notify()
	return x, nil
}

// doSubmit is Submit, up to the decision.
func (c *Cluster) doSubmit(r *quoratev1.SubmitRequest) (*tx, error) {
	standing := c.txs[r.GetBegin().GetGid()]
	inSet := make(map[string]bool)
	for _, spec := range r.GetSet() {
		inSet[spec.GetId()] = true
		if spec.GetHeld() && (standing == nil || standing.branches[spec.GetId()] == nil) {
			return nil, refuse("NOT_ENLISTED", spec.GetId(), nil)
		}
	}
	if standing != nil {
		switch {
		case standing.decision == rollback:
			return nil, c.decided(standing)
		case standing.decision == commit:
			return standing, nil
		}
		for id := range standing.branches {
			if !inSet[id] {
				return nil, refuse("SET_MISMATCH", id, nil)
			}
		}
	}
	x, _, err := c.doBegin(r.GetBegin())
	if err != nil {
		return nil, err
	}
	x.sealed = true
	for _, spec := range r.GetSet() {
		if x.branches[spec.GetId()] == nil {
			x.branches[spec.GetId()] = &branch{spec: spec}
		}
	}
	for _, ballot := range r.GetVotes() {
		b := x.branches[ballot.GetBranch().GetId()]
		b.vote, b.maybe, b.detail = ballot.GetVote(), ballot.GetMaybePrepared(), ballot.GetDetail()
		if b.vote == quoratev1.Vote_VOTE_REFUSED {
			c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_SUBMIT_REFUSED, b.detail)
		}
	}
	c.settle(x)
	c.notify()
	return x, nil
}

// doRollback is Rollback.
func (c *Cluster) doRollback(r *quoratev1.RollbackRequest) (*tx, error) {
	x := c.find(r.GetTransaction())
	switch {
	case x == nil && strings.HasPrefix(r.GetTransaction(), "key:"):
		return nil, refuse("NOT_FOUND", "unseen", nil)
	case x == nil:
		x = c.newTx(&quoratev1.BeginRequest{Gid: r.GetTransaction()})
		x.tombstone = true
		for _, spec := range r.GetBranches() {
			x.branches[spec.GetId()] = &branch{spec: spec}
		}
	case x.decision == commit:
		return nil, c.decided(x)
	}
	c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_REQUESTED, r.GetDetail())
	return x, nil
}

// doReport is Report.
func (c *Cluster) doReport(r *quoratev1.ReportRequest) error {
	x := c.txs[r.GetGid()]
	if x == nil {
		return refuse("NOT_FOUND", "unseen", nil)
	}
	b := x.branches[r.GetBranch()]
	if b == nil || r.GetBusy() {
		return nil
	}
	b.outcome, b.detail = r.GetOutcome(), r.GetDetail()
	if x.decision == undecided {
		c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_REPORTED, r.GetDetail())
	}
	c.notify()
	return nil
}

// doInquire is Inquire. An unseen GID is ended once nobody may begin it any more.
func (c *Cluster) doInquire(r *quoratev1.InquireRequest) (v quoratev1.Verdict, unseen bool) {
	x := c.txs[r.GetGid()]
	if x != nil {
		if b := x.branches[r.GetBranch()]; b != nil && b.spec.GetResource() != "" && b.spec.GetResource() != r.GetResource() {
			return quoratev1.Verdict_VERDICT_ROLLBACK, false // a stranger under the same name
		}
		return c.verdict(x, r.GetBranch()), false
	}
	born, err := ulid.ParseStrict(r.GetGid())
	if err != nil || born.Time() <= c.horizonMS() {
		return quoratev1.Verdict_VERDICT_ROLLBACK, true
	}
	past := born.Time() + uint64((staleMax + r.GetTimeout().AsDuration()).Milliseconds())
	if r.GetTimeout() == nil || c.clockMS() <= past {
		return quoratev1.Verdict_VERDICT_WAIT, true
	}
	x = c.newTx(&quoratev1.BeginRequest{Gid: r.GetGid()})
	x.tombstone = true
	c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_PRESUMED, "")
	return quoratev1.Verdict_VERDICT_ROLLBACK, false
}

// verdict is the answer for (GID, branch).
func (c *Cluster) verdict(x *tx, id string) quoratev1.Verdict {
	b := x.branches[id]
	switch {
	case x.decision == commit && b != nil && b.vote == quoratev1.Vote_VOTE_PREPARED:
		return quoratev1.Verdict_VERDICT_COMMIT
	case x.decision != undecided, x.sealed && b == nil:
		return quoratev1.Verdict_VERDICT_ROLLBACK
	}
	return quoratev1.Verdict_VERDICT_WAIT
}

// decide writes the decision, once.
func (c *Cluster) decide(x *tx, d quoratev1.Decision, why quoratev1.RollbackReason, detail string) {
	if x.decision != undecided {
		return
	}
	x.decision, x.reason, x.detail = d, why, detail
	c.notify()
	x.index = c.index
}

// settle decides commit when nothing is missing: every vote, and for held
// branches a holder who has vouched in this term.
func (c *Cluster) settle(x *tx) {
	if !x.sealed || x.decision != undecided {
		return
	}
	for id, b := range x.branches {
		if b.vote != quoratev1.Vote_VOTE_PREPARED && b.vote != quoratev1.Vote_VOTE_READ_ONLY {
			return
		}
		if b.spec.GetHeld() && b.vote == quoratev1.Vote_VOTE_PREPARED && !b.vouched {
			c.askVouch(x, id)
			return
		}
	}
	c.decide(x, commit, 0, "")
}

// tick expires what is past its deadline, or has lost its holder.
func (c *Cluster) tick() {
	if c.leader < 0 {
		return
	}
	for _, x := range c.txs {
		if x.decision != undecided {
			continue
		}
		if c.clockMS() >= x.deadlineMS {
			c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_TIMEOUT, "")
		}
		for _, b := range x.branches {
			durable := b.vote == quoratev1.Vote_VOTE_PREPARED && !b.spec.GetHeld()
			if !durable && !b.lostAt.IsZero() && time.Since(b.lostAt) > grace {
				c.decide(x, rollback, quoratev1.RollbackReason_ROLLBACK_REASON_PARTICIPANT_LOST, "")
			}
		}
		c.settle(x)
	}
}

// decided refuses what comes after the decision.
func (c *Cluster) decided(x *tx) error {
	return refuse("ALREADY_DECIDED", x.detail, map[string]string{
		"gid":      x.begin.GetGid(),
		"decision": strings.ToLower(strings.TrimPrefix(x.decision.String(), "DECISION_")),
		"reason":   strings.TrimPrefix(x.reason.String(), "ROLLBACK_REASON_"),
	})
}

// commitNow asks commit for a transaction, as its initiator would, and returns
// the decision as it stands then.
func (c *Cluster) commitNow(gid string) (quoratev1.Decision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, err := c.doCommit(&quoratev1.CommitRequest{Transaction: gid})
	if err != nil {
		return undecided, err
	}
	return x.decision, nil
}
