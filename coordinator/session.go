package coordinator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// SessionID names a session within one coordinator; a newer one is larger.
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
type Session struct {
	c      *Coordinator
	id     SessionID
	holder []byte
	name   string
	out    chan Message
	done   chan struct{}
	once   sync.Once
	err    error // before done is closed
}

// vouchersMax bounds the questions that wait on a session's queue beside its
// deliveries.
const vouchersMax = 256

// resourcesMax and textMax bound what an attach may name, in number and bytes.
const (
	resourcesMax = 256
	textMax      = 1024
)

// Attach opens a participant's session with this leader. The holder's older
// session, if there is one, ends.
func (c *Coordinator) Attach(ctx context.Context, r AttachRequest) (*Session, error) {
	if err := c.leads(); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	r.Holder, r.Resources, r.Live = slices.Clone(r.Holder), slices.Clone(r.Resources), slices.Clone(r.Live)
	s := &Session{
		c: c, id: SessionID(c.lastID.Add(1)), holder: r.Holder, name: r.Name,
		out:  make(chan Message, c.settings.SessionWindowMax+vouchersMax),
		done: make(chan struct{}),
	}
	full := make(chan bool, 1)
	attached := c.query(ctx, func(core *Core, now time.Time) {
		if len(c.sessions) >= c.settings.SessionsMax {
			full <- true
			return
		}
		full <- false
		c.sessions[s.id] = s
		core.Attach(now, s.id, r)
	})
	if !attached {
		s.Close(context.Cause(ctx)) // the core may attach it yet
		return nil, c.gone(ctx)
	}
	if <-full {
		return nil, &OverloadError{Limit: "SessionsMax", Max: c.settings.SessionsMax}
	}
	c.log.Info("participant attached", "name", r.Name, "holder", holderID(r.Holder), "resources", r.Resources, "live", len(r.Live))
	return s, nil
}

func (r AttachRequest) validate() error {
	if len(r.Holder) != len(holderID{}) {
		return invalid(fsm.GID{}, "attach: holder is %d bytes, want the 16 of a ULID made at the process' start", len(r.Holder))
	}
	if len(r.Resources) == 0 || len(r.Resources) > resourcesMax {
		return invalid(fsm.GID{}, "attach: %d resources, want 1 to %d", len(r.Resources), resourcesMax)
	}
	for _, text := range append([]string{r.Name, r.Process}, r.Resources...) {
		if len(text) > textMax {
			return invalid(fsm.GID{}, "attach: %.40q... is %d bytes long, at most %d", text, len(text), textMax)
		}
	}
	if slices.Contains(r.Resources, "") {
		return invalid(fsm.GID{}, "attach: a resource without a name")
	}
	return nil
}

// Heartbeat is how often the participant must be heard of.
func (s *Session) Heartbeat() time.Duration { return s.c.settings.SessionHeartbeat }

// Grace is how long the participant may be away before it counts as lost.
func (s *Session) Grace() time.Duration { return s.c.settings.SessionGrace }

// Outgoing is what the leader says unasked; it must be read until Done.
func (s *Session) Outgoing() <-chan Message { return s.out }

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended; nil before Done.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

func (s *Session) finish(cause error) {
	s.once.Do(func() {
		s.err = cause
		close(s.done)
	})
}

// Alive says that the participant was heard: any frame does.
func (s *Session) Alive() {
	s.c.step(func(core *Core, now time.Time) { core.Alive(now, s.id) })
}

// Close ends the session because its stream has ended: the holder's grace begins.
func (s *Session) Close(cause error) {
	if cause == nil {
		cause = ErrClosed
	}
	s.end(false, cause)
}

// Detach ends the session at the participant's word: what it holds is given up
// at once.
func (s *Session) Detach() { s.end(true, ErrDetached) }

func (s *Session) end(goodbye bool, cause error) {
	s.c.step(func(core *Core, now time.Time) { core.Detach(now, s.id, goodbye, cause) })
}

// Vouch says that these held branches are still open on their connections.
func (s *Session) Vouch(branches []BranchRef) {
	branches = slices.Clone(branches)
	s.c.step(func(core *Core, now time.Time) { core.Vouch(now, s.id, branches) })
}

// Enlist adds a branch that this process holds.
func (s *Session) Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (Status, error) {
	s.Alive()
	spec, err := s.own(gid, branch)
	if err != nil {
		return Status{}, err
	}
	return s.c.enlist(ctx, gid, spec)
}

// Vote records the vote of a branch that this process holds. With a held branch
// it vouches for it, too.
func (s *Session) Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (Status, error) {
	s.Alive()
	spec, err := s.own(gid, ballot.GetBranch())
	if err != nil {
		return Status{}, err
	}
	ballot = proto.CloneOf(ballot)
	ballot.Branch = spec
	if spec.GetHeld() && ballot.GetKind() == logpb.VoteKind_VOTE_KIND_PREPARED {
		s.Vouch([]BranchRef{{GID: gid, Branch: spec.GetId()}}) // before the vote, or it would be asked for
	}
	return s.c.vote(ctx, gid, ballot)
}

// own returns the branch with this session's holder filled in.
func (s *Session) own(gid fsm.GID, branch *logpb.BranchSpec) (*logpb.BranchSpec, error) {
	spec := proto.CloneOf(branch)
	if spec == nil {
		return nil, invalid(gid, "no branch is named")
	}
	if len(spec.Holder) != 0 && !slices.Equal(spec.Holder, s.holder) {
		return nil, invalid(gid, "branch %s names another holder than the session it comes over", spec.GetId())
	}
	spec.Holder = s.holder
	return spec, nil
}

// Report records what a branch did, or, when busy, that it must be asked again.
func (s *Session) Report(ctx context.Context, r ReportRequest) (Status, error) {
	if r.Busy {
		ref := BranchRef{GID: r.GID, Branch: r.Branch}
		if !s.c.step(func(core *Core, now time.Time) { core.Busy(now, s.id, ref, r.Detail) }) {
			return Status{}, ErrClosed
		}
		return Status{GID: r.GID}, nil
	}
	s.Alive()
	if len(r.Holder) == 0 {
		r.Holder = s.holder
	}
	return s.c.Report(ctx, r)
}

// Inquire asks for the verdict on a branch.
func (s *Session) Inquire(ctx context.Context, r InquireRequest) (Inquired, error) {
	s.Alive()
	if len(r.Holder) == 0 {
		r.Holder = s.holder
	}
	return s.c.Inquire(ctx, r)
}

// String names the session for logs.
func (s *Session) String() string {
	return fmt.Sprintf("session %d of %s (%s)", s.id, s.name, holderID(s.holder))
}
