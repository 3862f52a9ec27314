package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/skew"
)

// clockFaults have a node live by a wrong clock, all of it: our code, the Raft
// library's timers, gRPC's keepalives. Timeouts may change when a transaction
// rolls back, never agreement (S19). They want a program that is built for it.
var clockFaults = []Fault{
	{
		Name: "clock-follower", Kind: "clock", Weight: 1, Hold: clockHold, Possible: needsSkewed, Prepare: prepareClocks,
		Doc:    "start a node again whose wall clock jumps by a day or by minutes, either way, and whose clock runs up to twice too fast or too slow",
		Inject: clockFollower,
	},
	{
		Name: "clock-leader", Kind: "clock", Weight: 2, Hold: clockHold, Possible: needsSkewed, Prepare: prepareClocks,
		Doc:    "the same, and the node is made the leader before its clock jumps",
		Inject: clockLeader,
	},
}

var (
	clockHold  = Range{2 * time.Second, 6 * time.Second}
	clockRates = []int{50, 80, 95, 105, 125, 200} // hundredths
	clockJumps = []time.Duration{24 * time.Hour, -24 * time.Hour, 5 * time.Minute, -5 * time.Minute, time.Hour, -40 * 24 * time.Hour}
)

// needsSkewed says how to get the program.
func needsSkewed(e *Env) error {
	program := e.Options.Binary
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	skewed, err := skew.IsSkewed(program)
	if err == nil && !skewed {
		err = errors.New("this program's clock is right; build another one (go run ./internal/tools/skew -o bin/quorate-skewed) and give it: --binary bin/quorate-skewed")
	}
	return err
}

// prepareClocks has each start of a node take the clock that is set for it then.
func prepareClocks(e *Env) (func() error, error) {
	if e.clocks != nil {
		return nil, nil
	}
	e.clocks = map[string]skew.Clock{}
	e.AddNodeEnv(func(node string, _ int) []string {
		e.mu.Lock()
		defer e.mu.Unlock()
		if clock, wrong := e.clocks[node]; wrong {
			return []string{clock.Env()}
		}
		return nil
	})
	return nil, nil
}

func (e *Env) setClock(n *cluster.Node, clock *skew.Clock) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if clock == nil {
		delete(e.clocks, n.Name)
		return
	}
	e.clocks[n.Name] = *clock
}

// drawClock draws how wrong a clock is: always a jump, which shows in the node's
// log, mostly a drift.
func (e *Env) drawClock(after Range) skew.Clock {
	clock := skew.Clock{Rate: 100}
	if e.Chance(0.7) {
		clock.Rate = clockRates[e.IntN(len(clockRates))]
	}
	for range 1 + e.IntN(2) {
		clock.Jumps = append(clock.Jumps, skew.Jump{By: clockJumps[e.IntN(len(clockJumps))], After: e.Between(after)})
	}
	return clock
}

func clockFollower(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimFollower(ctx)
	if n == nil {
		return nil, nil
	}
	return wrongClock(ctx, env, n, env.drawClock(Range{0, time.Second}))
}

func clockLeader(ctx context.Context, env *Env) (*Injection, error) {
	n := env.ClaimFollower(ctx)
	if n == nil {
		return nil, nil
	}
	injection, err := wrongClock(ctx, env, n, env.drawClock(Range{2 * time.Second, 4 * time.Second}))
	if err != nil {
		return injection, err
	}
	// Another fault may be in the way: then it is a follower whose clock is wrong.
	if env.Cluster.TransferLeader(ctx, n) == nil {
		injection.Target += " (leader)"
	}
	return injection, nil
}

// wrongClock starts a claimed node again with a wrong clock, and with the right
// one when it is healed.
func wrongClock(ctx context.Context, env *Env, n *cluster.Node, clock skew.Clock) (*Injection, error) {
	done := env.Expect(n)
	env.setClock(n, &clock)
	err := restart(ctx, n)
	began := time.Now()
	shown := ""
	return &Injection{
		Target: n.Name,
		Heal: func(ctx context.Context) error {
			defer env.Release(n)
			defer done()
			// The last jump must have come, so that its goodbye is said in wrong time.
			for _, j := range clock.Jumps {
				pause(ctx, time.Until(began.Add(j.After)))
			}
			stopErr := n.Stop(ctx)
			shown = logWrong(n.LogPath, time.Now())
			env.setClock(n, nil)
			return errors.Join(stopErr, n.Restart(ctx))
		},
		Evidence: func() (string, error) {
			if shown == "" {
				return "", fmt.Errorf("the log of %s was written in the right time", n.Name)
			}
			return clock.String() + "; " + shown, nil
		},
	}, err
}

func restart(ctx context.Context, n *cluster.Node) error {
	if err := n.Stop(ctx); err != nil {
		return err
	}
	return n.Restart(ctx)
}

// logWrong says how wrong the time of a log's last line is, which was written
// just now; empty when it is right.
func logWrong(path string, now time.Time) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	var last time.Time
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		stamp, found := strings.CutPrefix(lines.Text(), "time=")
		if !found {
			continue
		}
		stamp, _, _ = strings.Cut(stamp, " ")
		if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			last = t
		}
	}
	off := last.Sub(now).Round(time.Second)
	if last.IsZero() || off.Abs() < 30*time.Second {
		return ""
	}
	return fmt.Sprintf("it wrote its log %+v off", off)
}
