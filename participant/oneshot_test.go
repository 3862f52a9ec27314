package participant_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/participanttest"
)

// requests counts what a cluster is asked, heartbeats and the like aside.
type requests struct {
	mu sync.Mutex
	n  map[string]int
}

func countRequests(c *participanttest.Cluster) *requests {
	r := &requests{n: map[string]int{}}
	c.Before(func(call participanttest.Call) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.n[call.Method]++
		return nil
	})
	return r
}

func (r *requests) of(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[method]
}

// without fails the test if one of the methods was asked.
func (r *requests) without(t *testing.T, methods ...string) {
	t.Helper()
	for _, m := range methods {
		if n := r.of(m); n != 0 {
			t.Errorf("%s was asked %d times", m, n)
		}
	}
}

// lossy drops the answers to the first calls, with all that they say.
func lossy(drop int32) grpc.UnaryClientInterceptor {
	var made atomic.Int32
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if made.Add(1) > drop {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		_ = invoker(ctx, method, req, reply, cc)
		return status.Error(codes.Unavailable, "the connection broke before the answer")
	}
}

// gidOf is the GID that the context carries.
func gidOf(ctx context.Context) participant.GID {
	info, _ := participant.FromContext(ctx)
	return info.GID
}

// "The SDK's interceptors return votes in response trailers, so the initiator sends
// one Commit with every branch and vote": whether its branches are its own, or a
// callee's, or a callee's callee's.
func TestOneShotIsOneRequest(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, callee := dial(t, c), dial(t, c)
	own, theirs := bank(t, initiator, "own"), bank(t, callee, "theirs, or so") // a name that must be encoded
	note := func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		return put(ctx, theirs, "call "+info.Path, "1")
	}
	inner := serveGRPC(t, note)
	outer := serveGRPC(t, func(ctx context.Context) error { return errors.Join(note(ctx), check(ctx, inner)) })
	url, web := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if err := note(r.Context()); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("done"))
	})
	asked := countRequests(c)
	var gid participant.GID
	err := initiator.Run(t.Context(), func(ctx context.Context) error {
		gid = gidOf(ctx)
		if err := put(ctx, own, "k", "1"); err != nil {
			return err
		}
		if err := check(ctx, outer); err != nil {
			return err
		}
		if _, err := fetch(ctx, web, http.MethodPost, url); err != nil {
			return err
		}
		return watch(ctx, outer)
	}, participant.OneShot(), participant.WithLabels(map[string]string{"who": "me"}))
	if err != nil {
		t.Fatal(err)
	}
	if n := asked.of("Submit"); n != 1 {
		t.Errorf("submitted %d times", n)
	}
	asked.without(t, "Begin", "Session/Enlist", "Session/Vote", "Commit", "Rollback")
	x := c.Transaction(string(gid))
	if x.GetLabels()["who"] != "me" || len(x.GetBranches()) != 6 {
		t.Errorf("it is %v", x)
	}
	for id, holder := range map[string]string{"1": initiator.Holder(), "2.1": callee.Holder(), "2.2.1": callee.Holder(), "3.1": callee.Holder(), "4.1": callee.Holder(), "4.2.1": callee.Holder()} {
		if b := branchOf(t, c, participant.BranchRef{GID: gid, ID: id}); b.GetSpec().GetHolder() != holder {
			t.Errorf("branch %s is %v, want one of %s", id, b, holder)
		}
	}
	settled(t, c)
	eventually(t, own, "k", "1")
	for _, path := range []string{"2", "2.2", "3", "4", "4.2"} {
		eventually(t, theirs, "call "+path, "1")
	}
}

// settledBanks waits until nothing is prepared in the stores.
func settledBanks(t testing.TB, stores ...*embedded.Store) {
	t.Helper()
	testkit.EventuallyNoError(t, patience, func() error {
		for _, s := range stores {
			if found, err := s.Recover(context.Background()); err != nil || len(found) > 0 {
				return errorf("%s has %v prepared, %v", s.Resource(), found, err)
			}
		}
		return nil
	})
}

