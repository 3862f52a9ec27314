package api

import (
	"context"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

func decidedAt(wallMS uint64) *logpb.Transaction {
	return &logpb.Transaction{Begin: &logpb.Begin{Gid: testGID.Bytes()}, Decided: &logpb.Stamp{Index: 12, WallMs: wallMS}}
}

// TestRefusalText: what people read names the object and says what stands,
// once.
func TestRefusalText(t *testing.T) {
	gid := testGID.String()
	for _, tt := range []struct {
		refusal coordinator.Refusal
		want    string
	}{
		{coordinator.Refusal{Code: fsm.NotFound, GID: testGID, Detail: "no transaction " + gid},
			"no transaction " + gid + " (list what there is: quorate tx ls --all)"},
		{coordinator.Refusal{Code: fsm.Sealed, GID: testGID, Branch: "3"},
			"branch 3 of transaction " + gid + ": the commit was asked for without this branch (roll the branch's local work back)"},
		{coordinator.Refusal{Code: fsm.NotFound, Key: "order-1", Detail: "nothing there"},
			"transaction key:order-1: nothing there (list what there is: quorate tx ls --all)"},
		{coordinator.Refusal{Code: fsm.Quota, GID: testGID, Detail: "active_transactions_max is 5"},
			"transaction " + gid + ": active_transactions_max is 5 (try again later; limits: quorate config show)"},
		{coordinator.Refusal{Code: fsm.Quota, GID: testGID, Detail: "transaction_bytes_max is 5"},
			"transaction " + gid + ": transaction_bytes_max is 5 (waiting does not help: make it smaller, or raise the limit, at /v1/cluster/limits)"},
		{coordinator.Refusal{Code: fsm.Quota, Detail: "topics_max is 5"},
			"topics_max is 5 (waiting does not help: make it smaller, or raise the limit, at /v1/cluster/limits)"},
		{coordinator.Refusal{Code: fsm.Invalid, Detail: "timeout is 0 ms"},
			"the request is malformed: timeout is 0 ms (correct the fields named)"},
		{coordinator.Refusal{Code: fsm.Invalid, Detail: "attach: no resources"},
			"the request is malformed: attach: no resources (correct the fields named)"},
		{coordinator.Refusal{Code: fsm.AlreadyFounded, Detail: "x"}, "ALREADY_FOUNDED: transaction " + fsm.GID{}.String() + ": x (see the node's log)"},
	} {
		if got := translate(&tt.refusal, changes).Error(); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
	if translate(nil, changes) != nil {
		t.Error("no error became one")
	}
	if got := translate(&coordinator.NotLeaderError{}, reads).Reason; got != ReasonNoLeader {
		t.Errorf("a leader without a name is %s", got)
	}
	if got := translate(coordinator.ErrNotLeader, changes).Reason; got != ReasonNoLeader {
		t.Errorf("ErrNotLeader alone is %s", got)
	}
}

// TestFixedLimitsAreNotWaitedFor: of a limit that does not pass with time no client is
// told to come again.
func TestFixedLimitsAreNotWaitedFor(t *testing.T) {
	for detail, want := range map[string]time.Duration{
		"active_transactions_max is 5": time.Second, "tombstones_max is 5": time.Second,
		"transaction_bytes_max is 5": 0, "branches_per_transaction_max is 5": 0, "topics_max is 5": 0, "subscribers_per_topic_max is 5": 0,
	} {
		got := time.Duration(0)
		for _, d := range translate(&coordinator.Refusal{Code: fsm.Quota, GID: testGID, Detail: detail}, changes).GRPCStatus().Details() {
			if retry, ok := d.(*errdetails.RetryInfo); ok {
				got = retry.GetRetryDelay().AsDuration()
			}
		}
		if got != want {
			t.Errorf("%s: come again after %v, want %v", detail, got, want)
		}
	}
}

// TestUnknownStaysUnknown: an outcome that nobody knows is never dressed up as a
// failure by what it was caused by: a session that ends because leadership goes, a
// leader that is lost between the entry and its answer.
func TestUnknownStaysUnknown(t *testing.T) {
	for _, cause := range []error{
		Errorf(ReasonNotLeader, "this node leads no more"), coordinator.ErrNoLeader, &coordinator.NotLeaderError{},
		&coordinator.Refusal{Code: fsm.NotFound}, context.Canceled,
	} {
		err := &coordinator.UnknownError{GID: testGID, Cause: cause}
		if got := translate(err, changes).Reason; got != ReasonOutcomeUnknown {
			t.Errorf("caused by %v: %s, want %s", cause, got, ReasonOutcomeUnknown)
		}
	}
}

// TestHoldGivesUpOnTheUnknown: a call that may have taken effect is not held for
// the next leader, whose "nothing was done" would be about the second try alone.
func TestHoldGivesUpOnTheUnknown(t *testing.T) {
	c := newFake()
	n := serve(t, Config{LeaderWait: time.Hour}, c, newFakeCluster())
	for _, cause := range []error{coordinator.ErrNoLeader, coordinator.ErrNotLeader, &coordinator.NotLeaderError{}} {
		c.setFail(&coordinator.UnknownError{GID: testGID, Cause: cause})
		before := c.called("Commit")
		_, err := n.transactions().Commit(t.Context(), &quoratev1.CommitRequest{Transaction: testGID.String()})
		if got := ReasonOf(err); got != ReasonOutcomeUnknown {
			t.Errorf("caused by %v: %v, want %s", cause, err, ReasonOutcomeUnknown)
		}
		if calls := c.called("Commit") - before; calls != 1 {
			t.Errorf("caused by %v: %d calls, want one", cause, calls)
		}
	}
}
