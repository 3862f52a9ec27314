package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// echoLog answers each command with a result of its own: its number is the index.
type echoLog struct {
	*memLog
	mu      sync.Mutex
	fails   error
	entries []int // how many commands each holds
	seen    map[uint64]int
}

func numbered(number uint64) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{DelayMs: number}}}
}

func (l *echoLog) Propose(_ context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if commands[0].GetDecide() == nil {
		return make([]fsm.Result, len(commands)), 1, nil // a Tick
	}
	l.entries = append(l.entries, len(commands))
	results := make([]fsm.Result, len(commands))
	for i, c := range commands {
		number := c.GetDecide().GetDelayMs()
		results[i].Index = number
		l.seen[number]++
	}
	if l.fails != nil {
		return nil, 0, l.fails
	}
	return results, 1, nil
}

// earful is what those who wait for commands, and the core, have heard: by number.
type earful struct {
	mu             sync.Mutex
	replies, dones map[uint64][]string
	core           map[uint64][]string
	commands       int
}

func newEarful() *earful {
	return &earful{replies: map[uint64][]string{}, dones: map[uint64][]string{}, core: map[uint64][]string{}}
}

func (e *earful) note(heard map[uint64][]string, number uint64, r fsm.Result, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	heard[number] = append(heard[number], fmt.Sprint(r.Index, " ", err))
}

// batched is a command of which everybody hears who can.
func (e *earful) batched(number uint64) batched {
	e.commands++
	return batched{
		Propose: Propose{Token: number, Command: numbered(number), Replies: []Reply{func(r fsm.Result, err error) { e.note(e.replies, number, r, err) }}},
		done:    func(r result) { e.note(e.dones, number, r.result, r.err) },
	}
}

// want waits until all have heard, and looks whether it was what came of their own command,
// once.
func (e *earful) want(t *testing.T, name string, numbers []uint64, coreToo bool, want func(number uint64) string) {
	t.Helper()
	all := []map[uint64][]string{e.replies, e.dones}
	if coreToo {
		all = append(all, e.core)
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, heard := range all {
			if len(heard) < len(numbers) {
				return false
			}
		}
		return true
	}, "%s: all hear what came of their commands", name)
	e.mu.Lock()
	defer e.mu.Unlock()
	for who, heard := range all {
		for _, number := range numbers {
			if got := heard[number]; len(got) != 1 || got[0] != want(number) {
				t.Fatalf("%s: command %d: listener %d heard %q, want %q once", name, number, who, got, want(number))
			}
		}
	}
}

func numbers(from, to uint64) (all []uint64) {
	for ; from < to; from++ {
		all = append(all, from)
	}
	return all
}

// Many commands in few proposals: each that waits hears what came of its own command,
// once, and so does the core, by the command's token.
func TestInABatchEachHearsOfItsOwnCommand(t *testing.T) {
	const many = 3*batchCommandsMax + 7
	for name, c := range map[string]struct {
		fails  error
		closed bool
		want   func(number uint64) string
	}{
		"appended": {nil, false, func(number uint64) string { return fmt.Sprint(number, " <nil>") }},
		"failed":   {errors.New("no disk"), false, func(uint64) string { return "0 no disk" }},
		"closed":   {nil, true, func(uint64) string { return "0 " + ErrClosed.Error() }},
	} {
		l := &echoLog{fails: c.fails, seen: map[uint64]int{}}
		e := newEarful()
		b := &batcher{log: l, ctx: t.Context(), proposed: func(results []ProposeResult) {
			for _, r := range results {
				e.note(e.core, r.Token, r.Result, r.Err)
			}
		}}
		if c.closed {
			b.close()
		}
		var all []batched
		for _, number := range numbers(1, many) {
			all = append(all, e.batched(number))
		}
		b.add(all[:1]...)
		b.add(all[1:]...)
		e.want(t, name, numbers(1, many), !c.closed, c.want)
		b.close()
		if c.closed {
			continue // the core has ended
		}
		for _, number := range numbers(1, many) {
			if l.seen[number] != 1 {
				t.Errorf("%s: command %d was proposed %d times", name, number, l.seen[number])
			}
		}
		for _, size := range l.entries {
			if size > batchCommandsMax {
				t.Errorf("%s: %d commands in a proposal", name, size)
			}
		}
		if len(b.pending) != 0 || b.running != 0 {
			t.Errorf("%s: %d commands pending, %d goroutines", name, len(b.pending), b.running)
		}
	}
}

