package participanttest

import (
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// session is one attached stream.
type session struct {
	n         *node
	holder    string
	resources map[string]bool
	batch     int  // frames that the participant takes in one message
	plain     bool // it is not known that they may be batched
	out       chan *quoratev1.SessionResponse
	once      sync.Once
	ended     chan struct{}
	cause     error
}

// end ends the stream with the error; the first one stands.
func (s *session) end(cause error) {
	s.once.Do(func() {
		s.cause = cause
		close(s.ended)
	})
}

// say queues a frame; one that finds no room is lost, as if the connection were slow.
func (s *session) say(r *quoratev1.SessionResponse) {
	select {
	case s.out <- r:
	default:
	}
}

// Session serves a participant's stream.
func (n *node) Session(stream grpc.BidiStreamingServer[quoratev1.SessionRequest, quoratev1.SessionResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s, err := n.attach(first)
	if err != nil {
		return err
	}
	defer n.detach(s)
	go func() { // ends with the stream
		for {
			message, err := stream.Recv()
			if err != nil {
				s.end(err)
				return
			}
			if message.GetBatch() != nil && s.plain {
				s.end(refuse("INVALID", "the frame is empty, or of a newer version", nil))
				return
			}
			for _, req := range frames.Requests(message) {
				if err := n.frame(s, req); err != nil {
					s.end(err)
					return
				}
			}
		}
	}()
	for batch := 1; ; batch = s.batch { // the first frame stands alone
		select {
		case r := <-s.out:
			list := []*quoratev1.SessionResponse{r}
			for len(list) < batch && len(s.out) > 0 {
				list = append(list, <-s.out)
			}
			if err := stream.Send(pack(list)); err != nil {
				return err
			}
		case <-s.ended:
			return s.cause
		case <-n.c.stop:
			return errBroken
		}
	}
}

// pack makes one message of frames. The last header is as new as any.
func pack(list []*quoratev1.SessionResponse) *quoratev1.SessionResponse {
	var header *quoratev1.ResponseHeader
	for _, r := range list {
		if h := frames.HeaderOf(r); h != nil {
			header = h
		}
	}
	return frames.PackResponses(list, func() *quoratev1.ResponseHeader { return header })
}

// attach answers the first frame.
func (n *node) attach(first *quoratev1.SessionRequest) (*session, error) {
	a := first.GetAttach()
	return do(n, "Session/Attach", a, func() (*session, error) {
		if a == nil || a.GetClusterId() != "" && a.GetClusterId() != n.c.id {
			return nil, refuse("INVALID", "attach first, to the right cluster", nil)
		}
		s := &session{
			n: n, holder: a.GetHolder(), resources: make(map[string]bool),
			batch: 1, out: make(chan *quoratev1.SessionResponse, 1024), ended: make(chan struct{}),
		}
		takes := uint32(0)
		if s.plain = n.c.plain; !s.plain {
			s.batch, takes = frames.Take(a.GetBatchMax()), frames.SessionFramesMax
		}
		for _, r := range a.GetResources() {
			s.resources[r] = true
		}
		n.c.sessions[s] = true
		for _, x := range n.c.txs {
			for _, b := range x.branches {
				if b.spec.GetHolder() == s.holder {
					b.lostAt = time.Time{}
				}
			}
		}
		n.c.vouch(a.GetLive())
		s.say(&quoratev1.SessionResponse{Id: first.GetId(), Frame: &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{
			Header: n.c.header(n), Heartbeat: durationpb.New(heartbeat), Grace: durationpb.New(grace), BatchMax: takes,
		}}})
		return s, nil
	})
}

// detach notes that the holder may be dead, unless it has another session.
func (n *node) detach(s *session) {
	s.end(errBroken)
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	delete(n.c.sessions, s)
	for other := range n.c.sessions {
		if other.holder == s.holder {
			return
		}
	}
	for _, x := range n.c.txs {
		for _, b := range x.branches {
			if b.spec.GetHolder() == s.holder {
				b.lostAt = time.Now()
			}
		}
	}
}

// frame answers one request on the session; its error ends the session.
func (n *node) frame(s *session, req *quoratev1.SessionRequest) error {
	method, msg := frameName(req)
	got, err := do(n, method, msg, func() (*quoratev1.SessionResponse, error) {
		return n.answer(s, req), nil
	})
	if err != nil {
		return err
	}
	if got != nil && req.GetId() != 0 {
		got.Id = req.GetId()
		s.say(got)
	}
	return nil
}

// answer has the frame's effect. c.mu is held.
func (n *node) answer(s *session, req *quoratev1.SessionRequest) *quoratev1.SessionResponse {
	c := n.c
	switch f := req.GetFrame().(type) {
	case *quoratev1.SessionRequest_Enlist:
		v, err := c.doEnlist(f.Enlist)
		if err != nil {
			return failed(err)
		}
		return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Enlist{Enlist: &quoratev1.EnlistResponse{Header: c.header(n), Verdict: v}}}
	case *quoratev1.SessionRequest_Vote:
		v, err := c.doVote(f.Vote)
		if err != nil {
			return failed(err)
		}
		return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{Header: c.header(n), Verdict: v}}}
	case *quoratev1.SessionRequest_Report:
		if err := c.doReport(f.Report); err != nil {
			return failed(err)
		}
		return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Report{Report: &quoratev1.ReportResponse{Header: c.header(n)}}}
	case *quoratev1.SessionRequest_Vouch:
		c.vouch(f.Vouch.GetBranches())
		return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Vouched{Vouched: &quoratev1.Vouched{Header: c.header(n)}}}
	case *quoratev1.SessionRequest_Heartbeat:
		s.say(&quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Heartbeat{Heartbeat: &quoratev1.Heartbeat{Header: c.header(n)}}})
	case *quoratev1.SessionRequest_Detach:
		for _, x := range c.txs {
			for _, b := range x.branches {
				if b.spec.GetHolder() == s.holder && (b.spec.GetHeld() || b.vote != quoratev1.Vote_VOTE_PREPARED) {
					b.lostAt = time.Now().Add(-2 * grace) // no grace: it said goodbye
				}
			}
		}
		s.end(nil)
	}
	return nil
}

