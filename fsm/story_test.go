package fsm

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// The stories are transcripts: commands in, what happened out. A line that
// begins with ">" is a command; what follows it, up to an empty line, is what
// it came to. After a change, read the difference:
//
//	go test ./fsm -run TestStories -update && git diff fsm/testdata/stories
var update = flag.Bool("update", false, "write what happens into testdata/stories")

func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%d stories: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			told, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(told))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(told) {
				t.Errorf("%s goes otherwise:\n%s", path, firstDifference(string(told), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d: %q, told as %q", i+1, b, a)
		}
	}
	return ""
}

// teller replays one story.
type teller struct {
	*world
	gids map[string]GID
}

// tell returns the story with what its commands come to.
func tell(t *testing.T, story string) string {
	x := &teller{world: newWorld(t), gids: map[string]GID{}}
	var out strings.Builder
	for line := range strings.Lines(story) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"), line == "":
			out.WriteString(line + "\n")
		case strings.HasPrefix(line, "> "):
			out.WriteString(line + "\n" + x.run(strings.Fields(line[2:])))
		}
	}
	return out.String()
}

// gid is the GID behind a name; the first use makes it, born now.
func (x *teller) gid(name string) GID {
	if g, ok := x.gids[name]; ok {
		return g
	}
	g := testGID(x.clock, uint64(len(x.gids)+1))
	x.gids[name] = g
	return g
}

func (x *teller) name(g GID) string {
	for name, other := range x.gids {
		if other == g {
			return name
		}
	}
	return g.String()
}

// run executes one command line.
func (x *teller) run(words []string) string {
	from := x.index
	switch words[0] {
	case "later":
		ms, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			x.t.Fatal(err)
		}
		x.clock += ms
		x.do(tick())
		return fmt.Sprintf("clock +%d ms\n", x.clock-testStartMS) + x.events(from)
	case "term":
		x.term++
		return fmt.Sprintf("term %d\n", x.term)
	case "restart":
		digest := x.s.Digest()
		x.s = reborn(x.t, x.s)
		return fmt.Sprintf("restored, digest equal: %v\n", digest == x.s.Digest())
	case "due":
		var out strings.Builder
		for d := range x.s.Due() {
			out.WriteString(x.dueLine(d))
		}
		if out.Len() == 0 {
			return "nothing\n"
		}
		return out.String()
	case "inquire":
		q := x.s.Inquire(x.gid(words[1]), words[2])
		return fmt.Sprintf("%v %v unseen=%v\n", q.Code, q.Verdict, q.Unseen)
	case "show":
		return x.show(x.gid(words[1]))
	}
	r := x.do(x.command(words))
	return x.answer(r) + x.events(from)
}

// dueLine is a delivery, or a call.
func (x *teller) dueLine(d DueBranch) string {
	switch d.Operation {
	case OperationCommit, OperationRollback:
		return fmt.Sprintf("%s %s at %s: %v\n", x.name(d.GID), d.Branch.GetId(), describe(d.Branch), d.Verdict)
	}
	word := strings.ToLower(strings.TrimPrefix(d.Operation.String(), "OPERATION_"))
	endpoint := d.Branch.GetEndpoint()
	if d.Operation == OperationCompensate || d.Operation == OperationCancel {
		endpoint = d.Branch.GetUndo()
	}
	line := strings.TrimSpace(fmt.Sprintf("%s %s", x.name(d.GID), d.Branch.GetId())) + ": " + word + " at " + endpoint
	if d.NotBeforeMS > x.clock {
		line += fmt.Sprintf(", not before +%d ms", d.NotBeforeMS-testStartMS)
	}
	return line + "\n"
}

func (x *teller) answer(r Result) string {
	text := r.Code.String()
	if !r.GID.IsZero() {
		text += " " + x.name(r.GID)
	}
	if r.State != StateUnseen {
		text += " " + stateName(r.State)
	}
	if r.Created {
		text += ", created"
	}
	if r.Verdict != VerdictNone {
		text += ", verdict " + r.Verdict.String()
	}
	if r.Reason != 0 {
		text += ", " + strings.TrimPrefix(r.Reason.String(), "REASON_")
	}
	if r.Alarm {
		text += ", ALARM"
	}
	if r.Detail != "" {
		detail := r.Detail
		for name, g := range x.gids {
			detail = strings.ReplaceAll(detail, g.String(), name)
		}
		text += "\n  (" + detail + ")"
	}
	return text + "\n"
}