// The same of those that ride with a caller's command, and of the caller.
func TestAlongTheWayEachHearsOfItsOwnCommand(t *testing.T) {
	for _, riding := range []uint64{1, 2, ridersAlongMax} {
		l := &echoLog{seen: map[uint64]int{}}
		n := newNode(t, func(c *Config) {
			c.Settings.ReportRideMax = time.Hour
			l.memLog = c.Log.(*memLog)
			c.Log = l
		})
		e := newEarful()
		const first = 1000 // beyond the driver's own tokens
		for _, number := range numbers(first, first+riding) {
			n.query(n.ctx, func(core *Core, _ time.Time) {
				core.replies[number] = func(r fsm.Result, err error) { e.note(e.core, number, r, err) }
			})
			n.riders.wait(e.batched(number))
		}
		if r, err := n.appendOne(n.ctx, numbered(7)); err != nil || r.Index != 7 {
			t.Errorf("beside %d: the caller hears %v, %v", riding, r.Index, err)
		}
		e.want(t, "riding", numbers(first, first+riding), true, func(number uint64) string { return fmt.Sprint(number, " <nil>") })
		if len(l.entries) != 1 || l.entries[0] != 1+int(riding) {
			t.Errorf("entries of %v commands", l.entries)
		}
	}
}

// Each rides no longer than its own time, those that came later too, and whoever else was
// taken along meanwhile.
func TestEachRidesNoLongerThanItsTime(t *testing.T) {
	gone := make(chan uint64, 10)
	r := newRiders(10*time.Millisecond, func(commands ...batched) {
		for _, c := range commands {
			gone <- c.Command.GetDecide().GetDelayMs()
		}
	})
	defer r.close()
	wait := func(number uint64) { r.wait(batched{Propose: Propose{Command: numbered(number)}}) }
	wait(1)
	r.most *= 20 // so that the first one's time ends long before the others'
	wait(2)
	wait(3)
	for want := uint64(1); want <= 3; want++ {
		select {
		case got := <-gone:
			if got != want {
				t.Fatalf("%d went, want %d", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%d waits for ever", want)
		}
	}
	// The timer runs, and what it was set for has gone.
	wait(4)
	if taken := r.take(1); len(taken) != 1 || taken[0].Command.GetDecide().GetDelayMs() != 4 {
		t.Fatalf("took %v", taken)
	}
	wait(5)
	select {
	case got := <-gone:
		if got != 5 {
			t.Errorf("%d went", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("what came after the others were taken waits for ever")
	}
}

// Those that have waited for the longest are taken first, so that none waits for ever
// beside newer ones.
func TestTheLongestWaitingRidesFirst(t *testing.T) {
	r := newRiders(time.Hour, func(...batched) {})
	defer r.close()
	for _, number := range numbers(1, 8) {
		r.wait(batched{Propose: Propose{Command: numbered(number)}})
	}
	want := uint64(1)
	for _, most := range []int{3, 3, 3} {
		for _, c := range r.take(most) {
			if got := c.Command.GetDecide().GetDelayMs(); got != want {
				t.Fatalf("%d is taken, want %d", got, want)
			}
			want++
		}
	}
	if want != 8 || len(r.take(1)) != 0 {
		t.Errorf("%d of 7 were taken", want-1)
	}
}
