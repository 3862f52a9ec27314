package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// shrinkRuns bounds how often a failing plan is tried with less in it.
const shrinkRuns = 400

// Shrink takes out of a failing plan what it fails without: faults, then
// transactions, then what is in them. It returns the smallest plan found.
func Shrink(plan *Plan, how How) *Plan {
	s := &shrinker{how: how, best: plan, left: shrinkRuns}
	r := Run(plan, how)
	if len(r.Violations) == 0 {
		return plan
	}
	s.promise = r.Violations[0].Promise
	for before := -1; before != s.left && s.left > 0; {
		before = s.left
		shrinkList(s, func(p *Plan) *[]faultPlan { return &p.Faults })
		shrinkList(s, func(p *Plan) *[]shopFault { return &p.ShopFaults })
		shrinkList(s, func(p *Plan) *[]calledPlan { return &p.Called })
		shrinkList(s, func(p *Plan) *[]topicChange { return &p.TopicChanges })
		shrinkList(s, func(p *Plan) *[]txPlan { return &p.Txs })
		for i := range s.best.Called {
			shrinkList(s, func(p *Plan) *[]calledRival { return &p.Called[i].Rivals })
		}
		for i := range s.best.Txs {
			shrinkList(s, func(p *Plan) *[]rivalPlan { return &p.Txs[i].Rivals })
			shrinkList(s, func(p *Plan) *[]branchPlan { return &p.Txs[i].Branches })
		}
		for i := range s.best.Faults {
			s.shorten(i)
		}
		if s.smaller == 0 {
			break
		}
		s.smaller = 0
	}
	return s.best
}

type shrinker struct {
	how     How
	promise string
	best    *Plan
	left    int
	smaller int // how often it got smaller in this round
}

// try keeps a plan that still breaks the same promise.
func (s *shrinker) try(change func(*Plan)) bool {
	if s.left == 0 {
		return false
	}
	s.left--
	p := s.best.clone()
	change(p)
	r := Run(p, s.how)
	if len(r.Violations) == 0 || r.Violations[0].Promise != s.promise {
		return false
	}
	s.best = p
	s.smaller++
	return true
}

// shrinkList takes elements out of a list: all, then halves, then each.
func shrinkList[T any](s *shrinker, list func(*Plan) *[]T) {
	for size := len(*list(s.best)); size > 0; size /= 2 {
		for at := 0; at < len(*list(s.best)); {
			end := min(at+size, len(*list(s.best)))
			if !s.try(func(p *Plan) { *list(p) = slices.Delete(*list(p), at, end) }) {
				at = end
			}
		}
	}
}

func (s *shrinker) shorten(i int) {
	for s.best.Faults[i].For > 100*time.Millisecond {
		if !s.try(func(p *Plan) { p.Faults[i].For /= 2 }) {
			return
		}
	}
}

// clone copies what shrinking changes.
func (p *Plan) clone() *Plan {
	c := *p
	c.Faults = slices.Clone(p.Faults)
	c.ShopFaults, c.TopicChanges = slices.Clone(p.ShopFaults), slices.Clone(p.TopicChanges)
	c.Called = slices.Clone(p.Called)
	for i := range c.Called {
		c.Called[i].Rivals = slices.Clone(c.Called[i].Rivals)
	}
	c.Txs = slices.Clone(p.Txs)
	for i := range c.Txs {
		c.Txs[i].Rivals = slices.Clone(c.Txs[i].Rivals)
		c.Txs[i].Branches = slices.Clone(c.Txs[i].Branches)
	}
	return &c
}

// storyLines is how much of a story is told.
const storyLines = 150

// Story tells a failing plan: what is in it, and what happened, as far as it
// concerns the transaction whose promise was broken.
func Story(plan *Plan, how How) string {
	how.Trace = true
	r := Run(plan, how)
	var out strings.Builder
	fmt.Fprintf(&out, "%d nodes, %d transactions, %d faults:\n", plan.Nodes, len(plan.Txs)+len(plan.Called), len(plan.Faults)+len(plan.ShopFaults))
	for _, f := range plan.Faults {
		fmt.Fprintf(&out, "  %v\n", f)
	}
	about := ""
	if len(r.Violations) > 0 {
		if gid, err := fsm.ParseGID(r.Violations[0].GID); err == nil {
			about = strings.TrimSuffix(short(ref{GID: gid}), "/")
		}
	}
	var lines []string
	for _, l := range r.Story {
		if about == "" || strings.Contains(l, about) || !strings.Contains(l, "/") {
			lines = append(lines, l)
		}
	}
	if n := len(lines) - storyLines; n > 0 {
		fmt.Fprintf(&out, "  (%d lines before)\n", n)
		lines = lines[n:]
	}
	out.WriteString(strings.Join(lines, "\n"))
	return out.String()
}
