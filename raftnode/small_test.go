package raftnode

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestPeers_RepeatedSnapshotsAreAnAlarm(t *testing.T) {
	var alarms []int
	p := newPeers(func(_ raft.ServerID, index uint64, times int) {
		if index == 7 {
			alarms = append(alarms, times)
		}
	}, nil)
	for range 9 {
		p.installed("a", 7)
	}
	p.installed("a", 8)
	for range 3 {
		p.installed("a", 7) // begins anew
	}
	if len(alarms) != 2 || alarms[0] != 4 || alarms[1] != 8 {
		t.Errorf("alarms at %v", alarms)
	}
}

func TestPeers_AreOfOneTerm(t *testing.T) {
	p := newPeers(nil, nil)
	p.heard("a", 2, 10)
	p.heard("a", 2, 0) // a heartbeat shows nothing of the log
	p.heard("a", 2, 5) // and an answer that comes late nothing new
	if now, ok := p.get("a", 2); !ok || now.match != 10 || time.Since(now.lastContact) > time.Minute {
		t.Errorf("%+v %v", now, ok)
	}
	if _, ok := p.get("a", 3); ok {
		t.Error("what was heard in an earlier term counts")
	}
	p.heard("a", 3, 5)
	if now, _ := p.get("a", 3); now.match != 5 {
		t.Errorf("%+v: the log may have been shortened since", now)
	}
}

// Only voters count, an answer in another term or to an older round does not,
// and a leader without a vote does not count itself.
func TestRounds_Quorum(t *testing.T) {
	voters := func(ids ...raft.ServerID) (servers []raft.Server) {
		for _, id := range ids {
			servers = append(servers, raft.Server{ID: id, Suffrage: raft.Voter})
		}
		return append(servers, raft.Server{ID: "learner", Suffrage: raft.Nonvoter})
	}
	r := newRounds()
	old := r.stamp()
	round := r.begin()
	confirmed := func(servers []raft.Server) bool {
		ok, _ := r.confirmed(servers, "me", 5, round)
		return ok
	}
	three, five := voters("me", "a", "b"), voters("me", "a", "b", "c", "d")
	if !confirmed(voters("me")) {
		t.Error("alone it needs nobody")
	}
	r.answered("learner", 5, r.stamp())
	r.answered("a", 5, old)
	r.answered("b", 4, r.stamp())
	if confirmed(three) {
		t.Error("a non-voter, an old answer and one of another term made a quorum")
	}
	_, changed := r.confirmed(three, "me", 5, round)
	r.answered("a", 5, r.stamp())
	select {
	case <-changed:
	default:
		t.Error("nobody was woken")
	}
	r.answered("a", 5, old) // late
	if !confirmed(three) {
		t.Error("two of three are a quorum")
	}
	if confirmed(five) {
		t.Error("two of five are a quorum")
	}
	if confirmed(voters("me", "a", "b", "c")) || confirmed(voters("me", "c")) {
		t.Error("half of the voters are a quorum")
	}
	if confirmed(voters("a", "b", "c")) {
		t.Error("a leader that has no vote counted itself")
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if s := h.snapshot(); s.Count != 0 || s.P99 != 0 {
		t.Errorf("%+v", s)
	}
	for i := range 1000 {
		h.observe(time.Duration(i+1) * time.Millisecond)
	}
	h.observe(time.Minute)
	s := h.snapshot()
	var sum uint64
	for _, n := range s.Counts {
		sum += n
	}
	if s.Count != 1001 || sum != 1001 || len(s.Counts) != len(s.Bounds)+1 || s.Counts[len(s.Counts)-1] != 1 {
		t.Errorf("%+v", s)
	}
	// Of the latest 512: 490 ms to 1 s, and the minute.
	if s.P50 < 700*time.Millisecond || s.P50 > 800*time.Millisecond || s.P99 < 990*time.Millisecond || s.Max != time.Minute {
		t.Errorf("%v %v %v", s.P50, s.P99, s.Max)
	}
	if s.SumSeconds < 560 || s.SumSeconds > 561 {
		t.Errorf("%v", s.SumSeconds)
	}
}

// What the library calls an error is mostly news; what it calls debug is nothing.
func TestLibraryLogger(t *testing.T) {
	var out bytes.Buffer
	to := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l := libraryLogger(to, "raft").With("node", "n1")
	l.Error("bad", "peer", "n2")
	l.Warn("odd")
	l.Info("so")
	l.Debug("chatter")
	for _, want := range []string{`level=WARN msg=bad from=raft`, "peer=n2", "level=INFO msg=odd", "level=DEBUG msg=so"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "chatter") {
		t.Errorf("it chatters: %s", out.String())
	}
}

// The default of Config.Fatal ends the process; see TestDamage and the rest for
// what comes before. Here only that the first failure is the one reported.
func TestFailStop_ReportsOnce(t *testing.T) {
	var reported []error
	f := newFailStop(func(err error) { reported = append(reported, err) })
	first, second := errors.New("first"), errors.New("second")
	if f.cause() != nil {
		t.Error("it has failed already")
	}
	f.fail(first)
	f.fail(second)
	if len(reported) != 1 || !errors.Is(reported[0], first) || f.cause() != first {
		t.Errorf("%v", reported)
	}
	if err := f.guard("read", time.Second, func() error { return nil }); !errors.Is(err, ErrFailed) {
		t.Errorf("the disk is used after its failure: %v", err)
	}
	g := newFailStop(func(error) {})
	if err := g.guard("read", time.Second, func() error { panic("page 7") }); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "page 7") {
		t.Errorf("%v", err)
	}
}

