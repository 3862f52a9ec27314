package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/linearizability"
)

// party is a participant's process at the level of the API: one session to the
// leader, over which it enlists, votes, vouches, is told and reports. Its
// branches are entries of a map; what matters is what was said to it, and when.
type party struct {
	w        *registers
	name     string
	holder   string
	resource string
	h        *host
	rand     *rand.Rand // of its own goroutine

	mu       sync.Mutex
	live     map[branchKey]*quoratev1.LiveBranch
	stream   *partyStream
	attached chan struct{} // closed once stream is set; replaced when it goes
}

// partyStream is one attached stream.
type partyStream struct {
	frames chan *quoratev1.SessionRequest
	ended  <-chan struct{}

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan *quoratev1.SessionResponse
}

const (
	partyWindow = 64
	// partyQueueMax bounds what a party has to send.
	partyQueueMax = 1024
	// attachTimeout bounds the wait for the answer to an attach.
	attachTimeout = 1500 * time.Millisecond
)

// errNoSession: the stream ended before the answer came.
var errNoSession = errors.New("the session ended")

func (w *registers) startParties(ctx context.Context) {
	for i := range partyCount {
		r := w.env.NewRand()
		p := &party{
			w: w, name: fmt.Sprintf("party%d", i+1), resource: resourceName(i % resourceCount), h: w.hosts[i%len(w.hosts)], rand: r,
			live: map[branchKey]*quoratev1.LiveBranch{}, attached: make(chan struct{}),
		}
		var random [10]byte
		for k := range random {
			random[k] = byte(r.Uint32())
		}
		p.holder = fsm.NewGID(uint64(time.Now().UnixMilli()), random).String()
		w.parties = append(w.parties, p)
		w.sessions.Go(func() { p.run(ctx) })
	}
}

// run attaches again and again.
func (p *party) run(ctx context.Context) {
	for node := 0; ctx.Err() == nil; {
		err := p.serve(ctx, node)
		got := classify(err)
		p.h.learn(node, got, p.rand)
		if got.leader == "" {
			pause(ctx, 30*time.Millisecond)
		}
		node = int(p.h.leader.Load())
	}
}

// serve attaches to a node and serves its stream until it ends.
func (p *party) serve(ctx context.Context, node int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := quoratev1.NewParticipantServiceClient(p.h.conns[node]).Session(ctx)
	if err != nil {
		return err
	}
	attach := &quoratev1.Attach{Holder: p.holder, Resources: []string{p.resource}, Name: p.name, Window: partyWindow, Process: p.name, Live: p.liveBranches()}
	timer := time.AfterFunc(attachTimeout, cancel)
	if err := stream.Send(&quoratev1.SessionRequest{Id: 1, Frame: &quoratev1.SessionRequest_Attach{Attach: attach}}); err != nil {
		_, err = stream.Recv()
		return err
	}
	first, err := stream.Recv()
	if err == nil {
		err = frameError(first)
	}
	if !timer.Stop() || err != nil {
		return err
	}
	p.w.heard.header(first.GetAttached().GetHeader())
	s := &partyStream{frames: make(chan *quoratev1.SessionRequest, partyQueueMax), ended: ctx.Done(), next: 1, waiting: map[uint64]chan *quoratev1.SessionResponse{}}
	p.set(s)
	defer p.set(nil)
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	sender.Go(func() { p.send(ctx, stream, s, first.GetAttached().GetHeartbeat().AsDuration()) })
	for {
		frame, err := stream.Recv()
		if err != nil {
			return err
		}
		p.take(s, frame)
	}
}

// send writes frames, and heartbeats between them.
func (p *party) send(ctx context.Context, stream grpc.BidiStreamingClient[quoratev1.SessionRequest, quoratev1.SessionResponse], s *partyStream, heartbeat time.Duration) {
	tick := time.NewTicker(max(heartbeat/2, 10*time.Millisecond))
	defer tick.Stop()
	for {
		var frame *quoratev1.SessionRequest
		select {
		case frame = <-s.frames:
		case <-tick.C:
			frame = &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}}
		case <-ctx.Done():
			return
		}
		if stream.Send(frame) != nil {
			return // Recv tells why
		}
	}
}

