package search

import (
	"fmt"
	"slices"
	"strings"
)

// cast is what the nodes and branches that stand in order are called. A story
// gives them their names at its beginning, and they keep them.
type cast struct{ nodes, branches [3]int }

func (c cast) node(place uint8) string { return fmt.Sprintf("node %d", c.nodes[place]+1) }
func (c cast) branch(place int) string { return fmt.Sprintf("branch %d", c.branches[place]+1) }

// moved follows what was put in order.
func (c cast) moved(nodes, branches order) (to cast) {
	for i := range to.nodes {
		to.nodes[i], to.branches[i] = c.nodes[nodes[i]], c.branches[branches[i]]
	}
	return to
}

// story tells how a state was first reached, step by step, which is the shortest
// way there.
func (s *walk) story(number uint32) []string {
	var path []step
	for n := number; n != 0; n = s.origins[n].parent {
		path = append(path, s.origins[n].step)
	}
	slices.Reverse(path)

	w := s.begin()
	names := cast{nodes: [3]int{0, 1, 2}, branches: [3]int{0, 1, 2}}
	lines := make([]string, 0, len(path))
	for i, do := range path {
		var next world
		s.steps(&w, func(choice step, to world) {
			if choice == do {
				next = to
			}
		})
		s.sends(&next)
		lines = append(lines, fmt.Sprintf("%2d. %s%s", i+1, do.tell(names), s.changes(&w, &next, names)))
		names = names.moved(s.canonical(&next))
		w = next
	}
	return lines
}

// changes tells what a step changed that the step does not say.
func (m *model) changes(before, after *world, names cast) string {
	var said []string
	if was, is := m.view(before), m.view(after); was.known != is.known || was.state != is.state {
		state := strings.ToLower(strings.TrimPrefix(is.state.String(), "STATE_"))
		switch {
		case is.expired:
			state = "dropped"
		case !is.known:
			state = "unseen"
		}
		said = append(said, "the log now says: "+strings.ReplaceAll(state, "_", " "))
	}
	for b := range m.Branches {
		if before.parts[b] != after.parts[b] {
			said = append(said, fmt.Sprintf("%s is %s", names.branch(b), after.parts[b]))
		}
	}
	for msg := range msgCount {
		if after.net.has(msg) && !before.net.has(msg) {
			said = append(said, names.message(msg)+" is sent")
		}
	}
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said, "; ") + ")"
}

// message names a message.
func (c cast) message(msg int) string {
	of := func(first int, text string) string { return text + " of " + c.branch(msg-first) }
	switch {
	case msg < int(commandCount):
		return c.command(command(msg))
	case msg < msgReply:
		return of(msgWork, "the call for the work")
	case msg < msgEnlisted:
		return of(msgReply, "the vote in the reply")
	case msg < msgCommit:
		return of(msgEnlisted, "the answer to Enlist")
	case msg < msgRollback:
		return of(msgCommit, "the verdict commit")
	case msg < msgBegun:
		return of(msgRollback, "the verdict rollback")
	default:
		return "the answer to Begin"
	}
}

func (c cast) command(cmd command) string {
	if said, ok := cmd.words(); ok {
		var parts []string
		for b, s := range said {
			if s != wordNone {
				parts = append(parts, c.command(s.single(b)))
			}
		}
		return strings.Join(parts, " with ")
	}
	name := map[command]string{
		cmdTick: "Tick", cmdBegin: "Begin", cmdCommit: "Commit", cmdCommitBare: "Commit without a set", cmdSubmit: "Submit with every vote", cmdRollback: "Rollback",
		cmdEnlist: "Enlist", cmdVote: "Vote prepared", cmdRefuse: "Vote refused",
		cmdCommitted: "Report committed", cmdRolledBack: "Report rolled back", cmdPresume: "Rollback of what is unseen",
	}[cmd.kind()]
	if b := cmd.branch(); b >= 0 {
		return name + " of " + c.branch(b)
	}
	return name
}

// tell says a step.
func (s step) tell(names cast) string {
	x, y := names.node(min(s.x, nodesMax-1)), names.node(min(s.y, nodesMax-1))
	switch s.does {
	case doElect:
		return fmt.Sprintf("%s is elected by the vote of %s, and writes its first entry", x, y)
	case doReplicate:
		return fmt.Sprintf("%s brings the log of %s to its own", x, y)
	case doTick:
		return x + " appends a Tick"
	case doMessage, doDuplicate:
		text := names.message(int(s.x)) + " arrives"
		if s.x < uint8(commandCount) {
			text = fmt.Sprintf("%s reaches %s, which appends it", names.message(int(s.x)), y)
		}
		if s.does == doDuplicate {
			text += ", and a duplicate stays under way"
		}
		return text
	case doPack:
		return fmt.Sprintf("%s packs into one command: %s", x, names.command(command(s.y)))
	case doCrashNode:
		return x + " crashes and starts again"
	case doCrashPart:
		return fmt.Sprintf("the participant of %s crashes and starts again", names.branch(int(s.x)))
	case doTime:
		return "time passes"
	case doAskCommit:
		return "the initiator asks commit"
	case doAskRollback:
		return "the second client asks rollback"
	case doPrepare:
		return names.branch(int(s.x)) + " prepares and votes"
	case doRefuse:
		return names.branch(int(s.x)) + " rolls back and refuses"
	default:
		return fmt.Sprintf("step %v", s)
	}
}

func (p part) String() string {
	return [...]string{
		partIdle: "idle", partEnlisting: "enlisting", partWorking: "at work",
		partPrepared: "prepared", partCommitted: "committed", partRolledBack: "rolled back",
	}[p]
}