// A rollback tells those that have prepared, by name and at once; where nobody has,
// nobody is told anything.
func TestOneShotRollback(t *testing.T) {
	errNo := errors.New("no")
	for name, tc := range map[string]struct {
		work  func(ctx context.Context, s *embedded.Store) error
		asked int
	}{
		"nothing done":  {func(context.Context, *embedded.Store) error { return errNo }, 0},
		"a reader":      {func(ctx context.Context, s *embedded.Store) error { return errors.Join(look(ctx, s), errNo) }, 0},
		"one prepared":  {func(ctx context.Context, s *embedded.Store) error { return errors.Join(put(ctx, s, "k", "1"), errNo) }, 1},
		"one refused":   {func(ctx context.Context, s *embedded.Store) error { return errors.Join(refuse(ctx, s), errNo) }, 0},
		"refused, late": {refuse, 0}, // the commit is asked all the same, and says so
	} {
		t.Run(name, func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			client := dial(t, c)
			store := bank(t, client, "bank")
			h := serveGRPC(t, func(ctx context.Context) error { return put(ctx, store, "callee", "1") })
			asked := countRequests(c)
			err := client.Run(t.Context(), func(ctx context.Context) error {
				if tc.asked > 0 || name == "refused, late" {
					if err := check(ctx, h); err != nil {
						return err
					}
				}
				return tc.work(ctx, store)
			}, participant.OneShot())
			var rolledBack *participant.RolledBackError
			if name == "refused, late" {
				if !errors.As(err, &rolledBack) || rolledBack.Reason != "SUBMIT_REFUSED" {
					t.Errorf("a commit with a refusal: %v", err)
				}
			} else if !errors.Is(err, errNo) {
				t.Errorf("run: %v", err)
			}
			if n := asked.of("Rollback"); n != tc.asked {
				t.Errorf("rollback was asked %d times, want %d", n, tc.asked)
			}
			settled(t, c)
			settledBanks(t, store)
			if n := asked.of("Inquire"); n != 0 {
				t.Errorf("a verdict had to be asked for %d times", n)
			}
		})
	}
}

// A rollback that nobody need be told of is one all the same: a commit that is asked
// after it, or at the same moment, does not undo it.
func TestOneShotThatWasDroppedStaysSo(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	asked := countRequests(c)
	tx := begin(t, client, participant.OneShot())
	if err := tx.Rollback(t.Context(), "changed its mind"); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	for what, end := range map[string]func(context.Context) error{
		"commit":  func(ctx context.Context) error { return tx.Commit(ctx) },
		"outcome": tx.Outcome,
	} {
		if err := end(t.Context()); !errors.As(err, &rolledBack) {
			t.Errorf("%s after a rollback: %v", what, err)
		}
	}
	if err := tx.Rollback(t.Context(), "again"); err != nil {
		t.Errorf("rollback again: %v", err)
	}
	asked.without(t, "Submit", "Begin", "Rollback", "Get")
	for range 200 {
		tx := begin(t, client, participant.OneShot())
		var committed, rolledBack error
		var both sync.WaitGroup
		both.Go(func() { committed = tx.Commit(t.Context()) })
		both.Go(func() { rolledBack = tx.Rollback(t.Context(), "at the same moment") })
		both.Wait()
		if (committed == nil) == (rolledBack == nil) {
			t.Fatalf("commit says %v, and rollback beside it %v", committed, rolledBack)
		}
	}
}

// look reads in a branch, refuse works in one and rolls it back.
func look(ctx context.Context, s *embedded.Store) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Get("other"); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func refuse(ctx context.Context, s *embedded.Store) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	if err := tx.Put("k", nil); err != nil {
		return err
	}
	return tx.Rollback()
}

