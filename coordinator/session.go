package coordinator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	// Several says that whoever reads Outgoing takes several deliveries in one message.
	Several bool
}

// Message is what the leader says on a session unasked: one of its fields is set.
type Message struct {
	Deliver *Delivery
	// Deliveries come instead of Deliver where AttachRequest.Several asks for them: all
	// that is to be told at one moment. Who has told them may give them back.
	Deliveries []Delivery
	VouchFor   []BranchRef
}

// deliveryLists are those that were told, for others.
var deliveryLists sync.Pool

// deliveryList is an empty list, new ones for so many.
func deliveryList(n int) []Delivery {
	if list, ok := deliveryLists.Get().(*[]Delivery); ok {
		return *list
	}
	return make([]Delivery, 0, n)
}

// deliveriesKept is how long a list may be that is kept: some memory for many sessions.
const deliveriesKept = 256

// GiveBack lets the memory of a message be used for another: nothing of it may be used any
// more.
func (m *Message) GiveBack() {
	list := m.Deliveries
	if m.Deliveries = nil; cap(list) == 0 || cap(list) > deliveriesKept {
		return
	}
	clear(list)
	list = list[:0]
	deliveryLists.Put(&list)
}

// Session is a participant's process as this leader knows it. It ends with the
// leadership. All methods may be called concurrently.
type Session struct {
	c      *Coordinator
	id     SessionID
	holder []byte
	name   string
	// several: see AttachRequest.
	several bool
	out     chan Message
	// aliveAt is when the core was last told that the participant was heard, as the
	// time since the coordinator began.
	aliveAt atomic.Int64
	done    chan struct{}
	once    sync.Once
	err     error // before done is closed
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
		c: c, id: SessionID(c.lastID.Add(1)), holder: r.Holder, name: r.Name, several: r.Several,
		out:  make(chan Message, c.settings.SessionWindowMax+vouchersMax),
		done: make(chan struct{}),
	}
	s.aliveAt.Store(int64(c.now().Sub(c.began)))
	full := make(chan bool, 1)
	attached := c.query(ctx, func(core *Core, now time.Time) {
		if core.crowded(r, c.settings.SessionsMax) {
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

// Alive says that the participant was heard: any frame does. The core is told of it no
// more often than tells it apart from silence.
func (s *Session) Alive() {
	at, told := int64(s.c.now().Sub(s.c.began)), s.aliveAt.Load()
	if at-told < int64(s.c.settings.SessionHeartbeat/aliveTold) || !s.aliveAt.CompareAndSwap(told, at) {
		return
	}
	s.c.step(func(core *Core, now time.Time) { core.Alive(now, s.id) })
}

// aliveTold is how often in a heartbeat the core hears that a participant is alive.
const aliveTold = 8

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

// Enlist adds a branch that this process holds. It takes branch over.
func (s *Session) Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (Status, error) {
	s.Alive()
	if err := s.own(gid, branch); err != nil {
		return Status{}, err
	}
	return s.c.enlist(ctx, gid, branch)
}

// Vote records the vote of a branch that this process holds. With a held branch
// it vouches for it, too. It takes ballot over.
func (s *Session) Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (Status, error) {
	s.Alive()
	spec := ballot.GetBranch()
	if err := s.own(gid, spec); err != nil {
		return Status{}, err
	}
	if spec.GetHeld() && ballot.GetKind() == logpb.VoteKind_VOTE_KIND_PREPARED {
		s.Vouch([]BranchRef{{GID: gid, Branch: spec.GetId()}}) // before the vote, or it would be asked for
	}
	return s.c.vote(ctx, gid, ballot)
}

// own fills in this session's holder.
func (s *Session) own(gid fsm.GID, spec *logpb.BranchSpec) error {
	if spec == nil {
		return invalid(gid, "no branch is named")
	}
	if len(spec.Holder) == 0 {
		spec.Holder = s.holder
	} else if !slices.Equal(spec.Holder, s.holder) {
		return invalid(gid, "branch %s names another holder than the session it comes over", spec.GetId())
	}
	return nil
}

// Report records what a branch did, or, when busy, that it must be asked again.
func (s *Session) Report(ctx context.Context, r ReportRequest) (Status, error) {
	return reported(ctx, s.c, r.GID, func(done func(Status, error)) { s.ReportAsync(r, done) })
}

// ReportAsync is Report for who does not wait: done hears what came of it, once, from
// another goroutine or from within the call. It must not block.
func (s *Session) ReportAsync(r ReportRequest, done func(Status, error)) {
	if r.Busy {
		done(s.busy(BranchRef{GID: r.GID, Branch: r.Branch}, r.Detail))
		return
	}
	s.Alive()
	if len(r.Holder) == 0 {
		r.Holder = s.holder
	}
	s.c.ReportAsync(r, done)
}

// busy says that a branch must be asked again.
func (s *Session) busy(ref BranchRef, detail string) (Status, error) {
	if !s.c.step(func(core *Core, now time.Time) { core.Busy(now, s.id, ref, detail) }) {
		return Status{}, ErrClosed
	}
	return Status{GID: ref.GID}, nil
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
