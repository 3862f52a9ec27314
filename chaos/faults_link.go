package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/chaos/links"
)

// linkFaults make links bad without cutting them.
var linkFaults = []Fault{
	{
		Name: "link-delay", Kind: "link", Weight: 2, Hold: linkHold, Prepare: prepareLinks,
		Doc: "delay everything between some processes by up to 150 ms, with jitter",
		Inject: weather(func(e *Env) links.Weather {
			return links.Weather{Delay: e.Between(Range{time.Millisecond, 100 * time.Millisecond}), Jitter: e.Between(Range{time.Millisecond, 50 * time.Millisecond})}
		}, func(c links.Counts) (string, int64) { return plural(int(c.Delayed), "read") + " delayed", c.Delayed }),
	},
	{
		Name: "link-loss", Kind: "link", Weight: 2, Hold: linkHold, Prepare: prepareLinks,
		Doc: "lose 2 to 20 % of the packets between some processes: TCP stalls until it has sent them again",
		Inject: weather(func(e *Env) links.Weather {
			return links.Weather{Loss: 0.02 + 0.18*e.Float()}
		}, func(c links.Counts) (string, int64) { return plural(int(c.Lost), "read") + " lost", c.Lost }),
	},
	{
		Name: "link-slow", Kind: "link", Weight: 1, Hold: linkHold, Prepare: prepareLinks,
		Doc: "let 20 to 200 kB a second pass between some processes",
		Inject: weather(func(e *Env) links.Weather {
			return links.Weather{BytesPerSecond: 20_000 + e.IntN(180_000)}
		}, func(c links.Counts) (string, int64) { return fmt.Sprintf("%d bytes at a crawl", c.Bytes), c.Bytes }),
	},
	{
		Name: "link-reset", Kind: "link", Weight: 2, Prepare: prepareLinks,
		Doc:    "end all connections between some processes by RST, several times",
		Inject: linkReset,
	},
	{
		Name: "link-refuse", Kind: "link", Weight: 1, Hold: linkHold, Prepare: prepareLinks,
		Doc:    "refuse connections from some processes to others, as a firewall does, and reset those that are open",
		Inject: linkRefuse,
	},
	{
		Name: "link-half-open", Kind: "link", Weight: 2, Hold: linkHold, Prepare: prepareLinks,
		Doc:    "break connections for one side alone: the other one goes on speaking to nobody",
		Inject: linkHalfOpen,
	},
}

var linkHold = Range{300 * time.Millisecond, 3 * time.Second}

// someWays draws the links to hurt: those of the leader, those of one other
// process, or all.
func (e *Env) someWays(ctx context.Context) (ways []links.Way, target string) {
	nodes, outsiders := e.nodeNames(), e.outsiders()
	all := append(append([]string(nil), nodes...), outsiders...)
	leader := leaderName(e.Leader(ctx))
	switch {
	case leader != "" && e.Chance(0.4):
		return links.Both([]string{leader}, links.Without(all, leader)), leader + " (leader)"
	case e.Chance(0.3):
		return links.OneWay(nodes, nodes), "all nodes"
	case len(outsiders) > 0 && e.Chance(0.4):
		one := e.pick(outsiders)
		return links.Both([]string{one}, nodes), one
	default:
		one := e.pick(nodes)
		return links.Both([]string{one}, links.Without(all, one)), describe(leader, one)
	}
}

// weather is the Inject of a fault that hinders what passes.
func weather(draw func(*Env) links.Weather, shown func(links.Counts) (string, int64)) func(context.Context, *Env) (*Injection, error) {
	return func(ctx context.Context, env *Env) (*Injection, error) {
		ways, target := env.someWays(ctx)
		w := draw(env)
		since := env.counts(ways)
		var undo []func()
		for _, way := range ways {
			undo = append(undo, env.Links.Hinder(way.From, way.To, w))
		}
		return &Injection{
			Target: target,
			Heal: func(ctx context.Context) error {
				env.await(ctx, func() bool { _, n := shown(since()); return n > 0 })
				for _, f := range undo {
					f()
				}
				return nil
			},
			Evidence: func() (string, error) {
				text, n := shown(since())
				if n == 0 {
					return "", errors.New("nothing passed there")
				}
				return text, nil
			},
		}, nil
	}
}

// counts returns what happened on ways since now.
func (e *Env) counts(ways []links.Way) (since func() links.Counts) {
	sum := func() (c links.Counts) {
		for _, w := range ways {
			c = c.Plus(e.Links.Counts(w.From, w.To))
		}
		return c
	}
	before := sum()
	return func() links.Counts { return sum().Minus(before) }
}

// await waits a while until something was seen.
func (e *Env) await(ctx context.Context, seen func() bool) {
	ctx, cancel := context.WithTimeout(ctx, somethingSentMax)
	defer cancel()
	for ctx.Err() == nil && !seen() {
		pause(ctx, 10*time.Millisecond)
	}
}

func linkReset(ctx context.Context, env *Env) (*Injection, error) {
	ways, target := env.someWays(ctx)
	count := 0
	reset := func() {
		for _, w := range ways {
			count += env.Links.Reset(w.From, w.To)
		}
	}
	for range 1 + env.IntN(4) {
		reset()
		pause(ctx, env.Between(Range{10 * time.Millisecond, 200 * time.Millisecond}))
	}
	return &Injection{
		Target: target,
		Heal: func(ctx context.Context) error {
			env.await(ctx, func() bool { // where nothing was connected yet
				if count == 0 {
					reset()
				}
				return count > 0
			})
			return nil
		},
		Evidence: func() (string, error) {
			if count == 0 {
				return "", errors.New("nothing was connected there")
			}
			return plural(count, "connection") + " reset", nil
		},
	}, nil
}

func linkRefuse(ctx context.Context, env *Env) (*Injection, error) {
	ways, target := env.someWays(ctx)
	since := env.counts(ways)
	var undo []func()
	for _, w := range ways {
		undo = append(undo, env.Links.Refuse(w.From, w.To))
	}
	return &Injection{
		Target: target,
		Heal: func(context.Context) error {
			for _, f := range undo {
				f()
			}
			return nil
		},
		Evidence: func() (string, error) {
			if c := since(); c.Resets > 0 {
				return plural(int(c.Resets), "connection") + " reset, new ones refused", nil
			}
			return "", errors.New("nothing was connected there")
		},
	}, nil
}

func linkHalfOpen(ctx context.Context, env *Env) (*Injection, error) {
	ways, target := env.someWays(ctx)
	since := env.counts(ways)
	count := 0
	var mends []func()
	for _, w := range ways {
		n, mend := env.Links.Halve(w.From, w.To, env.Chance(0.5))
		count += n
		mends = append(mends, mend)
	}
	return &Injection{
		Target: target,
		Heal: func(context.Context) error {
			for _, f := range mends {
				f()
			}
			return nil
		},
		Evidence: func() (string, error) {
			if count == 0 {
				return "", errors.New("nothing was connected there")
			}
			return fmt.Sprintf("%s half open, %d bytes said to nobody", plural(count, "connection"), since().Unheard), nil
		},
	}, nil
}

// plural is `1 read`, `2 reads`.
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
