package dtm

import (
	"context"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// waitResult waits for the end of a transaction that was submitted, and tells
// the truth about it: a success only when every branch is done, a failure only
// when it is decided, and that it still runs where it does.
//
// It looks at what this node has applied, so it goes on while leaders change.
func (g *Gateway) waitResult(ctx context.Context, t *trans, gid string, began time.Time) error {
	longest := g.wait
	if t.RequestTimeout > 0 {
		// The SDK hangs up then; an honest answer comes before.
		longest = min(longest, time.Duration(t.RequestTimeout)*time.Second*9/10)
	}
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(deadline)*9/10)
	}
	wait, cancel := context.WithDeadline(ctx, began.Add(longest))
	defer cancel()
	stands := g.waitFinished(wait, gid)
	if stands == nil {
		// Not even looked at in time.
		return ongoing("transaction %s was submitted, and its end is not known yet:", t.Gid)
	}
	switch stands.status() {
	case statusSucceed:
		return nil
	case statusFailed, statusAborting:
		return failed("%s", stands.rollbackReason())
	default:
		return ongoing("transaction %s was submitted, and still runs after %v:", t.Gid, time.Since(began).Round(time.Millisecond))
	}
}

// waitFinished returns the transaction once it has ended, or as it stood last;
// nil where nothing was seen of it.
func (g *Gateway) waitFinished(ctx context.Context, gid string) *standing {
	var last *standing
	for {
		answer, err := g.native.Get(ctx, &quoratev1.GetRequest{Transaction: gid, Consistency: quoratev1.Consistency_CONSISTENCY_LOCAL})
		var index uint64
		if err == nil {
			last, index = &standing{answer.GetTransaction()}, answer.GetHeader().GetAppliedIndex()
			if last.finished() {
				return last
			}
		}
		if err != nil || !g.changed(ctx, gid, index) {
			select {
			case <-ctx.Done():
				return last
			case <-time.After(retryPause):
			}
		}
	}
}

// changed waits for an event of the transaction after index, and tells whether
// one came.
func (g *Gateway) changed(ctx context.Context, gid string, index uint64) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := g.native.Watch(ctx, &quoratev1.WatchRequest{Transaction: gid, AfterIndex: index})
	if err != nil {
		return false
	}
	_, err = stream.Recv()
	return err == nil
}
