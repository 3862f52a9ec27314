package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// How long the parts of a window last. They are short: what breaks is the
// transition, not the state, and a minute must hold many of them.
var (
	calmRange  = Range{150 * time.Millisecond, 500 * time.Millisecond}
	holdRange  = Range{100 * time.Millisecond, 900 * time.Millisecond}
	staggerMax = 150 * time.Millisecond
)

const (
	// severalShare of the windows hold two or three faults at once.
	severalShare = 0.5
	// serviceMax bounds the wait for the first decision after a leader's loss.
	serviceMax = 5 * time.Second
	// firstMax bounds the wait for it once the cluster is whole again.
	firstMax = 20 * time.Second
	// injectMax bounds one injection.
	injectMax = 20 * time.Second
)

// schedule makes windows of faults until its time is over.
type schedule struct {
	env      *Env
	faults   []Fault
	prober   *prober
	progress func() Progress
	tell     func(format string, args ...any)

	windows  []Window
	counts   map[string]int
	sums     map[string]int64 // over names: kills, leader_kills, pauses, ...
	phases   map[string]int
	single   []time.Duration // failovers after kill -9 of a leader alone
	isolated []time.Duration // after another loss of a leader alone
	combined []time.Duration
	probes   []time.Duration // of windows of one fault that leaves a quorum
	evident  int             // injections that something shows
	evidence []string        // those that nothing shows: they do not count
	findings []Finding
}

// made is a fault that was injected.
type made struct {
	fault     Fault
	injection *Injection
	at        time.Duration
	heard     <-chan time.Duration // the first decision asked for after it
	healErr   error
}

// run makes windows until the time is up or ctx ends. Every injection is healed
// when it returns.
func (s *schedule) run(ctx context.Context, until time.Duration) {
	s.counts, s.phases, s.sums = map[string]int{}, map[string]int{}, map[string]int64{}
	for ctx.Err() == nil {
		calmFrom, before := s.env.Now(), s.progress()
		s.wait(ctx, s.env.Between(calmRange))
		if s.closeWindow(before); ctx.Err() != nil || s.env.Now() >= until {
			return
		}
		if len(s.faults) == 0 {
			continue
		}
		s.window(ctx, before, calmFrom)
	}
}

// closeWindow counts what was acknowledged since the last window was healed.
func (s *schedule) closeWindow(Progress) {
	if len(s.windows) == 0 {
		return
	}
	w := &s.windows[len(s.windows)-1]
	now, at := s.progress(), s.env.Now().Seconds()
	w.After = now.Commits - w.base.Commits
	w.RateAfter = rate(now.minus(w.base), at-w.HealS)
	w.EndS = at
}

// rate is decisions a second.
func rate(p Progress, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(int64(float64(p.Commits+p.Rollbacks)/seconds*10)) / 10
}

// window makes one: inject, hold, heal, wait until the cluster is whole.
func (s *schedule) window(ctx context.Context, before Progress, calmFrom time.Duration) {
	began, atBegin := s.env.Now(), s.progress()
	w := Window{AtS: began.Seconds(), RateBefore: rate(atBegin.minus(before), (began - calmFrom).Seconds())}
	chosen := s.choose()
	var all []*made
	for i, f := range chosen {
		if i > 0 {
			s.wait(ctx, s.env.Between(Range{0, staggerMax}))
		}
		if m := s.inject(ctx, f); m != nil {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return
	}
	s.hold(ctx, all)
	healFrom, atHeal := s.env.Now(), s.progress()
	w.HealS = healFrom.Seconds()
	s.heal(ctx, all)
	s.whole(ctx, all)
	w.WholeS = s.env.Now().Seconds()
	w.During = atHeal.Commits - atBegin.Commits
	w.RateDuring = rate(atHeal.minus(atBegin), (healFrom - began).Seconds())
	w.base = atHeal
	s.judge(&w, all, began, healFrom)
	s.windows = append(s.windows, w)
	s.say(&w)
}

// choose draws the faults of a window: a family first, so that the number of a
// family's members does not count, then one of it by weight.
func (s *schedule) choose() []Fault {
	count := 1
	if s.env.Chance(severalShare) {
		count = 2 + s.env.IntN(2)
	}
	var chosen []Fault
	for range count {
		f := s.draw()
		if f.Alone {
			if len(chosen) == 0 {
				return []Fault{f}
			}
			continue
		}
		chosen = append(chosen, f)
	}
	return chosen
}

func (s *schedule) draw() Fault {
	var kinds []string
	byKind := map[string][]Fault{}
	for _, f := range s.faults {
		if byKind[f.Kind] == nil {
			kinds = append(kinds, f.Kind)
		}
		byKind[f.Kind] = append(byKind[f.Kind], f)
	}
	family := byKind[kinds[s.env.IntN(len(kinds))]]
	total := 0
	for _, f := range family {
		total += f.weight()
	}
	at := s.env.IntN(total)
	for _, f := range family {
		if at -= f.weight(); at < 0 {
			return f
		}
	}
	return family[0]
}

// inject makes one fault; nil when there was nothing to hurt.
func (s *schedule) inject(ctx context.Context, f Fault) *made {
	injectCtx, cancel := context.WithTimeout(ctx, injectMax)
	defer cancel()
	at := s.env.Now()
	injection, err := f.Inject(injectCtx, s.env)
	if err != nil && ctx.Err() == nil {
		s.findings = append(s.findings, Finding{Text: fmt.Sprintf("%s could not be made: %v", f.Name, err)})
	}
	if injection == nil {
		return nil
	}
	if injection.At > 0 {
		at = injection.At
	}
	s.env.Log.Info("injected", "fault", f.Name, "target", injection.Target, "phase", injection.Phase, "at", at)
	m := &made{fault: f, injection: injection, at: at}
	if injection.Leader {
		m.heard = s.prober.firstAfter(at)
	}
	return m
}

// hold lets the faults last. A leader's loss lasts mostly until service is back:
// a failover is measured, not a restart; sometimes it is healed at once.
func (s *schedule) hold(ctx context.Context, all []*made) {
	span := holdRange
	for _, m := range all {
		if m.fault.Hold.Max > span.Max || m.fault.Hold.Max > 0 && len(all) == 1 {
			span = m.fault.Hold
		}
	}
	s.wait(ctx, s.env.Between(span))
	if len(all) > 1 || all[0].heard == nil || all[0].injection.Unavailable || s.env.Chance(0.1) {
		return
	}
	select {
	case heard := <-all[0].heard:
		again := make(chan time.Duration, 1)
		again <- heard
		all[0].heard = again
	case <-time.After(serviceMax):
	case <-ctx.Done():
	}
}

// heal undoes all of them, at once.
func (s *schedule) heal(ctx context.Context, all []*made) {
	healCtx, cancel := s.env.patient(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() { m.healErr = m.injection.Heal(healCtx) })
	}
	wg.Wait()
	for _, m := range all {
		if m.healErr != nil {
			s.findings = append(s.findings, Finding{Promise: "S5", Text: fmt.Sprintf("%s of %s could not be healed: %v", m.fault.Name, m.injection.Target, m.healErr)})
		}
	}
}

