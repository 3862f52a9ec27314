package participant_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/participanttest"
)

// P4: the participant dies when its branch is prepared and its vote not yet
// sent. Its successor waits for the verdict, and rolls back with the transaction.
func TestKilledBetweenPrepareAndVote(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator := dial(t, c)
	path := filepath.Join(t.TempDir(), "bank.db")
	killed := make(chan struct{})
	var victim *participant.Client
	var die sync.Once
	victim = dial(t, c, participant.WithWitness(func(m participant.Moment) {
		if m.Step != participant.StepPrepared {
			return
		}
		die.Do(func() { close(killed) })
		<-victim.Done() // nothing more is said
	}))
	store, err := embedded.Open(path, "bank")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Serve(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, initiator)
	committing := make(chan error, 1)
	go func() { committing <- put(tx.Context(context.Background()), store, "k", "1") }()
	<-killed
	victim.Kill()
	if err := <-committing; err == nil {
		t.Error("a commit without a vote succeeded")
	}
	_ = store.Close()

	successor := dial(t, c)
	reopened := bankAt(t, successor, "bank", path)
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) {
		t.Errorf("commit without the vote: %v", err)
	}
	testkit.EventuallyNoError(t, patience, func() error {
		left, err := reopened.Recover(t.Context())
		if err == nil && len(left) != 0 {
			err = errorf("%v is prepared still", left)
		}
		return err
	})
	if v, err := reopened.Get("k"); v != nil || err != nil {
		t.Errorf("k is %q, %v", v, err)
	}
	settled(t, c)
}

// The vote has arrived and its answer not: the transaction commits, and the
// successor applies what the victim had prepared.
func TestKilledBetweenVoteAndAnswer(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, victim := dial(t, c), dial(t, c)
	path := filepath.Join(t.TempDir(), "bank.db")
	store, err := embedded.Open(path, "bank")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Serve(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	voted := make(chan struct{})
	var vote sync.Once
	c.After(func(call participanttest.Call) error {
		if call.Method == "Session/Vote" {
			vote.Do(func() { close(voted) })
			return errLost
		}
		return nil
	})
	tx := begin(t, initiator)
	committing := make(chan error, 1)
	go func() { committing <- put(tx.Context(context.Background()), store, "k", "1") }()
	<-voted
	victim.Kill()
	<-committing
	_ = store.Close()
	c.After(nil)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, bankAt(t, dial(t, c), "bank", path), "k", "1")
	settled(t, c)
}

// "A participant that never comes back: another process of its resource finishes
// its branches."
func TestAnotherProcessOfTheResourceFinishes(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.HoldDeliveries(true)
	initiator, victim, other := dial(t, c), dial(t, c), dial(t, c)
	serve(t, victim, "shared")
	f := serve(t, other, "shared")
	tx := begin(t, initiator)
	b := start(t, victim, tx, "shared")
	votes(t, b, participant.VotePrepared)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	victim.Kill()
	c.HoldDeliveries(false)
	settled(t, c)
	if h := f.heard(); len(h) == 0 || h[0] != (told{b.Ref(), participant.VerdictCommit}) {
		t.Errorf("the other process was told %v", h)
	}
}

// "An unseen GID is ended only when cluster clock > born + ClockStaleMax +
// timeout", because on the fast path every live GID is unseen until its commit.
func TestAnUnseenBranchIsEndedInItsTimeAndNotBefore(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx := begin(t, client) // whose GID we only borrow the time of
	unseen := participant.BranchRef{GID: tx.GID()[:25] + "Z", ID: "1"}
	if unseen.GID == tx.GID() {
		unseen.GID = tx.GID()[:25] + "Y"
	}
	f := &fake{name: "r", prepared: []participant.Prepared{{BranchRef: unseen, Cluster: c.ID(), Timeout: 30 * time.Second}}}
	hook, inquiries := failing("Inquire", 0, nil)
	c.Before(hook)
	if _, err := client.Attach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	c.Advance(participant.ClockStaleMax + 25*time.Second)
	asked := inquiries.Load()
	testkit.Eventually(t, patience, func() bool { return inquiries.Load() > asked+3 }, "recovery to ask")
	if h := f.heard(); len(h) != 0 {
		t.Fatalf("a branch whose initiator may still commit was ended: %v", h)
	}
	c.Advance(10 * time.Second)
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) > 0 }, "the branch to be ended")
	if h := f.heard()[0]; h != (told{unseen, participant.VerdictRollback}) {
		t.Errorf("it was told %v", h)
	}
	x := c.Transaction(string(unseen.GID))
	if x == nil || !x.GetTombstone() || x.GetDecision() != quoratev1.Decision_DECISION_ROLLBACK {
		t.Errorf("the cluster has %v, want a tombstone", x)
	}
}

// "Another cluster's and other tools' xids are never touched"; nor is what is live
// in this process.
func TestRecoveryLeavesAloneWhatIsNotItsOwn(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.HoldDeliveries(true)
	client := dial(t, c)
	f := serve(t, client, "r")
	done := begin(t, client)
	if err := done.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, client)
	b := start(t, client, tx, "r")
	f.mu.Lock()
	f.prepared = []participant.Prepared{
		b.Prepared(), // prepared, and its vote is on the way
		{BranchRef: participant.BranchRef{GID: done.GID(), ID: "1"}, Cluster: "01JD9S7KQZZZZZZZZZZZZZZZZZ", Timeout: time.Second},
		{BranchRef: participant.BranchRef{GID: done.GID(), ID: "2"}, Cluster: c.ID(), Timeout: time.Second},
	}
	f.mu.Unlock()
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) >= 3 }, "three scans")
	for _, h := range f.heard() {
		if h.ref.ID != "2" || h.ref.GID != done.GID() {
			t.Errorf("recovery ended %v, which is not its own", h.ref)
		}
	}
}

// sweeper is a manager that keeps evidence rows.
type sweeper struct {
	*fake
	floors chan uint64
}

func (s sweeper) Sweep(_ context.Context, floorMS uint64) error {
	select {
	case s.floors <- floorMS:
	default:
	}
	return errors.New("not today") // is logged, and tried again
}

func TestRecoverySweepsToTheHeardFloor(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	s := sweeper{fake: &fake{name: "r"}, floors: make(chan uint64)}
	if _, err := client.Attach(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	first := <-s.floors
	c.RaiseFloor()
	want := c.ClockMS()
	for deadline := time.After(patience); ; {
		select {
		case floor := <-s.floors:
			if floor > first && floor <= want {
				return
			}
		case <-deadline:
			t.Fatalf("no sweep to the raised floor, only to %d", first)
		}
	}
}

// unlisted is a manager whose resource cannot be read.
type unlisted struct{ *fake }

func (unlisted) Recover(context.Context) ([]participant.Prepared, error) {
	return nil, errors.New("the database is away")
}

func TestRecoveryOutlivesItsErrors(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	if _, err := client.Attach(t.Context(), unlisted{&fake{name: "away"}}); err != nil {
		t.Fatal(err)
	}
	f := &fake{name: "r"}
	tx := begin(t, client)
	if err := tx.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	f.prepared = []participant.Prepared{{BranchRef: participant.BranchRef{GID: tx.GID(), ID: "1"}, Cluster: c.ID(), Timeout: time.Second}}
	hook, seen := failing("Inquire", 2, participanttest.Refusal("QUARANTINED", "broken", 0))
	c.Before(hook)
	if _, err := client.Attach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) > 0 }, "recovery after refused inquiries")
	if seen.Load() < 3 {
		t.Errorf("asked %d times", seen.Load())
	}
}
