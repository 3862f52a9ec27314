package participant

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// sink takes what is sent on a stream.
type sink struct {
	quoratev1.ParticipantService_SessionClient
	messages int
	ids      []uint64
	closed   bool
}

func (s *sink) Send(m *quoratev1.SessionRequest) error {
	s.messages++
	for _, req := range frames.Requests(m) {
		s.ids = append(s.ids, req.GetId())
	}
	return nil
}

func (s *sink) CloseSend() error { s.closed = true; return nil }

// All that was queued is sent, in its order, however little goes into one message, and then
// that nothing more comes.
func TestAllThatIsQueuedIsSent(t *testing.T) {
	for batch, messages := range map[int]int{1: 10, 3: 4, 10: 1, 64: 1} {
		s := &sink{}
		st := &stream{out: frames.NewQueue[*quoratev1.SessionRequest](64), rpc: s, batch: batch}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		st.ctx = ctx
		var want []uint64
		for id := range uint64(10) {
			want = append(want, id+1)
			if err := st.send(&quoratev1.SessionRequest{Id: id + 1}); err != nil {
				t.Fatal(err)
			}
		}
		st.closeSend()
		st.sendAll()
		if !slices.Equal(s.ids, want) || s.messages != messages || !s.closed {
			t.Errorf("%d a message: %v in %d messages, closed %t", batch, s.ids, s.messages, s.closed)
		}
	}
}

// A node may be told of by several addresses: the first one is asked.
func TestNodes_AHintOfSeveralAddresses(t *testing.T) {
	n := newNodes([]string{"a", "b"}, func(string) (*grpc.ClientConn, error) { return nil, nil })
	if !n.failed("a", "x:1,y:1") {
		t.Error("a hint that is new is not followed")
	}
	if address, _, err := n.pick(); address != "x:1" || err != nil {
		t.Errorf("asked %s, %v", address, err)
	}
}
