package links

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Mischief is what a relay does with messages. The zero value is none.
//
// A copy is sent only of what was answered OK, or whose answer was lost: of a
// call that was refused its caller knows that it did nothing, and a network that
// made it happen later would make a liar of the caller, not of the cluster.
type Mischief struct {
	// Share of the messages that something is done with: they are sent twice, sent
	// again late, delayed so that later ones overtake them, or their answer is lost.
	Share float64
	// LateMax is how much later the last copy comes; DelayMax bounds a delay.
	LateMax, DelayMax time.Duration
}

// Meddled counts what relays did: the evidence.
type Meddled struct {
	// Messages that passed: calls, and frames of sessions.
	Messages int64 `json:"messages"`
	// Doubled were sent twice at once, Late were sent again later, Elsewhere of
	// these through another node or in a later session.
	Doubled   int64 `json:"doubled"`
	Late      int64 `json:"late"`
	Elsewhere int64 `json:"elsewhere"`
	// Delayed could be overtaken by later ones.
	Delayed int64 `json:"delayed"`
	// Unanswered took effect, and the caller was told that the connection broke.
	Unanswered int64 `json:"unanswered"`
}

// Minus is what was done since d was counted.
func (m Meddled) Minus(d Meddled) Meddled {
	return Meddled{m.Messages - d.Messages, m.Doubled - d.Doubled, m.Late - d.Late, m.Elsewhere - d.Elsewhere, m.Delayed - d.Delayed, m.Unanswered - d.Unanswered}
}

// All is how many messages something was done with.
func (m Meddled) All() int64 { return m.Doubled + m.Late + m.Delayed + m.Unanswered }

func (m Meddled) String() string {
	return fmt.Sprintf("of %d messages %d doubled, %d late (%d elsewhere), %d delayed, %d unanswered", m.Messages, m.Doubled, m.Late, m.Elsewhere, m.Delayed, m.Unanswered)
}

// Relays are gRPC proxies, one before each node, that know calls and frames
// where the links know bytes.
type Relays struct {
	suspect  func(address string) // told that a node does not answer
	mischief atomic.Pointer[Mischief]
	closing  chan struct{}
	once     sync.Once
	wait     sync.WaitGroup

	messages, doubled, late, elsewhere, delayed, unanswered atomic.Int64

	mu       sync.Mutex
	rand     *rand.Rand
	relays   []*relay
	sessions map[string]*session // by holder: the newest of each process
}

// relay is the proxy before one node.
type relay struct {
	*Relays
	address string // the node's
	server  *grpc.Server
	node    *grpc.ClientConn
}

// NewRelays returns relays that do nothing yet. Suspect is told when a node at
// an address does not answer; it may be nil.
func NewRelays(seed uint64, suspect func(address string)) *Relays {
	if suspect == nil {
		suspect = func(string) {}
	}
	r := &Relays{suspect: suspect, closing: make(chan struct{}), rand: rand.New(rand.NewPCG(seed, 0x72656c6179)), sessions: map[string]*session{}}
	r.mischief.Store(&Mischief{})
	return r
}

// Before starts a relay before the node at an address and returns its own.
func (r *Relays) Before(address string) (string, error) {
	node, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(relayBytesMax)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	relay := &relay{Relays: r, address: address, node: node}
	relay.server = grpc.NewServer(
		grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(relay.handle), grpc.MaxRecvMsgSize(relayBytesMax),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Millisecond, PermitWithoutStream: true}))
	r.mu.Lock()
	r.relays = append(r.relays, relay)
	r.mu.Unlock()
	r.wait.Go(func() { _ = relay.server.Serve(listener) })
	return listener.Addr().String(), nil
}

const (
	// relayBytesMax bounds a message: a page of a list may be long.
	relayBytesMax = 64 << 20
	// copyTimeout bounds a call that nobody waits for.
	copyTimeout = 5 * time.Second
)

// Set has the relays make mischief, or none.
func (r *Relays) Set(m Mischief) { r.mischief.Store(&m) }

// Counts is what was done so far.
func (r *Relays) Counts() Meddled {
	return Meddled{r.messages.Load(), r.doubled.Load(), r.late.Load(), r.elsewhere.Load(), r.delayed.Load(), r.unanswered.Load()}
}

// Close ends every relay; copies that were due are dropped.
func (r *Relays) Close() {
	r.once.Do(func() { close(r.closing) })
	r.mu.Lock()
	relays := r.relays
	r.mu.Unlock()
	for _, relay := range relays {
		relay.server.Stop()
		_ = relay.node.Close()
	}
	r.wait.Wait()
}

// trick is what is done with one message.
type trick int

const (
	trickNone trick = iota
	trickDouble
	trickLate
	trickDelay
	trickNoAnswer
)

// draw decides what is done with a message, and how much later.
func (r *Relays) draw(tricks ...trick) (trick, time.Duration) {
	r.messages.Add(1)
	m := *r.mischief.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Share <= 0 || r.rand.Float64() >= m.Share {
		return trickNone, 0
	}
	switch t := tricks[r.rand.IntN(len(tricks))]; t {
	case trickDelay:
		return t, time.Duration(r.rand.Int64N(int64(max(1, m.DelayMax))))
	case trickLate:
		return t, time.Duration(r.rand.Int64N(int64(max(1, m.LateMax))))
	default:
		return t, 0
	}
}

