package search

// Flaw is a bug planted in the model, to see that the search finds it. Bugs of
// the machine are planted in its sources, by an overlay.
type Flaw string

// The flaws.
const (
	FlawNone Flaw = ""
	// FlawAnswersEarly: a leader answers once an entry is on its own disk.
	FlawAnswersEarly Flaw = "answers before a quorum has the entry"
	// FlawVotesUnprepared: a participant votes before its prepare is durable.
	FlawVotesUnprepared Flaw = "votes before it has prepared"
	// FlawLocalTimeout: the leader times out by its own clock, outside the log.
	FlawLocalTimeout Flaw = "times out outside the log"
	// FlawPresumesUnseen: an unseen GID is answered rolled back without a tombstone.
	FlawPresumesUnseen Flaw = "presumes abort without a tombstone"
	// FlawEndsEarly: a participant ends an unseen GID before its time.
	FlawEndsEarly Flaw = "ends an unseen GID before its time"
	// FlawRecoveryRollsBack: a participant that starts rolls back what is prepared.
	FlawRecoveryRollsBack Flaw = "recovery rolls back every prepared branch"
)
