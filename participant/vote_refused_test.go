package participant

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
)

// "A refusal is said in the background": one that a full queue turned away was not heard,
// and without it the whole transaction holds its locks until its deadline. So it is said
// until somebody has looked at it; by a branch that nobody works on as well.
func TestARefusalIsSaidUntilItIsHeard(t *testing.T) {
	const turnedAway = 3*(quotaTriesMax+1) + 1 // a request gives up after as many tries
	for name, says := range map[string]func(*testing.T, *Branch){
		"a vote": func(t *testing.T, b *Branch) {
			if v, err := b.Vote(t.Context(), Vote{Kind: VoteRefused, Detail: "no"}); v != VerdictRollback || err != nil {
				t.Errorf("%v, %v", v, err)
			}
		},
		"taken back": func(_ *testing.T, b *Branch) { b.refuseLater("nobody works on it") },
	} {
		for _, last := range []string{"", "VOTE_CONFLICT"} {
			t.Run(name+" "+last, func(t *testing.T) {
				c := lonely(t)
				var votes atomic.Int32
				scripted(t, c, func(req *quoratev1.SessionRequest) (Verdict, error) {
					switch {
					case req.GetVote() == nil:
						return VerdictWait, nil
					case votes.Add(1) <= turnedAway:
						return VerdictNone, ofCluster(reasonQuota, time.Millisecond)
					case last != "":
						return VerdictNone, ofCluster(last, 0)
					}
					return VerdictRollback, nil
				})
				attachedTo(c, answering(nil))
				ctx, _ := inTransaction(t)
				b, err := c.StartBranch(ctx, "r")
				if err != nil {
					t.Fatal(err)
				}
				says(t, b)
				testkit.Eventually(t, 20*time.Second, func() bool { return votes.Load() == turnedAway+1 }, "the refusal to be heard")
				testkit.Eventually(t, 10*time.Second, func() bool { return len(c.live.list()) == 0 }, "the branch to end")
				c.cancel()
				c.work.Wait()
				if n := votes.Load(); n != turnedAway+1 {
					t.Errorf("said %d times, want %d", n, turnedAway+1)
				}
			})
		}
	}
}

// What nobody hears is given up with the transaction's time, and the branch ends; so it
// does when the client is closed.
func TestARefusalThatNobodyHears(t *testing.T) {
	for _, closed := range []bool{false, true} {
		c := lonely(t)
		var votes atomic.Int32
		scripted(t, c, func(req *quoratev1.SessionRequest) (Verdict, error) {
			if req.GetVote() == nil {
				return VerdictWait, nil
			}
			votes.Add(1)
			return VerdictNone, ofCluster(reasonQuota, time.Millisecond)
		})
		attachedTo(c, answering(nil))
		timeout := time.Second
		if closed {
			timeout = time.Hour
		}
		ctx := withScope(t.Context(), newScope(Info{GID: bornGID, Timeout: timeout, Entry: EntryExplicit}))
		b, err := c.StartBranch(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := b.Vote(gone, Vote{Kind: VoteRefused}); err != nil {
			t.Error(err)
		}
		if closed {
			testkit.Eventually(t, 10*time.Second, func() bool { return votes.Load() > 0 }, "the refusal to be said")
			c.cancel()
		}
		testkit.Eventually(t, 10*time.Second, func() bool { return len(c.live.list()) == 0 }, "the branch to end")
	}
}
