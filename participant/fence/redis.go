package fence

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

//go:embed lua/call.lua
var luaCall string

//go:embed lua/adjust.lua
var luaAdjust string

//go:embed lua/sweep.lua
var luaSweep string

// RedisReply is what a client's call comes to: go-redis' *redis.Cmd.
type RedisReply interface{ Result() (any, error) }

// RedisClient sends one command: *redis.Client of github.com/redis/go-redis/v9, and what
// else has its shape, so that no client is linked here.
type RedisClient[R RedisReply] interface {
	Do(ctx context.Context, args ...any) R
}

// RedisPrefixDefault begins the fence's keys.
const RedisPrefixDefault = "quorate:fence:"

// redisTriesMax bounds how often a call decides anew because others changed its record.
const redisTriesMax = 100

// Redis is a fence in Redis. A call's business is a script: it and the call's record are
// one atomic step, which the append-only file holds whole or not at all.
//
// "Once" then holds as long as Redis loses nothing that it acknowledged: with
// `appendonly yes`, `appendfsync always`, no eviction, and no replica that could be
// promoted without the last writes. [NewRedis] looks, and refuses.
type Redis struct {
	do           func(ctx context.Context, args ...any) (any, error)
	prefix       string
	unsafe       bool
	why          error // what is unsafe, where that was allowed
	keyRetention time.Duration
	sweepEvery   time.Duration
	now          func() time.Time
	cluster      string
	sweepAfter   *atomic.Int64
}

// Of is the same fence as the cluster of that id sees it; see [Fence.Of].
func (r *Redis) Of(cluster string) *Redis {
	of := *r
	of.cluster = cluster
	return &of
}

// RedisOption is a setting of [NewRedis].
type RedisOption func(*Redis)

// RedisPrefix begins the fence's keys. In a Redis Cluster it must hold the hash tag of
// the business' keys, such as `{stock}:fence:`: one script reaches one slot.
func RedisPrefix(prefix string) RedisOption { return func(r *Redis) { r.prefix = prefix } }

// RedisAllowUnsafe takes a Redis that may lose what it acknowledged: a call may then
// happen twice, or be forgotten. [Redis.Unsafe] says why.
func RedisAllowUnsafe() RedisOption { return func(r *Redis) { r.unsafe = true } }

// RedisKeyRetention is how long records of keys (DTM's gids) are kept; see
// [KeyRetentionDefault].
func RedisKeyRetention(d time.Duration) RedisOption {
	return func(r *Redis) { r.keyRetention = max(d, time.Hour) }
}

