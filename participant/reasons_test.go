package participant

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// "Unknown is an outcome of its own": what a request's tries were answered says whether it
// was done, was not, or nobody can tell; by a call and by a frame of the session alike.

// answered is what one kind of answer means.
type answered struct {
	err error
	// final answers are told at once; others are asked again.
	final bool
	// undone: this try did nothing.
	undone bool
	// blind refusals look at nothing that stands: an earlier try may have been done.
	blind bool
}

// ofCluster is an answer of the cluster's own.
func ofCluster(reason string, retryAfter time.Duration) error {
	return withInfo(codes.Unavailable, errorDomain, reason, retryAfter)
}

func withInfo(code codes.Code, domain, reason string, retryAfter time.Duration) error {
	s, err := status.New(code, "said by the test").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: domain})
	if err == nil && retryAfter > 0 {
		s, err = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	if err != nil {
		panic(err) // details of our own
	}
	return s.Err()
}

// answers are all kinds of them.
func answers() map[string]answered {
	out := map[string]answered{}
	for _, reason := range []string{reasonNotLeader, reasonNoLeader, reasonDeadline, reasonLagging, reasonSessionLost} {
		out[reason] = answered{err: ofCluster(reason, 0), undone: true}
	}
	out[reasonOutcomeUnknown] = answered{err: ofCluster(reasonOutcomeUnknown, 0)}
	for _, reason := range []string{"INVALID", reasonNotFound, reasonAlreadyDecided, "NOT_ENLISTED", reasonSealed, "SET_MISMATCH",
		"SET_REQUIRED", "UNDECIDED", "STALE", "GID_CONFLICT", "KEY_CONFLICT", "BRANCH_CONFLICT", "VOTE_CONFLICT", "COMMIT_CONFLICT"} {
		out[reason] = answered{err: ofCluster(reason, 0), final: true, undone: true}
	}
	for _, reason := range []string{reasonQuota, "DENIED", "UNIMPLEMENTED", "INTERNAL"} {
		out[reason] = answered{err: ofCluster(reason, 0), final: true, undone: true, blind: true}
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		final := code == codes.InvalidArgument || code == codes.Unimplemented || code == codes.PermissionDenied || code == codes.Unauthenticated
		a := answered{err: status.Error(code, "said by somebody between"), final: final, undone: final, blind: final}
		out["only "+code.String()] = a
		a.err = withInfo(code, "proxy.example", reasonSealed, 0)
		out["another's "+code.String()] = a
	}
	return out
}

// asks makes a request whose tries are answered one after the other, nil being success;
// the caller leaves when the last one was. Each stands for call, or the session's request.
var asks = map[string]func(t *testing.T, answers ...error) error{
	"a call": func(t *testing.T, answers ...error) error {
		c := lonely(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := call(ctx, c, bornGID, func(context.Context, grpc.ClientConnInterface) (*quoratev1.CommitResponse, error) {
			err := answers[0]
			if answers = answers[1:]; len(answers) == 0 {
				cancel()
			}
			return &quoratev1.CommitResponse{}, err
		})
		return err
	},
	"a frame": func(t *testing.T, answers ...error) error {
		c := lonely(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		attached := func() *stream {
			st := &stream{
				c: c, done: make(chan struct{}), out: frames.NewQueue[*quoratev1.SessionRequest](8),
				waiting: make(map[uint64]chan *quoratev1.SessionResponse), start: time.Now(),
			}
			st.ctx, st.cancel = context.WithCancelCause(c.ctx)
			c.sess.set(st, nil)
			return st
		}
		st := attached()
		heard := make(chan error, 1)
		go func() { _, err := c.sess.request(ctx, bornGID, &quoratev1.SessionRequest{}); heard <- err }()
		for len(answers) > 0 {
			select {
			case <-st.out.Ready():
			case err := <-heard: // it asks no more
				return err
			}
			for _, asked := range st.out.Take(nil) {
				err, last := answers[0], len(answers) == 1
				answers = answers[1:]
				if errors.Is(err, errStreamEnded) {
					broken := st
					if st = nil; !last {
						st = attached()
					} else {
						c.sess.set(nil, nil)
					}
					broken.fail()
				} else {
					if last {
						c.sess.set(nil, nil) // there is nobody to ask again
					}
					took := give(st, asked.GetId(), err)
					for deadline := time.Now().Add(10 * time.Second); len(took) > 0 && time.Now().Before(deadline); {
						runtime.Gosched()
					}
					if !last && st.ctx.Err() == nil && ended(err) {
						select {
						case <-st.ctx.Done():
						case <-time.After(10 * time.Second):
							t.Errorf("after %v the session is not left", err)
						}
						st = attached()
					}
				}
				if last {
					cancel()
				}
			}
		}
		return <-heard
	},
}

// give answers a frame, and returns the channel in which the answer waits to be taken.
func give(st *stream, id uint64, err error) chan *quoratev1.SessionResponse {
	st.mu.Lock()
	took := st.waiting[id]
	st.mu.Unlock()
	got := &quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{}}}
	if err != nil {
		text, _ := proto.Marshal(status.Convert(err).Proto())
		got.Frame = &quoratev1.SessionResponse_Error{Error: &quoratev1.SessionError{StatusProto: text}}
	}
	st.answer(got)
	return took
}

