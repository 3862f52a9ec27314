package sim

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
)

// reachableModesText is reachableText for what the modes add to it: a line for each cell
// of docs/modes.md's tables, by mode, and each other thing. It was measured:
// `go test ./chaos/sim -run TestSeeds -sim.modes -sim.seeds=2600 -sim.declare=FILE`.
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

// statesOf are the states that a mode has, beside those in which a GID is unseen. Messages
// and workflows are rolled back by their own initiators alone, once they have begun: so
// they leave no tombstones.
var statesOf = map[string][]string{
	"saga": {"S", "C+", "R", "R+", "T+"}, "tcc": {"A", "C", "C+", "R", "R+", "T+"}, "message": {"A", "C", "C+", "R+"},
	"notify": {"C", "C+", "T+"}, "workflow": {"A", "C+", "R+"},
}

// commandsOf are the commands that somebody gives a mode. Others are INVALID before
// anything is looked at, whatever stands; fsm's own tests hold that.
var commandsOf = map[string][]string{
	"saga":     {"submit", "answer done", "answer refused", "answer gave up", "rollback", "report matching", "resolve", "stop", "tick deadline", "tick retention"},
	"tcc":      {"begin", "enlist", "commit bare", "rollback", "report matching", "resolve", "stop", "tick deadline", "tick retention"},
	"message":  {"begin", "commit bare", "commit driver", "rollback driver", "report matching", "resolve", "stop", "tick retention"},
	"notify":   {"submit", "rollback", "report matching", "report gave up", "resolve", "stop", "tick retention"},
	"workflow": {"begin", "record done", "record failed", "commit bare", "rollback", "resolve", "stop", "tick retention"},
}

// impossibleCalled says why a command never meets a state of a mode; the table leaves
// these out.
func impossibleCalled(mode, state, command string) string {
	unseen := state == "U" || state == "X"
	switch {
	case !unseen && !slices.Contains(statesOf[mode], state):
		return "the mode has no such state, or nobody brings it there"
	case !slices.Contains(commandsOf[mode], command):
		return "nobody gives the mode such a command"
	}
	if why := unreachedCalled(mode, state, command); why != "" {
		return why
	}
	if rareCells[mode+" "+state+" | "+command] {
		return "fewer than three of a thousand seeds come there: a campaign that misses it says nothing"
	}
	return ""
}

// rareCells are reached too seldom to be declared.
var rareCells = map[string]bool{
	"saga R+ | answer done": true, "saga T+ | tick retention": true, "notify T+ | tick retention": true,
	"tcc C | resolve": true, "tcc T+ | rollback": true, "tcc T+ | stop": true, "tcc T+ | tick retention": true,
}

// checkDeclared lists the cells that are declared and cannot be, and those without a line.
func checkDeclared(declared map[string]bool) (wrong []string) {
	for _, mode := range calledNames {
		for _, state := range calledStates {
			for _, command := range calledCommands {
				cell := mode + " " + state + " | " + command
				found := declared[cell+" | any"]
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
	unseen, ended := state == "U" || state == "X", state == "C+" || state == "R+" || state == "T+"
	decided := ended || state == "C" || state == "R"
	switch command {
	case "stop", "begin", "submit":
		return ""
	case "rollback":
		switch {
		case mode == "workflow" && unseen:
			return "only its code rolls a workflow back, once it has begun"
		case mode == "workflow" && state == "C+":
			return "two runs of one code come to one end"
		}
		return ""
	case "tick retention":
		if !ended {
			return "only what has ended is dropped"
		}
		return ""
	}
	if unseen || state == "T+" {
		return "initiators, operators and leaders go on with what has begun"
	}
	switch command {
	case "tick deadline":
		if decided {
			return "only what is undecided has a deadline"
		}
	case "resolve":
		if !decided {
			return "an operator speaks for a branch of what is decided"
		}
	case "answer done", "answer refused", "answer gave up":
		switch {
		case state == "C+":
			return "every step has answered, and the leader has heard that the log has it"
		case state == "R+" && command == "answer refused", decided && command == "answer gave up":
			return "one step of a plan refuses, or a few are given up: none is left to say so after it"
		}
	case "report matching", "report gave up":
		if !decided || ended && (mode != "message" || state != "C+") {
			return "branches report what was decided, and each of them once; only a leader that was cut off says it again"
		}
	case "commit driver", "rollback driver":
		if decided && (state != "C" || command != "commit driver") {
			return "the initiator is asked about what is undecided; another decision that comes between is rare"
		}
	case "commit bare":
		if mode == "workflow" && state == "R+" {
			return "two runs of one code come to one end, unless an operator stops it between them"
		}
	case "record failed":
		if state == "C+" {
			return "a code that commits has no step that failed"
		}
	}
	return ""
}
