package sim

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
)

// reachableModesText is reachableText for what the modes add to it: a line for each cell
// of docs/modes.md's tables, by mode, and each other thing. It was measured:
// `go test ./chaos/sim -run TestSeeds -sim.modes -sim.seeds=3000 -sim.declare=FILE`.
//
//go:embed reachable_modes.txt
var reachableModesText string

// calledNames are the modes whose branches are called, in docs/modes.md's order.
var calledNames = []string{"saga", "tcc", "message", "notify", "workflow"}

// calledStates are the columns of their tables, and calledCommands the rows.
var (
	calledStates   = []string{"U", "X", "A", "S", "C", "C+", "R", "R+", "T+"}
	calledCommands = []string{
		"begin", "submit", "enlist", "answer done", "answer refused", "answer gave up", "record done", "record failed",
		"commit bare", "commit driver", "rollback", "rollback driver", "report matching", "report contrary", "report gave up",
		"resolve", "stop", "tick deadline", "tick retention",
	}
)

// statesOf are the states that a mode has, beside those in which a GID is unseen.
var statesOf = map[string][]string{
	"saga": {"S", "C+", "R", "R+", "T+"}, "tcc": {"A", "C", "C+", "R", "R+", "T+"}, "message": {"A", "C", "C+", "R+", "T+"},
	"notify": {"C", "C+", "T+"}, "workflow": {"A", "C+", "R+", "T+"},
}

// commandsOf are the commands that somebody gives a mode. Others are INVALID before
// anything is looked at, whatever stands; fsm's own tests hold that.
var commandsOf = map[string][]string{
	"saga":     {"submit", "answer done", "answer refused", "answer gave up", "rollback", "report matching", "resolve", "stop", "tick deadline", "tick retention"},
	"tcc":      {"begin", "enlist", "commit bare", "rollback", "report matching", "resolve", "stop", "tick deadline", "tick retention"},
	"message":  {"begin", "commit bare", "commit driver", "rollback driver", "report matching", "resolve", "stop", "tick retention"},
	"notify":   {"submit", "rollback", "report matching", "report gave up", "resolve", "stop", "tick retention"},
	"workflow": {"begin", "record done", "record failed", "commit bare", "rollback", "stop", "tick retention"},
}

// impossibleCalled says why a command never meets a state of a mode; the table leaves
// these out.
func impossibleCalled(mode, state, command string) string {
	unseen := state == "U" || state == "X"
	switch {
	case !unseen && !slices.Contains(statesOf[mode], state):
		return "the mode has no such state"
	case !slices.Contains(commandsOf[mode], command):
		return "nobody gives the mode such a command"
	}
	return unreachedCalled(mode, state, command)
}

// checkDeclared lists the cells that are declared and cannot be, and those without a line.
func checkDeclared(declared map[string]bool) (wrong []string) {
	for _, mode := range calledNames {
		for _, state := range calledStates {
			for _, command := range calledCommands {
				cell, found := mode+" "+state+" | "+command, false
				for _, f := range families {
					found = found || declared[cell+" | "+string(f)]
				}
				why := impossibleCalled(mode, state, command)
				switch {
				case found && why != "":
					wrong = append(wrong, fmt.Sprintf("%s is reached, and it should not be: %s", cell, why))
				case !found && why == "":
					wrong = append(wrong, cell+" is neither reached nor left out with a reason")
				}
			}
		}
	}
	return wrong
}

// printModes writes the modes' tables, where there is something in them.
func (c *Coverage) printModes(out io.Writer) {
	if c.Met["effect action"] == 0 {
		return
	}
	for _, mode := range calledNames {
		for _, state := range calledStates {
			for _, command := range calledCommands {
				if impossibleCalled(mode, state, command) == "" {
					c.printCells(out, mode+" "+state, command)
				}
			}
		}
	}
}

// unreachedCalled is impossibleCalled for what a mode does have.
func unreachedCalled(mode, state, command string) string {
	return ""
}
