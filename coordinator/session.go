package coordinator

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// SessionID names a session within one coordinator.
type SessionID uint64

// BranchRef names a branch.
type BranchRef struct {
	GID    fsm.GID
	Branch string
}

// LiveBranch is a branch that a participant's process has registered and not ended.
type LiveBranch struct {
	BranchRef
	Held     bool
	Resource string
}

// AttachRequest opens a session.
type AttachRequest struct {
	// Holder is the instance id of the process: 16 bytes, a ULID made at its start.
	Holder []byte
	// Resources that the process serves.
	Resources []string
	// Live branches; the held ones among them are vouched for.
	Live []LiveBranch
	// Name is for people.
	Name string
	// Process outlives restarts, and no two living processes share it; empty
	// for none. A newer holder under it proves the older one's death.
	Process string
	// Window bounds the deliveries outstanding at once; 0 for the default.
	Window int
}

// Message is what the leader says on a session unasked: one of its fields is set.
type Message struct {
	Deliver  *Delivery
	VouchFor []BranchRef
}

// Session is a participant's process as this leader knows it. It ends with the
// leadership. All methods may be called concurrently.
type Session struct{}

// Heartbeat and Grace are what the participant must know of the leader's settings.
func (s *Session) Heartbeat() time.Duration { return 0 }
func (s *Session) Grace() time.Duration     { return 0 }

// Outgoing is read until Done: what the leader says unasked.
func (s *Session) Outgoing() <-chan Message { return nil }

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return nil }
func (s *Session) Err() error            { return ErrClosed }

// Alive says that the participant was heard: any frame does.
func (s *Session) Alive() {}

// Close ends the session because its stream has ended: the grace begins.
func (s *Session) Close(cause error) {}

// Detach ends the session at the participant's word: what it holds is given up at once.
func (s *Session) Detach() {}

// Vouch says that these held branches are still open on their connections.
func (s *Session) Vouch(branches []BranchRef) {}

// Enlist, Vote, Report and Inquire are the coordinator's, spoken by this holder.
func (s *Session) Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (Status, error) {
	return Status{}, ErrClosed
}
func (s *Session) Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (Status, error) {
	return Status{}, ErrClosed
}
func (s *Session) Report(ctx context.Context, r ReportRequest) (Status, error) {
	return Status{}, ErrClosed
}
func (s *Session) Inquire(ctx context.Context, r InquireRequest) (Inquired, error) {
	return Inquired{}, ErrClosed
}
