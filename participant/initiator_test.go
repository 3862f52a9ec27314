package participant_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// requestsOf keeps the requests of one method.
type requestsOf struct {
	mu  sync.Mutex
	all []proto.Message
}

func keepRequests(c *participanttest.Cluster, method string) *requestsOf {
	r := &requestsOf{}
	c.Before(func(call participanttest.Call) error {
		if call.Method == method {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.all = append(r.all, proto.Clone(call.Request))
		}
		return nil
	})
	return r
}

func (r *requestsOf) list() []proto.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// "Rollback names the branches that were called, so that they hear": those that may be
// prepared, by their own names where they were told and by the call's where they were not.
func TestARollbackNamesWhoMustHear(t *testing.T) {
	errNo := errors.New("no")
	vote := func(v participant.Vote) func(context.Context, *participant.Client) error {
		return func(ctx context.Context, client *participant.Client) error {
			b, err := client.StartBranch(ctx, "r")
			if err == nil {
				_, err = b.Vote(ctx, v)
			}
			return err
		}
	}
	for name, x := range map[string]struct {
		own, called func(context.Context, *participant.Client) error
		lost        bool
		named       []string
	}{
		"own, prepared":       {own: vote(participant.Vote{Kind: participant.VotePrepared}), named: []string{"1"}},
		"own, maybe prepared": {own: vote(participant.Vote{Kind: participant.VoteRefused, MaybePrepared: true}), named: []string{"1"}},
		"called":              {called: vote(participant.Vote{Kind: participant.VotePrepared}), named: []string{"1.1"}},
		"called, maybe":       {called: vote(participant.Vote{Kind: participant.VoteRefused, MaybePrepared: true}), named: []string{"1.1"}},
		"called, and lost":    {called: vote(participant.Vote{Kind: participant.VotePrepared}), lost: true, named: []string{"1"}},
	} {
		for _, kind := range []string{"named", "one-shot"} {
			t.Run(kind+", "+name, func(t *testing.T) {
				c := participanttest.NewCluster(t, 1)
				initiator, callee := dial(t, c), dial(t, c)
				serve(t, initiator, "r")
				serve(t, callee, "r")
				drop := int32(0)
				if x.lost {
					drop = 1
				}
				h := serveGRPC(t, func(ctx context.Context) error { return x.called(ctx, callee) }, lossy(drop))
				asked := keepRequests(c, "Rollback")
				opt := participant.WithEntry(participant.EntryNamed)
				if kind == "one-shot" {
					opt = participant.OneShot()
				}
				err := initiator.Run(t.Context(), func(ctx context.Context) error {
					if x.own != nil {
						if err := x.own(ctx, initiator); err != nil {
							t.Error(err)
						}
					} else {
						_ = check(ctx, h)
					}
					return errNo
				}, opt)
				if !errors.Is(err, errNo) {
					t.Error(err)
				}
				got := asked.list()
				if len(got) != 1 {
					t.Fatalf("rollback was asked %d times", len(got))
				}
				var named []string
				for _, b := range got[0].(*quoratev1.RollbackRequest).GetBranches() {
					named = append(named, b.GetId())
				}
				slices.Sort(named)
				if !slices.Equal(named, x.named) {
					t.Errorf("it names %v, want %v", named, x.named)
				}
			})
		}
	}
}

