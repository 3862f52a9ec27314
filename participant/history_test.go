package participant_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// Bugs that other databases and coordinators shipped, each as a test of this
// client. docs/history.md lists them all.

// CockroachDB #103817: a commit whose answer was lost was sent again, and the
// failure of the second try, which was certain, was told as the outcome of both:
// a committed transaction was reported as failed. Here what may have taken effect
// once stays unknown, however certainly the later tries failed.
func TestHistory_CockroachDB103817_AmbiguousCommitReportedAsFailure(t *testing.T) {
	cluster := participanttest.NewCluster(t, 1)
	client := dial(t, cluster)
	tx := begin(t, client)
	var tries atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cluster.Before(func(c participanttest.Call) error {
		if c.Method == "Commit" && tries.Add(1) > 1 {
			if tries.Load() > 2 {
				cancel() // the second one's answer was heard
			}
			return participanttest.Refusal("NO_LEADER", "no node leads", 0) // this one was certainly not done
		}
		return nil
	})
	hook, _ := failing("Commit", 1, errLost)
	cluster.After(hook)
	err := tx.Commit(ctx)
	var unknown *participant.OutcomeUnknownError
	if !errors.As(err, &unknown) || tries.Load() < 2 {
		t.Errorf("after %d tries, the first of which committed: %v, want an unknown outcome", tries.Load(), err)
	}
	cluster.Before(nil)
	cluster.After(nil)
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("asked for again: %v", err)
	}
}