// NewRedis makes a fence in the Redis of client, after it has looked whether that keeps
// what it acknowledges: [ErrUnsafe] if not.
func NewRedis[R RedisReply](ctx context.Context, client RedisClient[R], opts ...RedisOption) (*Redis, error) {
	r := &Redis{
		do:     func(ctx context.Context, args ...any) (any, error) { return client.Do(ctx, args...).Result() },
		prefix: RedisPrefixDefault, keyRetention: KeyRetentionDefault, sweepEvery: SweepIntervalDefault, now: time.Now, sweepAfter: new(atomic.Int64),
	}
	for _, o := range opts {
		o(r)
	}
	r.sweepAfter.Store(r.now().Add(r.sweepEvery).UnixMilli())
	err := r.probe(ctx)
	if errors.Is(err, ErrUnsafe) && r.unsafe {
		r.why, err = err, nil
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Unsafe says why this Redis may lose what it acknowledged; nil: it does not, as far as
// its settings go.
func (r *Redis) Unsafe() error { return r.why }

// Adjust adds delta to the integer at key, once for the call, unless it would fall below
// zero: that is [ErrRefused]. A repeat is answered by what was done, whatever the value is
// by then. An ending that would take it below zero is an error that is asked again.
func (r *Redis) Adjust(ctx context.Context, c Call, key string, delta int64) error {
	return r.Script(ctx, c, luaAdjust, []string{key}, delta, 0)
}

// Script runs a Lua script, once for the call, with KEYS and ARGV as EVAL gives them. It
// returns nothing when it is done, `{refused = why}` to refuse, `{err = why}` when it
// failed. Redis undoes nothing: a script must look first and write afterwards, and must
// not fail once it has written.
func (r *Redis) Script(ctx context.Context, c Call, script string, keys []string, args ...any) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := r.run(ctx, c, script, keys, args); err != nil {
		return err
	}
	r.sweepSometimes(ctx, c)
	return nil
}

// run decides by what it believes to stand, and tells the script to do it if that is
// what stands; else it decides anew.
func (r *Redis) run(ctx context.Context, c Call, script string, keys []string, args []any) error {
	standing, known := "", false // most calls come once, so nothing stands
	for range redisTriesMax {
		var was *Record
		if standing != "" {
			var err error
			if was, err = decodeRecord(standing); err != nil {
				return c.failed(err)
			}
		}
		s, how := decide(was, c), "set"
		switch {
		case s.run:
			how = "run"
		case s.err != nil && (known || was != nil):
			return s.err
		case s.err != nil:
			how = "peek" // what is believed has yet to be looked at
		}
		said, detail, err := r.eval(ctx, c, script, keys, args, standing, how, was, s)
		if err != nil {
			return c.failed(err)
		}
		switch said {
		case "standing":
			standing, known = detail, true
			continue
		case "swept":
			return c.failed(ErrSwept)
		case "refused":
			return c.failed(fmt.Errorf("%w: %s", ErrRefused, detail))
		case "failed":
			return c.failed(fmt.Errorf("the script failed: %s", detail))
		}
		return s.err
	}
	return c.failed(fmt.Errorf("%w: others have changed its record %d times meanwhile", ErrOngoing, redisTriesMax))
}

// eval runs one step.
func (r *Redis) eval(ctx context.Context, c Call, script string, keys []string, args []any, standing, how string, was *Record, s step) (said, detail string, err error) {
	failed := Record{State: StateOpen, Epoch: c.Epoch}
	refused := Record{State: StateRefused, Epoch: c.Epoch}
	if was != nil { // an ending leaves what stood
		failed = *was
		failed.Epoch = s.next.Epoch
	}
	afterRefusal, afterError := "", ""
	if c.Operation.forward() {
		if c.Epoch != (Epoch{}) || was != nil {
			afterError = failed.encode()
		}
		if c.refusals() {
			refused.Epoch = s.next.Epoch
			afterRefusal = refused.encode()
		}
	}
	ttl := int64(0)
	if c.born() == 0 {
		ttl = r.keyRetention.Milliseconds()
	}
	command := []any{"EVAL", strings.Replace(luaCall, "--[[BUSINESS]]", script, 1), 3 + len(keys),
		r.recordKey(c), r.prefix + "floor:" + c.Cluster, r.prefix + "born:" + c.Cluster}
	for _, k := range keys {
		command = append(command, k)
	}
	command = append(command, standing, s.next.encode(), how, strconv.FormatUint(c.born(), 10), ttl, afterRefusal, afterError)
	reply, err := r.do(ctx, append(command, args...)...)
	if err != nil {
		return "", "", err
	}
	words, ok := reply.([]any)
	if !ok || len(words) != 2 {
		return "", "", fmt.Errorf("redis answered %v, want two words", reply)
	}
	return fmt.Sprint(words[0]), fmt.Sprint(words[1]), nil
}

// recordKey names a call's record. Its parts are escaped, so that no two are alike.
func (r *Redis) recordKey(c Call) string {
	return r.prefix + "r:" + url.PathEscape(c.GID) + "/" + url.PathEscape(c.Branch) + "/" + url.PathEscape(c.Part)
}

// Send is the local transaction of a message's sender: the script runs, once, if and only
// if the message of gid is to be delivered. [ErrDone]: it was done before. [ErrLate]: the
// message has been rolled back.
func (r *Redis) Send(ctx context.Context, gid, script string, keys []string, args ...any) error {
	c, err := mark(gid, r.cluster, Action)
	if err != nil {
		return err
	}
	peeked, err := r.standing(ctx, c)
	switch {
	case err != nil:
		return err
	case peeked != nil && peeked.State == StateDone:
		return c.failed(ErrDone)
	}
	return r.run(ctx, c, script, keys, args)
}

// Committed tells whether what Send did stands. False is for ever: the mark is set here
// first.
func (r *Redis) Committed(ctx context.Context, gid string) (bool, error) {
	c, err := mark(gid, r.cluster, Cancel)
	if err != nil {
		return false, err
	}
	for range redisTriesMax {
		standing, err := r.standing(ctx, c)
		switch {
		case err != nil:
			return false, err
		case standing != nil && standing.State == StateDone:
			return true, nil
		case standing != nil && standing.State == StateFenced:
			return false, nil
		}
		was := ""
		if standing != nil {
			was = standing.encode()
		}
		said, _, err := r.eval(ctx, c, "", nil, nil, was, "set", standing, decide(standing, c))
		if err != nil {
			return false, c.failed(err)
		}
		if said == "swept" {
			return false, c.failed(ErrSwept)
		}
	}
	return false, c.failed(ErrOngoing)
}

// standing reads a record.
func (r *Redis) standing(ctx context.Context, c Call) (*Record, error) {
	said, detail, err := r.eval(ctx, c, "", nil, nil, "", "peek", nil, step{})
	switch {
	case err != nil:
		return nil, c.failed(err)
	case said == "swept":
		return nil, c.failed(ErrSwept)
	case said != "standing":
		return nil, nil
	}
	return decodeRecord(detail)
}

// Sweep drops the records of GIDs born at or below floorMS, of the cluster that
// [Redis.Of] named; a call of that age is refused
// from then on. Those of keys end by themselves. It returns how many went.
func (r *Redis) Sweep(ctx context.Context, floorMS uint64) (int64, error) {
	var total int64
	for {
		reply, err := r.do(ctx, "EVAL", luaSweep, 2, r.prefix+"floor:"+r.cluster, r.prefix+"born:"+r.cluster, strconv.FormatUint(floorMS, 10), sweepRowsMax)
		if err != nil {
			return total, fmt.Errorf("fence: sweep %s up to %d: %w", r.prefix, floorMS, err)
		}
		n, _ := reply.(int64)
		if total += n; n < sweepRowsMax {
			return total, nil
		}
	}
}

// sweepSometimes is Script's own sweep; see [Fence.Do].
func (r *Redis) sweepSometimes(ctx context.Context, c Call) {
	if sweepDue(r.sweepAfter, r.sweepEvery, r.now(), c) {
		ctx, cancel := context.WithTimeout(ctx, sweepBudget)
		defer cancel()
		_, _ = r.Of(c.Cluster).Sweep(ctx, c.FloorMS)
	}
}
