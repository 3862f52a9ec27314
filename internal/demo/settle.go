package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
)

// askInterval is the pause between two looks at what has not ended.
const askInterval = 100 * time.Millisecond

// settle asks for the outcome of each transfer whose call ended without one.
func (r *run) settle(ctx context.Context, attempts []Attempt) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unknown := 0
	for i := range attempts {
		a := &attempts[i]
		if !a.Unanswered {
			continue
		}
		unknown++
		if err := r.settleOne(ctx, a); err != nil {
			return fmt.Errorf("settle %s: %w", a.Transfer.Key(), err)
		}
	}
	if unknown > 0 {
		r.progress.Say("settle", "%d outcomes unknown at the time, each settled by Get", unknown)
	}
	return nil
}

func (r *run) settleOne(ctx context.Context, a *Attempt) error {
	for {
		tx, err := r.client.Get(ctx, "key:"+a.Transfer.Key())
		var refused *participant.RefusedError
		switch {
		case errors.As(err, &refused) && refused.Reason == "NOT_FOUND":
			a.Heard, a.Reason = HeardRollback, "its Begin never took effect"
			return nil
		case err != nil:
			return err
		case tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT:
			a.Heard, a.Reason = HeardCommit, ""
			return nil
		case tx.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK:
			a.Heard, a.Reason = HeardRollback, rollbackReason(tx)
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("it is still undecided: %w", err)
		}
	}
}

// waitEnded waits until every transaction has ended on every branch, and
// returns the log's whole list and how many have not, if time runs out.
func (r *run) waitEnded(ctx context.Context) ([]*quoratev1.Transaction, int, error) {
	waiting, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	began := time.Now()
	for {
		log, err := r.readLog(waiting)
		if err == nil {
			open := 0
			for _, tx := range log {
				if !ended(tx) {
					open++
				}
			}
			if open == 0 {
				r.progress.Say("ended", "nothing is in doubt, %.1f s after the restart", time.Since(began).Seconds())
				return log, 0, nil
			}
			if pause(waiting) != nil {
				return log, open, ctx.Err()
			}
			continue
		}
		if pause(waiting) != nil {
			return nil, 0, fmt.Errorf("read the log: %w", err)
		}
	}
}

// listPageSize is how many transactions one answer holds.
const listPageSize = 500

// readLog reads every transaction, linearizably, over fresh connections.
func (r *run) readLog(ctx context.Context) ([]*quoratev1.Transaction, error) {
	client, err := participant.Dial(ctx, r.cluster.Endpoints(), participant.WithName("demo: verifier"))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var all []*quoratev1.Transaction
	token := ""
	for {
		page, err := client.List(ctx, &quoratev1.ListRequest{
			PageSize: listPageSize, PageToken: token, Filter: &quoratev1.Filter{IncludeFinished: true},
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetTransactions()...)
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

func ended(tx *quoratev1.Transaction) bool {
	s := tx.GetState()
	return s == quoratev1.State_STATE_COMMITTED || s == quoratev1.State_STATE_ROLLED_BACK
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(askInterval):
		return nil
	}
}
