package tcc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/internal/outcall"
	"github.com/quorate/quorate/participant/internal/plan"
)

// Branch says how one participant is reached: each is http(s)://host:port/path or
// grpc(s)://host:port/package.Service/Method. A Confirm or a Cancel that has nothing to
// do is named all the same: the cluster refuses a branch without one.
type Branch struct {
	Try, Confirm, Cancel string
	// Resource is what the participant guards, such as `bank-a`: shown to people.
	Resource string
}

// Transaction is what a function calls branches with. Its methods may be called
// concurrently; branches are then numbered in the order in which they came.
type Transaction struct {
	client   *participant.Client
	settings settings
	gid      participant.GID
	path     string // of the call that joined; empty in the initiator

	mu   sync.Mutex
	next int
}

// Run begins a transaction, runs fn, and commits: every branch is confirmed. An error or
// a panic of fn cancels every branch, and the error is handed on as it is. nil means
// committed; *[participant.RolledBackError] that time was up before the commit was
// asked; [participant.ErrUnknown] that the commit may have been decided: nothing is
// undone then, and a Run with the same key tells.
func Run(ctx context.Context, client *participant.Client, fn func(ctx context.Context, t *Transaction) error, opts ...Option) error {
	t := &Transaction{client: client}
	for _, set := range opts {
		set(&t.settings)
	}
	fresh, err := t.begin(ctx)
	if err != nil {
		return err
	}
	if !fresh {
		return t.await(ctx)
	}
	if err := t.run(ctx, fn); err != nil {
		return err
	}
	return t.commit(ctx)
}

// Join makes a transaction of the one that the running try belongs to: its branches are
// nested below the try's own. It is neither committed nor rolled back here.
func Join(ctx context.Context, client *participant.Client, opts ...Option) (*Transaction, error) {
	call := fence.FromContext(ctx)
	if call.Operation != fence.Try || call.Dialect != fence.Native {
		return nil, errors.New("tcc: Join outside of a try's handler: the context carries no try")
	}
	t := &Transaction{client: client, gid: participant.GID(call.GID), path: call.Branch}
	for _, set := range opts {
		set(&t.settings)
	}
	return t, nil
}

// GID names the transaction.
func (t *Transaction) GID() participant.GID { return t.gid }

// ongoingPause is the time between two tries of a branch that is still at work.
const ongoingPause = 200 * time.Millisecond

// Call registers a branch and calls its try with the payload, which confirm and cancel
// are called with too; it returns what the try said. [participant.ErrRefused] means that
// the branch said no. After any other error nobody knows what it did, and the branch is
// cancelled with the others if the function returns it. A payload is JSON, unless it is
// []byte or a protobuf message.
func (t *Transaction) Call(ctx context.Context, b Branch, payload any) ([]byte, error) {
	body, err := plan.Payload(payload)
	if err != nil {
		return nil, fmt.Errorf("tcc: %w", err)
	}
	id, err := t.child()
	if err != nil {
		return nil, err
	}
	got, err := t.client.Service().Enlist(ctx, &quoratev1.EnlistRequest{Gid: string(t.gid), Branch: &quoratev1.BranchSpec{
		Id: id, Resource: b.Resource, Endpoint: b.Confirm, Undo: b.Cancel, Payload: body,
	}})
	if err != nil {
		return nil, participant.Decided(t.gid, err)
	}
	h := got.GetHeader()
	call := fence.Call{
		GID: string(t.gid), Key: t.settings.Key, Branch: id, Operation: fence.Try, Mode: "tcc",
		Epoch:   fence.Epoch{Incarnation: h.GetEpoch().GetIncarnation(), Term: h.GetEpoch().GetTerm()},
		FloorMS: h.GetFloorMs(), ClockMS: h.GetClockMs(), Cluster: t.client.ClusterID(),
	}
	return t.try(ctx, b.Try, call, body)
}

// try calls until the branch has an answer of its own.
func (t *Transaction) try(ctx context.Context, endpoint string, call fence.Call, body []byte) ([]byte, error) {
	caller := outcall.Caller{HTTP: t.settings.http, Dial: t.settings.dial}
	for {
		call.Attempt++
		said, err := func() ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, t.callTimeout())
			defer cancel()
			return caller.Do(ctx, endpoint, call, t.settings.Headers, body)
		}()
		if !errors.Is(err, participant.ErrOngoing) {
			return said, err
		}
		select {
		case <-time.After(ongoingPause):
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// callTimeout bounds one try: nothing that comes later than the deadline can commit.
func (t *Transaction) callTimeout() time.Duration {
	if d := t.settings.Settings.Retry.CallTimeout; d > 0 {
		return d
	}
	if t.settings.Timeout > 0 {
		return t.settings.Timeout
	}
	return participant.TransactionTimeoutDefault
}

// child is the next branch's id: a call path.
func (t *Transaction) child() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := strconv.Itoa(t.next + 1)
	if t.path != "" {
		id = t.path + "." + id
	}
	if len(id) > participant.BranchIDBytesMax {
		return "", fmt.Errorf("branch %s: %w", id, participant.ErrPathTooLong)
	}
	t.next++
	return id, nil
}