// whole waits until every node is a healthy voter, and for the decision that a
// failover waits for.
func (s *schedule) whole(ctx context.Context, all []*made) {
	if ctx.Err() != nil {
		return // interrupted: everything ends now
	}
	began := s.env.Now()
	wholeCtx, cancel := s.env.patient(ctx)
	defer cancel()
	if err := s.env.Cluster.WaitWhole(wholeCtx); err != nil && ctx.Err() == nil {
		s.findings = append(s.findings, Finding{Promise: "S5", Text: fmt.Sprintf("not whole %v after %s was healed: %v", (s.env.Now() - began).Round(time.Millisecond), names(all), err)})
	}
}

// judge notes what the window showed.
func (s *schedule) judge(w *Window, all []*made, began, healed time.Duration) {
	quorum := len(all) == 1
	for _, m := range all {
		text, err := m.injection.Evidence()
		if err == nil && text == "" {
			err = errors.New("nothing shows it")
		}
		if err != nil {
			s.evidence = append(s.evidence, fmt.Sprintf("%s of %s: %v", m.fault.Name, m.injection.Target, err))
			text = "NONE, not counted: " + err.Error()
		} else {
			s.count(m)
		}
		w.Faults = append(w.Faults, Made{Name: m.fault.Name, Kind: m.fault.Kind, Target: m.injection.Target, Phase: m.injection.Phase, Evidence: text})
		quorum = quorum && !m.injection.Unavailable
		if gap, ok := m.failover(); ok {
			w.FailoverMS = milliseconds(gap)
			switch {
			case !quorum:
				s.combined = append(s.combined, gap)
			case m.fault.Kind == "kill", m.fault.Kind == "step":
				s.single = append(s.single, gap)
			default:
				s.isolated = append(s.isolated, gap)
			}
		}
	}
	if quorum {
		s.probes = append(s.probes, s.prober.took(began, healed)...)
	}
}

// count adds up an injection that left evidence, by its name and by what it was.
func (s *schedule) count(m *made) {
	times := max(1, m.injection.Times)
	s.evident++
	s.counts[m.fault.Name] += times
	if m.injection.Phase != "" {
		s.phases[m.injection.Phase]++
	}
	leader := m.injection.Leader || strings.Contains(m.injection.Target, "(leader)")
	switch m.fault.Kind {
	case "kill", "step":
		s.sums["kills"] += int64(times)
		if leader {
			s.sums["leader_kills"]++
		}
	case "pause":
		s.sums["pauses"] += int64(times)
		if leader {
			s.sums["leader_pauses"]++
		}
	case "partition", "power", "corrupt":
		s.sums[map[string]string{"partition": "partitions", "power": "power_losses", "corrupt": "corruptions"}[m.fault.Kind]] += int64(times)
	}
}

// failover is the time from a leader's loss to the first acknowledged decision
// that was asked for after it.
func (m *made) failover() (time.Duration, bool) {
	if m.heard == nil {
		return 0, false
	}
	select {
	case heard := <-m.heard:
		return heard - m.at, true
	case <-time.After(firstMax):
		return firstMax, true // and more: the figure's end is where the wait ended
	}
}

// say prints the window's lines, one a fault.
func (s *schedule) say(w *Window) {
	for i, f := range w.Faults {
		at := fmt.Sprintf("%7.1fs", w.AtS)
		if i > 0 {
			at = "      + "
		}
		what := f.Name
		if f.Phase != "" {
			what += " @" + f.Phase
		}
		tail := f.Evidence
		if i == len(w.Faults)-1 {
			tail += fmt.Sprintf("; %d commits meanwhile", w.During)
			if w.FailoverMS > 0 {
				tail += fmt.Sprintf(", failover %.0f ms", w.FailoverMS)
			}
		}
		s.tell("%s  %-30s %-14s %s", at, what, f.Target, tail)
	}
}

// wait lets time pass, or the run end.
func (s *schedule) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func names(all []*made) string {
	var words []string
	for _, m := range all {
		words = append(words, m.fault.Name)
	}
	return strings.Join(words, " and ")
}