// vouch takes the word of an attached holder.
func (c *Cluster) vouch(live []*quoratev1.LiveBranch) {
	for _, l := range live {
		if x := c.txs[l.GetGid()]; x != nil && l.GetHeld() && x.branches[l.GetBranch()] != nil {
			x.branches[l.GetBranch()].vouched = true
			c.settle(x)
		}
	}
}

// askVouch asks the holder of a held branch.
func (c *Cluster) askVouch(x *tx, id string) {
	b := x.branches[id]
	for s := range c.sessions {
		if s.holder == b.spec.GetHolder() {
			s.say(&quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_VouchFor{VouchFor: &quoratev1.VouchFor{
				Branches: []*quoratev1.LiveBranch{{Gid: x.begin.GetGid(), Branch: id, Held: true, Resource: b.spec.GetResource()}},
			}}})
		}
	}
}

// deliver tells each branch that is due, the holder first.
func (c *Cluster) deliver() {
	if c.holding || c.leader < 0 {
		return
	}
	for _, x := range c.txs {
		if x.decision == undecided {
			continue
		}
		for id, b := range x.branches {
			if s := c.sessionFor(b); s != nil && !b.ended(x.decision) {
				b.attempts++
				for range c.copies {
					s.say(c.delivery(x, id))
				}
			}
		}
	}
}

func (c *Cluster) delivery(x *tx, id string) *quoratev1.SessionResponse {
	b := x.branches[id]
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Deliver{Deliver: &quoratev1.Deliver{
		Gid: x.begin.GetGid(), Branch: id, Resource: b.spec.GetResource(), Verdict: c.verdict(x, id),
		Attempt: b.attempts, Epoch: c.epoch(), FloorMs: max(c.floorMS, c.horizonMS()), ClockMs: c.clockMS(),
	}}}
}

// sessionFor is the session to tell: the holder's, or else any of the resource.
func (c *Cluster) sessionFor(b *branch) *session {
	var any *session
	for s := range c.sessions {
		if s.resources[b.spec.GetResource()] {
			if s.holder == b.spec.GetHolder() {
				return s
			}
			any = s
		}
	}
	return any
}

func failed(err error) *quoratev1.SessionResponse {
	b, marshalErr := proto.Marshal(status.Convert(err).Proto())
	if marshalErr != nil {
		panic(marshalErr) // a status of our own making
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Error{Error: &quoratev1.SessionError{StatusProto: b}}}
}

// frameName is what hooks see of a frame.
func frameName(req *quoratev1.SessionRequest) (string, proto.Message) {
	switch f := req.GetFrame().(type) {
	case *quoratev1.SessionRequest_Enlist:
		return "Session/Enlist", f.Enlist
	case *quoratev1.SessionRequest_Vote:
		return "Session/Vote", f.Vote
	case *quoratev1.SessionRequest_Report:
		return "Session/Report", f.Report
	case *quoratev1.SessionRequest_Vouch:
		return "Session/Vouch", f.Vouch
	case *quoratev1.SessionRequest_Heartbeat:
		return "Session/Heartbeat", f.Heartbeat
	case *quoratev1.SessionRequest_Detach:
		return "Session/Detach", f.Detach
	}
	return "Session/other", nil
}
