package participant

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/grpc"
)

// Back-off between tries when no node named a leader. The longest stays far
// below a third of any sensible grace.
const (
	backoffFirst = 10 * time.Millisecond
	backoffLast  = 100 * time.Millisecond
)

// hopsMax bounds the hints that are followed at once, one after the other: during an
// election two nodes may name each other.
const hopsMax = 2

// backoff doubles from backoffFirst to backoffLast, with full jitter above half.
type backoff struct{ d time.Duration }

func (b *backoff) next() time.Duration {
	b.d = min(max(2*b.d, backoffFirst), backoffLast)
	return b.d/2 + rand.N(b.d/2)
}

// sleep waits for d or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// answer is any answer of the API: all of them carry a header.
type answer interface {
	GetHeader() *quoratev1.ResponseHeader
}

// call sends a request to the leader until it is answered, by whichever node
// leads. Every request is idempotent by content, so one that may have taken
// effect is simply sent again (PROTOCOL.md, section 1).
//
// When the context ends first, the error is *OutcomeUnknownError if any try may
// have taken effect, and *UnavailableError if none did. Refusals are
// *RefusedError.
func call[A answer](ctx context.Context, c *Client, gid GID, try func(context.Context, grpc.ClientConnInterface) (A, error)) (A, error) {
	var none A
	ctx, cancel := c.bound(ctx)
	defer cancel()
	var pause backoff
	var last error
	unknown := false
	hops := 0
	for tries := 1; ; tries++ {
		address, conn, err := c.nodes.pick()
		if err != nil {
			return none, nobodyLeft(gid, err, unknown)
		}
		got, err := tryOnce(ctx, c, conn, try)
		if err == nil {
			c.nodes.lead(address)
			return got, nil
		}
		if errors.Is(err, ErrOtherCluster) {
			return none, nobodyLeft(gid, c.otherCluster(address), unknown)
		}
		f := failureOf(err)
		if f.final(tries) {
			return none, f.told(gid, unknown)
		}
		unknown = unknown || !f.certain()
		last = err
		if c.nodes.failed(address, f.metadata["leader_grpc"]) && hops < hopsMax {
			hops++
		} else {
			hops = 0
			_ = sleep(ctx, f.pause(&pause))
		}
		if ctx.Err() != nil {
			break
		}
	}
	if unknown {
		return none, &OutcomeUnknownError{GID: gid, Err: last}
	}
	return none, &UnavailableError{Err: last}
}

// nobodyLeft is why nobody can be asked any more, of a request of which an earlier try may
// have taken effect.
func nobodyLeft(gid GID, err error, unknown bool) error {
	if unknown {
		return &OutcomeUnknownError{GID: gid, Err: err}
	}
	return err
}

// tryOnce bounds one try and hears the clock of its answer.
func tryOnce[A answer](ctx context.Context, c *Client, conn *grpc.ClientConn, try func(context.Context, grpc.ClientConnInterface) (A, error)) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.attemptTimeout)
	defer cancel()
	got, err := try(ctx, conn)
	if err == nil {
		err = c.clock.hear(got.GetHeader())
	}
	return got, err
}

// bound gives a context without a deadline the client's own bound, and ends it
// when the client is closed.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return c.boundBy(ctx, c.cfg.callTimeout)
}

// boundContext is a context that its client has bound: it need not be bound again.
type boundContext struct {
	context.Context
	by *Client
}

// boundBy is bound with a bound of the caller's.
func (c *Client) boundBy(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if b, ok := ctx.(boundContext); ok && b.by == c {
		return ctx, func() {}
	}
	cancel := context.CancelFunc(func() {})
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, d)
	}
	ctx, cancelCause := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancelCause(ErrClosed) })
	if c.ctx.Err() != nil {
		cancelCause(ErrClosed) // at once: a closed client says nothing more
	}
	return boundContext{ctx, c}, func() { stop(); cancelCause(nil); cancel() }
}