// coin is heads half of the time.
func (r *Relays) coin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rand.IntN(2) == 0
}

// elsewhereThan draws a relay, another one half of the time.
func (r *Relays) elsewhereThan(one *relay) *relay {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rand.IntN(2) == 0 {
		return one
	}
	return r.relays[r.rand.IntN(len(r.relays))]
}

// later does something after a while, unless the relays end before.
func (r *Relays) later(after time.Duration, do func()) {
	r.wait.Go(func() {
		select {
		case <-time.After(after):
			do()
		case <-r.closing:
		}
	})
}

// handle relays one call.
func (r *relay) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	sent, _ := metadata.FromIncomingContext(stream.Context())
	ctx := metadata.NewOutgoingContext(stream.Context(), outgoing(sent))
	var err error
	switch {
	case method == quoratev1.ParticipantService_Session_FullMethodName:
		err = r.session(ctx, stream)
	case unary[method]:
		err = r.unary(ctx, method, stream)
	default:
		err = r.stream(ctx, method, stream)
	}
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unavailable && len(s.Details()) == 0 {
		r.suspect(r.address)
	}
	return err
}

// unary relays a call of one message and one answer.
func (r *relay) unary(ctx context.Context, method string, stream grpc.ServerStream) error {
	var request, answer []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	what, after := trickNone, time.Duration(0)
	if tricks := meddlesome[method]; tricks != nil {
		what, after = r.draw(tricks...)
	}
	if what == trickDelay {
		r.delayed.Add(1)
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	var header, trailer metadata.MD
	err := r.node.Invoke(ctx, method, &request, &answer, grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil {
		r.again(ctx, what, after, method, request)
	}
	_ = stream.SetHeader(header)
	stream.SetTrailer(trailer)
	if err != nil {
		return err
	}
	if what == trickNoAnswer {
		r.unanswered.Add(1)
		return status.Error(codes.Unavailable, "the connection broke before the answer came")
	}
	return stream.SendMsg(&answer)
}

// again sends a call that was answered once more.
func (r *relay) again(ctx context.Context, what trick, after time.Duration, method string, request []byte) {
	sent, _ := metadata.FromOutgoingContext(ctx)
	send := func(to *relay) {
		ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), sent), copyTimeout)
		defer cancel()
		var answer []byte
		_ = to.node.Invoke(ctx, method, &request, &answer)
	}
	switch what {
	case trickDouble:
		r.doubled.Add(1)
		send(r)
	case trickLate:
		r.later(after, func() {
			to := r.elsewhereThan(r)
			r.late.Add(1)
			if to != r {
				r.elsewhere.Add(1)
			}
			send(to)
		})
	}
}

// stream relays a call of many messages, both ways, as it is.
func (r *relay) stream(ctx context.Context, method string, stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node, err := r.node.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var message []byte
			if stream.RecvMsg(&message) != nil {
				_ = node.CloseSend()
				return
			}
			if node.SendMsg(&message) != nil {
				return
			}
		}
	}()
	for {
		var message []byte
		if err := node.RecvMsg(&message); err != nil {
			stream.SetTrailer(node.Trailer())
			return ended(err)
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

// ended is nil for a stream that ended in order.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// unary holds the methods with one message and one answer.
var unary = func() map[string]bool {
	known := map[string]bool{}
	for _, service := range []grpc.ServiceDesc{
		quoratev1.TransactionService_ServiceDesc, quoratev1.ParticipantService_ServiceDesc, quoratev1.ClusterService_ServiceDesc,
	} {
		for _, m := range service.Methods {
			known["/"+service.ServiceName+"/"+m.MethodName] = true
		}
	}
	return known
}()

// meddlesome holds what may be done with calls of each method: with none of a
// method that is not here, such as the administration's.
var meddlesome = map[string][]trick{
	quoratev1.TransactionService_Begin_FullMethodName:    changes,
	quoratev1.TransactionService_Enlist_FullMethodName:   changes,
	quoratev1.TransactionService_Vote_FullMethodName:     changes,
	quoratev1.TransactionService_Commit_FullMethodName:   changes,
	quoratev1.TransactionService_Rollback_FullMethodName: changes,
	quoratev1.TransactionService_Submit_FullMethodName:   changes,
	quoratev1.ParticipantService_Report_FullMethodName:   changes,
	quoratev1.TransactionService_Get_FullMethodName:      reads,
	quoratev1.TransactionService_List_FullMethodName:     reads,
	// An Inquire may end an unseen transaction whose time is over: a late copy
	// would be an act that nobody has asked for at that time.
	quoratev1.ParticipantService_Inquire_FullMethodName: reads,
}

var (
	changes = []trick{trickDouble, trickLate, trickDelay, trickNoAnswer}
	reads   = []trick{trickDouble, trickDelay}
)

// outgoing is the metadata to pass on; what gRPC makes itself is left out.
func outgoing(sent metadata.MD) metadata.MD {
	out := sent.Copy()
	for _, name := range []string{":authority", "content-type", "user-agent", "grpc-accept-encoding", "te"} {
		out.Delete(name)
	}
	return out
}

// rawCodec passes messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// Name is that of the codec in whose place it stands.
func (rawCodec) Name() string { return "proto" }
