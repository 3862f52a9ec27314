package api

import (
	"context"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Coordinator is what the API needs of the driver: every call of initiators,
// participants and operators. Over makes one of a *coordinator.Coordinator.
//
// Methods are called concurrently, and fail with package coordinator's errors.
type Coordinator interface {
	Header() coordinator.Header
	HeaderOfWrites() coordinator.Header
	Begin(ctx context.Context, begin *logpb.Begin) (coordinator.Status, error)
	Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (coordinator.Status, error)
	Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (coordinator.Status, error)
	Commit(ctx context.Context, r coordinator.CommitRequest) (coordinator.Status, error)
	Rollback(ctx context.Context, r coordinator.RollbackRequest) (coordinator.Status, error)
	Submit(ctx context.Context, r coordinator.SubmitRequest) (coordinator.Status, error)
	Report(ctx context.Context, r coordinator.ReportRequest) (coordinator.Status, error)
	Resolve(ctx context.Context, r coordinator.ResolveRequest) (coordinator.Status, error)
	Retry(ctx context.Context, ref coordinator.Ref, branch string) (int, error)
	Record(ctx context.Context, r coordinator.RecordRequest) (coordinator.Status, error)
	Stop(ctx context.Context, r coordinator.StopRequest) (coordinator.Status, error)
	// PutTopic returns the topic as it stands once the change is applied, nil where
	// it was deleted.
	PutTopic(ctx context.Context, change *logpb.PutTopic) (*logpb.Topic, error)
	Topics(ctx context.Context, r coordinator.TopicsRequest) (coordinator.TopicPage, error)
	Inquire(ctx context.Context, r coordinator.InquireRequest) (coordinator.Inquired, error)
	Get(ctx context.Context, r coordinator.GetRequest) (coordinator.View, error)
	List(ctx context.Context, r coordinator.ListRequest) (coordinator.Page, error)
	ListInDoubt(ctx context.Context, r coordinator.ListInDoubtRequest) (coordinator.InDoubtPage, error)
	Watch(ctx context.Context, r coordinator.WatchRequest, send func(index uint64, events []fsm.Event) error) error
	Attach(ctx context.Context, r coordinator.AttachRequest) (Session, error)
	Stats() coordinator.Stats
}

// Session is one participant's process as the leader knows it.
// *coordinator.Session is one.
type Session interface {
	Heartbeat() time.Duration
	Grace() time.Duration
	Outgoing() <-chan coordinator.Message
	Done() <-chan struct{}
	Err() error
	Alive()
	Close(cause error)
	Detach()
	Vouch(branches []coordinator.BranchRef)
	Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (coordinator.Status, error)
	Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (coordinator.Status, error)
	// Together does for each of at most coordinator.TogetherMax requests what Enlist or
	// Vote does.
	Together(ctx context.Context, asked []coordinator.Asked) []coordinator.Told
	// ReportAsync tells done what came of it, once; done does not block.
	ReportAsync(r coordinator.ReportRequest, done func(coordinator.Status, error))
	Inquire(ctx context.Context, r coordinator.InquireRequest) (coordinator.Inquired, error)
}

// Over returns c as the API needs it.
func Over(c *coordinator.Coordinator) Coordinator { return over{c} }

// over turns Attach's concrete session into the interface.
type over struct{ *coordinator.Coordinator }

func (o over) Attach(ctx context.Context, r coordinator.AttachRequest) (Session, error) {
	session, err := o.Coordinator.Attach(ctx, r)
	if err != nil {
		return nil, err
	}
	return session, nil
}

var (
	_ Coordinator = over{}
	_ Session     = (*coordinator.Session)(nil)
)
