package participant

import (
	"context"
	"errors"
	"fmt"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Service is the transaction service in the hands of a client that follows the
// leader: its unary calls are repeated, to whoever leads, until they are answered or
// the context ends, and fail with the errors of this package. Streams go to the node
// that is asked next.
//
// The packages of the modes are built on it; so is what this module does not wrap.
func (c *Client) Service() quoratev1.TransactionServiceClient {
	return quoratev1.NewTransactionServiceClient(following{c})
}

// NewGID makes a GID from the newest clock of the cluster that was heard. A request
// that creates a transaction may be repeated with the same one.
func (c *Client) NewGID(ctx context.Context) (GID, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.mint(ctx)
}

// following is a connection to whichever node leads.
type following struct{ c *Client }

func (f following) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	said, ok := reply.(answer)
	if !ok {
		return fmt.Errorf("participant: %s answers with %T, which has no header", method, reply)
	}
	_, err := call(ctx, f.c, gidOf(args), func(ctx context.Context, cc grpc.ClientConnInterface) (answer, error) {
		err := cc.Invoke(ctx, method, args, reply, opts...)
		if status.Code(err) == codes.Internal {
			if request, ok := args.(proto.Message); ok {
				err = unwritable(request, err)
			}
		}
		return said, err
	})
	return err
}

// unwritable makes a refusal of an error that came of the request itself: one with a text
// that is not UTF-8 was never sent, and to send it again helps nobody.
func unwritable(request proto.Message, err error) error {
	_, why := proto.Marshal(request)
	if why == nil {
		return err
	}
	s, detailErr := status.New(codes.InvalidArgument, "the request cannot be written: "+why.Error()).
		WithDetails(&errdetails.ErrorInfo{Reason: "INVALID", Domain: errorDomain})
	if detailErr != nil {
		return err
	}
	return s.Err()
}

func (f following) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	_, conn, err := f.c.nodes.pick()
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}

// gidOf is the transaction that a request names, for its errors.
func gidOf(request any) GID {
	var name string
	switch r := request.(type) {
	case *quoratev1.SubmitRequest:
		name = r.GetBegin().GetGid()
	case interface{ GetGid() string }:
		name = r.GetGid()
	case interface{ GetTransaction() string }:
		name = r.GetTransaction()
	}
	gid, _ := ParseGID(name)
	return gid
}

// Bounds of the pause between two looks at a transaction that has not ended.
const (
	awaitFirst = 5 * time.Millisecond
	awaitLast  = 250 * time.Millisecond
)

// Await looks at a transaction, a GID or `key:K`, until done says that it has seen
// enough, and returns what it saw last. It asks for nothing: use it after a request that
// was answered. When the context ends first, the error is *[OutcomeUnknownError].
func (c *Client) Await(ctx context.Context, transaction string, done func(*quoratev1.Transaction) bool) (*quoratev1.Transaction, error) {
	gid, _ := ParseGID(transaction)
	pause := awaitFirst
	for {
		got, err := c.Get(ctx, transaction)
		var unavailable *UnavailableError
		switch {
		case err == nil && done(got):
			return got, nil
		case errors.As(err, &unavailable), // nothing was learnt
			gid != "" && refusedWith(err) == reasonNotFound: // dropped, once its retention was over
			err = &OutcomeUnknownError{GID: gid, Err: err}
		}
		if err != nil {
			return nil, outcomeOf(gid, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return got, &OutcomeUnknownError{GID: gid, Err: err}
		}
		pause = min(2*pause, awaitLast)
	}
}

// AwaitDecision waits until the transaction is decided: nil is commit, and
// *[RolledBackError] is rollback.
func (c *Client) AwaitDecision(ctx context.Context, gid GID) error {
	got, err := c.Await(ctx, string(gid), func(t *quoratev1.Transaction) bool {
		return Decision(t.GetDecision()) != DecisionNone
	})
	return endOf(gid, got, err)
}

// AwaitFinish waits until nothing more is due: every branch was told, and every
// compensation was done. nil is committed, and *[RolledBackError] is rolled back.
func (c *Client) AwaitFinish(ctx context.Context, gid GID) error {
	got, err := c.Await(ctx, string(gid), Finished)
	return endOf(gid, got, err)
}

// Finished reports that the transaction has ended and nothing more is due.
func Finished(t *quoratev1.Transaction) bool {
	return t.GetState() == quoratev1.State_STATE_COMMITTED || t.GetState() == quoratev1.State_STATE_ROLLED_BACK
}

// endOf is a decided transaction as an error.
func endOf(gid GID, t *quoratev1.Transaction, err error) error {
	if err == nil && Decision(t.GetDecision()) == DecisionRollback {
		err = RolledBack(gid, t.GetReason(), t.GetDetail())
	}
	return err
}

// RolledBack makes the error of a rollback from what an answer said of it.
func RolledBack(gid GID, reason quoratev1.RollbackReason, detail string) error {
	return &RolledBackError{GID: gid, Reason: reasonName(reason), Detail: detail}
}

// Decided makes the error of a refusal that names a decision into that decision's
// error, and of one that hides it into *[OutcomeUnknownError]; others stay as they are.
func Decided(gid GID, err error) error {
	if err == nil {
		return nil
	}
	return outcomeOf(gid, err)
}