func stateName(s TxState) string { return strings.TrimPrefix(s.String(), "STATE_") }

func (x *teller) events(from uint64) string {
	events, _, _ := x.s.Events(from, 1000)
	var out strings.Builder
	for i, k := range kinds(events) {
		fmt.Fprintf(&out, "  * %s %s\n", x.name(events[i].GID), k)
	}
	return out.String()
}

func (x *teller) show(g GID) string {
	tx, ok := x.s.Get(g)
	if !ok {
		return "nothing\n"
	}
	out := stateName(tx.GetState())
	for _, f := range []struct {
		name string
		set  bool
	}{{"tombstone", tx.GetTombstone()}, {"sealed", tx.GetSealed()}, {"withheld", tx.GetWithheld()}, {"quarantined", tx.GetQuarantined()}, {"stopped", tx.GetStopped()}} {
		if f.set {
			out += ", " + f.name
		}
	}
	out += "\n"
	for _, b := range tx.GetBranches() {
		out += "  branch " + b.GetSpec().GetId()
		if b.GetOperation() != "" {
			out += " " + b.GetOperation()
		}
		if b.GetHint() {
			out += ", hint"
		}
		switch {
		case b.GetVote() == 0:
		case tx.GetBegin().GetMode() == logpb.Mode_MODE_TWO_PHASE:
			out += ", voted " + voteName(b.GetVote())
		case b.GetVote() == votePrepared:
			out += ", done"
		case b.GetMaybePrepared():
			out += ", maybe done"
		default:
			out += ", refused"
		}
		if len(b.GetResult()) > 0 {
			out += fmt.Sprintf(", result %q", b.GetResult())
		}
		if b.GetOwn() != 0 {
			own := strings.ToLower(strings.TrimPrefix(b.GetOwn().String(), "OWN_"))
			if tx.GetBegin().GetMode() != logpb.Mode_MODE_TWO_PHASE && !tx.GetTombstone() {
				own = "ended: " + own
			}
			out += ", " + own
		}
		if b.GetOutcome() == logpb.Outcome_OUTCOME_GAVE_UP {
			out += ", given up"
		}
		if b.GetResolved() != 0 {
			out += ", resolved " + outcomeName(b.GetResolved()) + " by " + b.GetResolvedBy()
		}
		out += "\n"
	}
	if len(tx.GetResult()) > 0 {
		out += fmt.Sprintf("  result %q\n", tx.GetResult())
	}
	return out
}

