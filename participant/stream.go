package participant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// sendQueueMax bounds the frames that wait to be sent on a stream; beyond it a request
// is sent again later, and the cluster asks for a report again.
const sendQueueMax = 16384

// stream is one attached session: from the Attach that was answered to its end.
type stream struct {
	c         *Client
	address   string
	rpc       quoratev1.ParticipantService_SessionClient
	ctx       context.Context
	cancel    context.CancelCauseFunc
	done      chan struct{} // closed when nothing more is read
	resources map[string]bool
	epoch     epoch
	heartbeat time.Duration
	grace     time.Duration
	heard     atomic.Int64 // monotonic time of the last frame, since start
	start     time.Time

	out   *frames.Queue[*quoratev1.SessionRequest]
	batch int // frames that the leader takes in one message

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan *quoratev1.SessionResponse // nil once the stream has ended
}

// open attaches to the leader, as far as it is known. With an error, the
// returned stream tells only which node was asked; it is nil when none was.
func (s *session) open(ctx context.Context) (*stream, error) {
	address, conn, err := s.c.nodes.pick()
	if err != nil {
		return nil, err
	}
	st := &stream{
		c: s.c, address: address, done: make(chan struct{}), resources: make(map[string]bool),
		waiting: make(map[uint64]chan *quoratev1.SessionResponse), start: time.Now(),
		out: frames.NewQueue[*quoratev1.SessionRequest](sendQueueMax),
	}
	st.ctx, st.cancel = context.WithCancelCause(ctx)
	bound := time.AfterFunc(s.c.cfg.attemptTimeout, func() { st.cancel(context.DeadlineExceeded) })
	defer bound.Stop()
	if st.rpc, err = quoratev1.NewParticipantServiceClient(conn).Session(st.ctx); err != nil {
		st.cancel(err)
		return st, err
	}
	if err := st.attach(); err != nil {
		st.cancel(err)
		return st, err
	}
	return st, nil
}

// attach is the first exchange on the stream.
func (st *stream) attach() error {
	attach := &quoratev1.Attach{
		Holder: st.c.holder, Name: st.c.cfg.name, Process: st.c.cfg.process,
		ClusterId: st.c.ClusterID(), Window: windowMax, BatchMax: frames.SessionFramesMax,
	}
	for _, a := range st.c.attachments() {
		st.resources[a.m.Resource()] = true
		attach.Resources = append(attach.Resources, a.m.Resource())
	}
	// After the resources: a branch that is not listed has not enlisted yet, and will
	// do so over this stream or a later one.
	attach.Live = st.c.live.list()
	st.lastID = 1
	if err := st.rpc.Send(&quoratev1.SessionRequest{Id: 1, Frame: &quoratev1.SessionRequest_Attach{Attach: attach}}); err != nil {
		_, err = st.rpc.Recv() // Send hides why the stream ended; Recv tells
		return errOr(err, errors.New("the stream ended during the attach"))
	}
	for {
		got, err := st.rpc.Recv()
		if err != nil {
			return err
		}
		if err := statusOf(got); err != nil {
			return err
		}
		if attached := got.GetAttached(); attached != nil {
			return st.attached(attached)
		}
	}
}

func (st *stream) attached(a *quoratev1.Attached) error {
	if err := st.c.clock.hear(a.GetHeader()); err != nil {
		return st.c.otherCluster(st.address)
	}
	st.epoch = epochOf(a.GetHeader().GetEpoch())
	if newest := st.c.clock.newestEpoch(); st.epoch.less(newest) {
		return fmt.Errorf("the node at %s leads term %d, but %d was heard of", st.address, st.epoch.term, newest.term)
	}
	st.heartbeat = orDefault(a.GetHeartbeat().AsDuration(), time.Second)
	st.grace = orDefault(a.GetGrace().AsDuration(), 5*time.Second)
	st.batch = frames.Take(a.GetBatchMax())
	st.c.nodes.lead(st.address)
	return nil
}

// serve reads until the stream ends, and returns why.
func (st *stream) serve() error {
	var others sync.WaitGroup
	others.Go(st.beat)
	others.Go(st.sendAll)
	var err error
	for err == nil {
		var got *quoratev1.SessionResponse
		if got, err = st.rpc.Recv(); err == nil {
			st.heard.Store(int64(time.Since(st.start)))
			for _, frame := range frames.Responses(got) {
				if err = st.take(frame); err != nil {
					break
				}
			}
		}
	}
	if cause := context.Cause(st.ctx); cause != nil && st.c.ctx.Err() == nil {
		err = cause // why it was stopped says more than "cancelled"
	}
	st.stop(err)
	others.Wait()
	st.fail()
	close(st.done)
	return err
}

// stop ends the stream; the first cause stands.
func (st *stream) stop(cause error) { st.cancel(cause) }

// beat sends heartbeats and ends the stream when the leader has been silent for
// so long that a third of the grace is near: re-attaching must fit into the rest.
func (st *stream) beat() {
	tick := time.NewTicker(st.heartbeat)
	defer tick.Stop()
	silence := max(3*st.heartbeat, st.grace/3)
	for {
		select {
		case <-st.ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(st.start)-time.Duration(st.heard.Load()) > silence {
			st.stop(errSilent)
			return
		}
		if st.send(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}}) != nil {
			return
		}
	}
}

