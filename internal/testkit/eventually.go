// Package testkit holds the few helpers that tests of several packages share:
// waiting for a condition instead of sleeping, free ports, and a logger that
// writes to the test.
package testkit

import (
	"fmt"
	"testing"
	"time"
)

// pollInterval is how long Eventually lets pass between two looks.
const pollInterval = 5 * time.Millisecond

// Eventually returns as soon as cond is true and fails the test when it is not
// within timeout. cond runs on the calling goroutine, at least once, and must
// not block for long. msg, when given, is a format and its arguments and says
// what was waited for.
//
// It is the only place where our tests wait by the clock: a test that needs an
// order of events waits for the condition that shows it.
func Eventually(t testing.TB, timeout time.Duration, cond func() bool, msg ...any) {
	t.Helper()
	EventuallyNoError(t, timeout, func() error {
		if cond() {
			return nil
		}
		return errNotYet
	}, msg...)
}

// EventuallyNoError is Eventually for conditions that can say what is missing:
// the last error stands in the failure.
func EventuallyNoError(t testing.TB, timeout time.Duration, cond func() error, msg ...any) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", timeout, describe(msg), err)
		}
		time.Sleep(pollInterval)
	}
}

type notYet struct{}

func (notYet) Error() string { return "the condition is still false" }

var errNotYet error = notYet{}

func describe(msg []any) string {
	if len(msg) == 0 {
		return "condition"
	}
	if format, ok := msg[0].(string); ok {
		return fmt.Sprintf(format, msg[1:]...)
	}
	return fmt.Sprint(msg...)
}