// command reads one command of the log.
func (x *teller) command(words []string) *logpb.Command {
	verb, rest := words[0], words[1:]
	options := map[string]string{}
	var plain []string
	for _, word := range rest {
		if k, v, ok := strings.Cut(word, "="); ok {
			options[k] = v
		} else {
			plain = append(plain, word)
		}
	}
	if verb == "recover" {
		n, _ := strconv.ParseUint(plain[0], 10, 64)
		hold, _ := strconv.ParseUint(options["hold"], 10, 64)
		x.clock += hold
		return recovery(n, x.clock)
	}
	if verb == "topic" {
		change := map[string]logpb.PutTopic_Change{"subscribe": 1, "unsubscribe": 2, "delete": 3}[plain[0]]
		endpoint := ""
		if len(plain) > 2 {
			endpoint = plain[2]
		}
		return putTopic(change, plain[1], endpoint)
	}
	g := x.gid(plain[0])
	list := func(name string) []string {
		if options[name] == "" {
			return nil
		}
		return strings.Split(options[name], ",")
	}
	switch verb {
	case "begin":
		return begin(x.beginning(g, options))
	case "enlist":
		return enlist(g, spec(plain[1]))
	case "vote":
		if plain[2] == "maybe" {
			return maybe(g, spec(plain[1]))
		}
		return vote(g, spec(plain[1]), x.kind(plain[2]))
	case "commit":
		return commit(g, list("set")...)
	case "driver":
		term, _ := strconv.ParseUint(options["term"], 10, 64)
		return driver(g, x.s.Clock().Incarnation, term)
	case "rollback":
		return rollback(g, x.origin(options["by"]), specs(list("naming")...)...)
	case "submit":
		var votes []*logpb.Ballot
		for _, v := range list("votes") {
			id, kind, _ := strings.Cut(v, ":")
			votes = append(votes, ballot(spec(id), x.kind(kind)))
		}
		return submit(x.beginning(g, options), specs(list("set")...), votes...)
	case "report":
		return report(g, plain[1], x.outcome(plain[2]))
	case "saga":
		return submit(x.plan(g, logpb.Mode_MODE_SAGA, options), steps(plain[1:]...))
	case "answer":
		kind := map[string]logpb.Answer_Kind{"done": answerDone, "refused": answerRefused, "maybe": answerRefused, "gave-up": answerGaveUp}[plain[2]]
		c := answerOf(g, plain[1], kind)
		c.GetAnswer().MaybeDone = plain[2] == "maybe"
		return c
	case "tcc":
		return begin(x.plan(g, logpb.Mode_MODE_TCC, options))
	case "try":
		return enlist(g, step(plain[1]))
	case "message", "notify":
		var set []*logpb.BranchSpec
		for _, word := range plain[1:] {
			id, endpoint, _ := strings.Cut(word, "@")
			id, after, _ := strings.Cut(id, "<")
			b := to(id, endpoint)
			if after != "" {
				b.After = strings.Split(after, ",")
			}
			set = append(set, b)
		}
		if verb == "notify" {
			return submit(x.plan(g, modeNotify, options), set)
		}
		b := x.plan(g, modeMessage, options)
		b.Branches = set
		return begin(b)
	case "check-back":
		d := map[string]Decision{"committed": DecisionCommit, "nothing": DecisionRollback}[plain[1]]
		return driverDecides(g, d, x.term)
	case "workflow":
		return begin(x.plan(g, modeWorkflow, options))
	case "record":
		c := record(g, plain[1], plain[2], options["result"])
		c.GetRecord().Failed = options["failed"] != ""
		return c
	case "return":
		return commitWith(options["result"])(g)
	case "stop":
		return stop(g)
	case "resolve":
		return resolve(g, plain[1], x.outcome(plain[2]))
	}
	x.t.Fatalf("no command %q", verb)
	return nil
}

func (x *teller) beginning(g GID, options map[string]string) *logpb.Begin {
	b := beginOf(g, logpb.Entry_ENTRY_EXPLICIT)
	if options["entry"] == "named" {
		b.Entry = logpb.Entry_ENTRY_NAMED
	}
	b.Key = options["key"]
	return b
}

// plan is a Begin of a mode whose branches are called.
func (x *teller) plan(g GID, mode Mode, options map[string]string) *logpb.Begin {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(options[name], 10, 64)
		return n
	}
	b := beginMode(g, mode, &logpb.Plan{
		Callback: options["callback"], CallbackAfterMs: number("after"), ConcurrencyMax: uint32(number("at-once")), DelayMs: number("delay"),
	})
	b.Key = options["key"]
	if n := number("timeout"); n > 0 {
		b.TimeoutMs = n
	}
	return b
}

func (x *teller) kind(word string) logpb.VoteKind {
	return map[string]logpb.VoteKind{"prepared": votePrepared, "read-only": voteReadOnly, "refused": voteRefused}[word]
}

func (x *teller) outcome(word string) Outcome {
	return map[string]Outcome{"gave-up": logpb.Outcome_OUTCOME_GAVE_UP, "committed": committed, "rolled-back": rolledBack, "hazard": hazard, "mixed": mixed}[word]
}

func (x *teller) origin(word string) logpb.Origin {
	if o, ok := map[string]logpb.Origin{"participant": participant, "operator": operator}[word]; ok {
		return o
	}
	return client
}
