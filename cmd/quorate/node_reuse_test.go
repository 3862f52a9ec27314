package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testkit"
)

// A submit's memory is used for another one as soon as its caller has an answer, or has
// left. So whoever leaves while his command waits, is packed or is written spoils its
// memory at once here, and what comes into the log is all the same what was asked.
func TestWhoeverLeavesMayUseHisMemoryAgain(t *testing.T) {
	n := startInProcess(t, "n1", "", func(c *config.Config) { c.Cluster.Bootstrap = true })
	testkit.Eventually(t, 30*time.Second, func() bool {
		_, leads := n.membership.cluster.log.Leader()
		return leads && n.coordinator.HeaderOfWrites().ClockMS > 0
	}, "a leader")
	begunBy(t, n, "first")
	const callers, each = 16, 60
	var mu sync.Mutex
	acknowledged, asked := map[fsm.GID]string{}, map[fsm.GID]string{}
	var wait sync.WaitGroup
	for caller := range callers {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(caller)))
			for k := range each {
				name := fmt.Sprintf("%d-%d", caller, k)
				gid := fsm.NewGID(n.coordinator.HeaderOfWrites().ClockMS, [10]byte{byte(caller), byte(k)})
				patience := 30 * time.Second // of every other caller's
				if caller%2 == 0 {
					patience = time.Duration(random.Int64N(int64(2 * time.Millisecond)))
				}
				ctx, leave := context.WithTimeout(t.Context(), patience)
				submit := submitNamed(gid, name)
				_, err := n.coordinator.Submit(ctx, coordinator.SubmitRequest{Submit: submit})
				leave()
				spoil(submit)
				mu.Lock()
				if asked[gid] = name; err == nil {
					acknowledged[gid] = name
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	begunBy(t, n, "last") // what was under way is applied before it
	left := len(asked) - len(acknowledged)
	n.membership.cluster.log.View(func(s *fsm.State) {
		for gid, name := range asked {
			rec, ok := s.Read(gid)
			if !ok {
				if acknowledged[gid] != "" {
					t.Errorf("%s was acknowledged and is not there", name)
				}
				continue
			}
			said := rec.GetBegin().GetKey()
			for b := range rec.GetBranches() {
				said += " " + b.GetSpec().GetId() + "@" + b.GetSpec().GetResource()
			}
			if want := fmt.Sprintf("%s a-%s@r-%s b-%s@r-%s", name, name, name, name, name); said != want {
				t.Errorf("%s stands as %q, want %q", gid, said, want)
			}
		}
	})
	if len(acknowledged) < callers*each/2 || left == 0 {
		t.Errorf("%d were acknowledged, and %d callers left: the test shows little", len(acknowledged), left)
	}
}

func submitNamed(gid fsm.GID, name string) *logpb.Submit {
	submit := &logpb.Submit{Begin: &logpb.Begin{
		Gid: gid.Bytes(), Namespace: "default", Key: name, Mode: logpb.Mode_MODE_TWO_PHASE,
		Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 30_000,
	}}
	for _, id := range []string{"a-", "b-"} {
		spec := &logpb.BranchSpec{Id: id + name, Resource: "r-" + name}
		submit.Set = append(submit.Set, spec)
		submit.Votes = append(submit.Votes, &logpb.Ballot{Branch: spec, Kind: logpb.VoteKind_VOTE_KIND_PREPARED})
	}
	return submit
}

// spoil overwrites what a submit says, such that it could still be taken.
func spoil(submit *logpb.Submit) {
	submit.Begin.Key = ""
	for _, spec := range submit.Set {
		spec.Resource = "spoiled"
	}
}
