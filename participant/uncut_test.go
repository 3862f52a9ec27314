package participant

import (
	"context"
	"testing"
)

// TestUncut: what prepares a branch sees the values of the context that it began with, and
// not its end; what is derived from it ends in time.
func TestUncut(t *testing.T) {
	type key struct{}
	begun, cancelBegun := context.WithCancel(context.WithValue(t.Context(), key{}, "trace"))
	inTime, cancelInTime := context.WithCancel(t.Context())
	u := uncut{inTime, begun}
	derived, cancel := context.WithCancel(u)
	defer cancel()
	cancelBegun()
	if u.Err() != nil || derived.Err() != nil || derived.Value(key{}) != "trace" {
		t.Errorf("ended %v, derived %v, value %v", u.Err(), derived.Err(), derived.Value(key{}))
	}
	cancelInTime()
	if u.Err() == nil || derived.Err() == nil {
		t.Errorf("goes on beyond its time: %v, derived %v", u.Err(), derived.Err())
	}
}