// take handles one frame of the leader's.
func (p *party) take(s *partyStream, frame *quoratev1.SessionResponse) {
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionResponse_Deliver:
		p.deliver(s, f.Deliver)
		return
	case *quoratev1.SessionResponse_VouchFor:
		s.queue(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Vouch{Vouch: &quoratev1.Vouch{Branches: p.stillHeld(f.VouchFor.GetBranches())}}})
		return
	}
	s.mu.Lock()
	heard := s.waiting[frame.GetId()]
	delete(s.waiting, frame.GetId())
	s.mu.Unlock()
	if heard != nil {
		heard <- frame
	}
}

// deliver obeys: the verdict takes effect once, and is reported each time.
func (p *party) deliver(s *partyStream, d *quoratev1.Deliver) {
	key := branchKey{d.GetGid(), d.GetBranch()}
	verdict := linearizability.FromWire[linearizability.Verdict](d.GetVerdict())
	outcome, step := quoratev1.Outcome_OUTCOME_COMMITTED, linearizability.StepCommitted
	if d.GetVerdict() != quoratev1.Verdict_VERDICT_COMMIT {
		outcome, step = quoratev1.Outcome_OUTCOME_ROLLED_BACK, linearizability.StepRolledBack
	}
	raise(&p.w.heard.clock, d.GetClockMs())
	p.w.recorder.Observe(linearizability.Observation{
		Sight: linearizability.SightDelivery, GID: key.gid, Branch: key.branch, Resource: d.GetResource(), Process: p.holder, Verdict: verdict, Accepted: true,
		Epoch: linearizability.Epoch{Incarnation: d.GetEpoch().GetIncarnation(), Term: d.GetEpoch().GetTerm()},
	})
	p.forget(key.gid, key.branch)
	p.w.branches.end(key.gid, key.branch, d.GetResource(), p.holder, step)
	if !p.w.settling.Load() && p.rand.Float64() < 0.02 {
		return // the report is lost: the leader asks again
	}
	req := &quoratev1.ReportRequest{Gid: key.gid, Branch: key.branch, Outcome: outcome, Attempt: d.GetAttempt(), Holder: p.holder}
	q := reportRequest(req)
	a := p.w.newActor(p.h, rand.New(rand.NewPCG(p.rand.Uint64(), p.rand.Uint64())))
	if p.rand.Float64() < 0.1 {
		p.w.echoes.Go(func() { a.once(context.Background(), q, int(p.h.leader.Load())) })
		return
	}
	// Written down before it is sent; its answer may take its time.
	pending := p.w.recorder.Invoke(a.operation(q))
	heard := s.request(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: req}})
	p.w.echoes.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		r, err := s.wait(ctx, heard)
		a.complete(q, pending, int(p.h.leader.Load()), linearizability.Output{}, r.GetReport().GetHeader(), err)
	})
}

// takePart enlists the branch and votes, over the session.
func (p *party) takePart(ctx context.Context, a *actor, t *plan, b planned) {
	key := branchKey{t.gid, b.spec.GetId()}
	p.mu.Lock()
	p.live[key] = &quoratev1.LiveBranch{Gid: key.gid, Branch: key.branch, Held: b.spec.GetHeld(), Resource: p.resource}
	p.mu.Unlock()
	got, out := a.try(ctx, p.over(enlistRequest(t.gid, b.spec), &quoratev1.SessionRequest{
		Frame: &quoratev1.SessionRequest_Enlist{Enlist: &quoratev1.EnlistRequest{Gid: t.gid, Branch: b.spec}}}, b.spec.GetHeld()))
	if got.status != linearizability.StatusOK || out.Verdict == linearizability.VerdictRollback {
		p.forget(key.gid, key.branch)
		return
	}
	p.w.branches.vote(t.gid, b.spec, b.vote, p.holder)
	a.try(ctx, p.over(voteRequest(t.gid, b.spec, b.vote), &quoratev1.SessionRequest{
		Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{Gid: t.gid, Ballot: &quoratev1.Ballot{Branch: b.spec, Vote: b.vote}}}}, b.spec.GetHeld()))
}

