package participant_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// failing makes a hook that fails the first n calls of a method.
func failing(method string, n int32, err error) (participanttest.Hook, *atomic.Int32) {
	seen := new(atomic.Int32)
	return func(c participanttest.Call) error {
		if c.Method == method && seen.Add(1) <= n {
			return err
		}
		return nil
	}, seen
}

// losing makes a hook that loses every answer of a method, and a context that ends
// with the second try: however busy the machine, the call was made, and made again.
func losing(ctx context.Context, method string) (context.Context, participanttest.Hook) {
	ctx, cancel := context.WithCancel(ctx)
	hook, seen := failing(method, 1<<30, errLost)
	return ctx, func(c participanttest.Call) error {
		err := hook(c)
		if seen.Load() > 1 {
			cancel()
		}
		return err
	}
}

var errLost = status.Error(codes.Unavailable, "the answer was lost")

func TestDialNeedsSeeds(t *testing.T) {
	if _, err := participant.Dial(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "localhost:36790") {
		t.Errorf("dial without seeds: %v, want advice", err)
	}
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = participant.Dial(ctx, []string{address})
	if err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("dial of nobody: %v", err)
	}
}

func TestDialRefusesSettingsOutOfRange(t *testing.T) {
	for name, o := range map[string]participant.Option{
		"attempt timeout": participant.WithAttemptTimeout(0),
		"call timeout":    participant.WithCallTimeout(-1),
		"scan interval":   participant.WithScanInterval(0, time.Second),
		"deliveries":      participant.WithDeliveries(0),
	} {
		if _, err := participant.Dial(t.Context(), []string{"localhost:1"}, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDialFollowsAFollowersHint(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	c.Lead(2)
	client, err := participant.Dial(t.Context(), c.Addresses()[:1])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if client.ClusterID() != c.ID() {
		t.Errorf("cluster %q, want %q", client.ClusterID(), c.ID())
	}
	if client.ClockMS() == 0 || client.FloorMS() == 0 {
		t.Errorf("clock %d and floor %d, want what Dial has heard", client.ClockMS(), client.FloorMS())
	}
}

// "The newest cluster clock that its maker has heard, never wall time, never
// extrapolated."
func TestGIDsAreBornAtTheHeardClock(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	c.Advance(100 * time.Hour) // far from wall time
	client := dial(t, c)
	heard := client.ClockMS()
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if born := tx.GID().BornMS(); born != heard {
		t.Errorf("born %d, want the clock heard before it, %d", born, heard)
	}
}

func TestAStaleClockIsRefreshed(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c, participant.WithStaleAfter(0))
	before := client.ClockMS()
	c.Advance(time.Hour)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if born := tx.GID().BornMS(); born < before+uint64(time.Hour.Milliseconds()) {
		t.Errorf("born %d from a clock that was heard at %d, an hour ago", born, before)
	}
}

// "EXPIRED on Begin allows the SDK a fresh clock and a new GID."
func TestExpiredOnBeginTakesANewGID(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	c.Advance(10 * time.Hour) // longer than retention: the heard clock is below the horizon
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Transactions()); n != 1 || c.Transaction(string(tx.GID())) == nil {
		t.Errorf("%d transactions, %v", n, tx.GID())
	}
}

// "EXPIRED on Submit never does: it is an unknown outcome"; nor does it on Commit.
func TestWhatIsSetAsideIsUnknown(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"EXPIRED", "WITHHELD", "QUARANTINED"} {
		hook, _ := failing("Commit", 1, participanttest.Refusal(reason, "ask an operator", 0))
		c.Before(hook)
		var unknown *participant.OutcomeUnknownError
		if err := tx.Commit(t.Context()); !errors.As(err, &unknown) || unknown.GID != tx.GID() {
			t.Errorf("commit of a transaction that is %s: %v, want unknown", reason, err)
		}
	}
}

// Lost answers are asked for again with the same GID, and have one effect.
func TestLostAnswersAreAskedForAgain(t *testing.T) {
	for _, method := range []string{"Begin", "Commit", "Session/Enlist", "Session/Vote"} {
		t.Run(method, func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			client := dial(t, c)
			a := bank(t, client, "bank-a")
			hook, seen := failing(method, 2, errLost)
			c.After(hook)
			if err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, a, "k", "1") }); err != nil {
				t.Fatal(err)
			}
			if seen.Load() < 3 {
				t.Errorf("%s was sent %d times, want 3", method, seen.Load())
			}
			eventually(t, a, "k", "1")
			settled(t, c)
			if n := len(c.Transactions()); n != 1 {
				t.Errorf("%d transactions, want 1", n)
			}
		})
	}
}

func TestRollbackIsAskedForAgain(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	hook, seen := failing("Rollback", 2, errLost)
	c.After(hook)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context(), "asked"); err != nil || seen.Load() != 3 {
		t.Errorf("rollback: %v after %d tries", err, seen.Load())
	}
}