func TestUUID(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := newUUID()
		b, err := parseUUID(id)
		if err != nil || formatUUID(b) != id || id[14] != '4' || seen[id] {
			t.Fatalf("%s: %v", id, err)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "n1", strings.ToUpper(newUUID()), newUUID() + "0", strings.ReplaceAll(newUUID(), "-", "")} {
		if _, err := parseUUID(bad); err == nil {
			t.Errorf("%q was taken for a UUID", bad)
		}
	}
}

// Whatever bytes follow, a greeting is judged without a panic, and only the
// node it means, in its cluster, welcomes it.
func FuzzGreeting(f *testing.F) {
	us := Identity{NodeID: newUUID(), ClusterID: newClusterID(1)}
	right, err := parseUUID(us.NodeID)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append(append([]byte{}, us.ClusterID[:]...), make([]byte, 16)...), right[:]...))
	f.Add(make([]byte, 48))
	f.Fuzz(func(t *testing.T, ids []byte) {
		if len(ids) != greetingBytes-len(greetingMagic) {
			return // never read
		}
		s := &stream{id: &identity{path: "identity.json", now: us}}
		answer, _, refusal := s.judge(ids)
		welcome := bytes.Equal(ids[:16], us.ClusterID[:]) && bytes.Equal(ids[32:], right[:])
		if welcome != (refusal == nil) || welcome != (answer == greetingWelcome) {
			t.Errorf("%x: %d, %v", ids, answer, refusal)
		}
	})
}

// A message holds few large entries or many small ones, one at least.
func TestBoundMessage(t *testing.T) {
	for _, test := range []struct{ bytes, entries, want int }{
		{1 << 10, 256, 256}, {100 << 10, 256, 40}, {384 << 10, 256, 10}, {messageBytesMax + 1, 2, 1}, {0, 0, 0},
	} {
		args := &raft.AppendEntriesRequest{}
		for i := range test.entries {
			args.Entries = append(args.Entries, &raft.Log{Index: uint64(i), Data: make([]byte, test.bytes)})
		}
		if boundMessage(args); len(args.Entries) != test.want {
			t.Errorf("%d of %d entries of %d bytes", len(args.Entries), test.entries, test.bytes)
		}
	}
}