// An answer that is lost takes the votes with it: only rollback remains, and the
// prepared branch, which nobody can name, hears it by asking.
func TestOneShotWhoseAnswerIsLost(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, callee := dial(t, c), dial(t, c)
	store := bank(t, callee, "bank")
	h := serveGRPC(t, func(ctx context.Context) error { return put(ctx, store, "k", "1") }, lossy(1))
	err := initiator.Run(t.Context(), func(ctx context.Context) error {
		if err := check(ctx, h); status.Code(err) != codes.Unavailable {
			t.Errorf("the answer was not lost: %v", err)
		}
		return nil // the initiator does not mind
	}, participant.OneShot())
	if !errors.Is(err, participant.ErrIncomplete) {
		t.Errorf("commit without the votes: %v", err)
	}
	settledBanks(t, store)
	if v, _ := store.Get("k"); v != nil {
		t.Errorf("k is %q", v)
	}
	testkit.Eventually(t, patience, func() bool { return callee.Live() == 0 }, "the branch to end")
}

// The same call made again hears the vote of the branch that its first run made, and
// the transaction commits: once.
func TestOneShotWhoseCallIsRepeated(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, callee := dial(t, c), dial(t, c)
	store := bank(t, callee, "bank")
	var worked atomic.Int32
	h := serveGRPC(t, func(ctx context.Context) error {
		err := put(ctx, store, "k", fmt.Sprint(worked.Add(1)))
		if errors.Is(err, participant.ErrVoted) {
			return nil // its work is done
		}
		return err
	}, lossy(2))
	err := initiator.Run(t.Context(), func(ctx context.Context) error {
		ctx, err := participant.Call(ctx)
		if err != nil {
			return err
		}
		for range 5 {
			if err = check(ctx, h); err == nil {
				break
			}
		}
		return err
	}, participant.OneShot())
	if err != nil || worked.Load() != 3 {
		t.Fatalf("after %d runs: %v", worked.Load(), err)
	}
	settled(t, c)
	eventually(t, store, "k", "1")
}

// A run of a call whose answer was lost has perhaps prepared something that later runs
// know nothing of: the rollback is told to the cluster, so that it is heard there when the
// branch asks, and not only when every commit's time is over.
func TestOneShotWhoseLostRunIsNotForgotten(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, callee := dial(t, c), dial(t, c)
	a, b := bank(t, callee, "a"), bank(t, initiator, "b")
	atA := serveGRPC(t, func(ctx context.Context) error { return put(ctx, a, "k", "1") }, lossy(1))
	atB := serveGRPC(t, func(ctx context.Context) error { return refuse(ctx, b) })
	errNo := errors.New("no")
	asked := countRequests(c)
	err := initiator.Run(t.Context(), func(ctx context.Context) error {
		ctx, err := participant.Call(ctx)
		if err != nil {
			return err
		}
		_ = check(ctx, atA)
		_ = check(ctx, atB)
		return errNo
	}, participant.OneShot())
	if !errors.Is(err, errNo) || asked.of("Rollback") != 1 {
		t.Errorf("rolled back with %d requests: %v", asked.of("Rollback"), err)
	}
	settledBanks(t, a, b)
}

