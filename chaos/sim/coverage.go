package sim

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Coverage counts what runs have reached.
type Coverage struct {
	Cells map[Cell]int
	Met   map[string]int
}

// Cell is one of the table: a command met a transaction in a state while faults
// of a family were near.
type Cell struct {
	State, Command string
	Fault          family
}

// NewCoverage returns an empty table.
func NewCoverage() *Coverage { return &Coverage{Cells: make(map[Cell]int), Met: make(map[string]int)} }

func (c *Coverage) meet(what string) { c.Met[what]++ }

func (c *Coverage) command(*logpb.Command) {}

func (c *Coverage) answer(what string, a answer) {
	switch {
	case a.err != nil:
		c.Met["answer "+what+" unknown"]++
	default:
		c.Met["answer "+what+" "+a.code.String()]++
	}
}

// Add adds another's counts.
func (c *Coverage) Add(o *Coverage) {
	for k, n := range o.Cells {
		c.Cells[k] += n
	}
	for k, n := range o.Met {
		c.Met[k] += n
	}
}

// stateBefore is where a command finds its transaction.
type stateBefore struct{ state, command string }

func (c *Coverage) before(s *fsm.State, e logEntry) []stateBefore { return nil }

func (c *Coverage) after(before []stateBefore, results []fsm.Result, w *World) {}
