package chaos

import (
	"errors"

	"github.com/quorate/quorate/participant"
)

// unseen are refusals of those who have not looked at the transaction: a full queue, a
// node on its way up. They say nothing of what stands.
var unseen = map[string]bool{"QUOTA": true, "DENIED": true, "UNIMPLEMENTED": true, "INTERNAL": true}

// lookedAt reports that err is the word of a leader that has looked at the transaction;
// false where nobody could be asked, or nobody knows what became of the request.
func lookedAt(err error) bool {
	var unavailable *participant.UnavailableError
	var refused *participant.RefusedError
	switch {
	case err == nil, errors.Is(err, participant.ErrUnknown), errors.As(err, &unavailable):
		return false
	case errors.As(err, &refused):
		return !unseen[refused.Reason]
	}
	return true
}

// refusedFor is the reason of a refusal by whoever has looked at the transaction; or "".
func refusedFor(err error) string {
	var refused *participant.RefusedError
	if lookedAt(err) && errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}
