package coordinator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// A report with which nothing goes on, and for whose transaction's end nobody waits,
// goes along with the next command that a caller has appended. An entry of its own
// would be written just then, and who decides one transaction after another would wait
// for the disk twice in turn. Where no caller comes it goes by itself, after
// Settings.ReportRideMax.
//
// Reports that are not appended yet when the leadership goes are said again to the next
// leader, as those are that were never heard.

const (
	// ridersMax bounds the commands that wait; more than that are worth an entry.
	ridersMax = 64
	// ridersAlongMax bounds those of one proposal, which its caller waits for.
	ridersAlongMax = 16
)

// riders wait for a caller's proposal.
type riders struct {
	most time.Duration
	add  func(...batched) // proposes those whose time is over
	some atomic.Bool      // any wait: callers look at no lock for nothing

	mu      sync.Mutex
	waiting []rider // in the order of their times
	timer   *time.Timer
	set     bool // the timer runs
}

type rider struct {
	batched
	until time.Time
}

// close lets nobody wait any more.
func (r *riders) close() {
	r.timer.Stop()
	r.hurry()
}

func newRiders(most time.Duration, add func(...batched)) *riders {
	r := &riders{most: most, add: add}
	r.timer = time.AfterFunc(time.Hour, r.expire)
	r.timer.Stop()
	return r
}

// wait lets commands wait, unless there are many.
func (r *riders) wait(commands ...batched) {
	if len(commands) == 0 {
		return
	}
	until := time.Now().Add(r.most)
	r.mu.Lock()
	for _, c := range commands {
		r.waiting = append(r.waiting, rider{c, until})
	}
	r.some.Store(true)
	many := len(r.waiting) > ridersMax
	if !many && !r.set {
		r.set = true
		r.timer.Reset(r.most)
	}
	r.mu.Unlock()
	if many {
		r.hurry()
	}
}

// take returns a few, the longest waiting ones, for the caller to propose.
func (r *riders) take(most int) []batched {
	if !r.some.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut(min(most, len(r.waiting)))
}

// cut takes the first n away.
func (r *riders) cut(n int) []batched {
	if n == 0 {
		return nil
	}
	taken := make([]batched, n)
	for i := range taken {
		taken[i] = r.waiting[i].batched
	}
	rest := copy(r.waiting, r.waiting[n:])
	clear(r.waiting[rest:])
	r.waiting = r.waiting[:rest]
	r.some.Store(rest > 0)
	return taken
}

// hurry proposes all of them now.
func (r *riders) hurry() {
	r.mu.Lock()
	all := r.cut(len(r.waiting))
	r.mu.Unlock()
	r.add(all...)
}

// expire proposes those that have waited for long enough. The timer is not moved when
// they are taken before: it looks, when it fires, what is left.
func (r *riders) expire() {
	now := time.Now()
	r.mu.Lock()
	over := 0
	for over < len(r.waiting) && !r.waiting[over].until.After(now) {
		over++
	}
	late := r.cut(over)
	if r.set = len(r.waiting) > 0; r.set {
		r.timer.Reset(r.waiting[0].until.Sub(now))
	}
	r.mu.Unlock()
	r.add(late...)
}

// appendOne appends a caller's command, and takes along what waits for that.
func (c *Coordinator) appendOne(ctx context.Context, command *logpb.Command) (fsm.Result, error) {
	along := c.riders.take(ridersAlongMax)
	if len(along) == 0 {
		return c.appendAlone(ctx, command)
	}
	commands := make([]*logpb.Command, 1, 1+len(along))
	commands[0] = command
	for i := range along {
		commands = append(commands, along[i].Command)
	}
	results, _, err := c.replog.Propose(ctx, commands...)
	if err != nil {
		// Whether they were appended or not: a report may be repeated. But whoever waits
		// for it must not hear of the last try alone.
		for i := range along {
			along[i].doubtful = !notAppended(err)
		}
		c.batcher.add(along...)
		if errors.Is(err, ErrTooLarge) { // not because of the caller's, perhaps
			return c.appendAlone(ctx, command)
		}
		return fsm.Result{}, err
	}
	if told := tellAll(along, results[1:], nil); told != nil {
		c.proposed(told)
	}
	return results[0], nil
}

func (c *Coordinator) appendAlone(ctx context.Context, command *logpb.Command) (fsm.Result, error) {
	results, _, err := c.replog.Propose(ctx, command)
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}
