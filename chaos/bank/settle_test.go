package bank

import (
	"testing"

	"github.com/quorate/quorate/participant"
)

// A branch that an embedded store has prepared for a transaction of which the cluster has
// never heard shows in the journals alone: the bank is not quiet before it has ended.
func TestTheJournalsTellWhatIsPrepared(t *testing.T) {
	step := func(branch string, step participant.Step, vote participant.VoteKind) Line {
		return Line{GID: "g", Branch: branch, Step: step, Vote: vote}
	}
	journal := []Line{
		step("1", participant.StepEnded, participant.VoteNone), // by the process after it, whose file is read first
		step("1", participant.StepPrepared, participant.VotePrepared),
		step("2", participant.StepVoted, participant.VoteReadOnly),
	}
	if unended(journal) {
		t.Error("all have ended")
	}
	journal = append(journal, step("3", participant.StepPrepared, participant.VotePrepared))
	if !unended(journal) {
		t.Error("branch 3 is prepared")
	}
	if journal = append(journal, step("3", participant.StepEnded, participant.VoteNone)); unended(journal) {
		t.Error("branch 3 has ended")
	}
}
