package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/participant"
)

// transferTimeout is the transaction's timeout, and callTimeout bounds the whole
// attempt: longer, so that the cluster's word is heard.
const (
	transferTimeout = 30 * time.Second
	attemptTimeout  = 60 * time.Second
)

// transfer makes all transfers, a bounded number at once, and returns what the
// initiator heard, in the plan's order.
func (r *run) transfer(ctx context.Context) ([]Attempt, error) {
	workers := r.o.concurrency()
	r.progress.Say("transfers", "%d, %d at once; %d lack the funds and must fail", len(r.plan.Transfers), workers, len(r.plan.Transfers)-r.plan.Funded())
	attempts := make([]Attempt, len(r.plan.Transfers))
	var next, done, committed atomic.Int64
	tenth := max(1, int64(len(attempts)/10))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(attempts)) {
					return
				}
				attempts[i] = r.attempt(ctx, r.plan.Transfers[i])
				if attempts[i].Heard == HeardCommit {
					committed.Add(1)
				}
				if n := done.Add(1); n%tenth == 0 || n == int64(len(attempts)) {
					r.progress.Say("transfers", "%d of %d done, %d committed", n, len(attempts), committed.Load())
				}
			}
		})
	}
	wg.Wait()
	return attempts, ctx.Err()
}

// attempt makes one transfer.
func (r *run) attempt(ctx context.Context, t Transfer) Attempt {
	r.reaper.await(ctx, t.Key())
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if r.o.Mode != TwoPhase {
		return r.attemptBranches(ctx, t)
	}
	var refusal error
	err := r.client.Run(ctx, func(ctx context.Context) error {
		refusal = r.move(ctx, t)
		return refusal
	}, participant.WithKey(t.Key()), participant.WithTimeout(transferTimeout))

	a := Attempt{Transfer: t, At: time.Now()}
	var rolledBack *participant.RolledBackError
	switch {
	case err == nil:
		a.Heard = HeardCommit
	case errors.As(err, &rolledBack):
		a.Heard, a.Reason = HeardRollback, rolledBack.Reason
	case refusal != nil:
		// Commit was never asked, so nothing but rollback can be decided.
		a.Heard, a.Reason = HeardRollback, reasonOf(refusal)
	default:
		a.Unanswered, a.Reason = true, err.Error()
	}
	return a
}

// move calls both banks; the context carries the transaction.
func (r *run) move(ctx context.Context, t Transfer) error {
	order := []Side{t.From, t.From.Other()}
	if t.DepositFirst {
		order[0], order[1] = order[1], order[0]
	}
	for _, side := range order {
		if err := r.banks[side].move(ctx, t, t.Delta(side)); err != nil {
			return fmt.Errorf("%s: %w", side, err)
		}
	}
	return nil
}

// reasonOf says in few words why a bank's call failed.
func reasonOf(err error) string {
	if errors.Is(err, ErrFunds) {
		return "lack of funds"
	}
	var gone *GoneError
	if errors.As(err, &gone) {
		return "the bank's process went away"
	}
	return err.Error()
}
