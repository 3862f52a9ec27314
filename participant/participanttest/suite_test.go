package participanttest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The control: nothing is wrong with the memory manager itself.
func TestTheSuitePasses(t *testing.T) { Run(t, memoryHarness("")) }

// Each planted bug must fall to the named check, and may fall to others.
func TestTheSuiteCatches(t *testing.T) {
	for b, catcher := range map[bug]string{
		"a repeated commit applies again":        "CommitAppliesOnce",
		"not found on commit is success":         "NotFoundIsNoCommit",
		"a heuristic rollback is not fenced":     "NotFoundIsNoCommit",
		"a late rollback is called rolled back":  "DecisionsStand",
		"rollback keeps the work":                "DecisionsStand",
		"branches match by prefix":               "NamesAreWhole",
		"verdicts go by GID alone":               "NamesAreWhole",
		"empty rollback leaves no record":        "RollbackBeforePrepareFences",
		"recovery loses the timeout":             "PreparedSurvivesCrashAndCommits",
		"recovery loses the cluster":             "PreparedSurvivesCrashAndCommits",
		"recovery lists nothing":                 "RecoverListsExactlyThePrepared",
		"recovery lists what is being worked on": "RecoverListsExactlyThePrepared",
		"a sweep drops every row":                "SweepKeepsTheFence",
		"a sweep forgets its floor":              "SweepKeepsTheFence",
		"evidence is not durable":                "FenceSurvivesCrash",
		"locks are never released":               "RollbackDropsOnce",
		"locks are not taken again":              "LocksSurviveCrash",
		"waits for locks have no bound":          "IsolationByLocks",
		"a reader prepares":                      "ReadOnlyEndsWithItsVote",
		"the vote is said before it is durable":  "VoteIsSaidWhenPrepared",
		"the prepare applies":                    "CommitAppliesOnce",
		"the prepare gives up the locks":         "IsolationByLocks",
		"a rollback is not said":                 "RefusalEndsTheBranch",
	} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			for _, ch := range checks {
				if ch.name != catcher {
					continue
				}
				if failure := failureOf(t, ch, memoryHarness(b)); failure == "" {
					t.Errorf("%s does not notice", ch.name)
				} else {
					t.Logf("%s: %s", ch.name, failure)
				}
				return
			}
			t.Fatalf("there is no check %s", catcher)
		})
	}
}

// failureOf runs a check that should fail, and returns what it said.
func failureOf(t *testing.T, ch check, h Harness) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{TB: t, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ch.run(r, h)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s did not end", ch.name)
	}
	cancel()
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.failures, "; ")
}

// recorder is a test whose failure is wanted.
type recorder struct {
	testing.TB
	ctx      context.Context
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.mu.Lock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }
