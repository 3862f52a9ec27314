package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// read is checked at once: what is read has ended, and never changes.
func read(ctx context.Context, b *bed, caller int) error {
	gid := b.known[rand.N(len(b.known))]
	got, err := ask(ctx, b.t, caller, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.GetResponse, error) {
		return transactions(conn).Get(ctx, &quoratev1.GetRequest{Transaction: gid})
	})
	if err != nil {
		return err
	}
	if tx := got.GetTransaction(); tx.GetGid() != gid || tx.GetDecision() != quoratev1.Decision_DECISION_COMMIT || tx.GetState() != quoratev1.State_STATE_COMMITTED {
		return fmt.Errorf("read of %s: %s %v %v, and its commit was answered before", gid, tx.GetGid(), tx.GetDecision(), tx.GetState())
	}
	return nil
}