// "Unknown is an outcome of its own."
func TestCommitWithoutAnswersIsUnknownAndCanBeAskedAgain(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, hook := losing(t.Context(), "Commit")
	c.After(hook)
	err = tx.Commit(ctx)
	var unknown *participant.OutcomeUnknownError
	if !errors.As(err, &unknown) || unknown.GID != tx.GID() || !strings.Contains(err.Error(), "quorate tx show") {
		t.Fatalf("commit without answers: %v", err)
	}
	c.After(nil)
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("the commit asked for again: %v", err)
	}
	if err := tx.Outcome(t.Context()); err != nil {
		t.Errorf("its outcome: %v", err)
	}
}

func TestWithoutALeaderNothingWasDone(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	client := dial(t, c, participant.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if err != nil && asked.Add(1) == 3 {
				cancel() // between two tries: one on its way would be unknown
			}
			return err
		})))
	asked.Store(0)
	c.Lead(-1)
	_, err := client.Begin(ctx)
	var unavailable *participant.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "quorate cluster status") {
		t.Errorf("begin without a leader: %v", err)
	}
}

func TestBeginWaitsForANewLeader(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	client := dial(t, c)
	c.Stop(0)
	begun := make(chan error, 1)
	go func() {
		_, err := client.Begin(t.Context())
		begun <- err
	}()
	c.Lead(1)
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
}

func TestQuotaIsToldUnlessItIsWorthWaiting(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	hook, seen := failing("Begin", 1, participanttest.Refusal("QUOTA", "full", 0))
	c.Before(hook)
	_, err := client.Begin(t.Context())
	var refused *participant.RefusedError
	if !errors.As(err, &refused) || refused.Reason != "QUOTA" || seen.Load() != 1 {
		t.Errorf("begin over the quota: %v after %d tries", err, seen.Load())
	}
	hook, seen = failing("Begin", 1, participanttest.Refusal("QUOTA", "busy", time.Millisecond))
	c.Before(hook)
	if _, err := client.Begin(t.Context()); err != nil || seen.Load() != 2 {
		t.Errorf("begin in a rush: %v after %d tries", err, seen.Load())
	}
	hook, seen = failing("Begin", 1<<30, participanttest.Refusal("QUOTA", "busy", time.Millisecond))
	c.Before(hook)
	if _, err := client.Begin(t.Context()); !errors.As(err, &refused) || refused.RetryAfter != time.Millisecond || seen.Load() > 5 {
		t.Errorf("begin in a lasting rush: %v after %d tries", err, seen.Load())
	}
}

func TestAnotherClustersNodeIsNotBelieved(t *testing.T) {
	c, other := participanttest.NewCluster(t, 1), participanttest.NewCluster(t, 1)
	client, err := participant.Dial(t.Context(), append(c.Addresses(), other.Addresses()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c.Stop(0)
	if _, err := client.Begin(t.Context()); !errors.Is(err, participant.ErrOtherCluster) || !strings.Contains(err.Error(), other.Addresses()[0]) {
		t.Errorf("an answer of another cluster: %v", err)
	}
}

func TestGetReadsByGIDAndKey(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	tx, err := client.Begin(t.Context(), participant.WithKey("order-1"), participant.WithLabels(map[string]string{"shop": "7"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{string(tx.GID()), "key:order-1"} {
		got, err := client.Get(t.Context(), name)
		if err != nil || got.GetGid() != string(tx.GID()) || got.GetLabels()["shop"] != "7" {
			t.Errorf("get %s: %v, %v", name, got, err)
		}
	}
	var refused *participant.RefusedError
	if _, err := client.Get(t.Context(), "key:order-2"); !errors.As(err, &refused) || refused.Reason != "NOT_FOUND" {
		t.Errorf("get of a key nobody knows: %v", err)
	}
}

func TestAClosedClientRefuses(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	a := bank(t, client, "bank-a")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Begin(t.Context()); !errors.Is(err, participant.ErrClosed) {
		t.Errorf("begin: %v", err)
	}
	if _, err := client.Attach(t.Context(), a); !errors.Is(err, participant.ErrClosed) {
		t.Errorf("attach: %v", err)
	}
	testkit.Eventually(t, patience, func() bool { return c.Sessions() == 0 }, "the session's end")
	if err := client.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
}

func TestGIDs(t *testing.T) {
	gid, err := participant.ParseGID("01jd9s7kqzzzzzzzzzzzzzzzzz")
	if err != nil || gid != "01JD9S7KQZZZZZZZZZZZZZZZZZ" {
		t.Errorf("a GID in lower case: %v, %v", gid, err)
	}
	for _, bad := range []string{"", "order-1", "01JD9S7KQ", "01JD9S7KQUZZZZZZZZZZZZZZZZ", "81JD9S7KQZZZZZZZZZZZZZZZZZ"} {
		if gid, err := participant.ParseGID(bad); err == nil {
			t.Errorf("%q was taken for GID %v", bad, gid)
		}
	}
	if born := participant.GID("nonsense").BornMS(); born != 0 {
		t.Errorf("nonsense was born at %d", born)
	}
}
