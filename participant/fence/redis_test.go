package fence_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// redisStore keeps counters in Redis.
type redisStore struct {
	f   *fence.Redis
	rdb *redis.Client
}

var _ fencetest.Sender = (*redisStore)(nil)

func dialRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1 // what is repeated is repeated by the tests
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func openRedis(t *testing.T, url string, opts ...fence.RedisOption) *redisStore {
	t.Helper()
	rdb := dialRedis(t, url)
	f, err := fence.NewRedis(t.Context(), rdb, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &redisStore{f: f, rdb: rdb}
}

const luaBusiness = `
if ARGV[2] ~= '' then return {refused = ARGV[2]} end
if ARGV[3] ~= '' then return {err = ARGV[3]} end
redis.call('INCRBY', KEYS[1], ARGV[1])`

func (s *redisStore) args(w fencetest.Work) (keys []string, args []any) {
	if w.During != nil {
		w.During()
	}
	refused, broken := "", ""
	if errors.Is(w.End, fence.ErrRefused) {
		refused = w.End.Error()
	} else if w.End != nil {
		broken = w.End.Error()
	}
	return []string{w.Counter}, []any{w.N, refused, broken}
}

// ended puts the business' error back into the script's words.
func ended(w fencetest.Work, err error) error {
	if err != nil && w.End != nil && strings.Contains(err.Error(), w.End.Error()) {
		return fmt.Errorf("%w: %w", w.End, err)
	}
	return err
}

func (s *redisStore) Do(ctx context.Context, c fence.Call, w fencetest.Work) error {
	keys, args := s.args(w)
	return ended(w, s.f.Script(ctx, c, luaBusiness, keys, args...))
}

func (s *redisStore) Send(ctx context.Context, gid string, w fencetest.Work) error {
	keys, args := s.args(w)
	return ended(w, s.f.Send(ctx, gid, luaBusiness, keys, args...))
}

func (s *redisStore) Committed(ctx context.Context, gid string) (bool, error) {
	return s.f.Committed(ctx, gid)
}

func (s *redisStore) Value(ctx context.Context, counter string) (int64, error) {
	n, err := s.rdb.Get(ctx, counter).Int64()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return n, err
}

func (s *redisStore) Sweep(ctx context.Context, cluster string, floorMS uint64) error {
	_, err := s.f.Of(cluster).Sweep(ctx, floorMS)
	return err
}

// TestS15_InRedis: "each effect once".
func TestS15_InRedis(t *testing.T) {
	s := openRedis(t, testdb.Redis(t))
	if err := s.f.Unsafe(); err != nil {
		t.Fatal(err)
	}
	fencetest.Run(t, func(*testing.T) fencetest.Store { return s })
}

// TestRedisAdjustChecksTheRepeatBeforeTheBalance: DTM's script looked at the balance
// first, so the repeat of a sale that had taken the last lamp was answered "refused".
func TestRedisAdjustChecksTheRepeatBeforeTheBalance(t *testing.T) {
	s := openRedis(t, testdb.Redis(t))
	ctx := t.Context()
	if err := s.rdb.Set(ctx, "lamps", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	sale := func(o fence.Operation, gid string, n int64) error {
		return s.f.Adjust(ctx, fence.Call{GID: gid, Branch: "1", Operation: o, Mode: "saga"}, "lamps", n)
	}
	mine, theirs := fencetest.GID(5000), fencetest.GID(5000)
	for range 2 {
		if err := sale(fence.Action, mine, -1); err != nil {
			t.Fatalf("the last lamp: %v", err)
		}
	}
	for range 2 {
		if err := sale(fence.Action, theirs, -1); !errors.Is(err, fence.ErrRefused) || !strings.Contains(err.Error(), "lamps is 0") {
			t.Fatalf("a lamp that is not there: %v", err)
		}
	}
	for range 2 {
		if err := errors.Join(sale(fence.Compensate, theirs, 1), sale(fence.Compensate, mine, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Value(ctx, "lamps"); err != nil || n != 1 {
		t.Fatalf("%d lamps (%v), want 1", n, err)
	}
	if err := s.rdb.Set(ctx, "lamps", "many", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := sale(fence.Action, fencetest.GID(5000), -1); err == nil || errors.Is(err, fence.ErrRefused) {
		t.Fatalf("a value that is no number: %v", err)
	}
}

// TestRedisKeepsRecordsAsLongAsTheyMatter: those of GIDs until the sweep, those of keys
// for the retention.
func TestRedisKeepsRecordsAsLongAsTheyMatter(t *testing.T) {
	s := openRedis(t, testdb.Redis(t), fence.RedisPrefix("own:"), fence.RedisKeyRetention(24*time.Hour))
	ctx := t.Context()
	if err := errors.Join(
		s.f.Adjust(ctx, fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action}, "n", 1),
		s.f.Adjust(ctx, fence.Call{GID: "order 1", Branch: "1", Operation: fence.Action, Dialect: fence.DTM}, "n", 1)); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]bool{"own:r:0*": false, "own:r:order*": true} {
		keys, err := s.rdb.Keys(ctx, pattern).Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("%s: %q, %v", pattern, keys, err)
		}
		ttl, err := s.rdb.TTL(ctx, keys[0]).Result()
		if err != nil || ttl > 0 != want || ttl > 24*time.Hour || want && ttl < 23*time.Hour {
			t.Errorf("%s lives for %v (%v)", keys[0], ttl, err)
		}
	}
	if n, err := s.f.Sweep(ctx, 5000); err != nil || n != 1 {
		t.Fatalf("swept %d records (%v), want 1", n, err)
	}
	if left, err := s.rdb.Keys(ctx, "own:r:*").Result(); err != nil || len(left) != 1 {
		t.Fatalf("left: %q, %v", left, err)
	}
}

// TestRedisScriptSweepsByTheFloorOfItsCalls, now and then: what is due of the call's own
// cluster, however much it is, and nothing else.
func TestRedisScriptSweepsByTheFloorOfItsCalls(t *testing.T) {
	s := openRedis(t, testdb.Redis(t), fence.RedisPrefix("sweeps:"))
	now := time.Now()
	fence.SetRedisNow(s.f, func() time.Time { return now })
	ctx := t.Context()
	call := func(cluster, gid string, floor uint64) error {
		c := fence.Call{GID: gid, Branch: "1", Operation: fence.Action, Cluster: cluster, FloorMS: floor, ClockMS: 10_000}
		return s.f.Adjust(ctx, c, "sweeps:n", 1)
	}
	old, young, theirs := fencetest.GID(4000), fencetest.GID(6000), fencetest.GID(4000)
	for _, c := range []struct{ cluster, gid string }{{"ours", old}, {"ours", young}, {"theirs", theirs}} {
		if err := call(c.cluster, c.gid, 0); err != nil {
			t.Fatal(err)
		}
	}
	const many = 2100
	err := s.rdb.Eval(ctx, `for i = 1, tonumber(ARGV[1]) do
  local key = 'sweeps:r:old/' .. i
  redis.call('SET', key, 'done 1.1 ')
  redis.call('ZADD', KEYS[1], 4500, key)
end`, []string{"sweeps:born:ours"}, many).Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if err := call("ours", young, 5000); err != nil { // it sweeps
		t.Fatal(err)
	}
	left, err := s.rdb.Keys(ctx, "sweeps:r:*").Result()
	if err != nil || len(left) != 2 {
		t.Errorf("%d records are left (%v), want the young one and theirs: %.200q", len(left), err, left)
	}
	if err := call("ours", old, 0); !errors.Is(err, fence.ErrSwept) {
		t.Errorf("a swept call: %v", err)
	}
	if err := errors.Join(call("ours", young, 0), call("theirs", theirs, 0)); err != nil {
		t.Error(err)
	}
	if n, err := s.Value(ctx, "sweeps:n"); err != nil || n != 3 {
		t.Errorf("the counter is %d (%v), want 3", n, err)
	}
}

// TestRedisThatMayForgetIsRefused: each setting by itself.
func TestRedisThatMayForgetIsRefused(t *testing.T) {
	t.Parallel()
	server, err := testdb.StartRedis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(server.Kill(), server.Close()) }) // it does not end while it rewrites its file
	rdb := dialRedis(t, server.DSN())
	ctx := t.Context()
	for name, value := range map[string][2]string{
		"appendonly": {"no", "yes"}, "appendfsync": {"everysec", "always"},
		"no-appendfsync-on-rewrite": {"yes", "no"}, "maxmemory-policy": {"allkeys-lru", "noeviction"},
	} {
		if err := rdb.ConfigSet(ctx, name, value[0]).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := fence.NewRedis(ctx, rdb); !errors.Is(err, fence.ErrUnsafe) || !strings.Contains(err.Error(), name+" is") {
			t.Errorf("%s %s: %v", name, value[0], err)
		}
		f, err := fence.NewRedis(ctx, rdb, fence.RedisAllowUnsafe())
		if err != nil || !errors.Is(f.Unsafe(), fence.ErrUnsafe) {
			t.Errorf("%s %s, allowed: %v", name, value[0], err)
		}
		if err := rdb.ConfigSet(ctx, name, value[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rdb.Do(ctx, "ACL", "SETUSER", "limited", "on", ">x", "~*", "+@all", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	o := *rdb.Options()
	o.Username, o.Password = "limited", "x"
	limited := redis.NewClient(&o)
	defer limited.Close()
	if _, err := fence.NewRedis(ctx, limited); !errors.Is(err, fence.ErrUnsafe) || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("without CONFIG: %v", err)
	}
	if _, err := fence.NewRedis(ctx, rdb); err != nil {
		t.Errorf("with everything as it should be: %v", err)
	}
}

// TestRedisRemembersOverAKill: what was answered is there after kill -9, and is not done
// again.
func TestRedisRemembersOverAKill(t *testing.T) {
	t.Parallel()
	server, err := testdb.StartRedis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	s := openRedis(t, server.DSN())
	ctx := t.Context()
	for i := range 5 {
		c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action, Mode: "saga"}
		if err := s.f.Adjust(ctx, c, "n", 1); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(server.Kill(), server.Restart(ctx)); err != nil {
			t.Fatal(err)
		}
		if err := s.again(ctx, func() error { return s.f.Adjust(ctx, c, "n", 1) }); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Value(ctx, "n"); err != nil || n != int64(i+1) {
			t.Fatalf("after %d calls and kills the counter is %d (%v)", i+1, n, err)
		}
	}
}

// again repeats a call whose answer was lost with a connection.
func (s *redisStore) again(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}
