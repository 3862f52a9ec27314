package fsm

// Code says whether a command was taken, and if not, why. A refusal is a
// result that every node computes alike, never an error of a node; it changes
// no byte of the state.
type Code uint8

// The codes. Their order is not part of the log's format: a code is computed,
// never stored.
const (
	OK Code = iota
	// Invalid: the command is malformed. Detail names the field.
	Invalid
	// NotFound: the GID is unseen and its time has not passed.
	NotFound
	// Expired: the GID is unseen and born at or below the horizon: it may have
	// been decided and dropped, so nothing is created with it.
	Expired
	// GIDConflict: the GID stands with other content.
	GIDConflict
	// KeyConflict: the key stands for another GID, and the command carried votes.
	KeyConflict
	// BranchConflict: the branch stands with other content.
	BranchConflict
	// VoteConflict: the branch has voted otherwise. The first vote stands.
	VoteConflict
	// CommitConflict: commit was asked with another set.
	CommitConflict
	// Sealed: commit was asked, and no branch joins any more.
	Sealed
	// NotEnlisted: the branch is no member, and this command enlists none.
	NotEnlisted
	// SetRequired: a commit of a transaction whose votes enlist must name its set.
	SetRequired
	// SetMismatch: a member stands outside of the set that the commit names.
	SetMismatch
	// AlreadyDecided: the decision is the other way.
	AlreadyDecided
	// AlreadyReported: the branch has spoken for itself.
	AlreadyReported
	// Undecided: there is no decision yet that could be resolved.
	Undecided
	// Stale: the driver that speaks belongs to another epoch.
	Stale
	// Withheld: an operator must decide, because what was decided here may be
	// lost (PROTOCOL.md, section 1, epoch).
	Withheld
	// Quarantined: an invariant broke on this GID; an operator must end it.
	Quarantined
	// Quota: a limit is reached. Detail names it, and its value.
	Quota
	// AlreadyFounded: the log has a cluster id.
	AlreadyFounded
	// NotFounded: the log has no cluster id yet.
	NotFounded

	codeCount
)

var codeNames = [codeCount]string{
	OK:              "OK",
	Invalid:         "INVALID",
	NotFound:        "NOT_FOUND",
	Expired:         "EXPIRED",
	GIDConflict:     "GID_CONFLICT",
	KeyConflict:     "KEY_CONFLICT",
	BranchConflict:  "BRANCH_CONFLICT",
	VoteConflict:    "VOTE_CONFLICT",
	CommitConflict:  "COMMIT_CONFLICT",
	Sealed:          "SEALED",
	NotEnlisted:     "NOT_ENLISTED",
	SetRequired:     "SET_REQUIRED",
	SetMismatch:     "SET_MISMATCH",
	AlreadyDecided:  "ALREADY_DECIDED",
	AlreadyReported: "ALREADY_REPORTED",
	Undecided:       "UNDECIDED",
	Stale:           "STALE",
	Withheld:        "WITHHELD",
	Quarantined:     "QUARANTINED",
	Quota:           "QUOTA",
	AlreadyFounded:  "ALREADY_FOUNDED",
	NotFounded:      "NOT_FOUNDED",
}

// String is the reason as the API spells it.
func (c Code) String() string {
	if c < codeCount {
		return codeNames[c]
	}
	return "UNKNOWN"
}

// Codes lists every code, for tables that must be whole.
func Codes() []Code {
	all := make([]Code, codeCount)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}
