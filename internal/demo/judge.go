package demo

import (
	"strings"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// judge makes the result of a run that came to its end.
func (r *run) judge(attempts []Attempt, before, after [2]Books, log []*quoratev1.Transaction, inDoubt int) *Result {
	kills := r.reaper.kills
	byKey := map[string]*quoratev1.Transaction{}
	for _, tx := range log {
		byKey[tx.GetKey()] = tx
	}
	for i := range kills {
		kills[i].Term = TermAt(kills[i].At, log)
	}
	result := &Result{
		Transfers: len(attempts), InDoubt: inDoubt,
		TotalBefore: before[BankA].Total() + before[BankB].Total(),
		TotalAfter:  after[BankA].Total() + after[BankB].Total(),
		LeaderKills: len(kills), KillPhases: map[Phase]int{}, ParticipantKills: r.reaper.bankKills,
		FailoverMS: Failovers(kills, attempts, log),
		Details:    r.verify(attempts, log, after),
		Reasons:    map[string]int{}, Surprises: r.reaper.surprises,
		wantKills: r.o.Kills, wantParticipantKills: len(r.aims.Participant), funded: r.plan.Funded(),
	}
	if result.TotalBefore != r.plan.Total() {
		result.Details = append(result.Details, "the banks did not open with the planned money")
	}
	result.Mismatches = len(result.Details)
	for _, k := range kills {
		result.KillPhases[k.Phase]++
	}
	for _, a := range attempts {
		result.count(a, byKey[a.Transfer.Key()])
	}
	result.CommitRatio = float64(result.Committed) / float64(max(1, result.funded))
	return result
}

// count adds one transfer by what stands in the log; a transfer that the log
// does not know never began, and so rolled back.
func (r *Result) count(a Attempt, tx *quoratev1.Transaction) {
	if a.Unanswered {
		r.Unknown++
	}
	switch {
	case tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT:
		r.Committed++
		return
	case tx == nil && a.Heard != HeardRollback, tx != nil && tx.GetDecision() != quoratev1.Decision_DECISION_ROLLBACK:
		return // undecided, or lost: it is in neither count, which is red
	}
	r.RolledBack++
	reason := a.Reason
	if reason == "" {
		reason = rollbackReason(tx)
	}
	if reason == "" {
		r.Unexplained = append(r.Unexplained, a.Transfer.Key())
		return
	}
	r.Reasons[reason]++
}

// rollbackReason is the log's word on why a transaction rolled back.
func rollbackReason(tx *quoratev1.Transaction) string {
	if tx.GetReason() == quoratev1.RollbackReason_ROLLBACK_REASON_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(tx.GetReason().String(), "ROLLBACK_REASON_")
}
