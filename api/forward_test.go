package api

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// patience is a follower's wait for a leader that comes, however busy the machine.
const patience = 30 * time.Second

// pair serves a leader, and a follower that names an address as the leader's and
// waits so long for one that answers.
func pair(t *testing.T, wait time.Duration, through func(leader string) string) (follower, leader *node, followerFake, leaderFake *fake) {
	t.Helper()
	leaderFake, followerFake = newFake(), newFake()
	leader = serve(t, Config{NodeID: "n2"}, leaderFake, newFakeCluster())
	address := leader.grpc
	if through != nil {
		address = through(leader.grpc)
	}
	followerFake.fail = &coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: address, Term: 3}}
	follower = serve(t, Config{NodeID: "n1", LeaderWait: wait}, followerFake, newFakeCluster())
	return follower, leader, followerFake, leaderFake
}

// TestForwardOneHop: a caller over HTTP need not know who leads.
func TestForwardOneHop(t *testing.T) {
	follower, _, followerFake, leaderFake := pair(t, patience, nil)
	code, body, _ := follower.request(t, "POST", "/v1/transactions", `{"key":"order-1"}`)
	if header, _ := body["header"].(map[string]any); code != 200 || header["node_id"] != "n2" {
		t.Fatalf("answered %d %v", code, body)
	}
	begin := leaderFake.last("Begin").(*logpb.Begin)
	if begin.GetKey() != "order-1" || begin.GetNamespace() != "default" || !strings.HasPrefix(begin.GetInitiator(), "127.0.0.1:") {
		t.Errorf("the leader was asked %v", begin)
	}
	if followerFake.called("Begin") != 1 || leaderFake.called("Begin") != 1 {
		t.Errorf("called %d and %d times, want once each", followerFake.called("Begin"), leaderFake.called("Begin"))
	}
	// A refusal of the leader's is the answer.
	leaderFake.setFail(&coordinator.Refusal{Code: fsm.GIDConflict, GID: testGID})
	code, body, _ = follower.request(t, "POST", "/v1/transactions", `{}`)
	if reason, _ := jsonReason(t, body); code != http.StatusConflict || reason != "GID_CONFLICT" {
		t.Errorf("answered %d %v", code, body)
	}
}

// TestForwardedCallIsNotForwardedAgain: two nodes that take each other for the
// leader must not play ping-pong.
func TestForwardedCallIsNotForwardedAgain(t *testing.T) {
	follower, _, _, leaderFake := pair(t, 300*time.Millisecond, nil)
	leaderFake.setFail(&coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n1", GRPCAddress: follower.grpc}})
	code, body, _ := follower.request(t, "POST", "/v1/transactions", `{}`)
	if reason, _ := jsonReason(t, body); code != 503 || reason != "NO_LEADER" {
		t.Errorf("answered %d %v", code, body)
	}
	req, _ := http.NewRequestWithContext(within(t), http.MethodPost, "http://"+follower.http+"/v1/transactions", strings.NewReader("{}"))
	req.Header.Set("Quorate-Hop", "1")
	before := leaderFake.called("Begin")
	res, err := follower.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable || leaderFake.called("Begin") != before {
		t.Errorf("a call that was forwarded once was forwarded again: %s", res.Status)
	}
}

// TestForwardFollowsAnElection: NOT_LEADER and a connection that never came
// about are the only reasons to try again.
func TestForwardFollowsAnElection(t *testing.T) {
	follower, leader, followerFake, leaderFake := pair(t, patience, func(string) string {
		return net.JoinHostPort("127.0.0.1", "1") // nobody listens there
	})
	followerFake.on = func(method string) {
		if followerFake.called(method) == 3 {
			followerFake.setFail(&coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: leader.grpc}})
		}
	}
	code, body, _ := follower.request(t, "POST", "/v1/transactions", `{}`)
	if code != 200 || leaderFake.called("Begin") != 1 {
		t.Errorf("answered %d %v after %d calls of the leader", code, body, leaderFake.called("Begin"))
	}
}

// TestForwardKeepsUnknownUnknown: the leader's connection breaks after it took
// the call. The call is not made again, and the answer does not say "failed".
func TestForwardKeepsUnknownUnknown(t *testing.T) {
	var proxied *cutter
	follower, _, _, leaderFake := pair(t, patience, func(leader string) string {
		proxied = newCutter(t, leader)
		return proxied.address
	})
	leaderFake.on = func(string) { proxied.cut() }
	gid := testGID.String()
	code, body, _ := follower.request(t, "POST", "/v1/transactions/"+gid+":commit", `{}`)
	reason, metadata := jsonReason(t, body)
	if code != http.StatusGatewayTimeout || reason != "OUTCOME_UNKNOWN" || metadata["gid"] != gid {
		t.Errorf("answered %d %v", code, body)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return leaderFake.called("Commit") > 0 }, "the leader's handler to go on")
	if got := leaderFake.called("Commit"); got != 1 {
		t.Errorf("the leader was asked %d times, want once", got)
	}
}

