package participant_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// The frames of many transactions at once reach a cluster that takes batches, and one
// of before there were any, which would end a session that sent one.
func TestManyBranchesWithAndWithoutBatches(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprint("single frames ", single), func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			c.SingleFrames(single)
			client := dial(t, c)
			a, b := bank(t, client, "bank-a"), bank(t, client, "bank-b")
			var attaches atomic.Int32
			c.Before(func(call participanttest.Call) error {
				if _, ok := call.Request.(*quoratev1.Attach); ok {
					attaches.Add(1)
				}
				return nil
			})
			var initiators sync.WaitGroup
			for i := range 40 {
				initiators.Go(func() {
					key := fmt.Sprint("k", i)
					err := client.Run(t.Context(), func(ctx context.Context) error {
						if err := put(ctx, a, key, "1"); err != nil {
							return err
						}
						return put(ctx, b, key, "1")
					})
					if err != nil {
						t.Errorf("transaction %d: %v", i, err)
					}
				})
			}
			initiators.Wait()
			for i := range 40 {
				eventually(t, a, fmt.Sprint("k", i), "1")
				eventually(t, b, fmt.Sprint("k", i), "1")
			}
			settled(t, c)
			if n := attaches.Load(); n != 0 {
				t.Errorf("the session broke %d times", n)
			}
		})
	}
}

// Deliveries that come together are obeyed by no more workers than are allowed, each
// once, and the workers end with them.
func TestDeliveriesThatComeTogether(t *testing.T) {
	const many = 120
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c, participant.WithDeliveries(3))
	f := serve(t, client, "r")
	var running, most atomic.Int32
	f.answer = func(told) (participant.Outcome, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		running.Add(-1)
		return participant.OutcomeCommitted, nil
	}
	c.HoldDeliveries(true)
	for range many {
		tx := begin(t, client)
		votes(t, start(t, client, tx, "r"), participant.VotePrepared)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.HoldDeliveries(false)
	settled(t, c)
	if most.Load() > 3 {
		t.Errorf("%d deliveries ran at once, at most 3 may", most.Load())
	}
	seen := map[participant.BranchRef]bool{}
	for _, h := range f.heard() {
		seen[h.ref] = true
	}
	if len(seen) != many {
		t.Errorf("%d branches were told, want %d", len(seen), many)
	}
}