// take handles one frame. Only an answer of another cluster is an error.
func (st *stream) take(got *quoratev1.SessionResponse) error {
	if err := st.c.clock.hear(headerOf(got)); err != nil {
		return st.c.otherCluster(st.address)
	}
	switch frame := got.GetFrame().(type) {
	case *quoratev1.SessionResponse_Deliver:
		st.deliver(frame.Deliver)
	case *quoratev1.SessionResponse_VouchFor:
		st.vouch(frame.VouchFor.GetBranches())
	default:
		st.answer(got)
	}
	return nil
}

// deliver hands a verdict to the resource's manager. A decision is obeyed from
// any epoch of the incarnation, because it never changes; of an earlier
// incarnation it may have been undone by a restore.
func (st *stream) deliver(d *quoratev1.Deliver) {
	gid, err := ParseGID(d.GetGid())
	verdict := Verdict(d.GetVerdict())
	if err != nil || !verdict.Final() || epochOf(d.GetEpoch()).incarnation < st.c.clock.newestEpoch().incarnation {
		st.c.cfg.logger.Warn("a delivery was ignored", "gid", d.GetGid(), "branch", d.GetBranch(), "verdict", verdict.String())
		return
	}
	ref := BranchRef{GID: gid, ID: d.GetBranch()}
	if a := st.c.attachment(d.GetResource()); a != nil {
		a.obey(ref, word{verdict: verdict, epoch: epochOf(d.GetEpoch()), attempt: d.GetAttempt()})
	}
}

// vouch says which of the asked held branches are still open here. Nobody but
// the newest leader may count on it.
func (st *stream) vouch(asked []*quoratev1.LiveBranch) {
	if st.epoch.less(st.c.clock.newestEpoch()) {
		return
	}
	v := &quoratev1.Vouch{}
	for _, l := range asked {
		b := st.c.live.get(BranchRef{GID: GID(l.GetGid()), ID: l.GetBranch()})
		if b != nil && b.held && !b.Verdict().Final() {
			v.Branches = append(v.Branches, b.liveBranch())
		}
	}
	if len(v.Branches) > 0 {
		_ = st.send(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Vouch{Vouch: v}})
	}
}

// answer hands a frame to the request that waits for it.
func (st *stream) answer(got *quoratev1.SessionResponse) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if w := st.waiting[got.GetId()]; w != nil {
		delete(st.waiting, got.GetId())
		w <- got // of capacity 1, and this is its only value
	}
}

// fail wakes every request: the stream has ended, send it elsewhere.
func (st *stream) fail() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, w := range st.waiting {
		close(w)
	}
	st.waiting = nil
}

// errStreamEnded means that the answer will not come on this stream.
var errStreamEnded = errors.New("the session ended before the answer")

// roundTrip sends a copy of req under an id of its own and waits for the answer.
func (st *stream) roundTrip(ctx context.Context, req *quoratev1.SessionRequest) (*quoratev1.SessionResponse, error) {
	w := make(chan *quoratev1.SessionResponse, 1)
	st.mu.Lock()
	if st.waiting == nil {
		st.mu.Unlock()
		return nil, errStreamEnded
	}
	st.lastID++
	id := st.lastID
	st.waiting[id] = w
	st.mu.Unlock()
	defer func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		delete(st.waiting, id)
	}()

	if err := st.send(&quoratev1.SessionRequest{Id: id, Frame: req.GetFrame()}); err != nil {
		return nil, err
	}
	again := time.NewTimer(st.c.cfg.attemptTimeout)
	defer again.Stop()
	select {
	case got, ok := <-w:
		if !ok {
			return nil, errStreamEnded
		}
		return got, nil
	case <-again.C:
		return nil, context.DeadlineExceeded
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// send queues frames, which go together; the error says that they are not sent.
func (st *stream) send(req ...*quoratev1.SessionRequest) error {
	if !st.out.Put(req...) {
		return errNotQueued
	}
	return nil
}

var errNotQueued = errors.New("the session is being closed, or too much waits to be sent on it")

// sendAll sends what is queued, as much in one message as waits, until the stream ends.
// After closeSend it tells the leader that nothing more comes.
func (st *stream) sendAll() {
	var sent []*quoratev1.SessionRequest
	for {
		select {
		case <-st.out.Ready():
		case <-st.ctx.Done():
			return
		}
		closed := st.out.Closed() // before all is taken: nothing comes after it
		sent = st.out.Take(sent)
		for rest := sent; len(rest) > 0; {
			var message []*quoratev1.SessionRequest
			message, rest = frames.Cut(rest, st.batch, frames.SessionBytesMax)
			if st.rpc.Send(frames.PackRequests(message)) != nil {
				return // Recv tells why
			}
		}
		if closed {
			_ = st.rpc.CloseSend()
			return
		}
	}
}

// closeSend tells the leader, after all that is queued, that nothing more comes.
func (st *stream) closeSend() { st.out.Close() }

// headerOf is the header of whatever the frame is, or nil.
func headerOf(r *quoratev1.SessionResponse) *quoratev1.ResponseHeader {
	if d := r.GetDeliver(); d != nil {
		return &quoratev1.ResponseHeader{ClockMs: d.GetClockMs(), FloorMs: d.GetFloorMs()}
	}
	return frames.HeaderOf(r)
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

func errOr(err, def error) error {
	if err != nil {
		return err
	}
	return def
}