// What was sent may have been done: a rollback after a commit that nobody answered asks the
// cluster, though nobody is left to be told of it.
func TestARollbackAfterACommitThatWasNotAnswered(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	for _, reader := range []bool{false, true} {
		tx := begin(t, client, participant.OneShot())
		if reader {
			if _, err := start(t, client, tx, "r").Vote(t.Context(), participant.Vote{Kind: participant.VoteReadOnly}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, hook := losing(t.Context(), "Submit")
		c.After(hook)
		if err := tx.Commit(ctx); !errors.Is(err, participant.ErrUnknown) {
			t.Fatal(err)
		}
		c.After(nil)
		var committed *participant.CommittedError
		if err := tx.Rollback(t.Context(), "changed its mind"); !errors.As(err, &committed) {
			t.Errorf("rollback after a commit that was done: %v", err)
		}
	}
}

// Whoever waits for the end waits for it in every kind of transaction.
func TestWaitFinishIsAskedFor(t *testing.T) {
	for _, opts := range [][]participant.TxOption{nil, {participant.OneShot()}, {participant.OneShot(), participant.WithKey("k")}} {
		c := participanttest.NewCluster(t, 1)
		client := dial(t, c)
		f := serve(t, client, "r")
		entered, release := make(chan struct{}), make(chan struct{})
		var enter sync.Once
		f.answer = func(told) (participant.Outcome, error) {
			enter.Do(func() { close(entered) })
			<-release
			return participant.OutcomeCommitted, nil
		}
		tx := begin(t, client, opts...)
		votes(t, start(t, client, tx, "r"), participant.VotePrepared)
		done := make(chan error, 1)
		go func() { done <- tx.Commit(t.Context(), participant.WaitFinish()) }()
		<-entered
		finishing := make(chan error, 1)
		go func() { finishing <- client.AwaitFinish(t.Context(), tx.GID()) }()
		if err := client.AwaitDecision(t.Context(), tx.GID()); err != nil {
			t.Errorf("%d options: the decision: %v", len(opts), err)
		}
		select {
		case err := <-done:
			t.Errorf("%d options: committed, %v, and a branch is at work still", len(opts), err)
			done <- err
		case err := <-finishing:
			t.Errorf("%d options: finished, %v, and a branch is at work still", len(opts), err)
			finishing <- err
		case <-time.After(20 * time.Millisecond): // it could only be shorter by mistake
		}
		close(release)
		if err := errors.Join(<-done, <-finishing); err != nil {
			t.Errorf("%d options: %v", len(opts), err)
		}
	}
}

// A one-shot transaction with a key was begun, and its rollback is the cluster's to know:
// others with the key wait for it.
func TestARolledBackKeyIsTold(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx := begin(t, client, participant.OneShot(), participant.WithKey("order-1"))
	if err := tx.Rollback(t.Context(), "changed its mind"); err != nil {
		t.Fatal(err)
	}
	if x := c.Transaction(string(tx.GID())); x.GetDecision() != quoratev1.Decision_DECISION_ROLLBACK {
		t.Errorf("the cluster has %v", x)
	}
	var rolledBack *participant.RolledBackError
	if err := begin(t, client, participant.WithKey("order-1")).Outcome(t.Context()); !errors.As(err, &rolledBack) {
		t.Errorf("the key's outcome: %v", err)
	}
}

// The outcome of a transaction that is not there: of a one-shot one it is waited for, of any
// other it is unknown, and of a key it is told that nobody knows it.
func TestTheOutcomeOfWhatIsNotThere(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx := begin(t, client, participant.OneShot())
	asked := countRequests(c)
	outcome := make(chan error, 1)
	go func() { outcome <- tx.Outcome(t.Context()) }()
	testkit.Eventually(t, patience, func() bool { return asked.of("Get") > 1 || len(outcome) > 0 }, "the outcome to be asked for")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; err != nil {
		t.Errorf("the outcome of what was submitted later: %v", err)
	}
	never := func(*quoratev1.Transaction) bool { return false }
	unseen := newGID(t, client)
	if _, err := client.Await(t.Context(), string(unseen), never); !errors.Is(err, participant.ErrUnknown) {
		t.Errorf("a gid that is not there: %v", err)
	}
	var refused *participant.RefusedError
	if _, err := client.Await(t.Context(), "key:nobody's", never); !errors.As(err, &refused) || refused.Reason != "NOT_FOUND" {
		t.Errorf("a key that is not there: %v", err)
	}
}

// One branch that must wait does not hide those behind it from recovery; and the question
// says all that the cluster needs to answer it.
func TestRecoveryAsksForEachBranch(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	done, open := begin(t, client), begin(t, client)
	if err := done.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	f := &fake{name: "r"}
	for i, gid := range []participant.GID{open.GID(), done.GID(), open.GID(), done.GID()} {
		ref := participant.BranchRef{GID: gid, ID: string(rune('1' + i))}
		f.prepared = append(f.prepared, participant.Prepared{BranchRef: ref, Cluster: c.ID(), Timeout: 7 * time.Second})
	}
	asked := keepRequests(c, "Inquire")
	if _, err := client.Attach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool {
		ended := map[string]bool{}
		for _, h := range f.heard() {
			ended[h.ref.ID] = h.verdict == participant.VerdictRollback
		}
		return ended["2"] && ended["4"]
	}, "the branches behind one that waits to be ended")
	for _, m := range asked.list() {
		q := m.(*quoratev1.InquireRequest)
		if q.GetHolder() != client.Holder() || q.GetResource() != "r" || q.GetTimeout().AsDuration() != 7*time.Second || q.GetGid() == "" || q.GetBranch() == "" {
			t.Errorf("asked %v", q)
		}
	}
	for _, h := range f.heard() {
		if h.ref.GID == open.GID() {
			t.Errorf("%v was ended, and is undecided", h.ref)
		}
	}
}

// A held branch whose vote was not answered asks until it hears its verdict: nobody else
// would find it.
func TestAHeldBranchAsksUntilItHears(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.HoldDeliveries(true)
	client := dial(t, c)
	f := serve(t, client, "r")
	tx := begin(t, client)
	b := start(t, client, tx, "r", participant.Held())
	ctx, hook := losing(t.Context(), "Session/Vote")
	c.After(hook)
	asked := keepRequests(c, "Inquire")
	if _, err := b.Vote(ctx, participant.Vote{Kind: participant.VotePrepared}); !errors.Is(err, participant.ErrUnknown) {
		t.Fatal(err)
	}
	c.After(nil)
	testkit.Eventually(t, patience, func() bool { return len(asked.list()) > 1 }, "the verdict to be asked for again")
	if err := tx.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) > 0 && client.Live() == 0 }, "the branch to be ended")
	if h := f.heard()[0]; h != (told{b.Ref(), participant.VerdictRollback}) {
		t.Errorf("it was told %v", h)
	}
}
