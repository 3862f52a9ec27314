package linearizability

import (
	"fmt"
	"strings"
)

// FromWire turns an enumeration of the API or of the log into the history's word
// for it: STATE_ROLLING_BACK into rolling_back, VOTE_KIND_READ_ONLY into
// read_only, and what is unspecified into nothing.
//
//	op.Output.State = linearizability.FromWire[linearizability.State](answer.GetState())
func FromWire[T ~string](e fmt.Stringer) T {
	s := e.String()
	for _, prefix := range []string{"ROLLBACK_REASON_", "REASON_", "VOTE_KIND_", "VOTE_", "STATE_", "DECISION_",
		"VERDICT_", "OUTCOME_", "ENTRY_", "CONSISTENCY_", "WAIT_", "MODE_", "EVENT_KIND_", "KIND_"} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			s = rest
			break
		}
	}
	if s == "UNSPECIFIED" || e.String() == "NONE" {
		return ""
	}
	return T(strings.ToLower(s))
}

// ReasonFromWire is FromWire for a rollback's reason, which a history spells as
// the API does: TIMEOUT, REQUESTED.
func ReasonFromWire(e fmt.Stringer) string { return strings.ToUpper(FromWire[string](e)) }