// A repeated call whose first run is still at work has not heard all of it.
func TestOneShotWhoseFirstRunIsStillAtWork(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	store := bank(t, client, "bank")
	begun, release := make(chan struct{}), make(chan struct{})
	var runs atomic.Int32
	h := serveGRPC(t, func(ctx context.Context) error {
		ctx = context.WithoutCancel(ctx)
		tx, err := store.Begin(ctx)
		if runs.Add(1) > 1 {
			if !errors.Is(err, participant.ErrBranchActive) {
				t.Errorf("the second run begins: %v", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := tx.Put("k", []byte("1")); err != nil {
			return err
		}
		close(begun)
		<-release
		return tx.Commit(ctx)
	})
	err := client.Run(t.Context(), func(ctx context.Context) error {
		ctx, err := participant.Call(ctx)
		if err != nil {
			return err
		}
		hurried, cancel := context.WithCancel(ctx)
		first := make(chan error, 1)
		go func() { first <- check(hurried, h) }()
		<-begun
		cancel()
		if err := <-first; status.Code(err) != codes.Canceled {
			t.Errorf("the first run: %v", err)
		}
		return check(ctx, h)
	}, participant.OneShot())
	close(release)
	if !errors.Is(err, participant.ErrIncomplete) {
		t.Errorf("commit while the first run is at work: %v", err)
	}
	settledBanks(t, store)
	if v, _ := store.Get("k"); v != nil {
		t.Errorf("k is %q", v)
	}
}

// A callee that dies between its prepare and its answer leaves a branch to its
// successor, which asks, and hears the rollback; without one, when the time of
// every possible commit is over, and not a moment before.
func TestOneShotWhoseCalleeDies(t *testing.T) {
	for name, initiatorDies := range map[string]bool{"alone": false, "and so does the initiator": true} {
		t.Run(name, func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			initiator := dial(t, c)
			path := filepath.Join(t.TempDir(), "bank.db")
			callee := dial(t, c)
			store := bankAt(t, callee, "bank", path)
			h := serveGRPC(t, func(ctx context.Context) error { return put(ctx, store, "k", "1") }, lossy(1))
			err := initiator.Run(t.Context(), func(ctx context.Context) error {
				_ = check(ctx, h)
				callee.Kill()
				if initiatorDies {
					initiator.Kill()
				}
				return nil
			}, participant.OneShot(), participant.WithTimeout(5*time.Second))
			if !errors.Is(err, participant.ErrIncomplete) {
				t.Errorf("commit: %v", err)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			asked := countRequests(c)
			again := bankAt(t, dial(t, c), "bank", path)
			testkit.Eventually(t, patience, func() bool { return asked.of("Inquire") > 2 || !initiatorDies }, "the verdict to be asked for")
			if initiatorDies {
				if found, err := again.Recover(t.Context()); err != nil || len(found) != 1 {
					t.Fatalf("prepared before the time is over: %v, %v", found, err)
				}
				c.Advance(participant.ClockStaleMax + 6*time.Second)
			}
			settledBanks(t, again)
			if v, _ := again.Get("k"); v != nil {
				t.Errorf("k is %q", v)
			}
		})
	}
}

// An initiator that dies before its commit leaves branches that wait, for nobody can
// know; when the time of every possible commit is over they roll back, and a commit
// that comes later finds that.
func TestOneShotWhoseInitiatorDies(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, callee := dial(t, c), dial(t, c)
	store := bank(t, callee, "bank")
	h := serveGRPC(t, func(ctx context.Context) error { return put(ctx, store, "k", "1") })
	tx := begin(t, initiator, participant.OneShot(), participant.WithTimeout(5*time.Second))
	if err := check(tx.Context(t.Context()), h); err != nil {
		t.Fatal(err)
	}
	asked := countRequests(c)
	testkit.Eventually(t, patience, func() bool { return asked.of("Inquire") > 2 }, "the verdict to be asked for")
	if found, err := store.Recover(t.Context()); err != nil || len(found) != 1 {
		t.Fatalf("prepared before the time is over: %v, %v", found, err)
	}
	c.Advance(participant.ClockStaleMax + 6*time.Second)
	settledBanks(t, store)
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "PRESUMED" {
		t.Errorf("commit after all: %v", err)
	}
}

// A branch that prepares after its call was answered, as of a handler that had waited for
// it no longer, is in nobody's hands but its own: it asks, whatever became of the initiator.
func TestOneShotWhoseVoteComesAfterTheAnswer(t *testing.T) {
	for name, initiatorDies := range map[string]bool{"alone": false, "and the initiator dies": true} {
		t.Run(name, func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			initiator, callee := dial(t, c), dial(t, c)
			store := bank(t, callee, "bank")
			answered, voted := make(chan struct{}), make(chan error, 1)
			h := serveGRPC(t, func(ctx context.Context) error {
				ctx = context.WithoutCancel(ctx)
				work, err := store.Begin(ctx)
				if err != nil {
					return err
				}
				go func() {
					<-answered
					voted <- errors.Join(work.Put("k", []byte("1")), work.Commit(ctx))
				}()
				return nil
			})
			err := initiator.Run(t.Context(), func(ctx context.Context) error {
				err := check(ctx, h)
				close(answered)
				if err := <-voted; !errors.Is(err, participant.ErrAnswered) {
					t.Errorf("a vote after the answer: %v", err)
				}
				if initiatorDies {
					initiator.Kill()
				}
				return err
			}, participant.OneShot(), participant.WithTimeout(5*time.Second))
			if !errors.Is(err, participant.ErrIncomplete) {
				t.Errorf("commit: %v", err)
			}
			if initiatorDies {
				asked := countRequests(c)
				testkit.Eventually(t, patience, func() bool { return asked.of("Inquire") > 2 }, "the verdict to be asked for")
				c.Advance(participant.ClockStaleMax + 6*time.Second)
			}
			settledBanks(t, store)
			testkit.Eventually(t, patience, func() bool { return callee.Live() == 0 }, "the branch to end")
			if v, _ := store.Get("k"); v != nil {
				t.Errorf("k is %q", v)
			}
		})
	}
}

// A commit whose answer is lost is asked again, as it was.
func TestOneShotCommitIsRepeated(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	store := bank(t, client, "bank")
	var lost atomic.Int32
	c.After(func(call participanttest.Call) error {
		if call.Method == "Submit" && lost.Add(1) < 3 {
			return status.Error(codes.Unavailable, "broken")
		}
		return nil
	})
	err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, store, "k", "1") }, participant.OneShot())
	if err != nil || lost.Load() != 3 {
		t.Errorf("after %d tries: %v", lost.Load(), err)
	}
	eventually(t, store, "k", "1")
}

