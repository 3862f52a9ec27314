// Package search visits every state that a small world of coordinators,
// participants and initiators can reach, and holds each against the promises.
//
// The machine is the real one, fsm.State through Apply. Around it stands a
// model: nodes as a replicated register, participants that prepare durably,
// an initiator that asks commit and a second client that asks rollback, and a
// network that delays, reorders, loses and duplicates. Whatever may happen next
// is a choice, and the search takes every one of them, breadth first, so that a
// broken promise is shown by the shortest story that breaks it.
//
// The model says what the rules of Raft promise, not how the library keeps them:
// an entry is on some nodes' disks; it is committed once a quorum has it in the
// leader's term; a leader is elected by a quorum of which nobody has more. The
// suite of the real library is chaos/rafttime.
package search

import (
	"fmt"
	"time"
)

// Mode is how the transaction of a world is begun and committed.
type Mode string

// The modes.
const (
	// Explicit: begin, each branch enlists, prepares and votes; a bare commit.
	Explicit Mode = "explicit"
	// Named: begin, votes enlist; commit names the exact set.
	Named Mode = "named"
	// Fast: branches prepare and answer the initiator, which submits all of it
	// at once. The coordinator has seen nothing before that.
	Fast Mode = "fast"
)

// Config is one world to search: how large it is, and how much may go wrong.
type Config struct {
	Mode     Mode
	Nodes    int // 2 or 3
	Branches int // 1 to 3
	// Crashes, of nodes and participants together. A crashed process is up again
	// at once; for how long it was away, its messages say by being late.
	Crashes int
	// Duplicates is how many messages may be delivered and stay under way. What a
	// process repeats because it heard no answer is free.
	Duplicates int
	// Terms is the last term that anybody may be elected in; the first is 1.
	Terms int
	// Uncommitted is how many entries may stand on disks and not be committed.
	Uncommitted int
	// Clocks is how many phases time has: the start; past the deadline; when an
	// unseen GID may be ended; past retention; past it again.
	Clocks int
	// Rollback lets a second client ask the transaction's rollback.
	Rollback bool
	// Flaw is a bug planted in the model, to see it found.
	Flaw Flaw
}

// Name says the configuration as the flag reads it.
func (c Config) Name() string {
	return fmt.Sprintf("mode=%s,nodes=%d,branches=%d,crashes=%d,duplicates=%d,terms=%d,uncommitted=%d,clocks=%d,rollback=%v",
		c.Mode, c.Nodes, c.Branches, c.Crashes, c.Duplicates, c.Terms, c.Uncommitted, c.Clocks, c.Rollback)
}

// Budget bounds a search.
type Budget struct {
	States int           // distinct states; 0 for no bound
	Time   time.Duration // 0 for no bound
	// EndEvery checks S5 in one of so many states, chosen by their keys: that from
	// there, without further faults, everything ends. 0 checks it in none.
	EndEvery uint64
}

// Report is what a search came to.
type Report struct {
	Suite       string  `json:"suite"`
	Config      string  `json:"config"`
	States      int     `json:"states"`
	Transitions int     `json:"transitions"`
	Depth       int     `json:"depth"`
	Exhausted   bool    `json:"exhausted"`
	Machines    int     `json:"machines"` // distinct states of fsm.State
	Ended       int     `json:"ended"`    // states from which S5 was checked
	Commits     int     `json:"commits"`  // states in which commit is decided
	Rollbacks   int     `json:"rollbacks"`
	Seconds     float64 `json:"seconds"`
	Violations  int     `json:"violations"`
	// Breach is the promise broken, Story the shortest way there.
	Breach string   `json:"breach,omitempty"`
	Story  []string `json:"story,omitempty"`
}

// origin is how a state was first reached.
type origin struct {
	parent uint32
	step   step
}

// walk is one search under way.
type walk struct {
	*model
	budget  Budget
	seen    *keySet
	origins []origin // by the number of the state, in the order of discovery
	report  Report
	broken  *brokenAt
}

// brokenAt is where a promise was first broken.
type brokenAt struct {
	state  uint32
	breach breach
}

// Run searches one world, breadth first, until it is exhausted, a promise is
// broken, or the budget is spent.
func Run(c Config, b Budget) (Report, error) {
	m, err := newModel(c)
	if err != nil {
		return Report{}, err
	}
	s := &walk{model: m, budget: b, seen: newKeySet(), report: Report{Suite: "search", Config: c.Name()}}
	start := time.Now()
	s.run(start)
	s.report.States, s.report.Machines = s.seen.len(), len(m.machines.all)
	s.report.Seconds = time.Since(start).Seconds()
	if s.broken != nil {
		s.report.Violations = 1
		s.report.Breach = s.broken.breach.String()
		s.report.Story = s.story(s.broken.state)
	}
	return s.report, m.machines.err
}

func (s *walk) run(start time.Time) {
	first := s.begin()
	s.seen.add(s.key(&first))
	s.origins = append(s.origins, origin{})
	level, from := []world{first}, uint32(0)
	for len(level) > 0 {
		var next []world
		for i := range level {
			number := from + uint32(i)
			if s.overBudget(i, start) || s.broken != nil || s.machines.err != nil {
				return
			}
			s.steps(&level[i], func(do step, w world) {
				s.report.Transitions++
				s.canonical(&w)
				key := s.key(&w)
				if s.broken != nil || !s.seen.add(key) {
					return
				}
				s.origins = append(s.origins, origin{number, do})
				s.look(&w, key)
				next = append(next, w)
			})
		}
		from += uint32(len(level))
		level = next
		s.report.Depth++
	}
	s.report.Exhausted = true
}

func (s *walk) overBudget(i int, start time.Time) bool {
	if s.budget.States > 0 && s.seen.len() >= s.budget.States {
		return true
	}
	return s.budget.Time > 0 && i%1024 == 0 && time.Since(start) > s.budget.Time
}

// look holds a new state against the promises.
func (s *walk) look(w *world, key stateKey) {
	number := uint32(len(s.origins) - 1)
	if b := s.check(w); b != breachNone {
		s.broken = &brokenAt{number, b}
		return
	}
	switch {
	case w.ghosts&ghostCommit != 0:
		s.report.Commits++
	case w.ghosts&ghostRollback != 0:
		s.report.Rollbacks++
	}
	if n := s.budget.EndEvery; n > 0 && key[0]%n == 0 {
		s.report.Ended++
		if b := s.ends(*w); b != breachNone {
			s.broken = &brokenAt{number, b}
		}
	}
}
