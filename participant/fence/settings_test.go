package fence_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// fakeRedis answers CONFIG GET and INFO, in the shapes that clients have.
type fakeRedis struct {
	settings map[string]string
	info     string
	shape    string
	broken   map[string]error // by a command's last word
}

type fakeReply struct {
	said any
	err  error
}

func (r fakeReply) Result() (any, error) { return r.said, r.err }

func (f *fakeRedis) Do(_ context.Context, args ...any) fakeReply {
	last, _ := args[len(args)-1].(string)
	if err := f.broken[last]; err != nil {
		return fakeReply{err: err}
	}
	if args[0] == "INFO" {
		return fakeReply{said: f.info}
	}
	switch value := f.settings[last]; f.shape {
	case "list":
		return fakeReply{said: []any{"other", "x", last, value}}
	case "map":
		return fakeReply{said: map[string]any{last: value}}
	default:
		return fakeReply{said: map[any]any{last: value}}
	}
}

func safeRedis(shape string) *fakeRedis {
	return &fakeRedis{
		settings: map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "maxmemory-policy": "noeviction"},
		info:     "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", shape: shape, broken: map[string]error{},
	}
}

// Each thing for which Redis may forget is seen by itself, whatever the client's shape of a
// reply; a connection that is lost is no such thing, and is not allowed with them.
func TestRedisIsLookedAt(t *testing.T) {
	noConfig, lost := errors.New("NOPERM this user has no permissions to run the 'config|get' command"), errors.New("EOF")
	for _, shape := range []string{"list", "map", "any"} {
		for _, c := range []struct {
			change func(*fakeRedis)
			words  string // of what is unsafe; "": nothing is
		}{
			{func(*fakeRedis) {}, ""},
			{func(f *fakeRedis) { f.settings["appendonly"] = "no" }, "appendonly is"},
			{func(f *fakeRedis) { delete(f.settings, "appendfsync") }, "appendfsync is"},
			{func(f *fakeRedis) { f.info = "role:slave\r\nconnected_slaves:0\r\n" }, "it is a replica"},
			{func(f *fakeRedis) { f.info = "role:master\r\nconnected_slaves:1\r\n" }, "it has replicas"},
			{func(f *fakeRedis) { f.broken["maxmemory-policy"] = noConfig }, "maxmemory-policy cannot be read"},
		} {
			f := safeRedis(shape)
			c.change(f)
			_, err := fence.NewRedis(t.Context(), f)
			if c.words == "" && err != nil || c.words != "" && (!errors.Is(err, fence.ErrUnsafe) || !strings.Contains(err.Error(), c.words)) {
				t.Errorf("%s: %v, want %q", shape, err, c.words)
			}
			allowed, err := fence.NewRedis(t.Context(), f, fence.RedisAllowUnsafe())
			if err != nil || (allowed.Unsafe() == nil) != (c.words == "") {
				t.Errorf("%s, allowed: %v", shape, err)
			}
		}
		for _, last := range []string{"appendonly", "replication"} {
			f := safeRedis(shape)
			f.broken[last] = lost
			if _, err := fence.NewRedis(t.Context(), f, fence.RedisAllowUnsafe()); !errors.Is(err, lost) || errors.Is(err, fence.ErrUnsafe) {
				t.Errorf("%s, the connection is lost at %s: %v", shape, last, err)
			}
		}
	}
}

// What a check-back asks after and has been swept is no rollback, in Redis either.
func TestRedisCheckBackOfWhatWasSwept(t *testing.T) {
	s := openRedis(t, testdb.Redis(t), fence.RedisPrefix("marks:"))
	ctx, f, gid := t.Context(), s.f.Of("ours"), fencetest.GID(4000)
	if sent, err := f.Committed(ctx, gid); err != nil || sent {
		t.Fatal(sent, err)
	}
	if n, err := f.Sweep(ctx, 4000); err != nil || n != 1 {
		t.Fatalf("swept %d marks (%v), want 1", n, err)
	}
	if _, err := f.Committed(ctx, gid); !errors.Is(err, fence.ErrSwept) {
		t.Errorf("the check-back: %v", err)
	}
	if err := f.Send(ctx, gid, "return", nil); !errors.Is(err, fence.ErrSwept) {
		t.Errorf("the sender: %v", err)
	}
}

// Keys are kept as long as was asked for, and 0 is no sweep at all.
func TestSettingsOfSweeps(t *testing.T) {
	s := openSQL(t, fence.SQLite, fence.KeyRetention(2*time.Hour), fence.SweepInterval(0))
	now := time.Now()
	fence.SetNow(s.f, func() time.Time { return now })
	ctx := t.Context()
	call := func(c fence.Call) {
		t.Helper()
		c.Branch, c.Operation, c.ClockMS = "1", fence.Action, 10_000
		if err := s.Do(ctx, c, fencetest.Work{Counter: "n", N: 1}); err != nil {
			t.Fatal(err)
		}
	}
	call(fence.Call{GID: "order-1", Dialect: fence.DTM})
	call(fence.Call{GID: fencetest.GID(4000)})
	now = now.Add(2*time.Hour - time.Minute)
	call(fence.Call{GID: fencetest.GID(6000), FloorMS: 5000})
	if n := s.rows(t); n != 3 {
		t.Errorf("%d rows though nobody sweeps, want 3", n)
	}
	if n, err := s.f.Sweep(ctx, s.db, 0); err != nil || n != 0 {
		t.Errorf("a key that is young yet: swept %d (%v)", n, err)
	}
	now = now.Add(2 * time.Minute)
	if n, err := s.f.Sweep(ctx, s.db, 0); err != nil || n != 1 {
		t.Errorf("a key that is old: swept %d (%v), want 1", n, err)
	}
	for name, o := range map[string]fence.Option{"wait": fence.Wait(0), "retention": fence.KeyRetention(time.Minute)} {
		if _, err := fence.New(fence.SQLite, o); err == nil {
			t.Errorf("a bad %s was taken", name)
		}
	}
	if _, err := fence.New("oracle"); err == nil {
		t.Error("an unknown database was taken")
	}
}