// A commit of which nothing was heard is neither success nor failure; the branches
// learn what became of it by asking.
func TestOneShotCommitThatIsNotAnswered(t *testing.T) {
	for name, arrives := range map[string]bool{"it arrived": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			c.HoldDeliveries(true)
			client := dial(t, c)
			store := bank(t, client, "bank")
			broken := func(call participanttest.Call) error {
				if call.Method == "Submit" {
					return status.Error(codes.Unavailable, "broken")
				}
				return nil
			}
			if arrives {
				c.After(broken)
			} else {
				c.Before(broken)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			err := client.Run(ctx, func(ctx context.Context) error { return put(ctx, store, "k", "1") }, participant.OneShot(), participant.WithTimeout(2*time.Second))
			if !errors.Is(err, participant.ErrUnknown) {
				t.Errorf("a commit without an answer: %v", err)
			}
			want := "1"
			if !arrives {
				c.Advance(participant.ClockStaleMax + 3*time.Second)
				want = ""
			}
			settledBanks(t, store)
			eventually(t, store, "k", want)
		})
	}
}

// The timeout counts from the begin although the cluster hears of that at the end.
func TestOneShotIsLate(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	store := bank(t, client, "bank")
	tx := begin(t, client, participant.OneShot(), participant.WithTimeout(50*time.Millisecond))
	if err := put(tx.Context(t.Context()), store, "k", "1"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool {
		return client.ClockMS() > tx.GID().BornMS()+100
	}, "the time to be over")
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "TIMEOUT" {
		t.Errorf("a commit after the timeout: %v", err)
	}
	settledBanks(t, store)
}

