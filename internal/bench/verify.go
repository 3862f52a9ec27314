package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const (
	// drainMax is how long what was decided may take to end.
	drainMax = 60 * time.Second
	// drainPoll lies between two looks.
	drainPoll = 2 * time.Millisecond
	// verifiers compare answers at once.
	verifiers = 32
)

// drain waits until every transaction of the scenario has ended: a decision that
// nobody was told of yet is work that is owed.
func (b *bed) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	for {
		got, err := ask(ctx, b.t, 0, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.ListResponse, error) {
			return transactions(conn).List(ctx, &quoratev1.ListRequest{PageSize: 1, Filter: &quoratev1.Filter{Resource: b.resources[0]}})
		})
		if err == nil && len(got.GetTransactions()) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d transactions or more have not ended %v after the load: %w", len(got.GetTransactions()), drainMax, errors.Join(err, ctx.Err()))
		case <-time.After(drainPoll):
		}
	}
}

// verify compares every answer with the state, a third of them at each of three nodes:
// what was answered as committed is committed there. It returns how many it compared.
func (b *bed) verify(ctx context.Context) (int, error) {
	told := b.answers.told
	var next atomic.Int64
	var failed atomic.Pointer[error]
	newest := b.t.newest.Load()
	var wait sync.WaitGroup
	for range min(verifiers, len(told)) {
		wait.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(told) {
					return
				}
				if err := b.compare(ctx, i, told[i], newest); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return len(told), nil
}

// compare looks one transaction up at one node.
func (b *bed) compare(ctx context.Context, i int, want told, newest uint64) error {
	conn, err := b.t.node(i)
	if err != nil {
		return err
	}
	got, err := transactions(conn).Get(ctx, &quoratev1.GetRequest{
		Transaction: want.gid, Consistency: quoratev1.Consistency_CONSISTENCY_LOCAL, MinIndex: newest,
	})
	switch tx := got.GetTransaction(); {
	case status.Code(err) == codes.NotFound && want.unknown:
		return nil // it never arrived
	case err != nil:
		return fmt.Errorf("compare %s with the state: %w", want.gid, err)
	case want.unknown:
		return nil
	case tx.GetDecision() != want.decision || tx.GetState() != quoratev1.State_STATE_COMMITTED:
		return fmt.Errorf("transaction %s: %v was answered, and the state says %v, %v", want.gid, want.decision, tx.GetDecision(), tx.GetState())
	}
	return nil
}