// over makes a request go over the party's session, whichever stream there is by
// then. Half of the repeats of what need not go over it are calls of their own.
func (p *party) over(q request, frame *quoratev1.SessionRequest, always bool) request {
	byCall := q.send
	q.send = func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
		if !always && time.Now().UnixNano()%4 == 0 {
			return byCall(ctx, conn)
		}
		s, err := p.current(ctx)
		if err != nil {
			return linearizability.Output{}, nil, err
		}
		r, err := s.wait(ctx, s.request(proto.CloneOf(frame)))
		if err != nil {
			return linearizability.Output{}, nil, err
		}
		if e := r.GetEnlist(); e != nil {
			return linearizability.Output{Verdict: linearizability.FromWire[linearizability.Verdict](e.GetVerdict())}, e.GetHeader(), nil
		}
		v := r.GetVote()
		return linearizability.Output{Verdict: linearizability.FromWire[linearizability.Verdict](v.GetVerdict())}, v.GetHeader(), nil
	}
	return q
}

// forget drops a branch that will hear nothing any more.
func (p *party) forget(gid, branch string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, branchKey{gid, branch})
}

func (p *party) liveBranches() []*quoratev1.LiveBranch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*quoratev1.LiveBranch
	for _, b := range p.live {
		all = append(all, b)
	}
	return all
}

// stillHeld are those of the branches that are open here.
func (p *party) stillHeld(asked []*quoratev1.LiveBranch) []*quoratev1.LiveBranch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var still []*quoratev1.LiveBranch
	for _, b := range asked {
		if live := p.live[branchKey{b.GetGid(), b.GetBranch()}]; live != nil {
			still = append(still, live)
		}
	}
	return still
}

// set takes a stream over, or says that it is gone.
func (p *party) set(s *partyStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream = s; s != nil {
		close(p.attached)
		return
	}
	p.attached = make(chan struct{})
}

// current waits for a stream.
func (p *party) current(ctx context.Context) (*partyStream, error) {
	p.mu.Lock()
	attached := p.attached
	p.mu.Unlock()
	select {
	case <-attached:
	case <-ctx.Done():
		return nil, status.Error(14, "error while dialing: no session was attached") // never sent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream == nil {
		return nil, status.Error(14, "error while dialing: the session has just ended")
	}
	return p.stream, nil
}

// request queues a frame and returns where its answer will be.
func (s *partyStream) request(frame *quoratev1.SessionRequest) <-chan *quoratev1.SessionResponse {
	heard := make(chan *quoratev1.SessionResponse, 1)
	s.mu.Lock()
	s.next++
	frame.Id = s.next
	s.waiting[frame.Id] = heard
	s.mu.Unlock()
	s.queue(frame)
	return heard
}

// queue sends a frame later, unless the stream has ended.
func (s *partyStream) queue(frame *quoratev1.SessionRequest) {
	select {
	case s.frames <- frame:
	case <-s.ended:
	}
}

// wait waits for an answer.
func (s *partyStream) wait(ctx context.Context, heard <-chan *quoratev1.SessionResponse) (*quoratev1.SessionResponse, error) {
	select {
	case r := <-heard:
		return r, frameError(r)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.ended:
		return nil, errNoSession
	}
}

// frameError is the error that a frame carries, or nil.
func frameError(r *quoratev1.SessionResponse) error {
	e := r.GetError()
	if e == nil {
		return nil
	}
	var sp spb.Status
	if err := proto.Unmarshal(e.GetStatusProto(), &sp); err != nil {
		return err
	}
	return status.FromProto(&sp).Err()
}

func reportRequest(req *quoratev1.ReportRequest) request {
	return request{
		op: linearizability.Operation{Kind: linearizability.KindReport, GID: req.GetGid(), Namespace: "default", Branch: req.GetBranch(), Input: linearizability.Input{
			Outcome: linearizability.FromWire[linearizability.Outcome](req.GetOutcome()), Holder: req.GetHolder(),
		}},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewParticipantServiceClient(conn).Report(ctx, req)
			return linearizability.Output{}, r.GetHeader(), err
		},
	}
}