// Nothing joins after the commit was asked, in the initiator either.
func TestOneShotTakesNoBranchAfterItsCommit(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	tx := begin(t, client, participant.OneShot())
	votes(t, start(t, client, tx, "r"), participant.VotePrepared)
	open := start(t, client, tx, "r")
	if err := tx.Commit(t.Context()); !errors.Is(err, participant.ErrIncomplete) {
		t.Fatalf("commit with a branch at work: %v", err)
	}
	if _, err := client.StartBranch(tx.Context(t.Context()), "r"); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a branch between the commit and the rollback: %v", err)
	}
	if err := tx.Rollback(t.Context(), "so be it"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.StartBranch(tx.Context(t.Context()), "r"); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a branch after the commit: %v", err)
	}
	if v, err := open.Vote(t.Context(), participant.Vote{Kind: participant.VotePrepared}); v == participant.VerdictWait && !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a vote after the commit: %v, %v", v, err)
	}
	testkit.Eventually(t, patience, func() bool { return client.Live() == 0 }, "the branches to end")
	settled(t, c)

	committed := begin(t, client, participant.OneShot())
	votes(t, start(t, client, committed, "r"), participant.VotePrepared)
	if err := committed.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.StartBranch(committed.Context(t.Context()), "r"); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a branch after a commit that was done: %v", err)
	}
	settled(t, c)
}

// Held branches are the cluster's to watch: the initiator's have the transaction
// begun, and those of a callee are refused.
func TestOneShotAndHeldBranches(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	f, store := serve(t, client, "r"), bank(t, client, "bank")
	asked := countRequests(c)
	err := client.Run(t.Context(), func(ctx context.Context) error {
		for range 2 {
			b, err := client.StartBranch(ctx, "r", participant.Held())
			if err != nil {
				return err
			}
			if _, err := b.Vote(ctx, participant.Vote{Kind: participant.VotePrepared}); err != nil {
				return err
			}
		}
		return put(ctx, store, "k", "1")
	}, participant.OneShot())
	if err != nil {
		t.Fatal(err)
	}
	settled(t, c)
	eventually(t, store, "k", "1")
	if asked.of("Begin") != 1 || asked.of("Session/Vote") != 2 || asked.of("Submit") == 0 {
		t.Errorf("begun %d times, %d votes over the session, submitted %d times", asked.of("Begin"), asked.of("Session/Vote"), asked.of("Submit"))
	}
	if heard := f.heard(); len(heard) < 2 || slices.ContainsFunc(heard, func(x told) bool { return x.verdict != participant.VerdictCommit }) {
		t.Errorf("the held branches were told %v", heard)
	}
	h := serveGRPC(t, func(ctx context.Context) error {
		_, err := client.StartBranch(ctx, "r", participant.Held())
		if !errors.Is(err, participant.ErrOneShot) {
			t.Errorf("a callee's held branch: %v", err)
		}
		return err
	})
	err = client.Run(t.Context(), func(ctx context.Context) error { return check(ctx, h) }, participant.OneShot())
	if err == nil || client.Live() != 0 {
		t.Errorf("run: %v, %d live", err, client.Live())
	}
}

// With a key the SDK begins first: another may have it.
func TestOneShotWithAKey(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	store := bank(t, client, "bank")
	asked := countRequests(c)
	for i := range 2 {
		err := client.Run(t.Context(), func(ctx context.Context) error {
			return put(ctx, store, "k", fmt.Sprint(i))
		}, participant.OneShot(), participant.WithKey("order-1"))
		if err != nil {
			t.Fatal(err)
		}
	}
	settled(t, c)
	eventually(t, store, "k", "0")
	asked.without(t, "Session/Enlist", "Session/Vote", "Commit")
	if asked.of("Begin") != 2 || asked.of("Submit") != 1 {
		t.Errorf("begun %d times, submitted %d times", asked.of("Begin"), asked.of("Submit"))
	}
}

// What brings no votes back cannot carry a one-shot transaction.
func TestOneShotIsNotJoined(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	tx := begin(t, dial(t, c), participant.OneShot())
	info, _ := participant.FromContext(tx.Context(t.Context()))
	info.Path = "1"
	if _, err := participant.Join(t.Context(), info); !errors.Is(err, participant.ErrOneShot) {
		t.Errorf("joined: %v", err)
	}
}
