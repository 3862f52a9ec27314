package sim

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Coverage counts what runs have reached: the table of states, commands and
// faults, and other things that must not be missed.
type Coverage struct {
	Cells map[Cell]int
	Met   map[string]int
}

// Cell is one of the table: a command was applied to a transaction in a state,
// while faults of a family were near.
type Cell struct{ State, Command, Fault string }

// NewCoverage returns an empty table.
func NewCoverage() *Coverage {
	return &Coverage{Cells: make(map[Cell]int), Met: make(map[string]int)}
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

func (c *Coverage) meet(what string) { c.Met[what]++ }

// answer counts what callers hear: an answer that never comes is not tested.
func (c *Coverage) answer(what string, a answer) {
	code := a.code.String()
	if a.err != nil {
		code = "unknown or not the leader"
	}
	c.Met[what+": "+code]++
}

// The columns of the table, in PROTOCOL.md's order of rows and columns.
var (
	stateNames   = []string{"U", "X", "A", "S", "C", "C+", "R", "R+"}
	commandNames = []string{
		"begin", "enlist", "vote prepared", "vote read-only", "vote refused", "vote maybe", "commit bare", "commit set", "commit driver",
		"rollback", "rollback driver", "rollback participant", "submit", "report matching", "report contrary", "resolve",
		"tick deadline", "tick retention",
	}
)

// commandAt is a command and the state in which it finds its transaction.
type commandAt struct{ state, command string }

// before reads which commands an entry holds, and what they will meet.
func (c *Coverage) before(s *fsm.State, e logEntry, modeOf func(fsm.GID) string) []commandAt {
	b, err := fsm.DecodeEntry(e.data)
	if err != nil {
		return nil
	}
	var found []commandAt
	var seen []fsm.GID
	for _, packed := range b.GetCommands() {
		for command := range fsm.Unpack(packed, fsm.Result{}) {
			gid, name := nameOf(s, command)
			if name == "" || slices.Contains(seen, gid) {
				continue // the first of the entry alone: what it leaves is not looked at
			}
			seen = append(seen, gid)
			mode := modeOf(gid)
			found = append(found, commandAt{mode + stateOf(s, gid, mode != ""), name})
		}
	}
	return found
}

// stateOf is the column of PROTOCOL.md's table, or of docs/modes.md, which has one for
// tombstones.
func stateOf(s *fsm.State, gid fsm.GID, tombstones bool) string {
	rec, ok := s.Get(gid)
	switch {
	case tombstones && rec.GetTombstone():
		return "T+"
	case !ok && gid.BornMS() <= s.Clock().HorizonMS:
		return "X"
	case !ok:
		return "U"
	}
	return map[fsm.TxState]string{
		fsm.StateActive: "A", fsm.StateSealed: "S", fsm.StateCommitting: "C", fsm.StateCommitted: "C+",
		fsm.StateRollingBack: "R", fsm.StateRolledBack: "R+",
	}[rec.GetState()]
}

// nameOf is the row of PROTOCOL.md's table.
func nameOf(s *fsm.State, c *logpb.Command) (fsm.GID, string) {
	switch k := c.GetKind().(type) {
	case *logpb.Command_Begin:
		return fsm.GID(k.Begin.GetGid()), "begin"
	case *logpb.Command_Enlist:
		return fsm.GID(k.Enlist.GetGid()), "enlist"
	case *logpb.Command_Vote:
		return fsm.GID(k.Vote.GetGid()), "vote " + voteName(k.Vote.GetBallot())
	case *logpb.Command_Decide:
		return fsm.GID(k.Decide.GetGid()), decideName(k.Decide)
	case *logpb.Command_Submit:
		return fsm.GID(k.Submit.GetBegin().GetGid()), "submit"
	case *logpb.Command_Report:
		gid := fsm.GID(k.Report.GetGid())
		if k.Report.GetOutcome() == logpb.Outcome_OUTCOME_GAVE_UP {
			return gid, "report gave up"
		}
		rec, _ := s.Get(gid)
		if o := k.Report.GetOutcome(); o == hazard || (o == committed) != (rec.GetDecision() == fsm.DecisionCommit) {
			return gid, "report contrary"
		}
		return gid, "report matching"
	case *logpb.Command_Resolve:
		return fsm.GID(k.Resolve.GetGid()), "resolve"
	case *logpb.Command_Answer:
		return fsm.GID(k.Answer.GetGid()), answerNames[k.Answer.GetKind()]
	case *logpb.Command_Record:
		if k.Record.GetFailed() {
			return fsm.GID(k.Record.GetGid()), "record failed"
		}
		return fsm.GID(k.Record.GetGid()), "record done"
	case *logpb.Command_Stop:
		return fsm.GID(k.Stop.GetGid()), "stop"
	}
	return fsm.GID{}, ""
}

var answerNames = map[logpb.Answer_Kind]string{
	logpb.Answer_KIND_DONE: "answer done", logpb.Answer_KIND_REFUSED: "answer refused", logpb.Answer_KIND_GAVE_UP: "answer gave up",
}

func voteName(b *logpb.Ballot) string {
	switch {
	case b.GetKind() == prepared:
		return "prepared"
	case b.GetKind() == readOnly:
		return "read-only"
	case b.GetMaybePrepared():
		return "maybe"
	}
	return "refused"
}

func decideName(d *logpb.Decide) string {
	switch {
	case d.GetDecision() == fsm.DecisionCommit && d.GetOrigin() == logpb.Origin_ORIGIN_DRIVER:
		return "commit driver"
	case d.GetDecision() == fsm.DecisionCommit && d.GetSet() != nil:
		return "commit set"
	case d.GetDecision() == fsm.DecisionCommit:
		return "commit bare"
	case d.GetOrigin() == logpb.Origin_ORIGIN_DRIVER:
		return "rollback driver"
	case d.GetOrigin() == logpb.Origin_ORIGIN_PARTICIPANT:
		return "rollback participant"
	}
	return "rollback"
}

// reached counts commands once for each family of faults that is near.
func (c *Coverage) reached(w *World, found []commandAt) {
	near := w.faults.near()
	for _, f := range found {
		for _, fam := range near {
			c.Cells[Cell{f.state, f.command, string(fam)}]++
		}
	}
}

// event counts what a Tick did: no command of its own says so.
func (c *Coverage) event(w *World, s *fsm.State, ev fsm.Event) {
	switch ev.Kind {
	case fsm.EventDecided:
		rec, ok := s.Get(ev.GID)
		if !ok || rec.GetReason() != logpb.Reason_REASON_TIMEOUT {
			return
		}
		state := "A"
		if rec.GetSealed() {
			state = "S"
		}
		c.reached(w, []commandAt{{w.oracle.modePrefix(ev.GID) + state, "tick deadline"}})
	case fsm.EventDropped:
		state := "R+"
		if ev.Decision == fsm.DecisionCommit {
			state = "C+"
		}
		mode := w.oracle.modePrefix(ev.GID)
		if mode != "" && w.oracle.of(ev.GID).tombstone {
			state = "T+"
		}
		c.reached(w, []commandAt{{mode + state, "tick retention"}})
	}
}

// near lists the families whose faults are under way, or just over.
func (j *injector) near() []family {
	var some []family
	for _, f := range families[1:] {
		if j.active[f] > 0 {
			some = append(some, f)
		}
	}
	if some == nil {
		return families[:1]
	}
	return some
}

// Print writes the table: a row for each state and command, a column for each
// family of faults, and below it what else was met. Rows that cannot be are left
// out.
func (c *Coverage) Print(out io.Writer) {
	fmt.Fprintf(out, "%-24s", "state  command")
	for _, f := range families {
		fmt.Fprintf(out, " %11s", f)
	}
	fmt.Fprintln(out)
	for _, state := range stateNames {
		for _, command := range commandNames {
			c.printRow(out, state, command)
		}
	}
	c.printModes(out)
	var met []string
	for _, what := range slices.Sorted(maps.Keys(c.Met)) {
		met = append(met, fmt.Sprintf("%s %d", what, c.Met[what]))
	}
	fmt.Fprintln(out, "met:", strings.Join(met, " | "))
}

func (c *Coverage) printRow(out io.Writer, state, command string) {
	if impossible(state, command) != "" {
		return
	}
	c.printCells(out, state, command)
}

func (c *Coverage) printCells(out io.Writer, state, command string) {
	fmt.Fprintf(out, "%-2s     %-17s", state, command)
	for _, f := range families {
		fmt.Fprintf(out, " %11d", c.Cells[Cell{state, command, string(f)}])
	}
	fmt.Fprintln(out)
}