// TestForwardRepeatsReads: a read that was cut off changed nothing.
func TestForwardRepeatsReads(t *testing.T) {
	var proxied *cutter
	follower, _, _, leaderFake := pair(t, patience, func(leader string) string {
		proxied = newCutter(t, leader)
		return proxied.address
	})
	var first atomic.Bool
	leaderFake.on = func(string) {
		if first.CompareAndSwap(false, true) {
			proxied.cut()
		}
	}
	code, body, _ := follower.request(t, "GET", "/v1/transactions/"+testGID.String(), "")
	if code != 200 || leaderFake.called("Get") != 2 {
		t.Errorf("answered %d %v after %d calls", code, body, leaderFake.called("Get"))
	}
}

// TestHoldWaitsForALeader: an election looks like a slow call.
func TestHoldWaitsForALeader(t *testing.T) {
	c := newFake()
	c.fail = coordinator.ErrNoLeader
	n := serve(t, Config{LeaderWait: 10 * time.Second}, c, newFakeCluster())
	c.on = func(method string) {
		if c.called(method) == 3 {
			c.setFail(nil)
		}
	}
	for _, h := range handlers()[:1] {
		if _, err := h.call(within(t), n); err != nil {
			t.Fatal(err)
		}
	}
	if c.called("Begin") != 4 {
		t.Errorf("tried %d times", c.called("Begin"))
	}
}

// TestHoldGivesUp after its bound, with the last leader's name.
func TestHoldGivesUp(t *testing.T) {
	c, cluster := newFake(), newFakeCluster()
	n := serve(t, Config{LeaderWait: 30 * time.Millisecond}, c, cluster)
	testkit.Eventually(t, 5*time.Second, func() bool { return n.server.lastLeader() == "n1" })
	cluster.set(func(s *ClusterStatus) { s.LeaderID, s.Role = "", RoleCandidate })
	c.setFail(coordinator.ErrNoLeader)
	begun := time.Now()
	_, err := handlers()[0].call(within(t), n)
	if got, metadata := wireReason(t, err); got != ReasonNoLeader || metadata["last_known_leader"] != "n1" || metadata["term"] != "3" {
		t.Errorf("got %v with %v", err, metadata)
	}
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("gave up after %v", took)
	}
}

// TestHoldEndsBeforeItsCaller: a caller with less patience than the node hears that
// nothing was done, and need not take the outcome for unknown.
func TestHoldEndsBeforeItsCaller(t *testing.T) {
	c := newFake()
	c.fail = coordinator.ErrNoLeader
	n := serve(t, Config{LeaderWait: time.Hour}, c, newFakeCluster())
	ctx, cancel := context.WithTimeout(within(t), 2*time.Second)
	defer cancel()
	if _, err := handlers()[0].call(ctx, n); ReasonOf(err) != ReasonNoLeader || ctx.Err() != nil {
		t.Errorf("got %v; the caller's time is over: %v", err, ctx.Err())
	}
}

// TestHeldCallsEndWithTheServer: Stop does not wait for a leader.
func TestHeldCallsEndWithTheServer(t *testing.T) {
	c := newFake()
	c.fail = coordinator.ErrNoLeader
	n := serve(t, Config{LeaderWait: time.Hour}, c, newFakeCluster())
	ended := make(chan error, 1)
	go func() {
		_, err := handlers()[0].call(within(t), n)
		ended <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return c.called("Begin") > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n.server.Stop(ctx)
	if err := <-ended; ReasonOf(err) != ReasonNoLeader || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("got %v", err)
	}
	if ctx.Err() != nil {
		t.Error("Stop took its whole time")
	}
}

// cutter is a TCP relay whose connections can be cut.
type cutter struct {
	address string
	conns   chan net.Conn
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l := testkit.Listen(t)
	c := &cutter{address: l.Addr().String(), conns: make(chan net.Conn, 64)}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			c.conns <- in
			c.conns <- out
			go relay(in, out)
			go relay(out, in)
		}
	}()
	t.Cleanup(c.cut)
	return c
}

func relay(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// cut closes every connection there is.
func (c *cutter) cut() {
	for {
		select {
		case conn := <-c.conns:
			_ = conn.Close()
		default:
			return
		}
	}
}
