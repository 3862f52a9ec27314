package chaos

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/quorate/quorate/participant"
)

// A promise is broken by the word of somebody who looked at the transaction, and by no
// other: a full queue that turns a repetition away breaks none, and shows none kept.
func TestWhoHasLookedAtATransaction(t *testing.T) {
	quota, sealed := &participant.RefusedError{Reason: "QUOTA"}, &participant.RefusedError{Reason: "SEALED"}
	for _, c := range []struct {
		err    error
		looked bool
		reason string
	}{
		{nil, false, ""},
		{quota, false, ""},
		{&participant.RefusedError{Reason: "INTERNAL"}, false, ""},
		{sealed, true, "SEALED"},
		{fmt.Errorf("repeated: %w", sealed), true, "SEALED"},
		{&participant.OutcomeUnknownError{Err: quota}, false, ""},
		{&participant.OutcomeUnknownError{Err: &participant.RefusedError{Reason: "EXPIRED"}}, false, ""},
		{&participant.UnavailableError{Err: context.DeadlineExceeded}, false, ""},
		{&participant.RolledBackError{Reason: "TIMEOUT"}, true, ""},
		{&participant.CommittedError{}, true, ""},
		{errors.New("of another kind"), true, ""},
	} {
		if looked, reason := lookedAt(c.err), refusedFor(c.err); looked != c.looked || reason != c.reason {
			t.Errorf("%v: looked at %t, refused for %q; want %t, %q", c.err, looked, reason, c.looked, c.reason)
		}
	}
}