// ended says that an answer is a reason to leave the stream.
func ended(err error) bool { return err != nil && failureOf(err).reason == reasonNotLeader }

const bornGID = GID("01JD9S7KQ00000000000000000")

// lonely is a client that nobody answers.
func lonely(t *testing.T) *Client {
	c := &Client{cfg: defaultConfig(), live: newRegistry(), attached: make(map[string]*Attachment)}
	c.nodes = newNodes([]string{"127.0.0.1:1", "127.0.0.1:2"}, c.dial)
	c.sess = newSession(c)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() { c.cancel(); c.nodes.close() })
	return c
}

// kind is an error's kind, and the reason of a refusal.
func kind(err error) string {
	var unknown *OutcomeUnknownError
	var unavailable *UnavailableError
	var refused *RefusedError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &unknown):
		if unknown.GID != bornGID {
			return fmt.Sprintf("unknown, of %q", unknown.GID)
		}
		return "unknown"
	case errors.As(err, &unavailable):
		return "nothing was done"
	case errors.As(err, &refused):
		return "refused"
	}
	return fmt.Sprintf("%T", err)
}

func TestWhatAnAnswerMeans(t *testing.T) {
	for what, ask := range asks {
		lost := status.Error(codes.Unavailable, "the connection broke")
		if what == "a frame" {
			lost = errStreamEnded
		}
		for name, a := range answers() {
			t.Run(what+" answered "+name, func(t *testing.T) {
				t.Parallel()
				want := func(want string, answers ...error) {
					t.Helper()
					if err := ask(t, answers...); kind(err) != want {
						t.Errorf("after %v: %v, want %s", answers, err, want)
					}
				}
				switch {
				case a.final && a.blind:
					want("refused", a.err)
					want("unknown", lost, a.err)
					want("unknown", ofCluster(reasonOutcomeUnknown, 0), a.err)
				case a.final:
					want("refused", a.err)
					want("refused", lost, a.err)
				case a.undone:
					want("nothing was done", a.err)
					want("nothing was done", a.err, a.err)
					want("unknown", lost, a.err)
					want("unknown", a.err, lost, a.err)
					want("done", a.err, nil)
				default:
					want("unknown", a.err)
					want("unknown", a.err, ofCluster(reasonNoLeader, 0))
					want("done", a.err, nil)
				}
			})
		}
		t.Run(what+" under load", func(t *testing.T) {
			t.Parallel()
			busy := ofCluster(reasonQuota, time.Millisecond)
			for _, c := range []struct {
				want    string
				answers []error
			}{
				{"done", []error{busy, busy, busy, nil}},
				{"refused", []error{busy, busy, busy, busy, nil}},
				{"unknown", []error{lost, busy, busy, busy, nil}}, // four tries in all
				{"unknown", []error{lost, busy}},
			} {
				if err := ask(t, c.answers...); kind(err) != c.want {
					t.Errorf("after %d tries: %v, want %s", len(c.answers), err, c.want)
				}
			}
		})
	}
}
