package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm/logpb"
)

// refTx is one transaction whose branches are called, said naively: sets of
// names and the sentences of docs/modes.md, with nothing of the machine's own
// records, orders or shortcuts. It shares no code with it.
type refTx struct {
	mode    Mode
	most    int                 // concurrency
	after   map[string][]string // the branches, and what each names
	noUndo  map[string]bool
	decided string          // "", "commit", "rollback"
	done    map[string]bool // saga: answered as done
	nothing map[string]bool // saga: answered that nothing was done
	maybe   map[string]bool // saga: answered otherwise
	ended   map[string]bool // reported, or resolved
	stopped bool
}

func (x *refTx) ids() []string {
	var list []string
	for id := range x.after {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// called: all that must be done before it is done.
func (x *refTx) called(id string) bool {
	for _, before := range x.after[id] {
		if !x.done[before] {
			return false
		}
	}
	return true
}

func (x *refTx) answered(id string) bool { return x.done[id] || x.nothing[id] || x.maybe[id] }

// owes: the branch has still to hear of the decision.
func (x *refTx) owes(id string) bool {
	switch {
	case x.ended[id] || x.stopped || x.mode == modeWorkflow:
		return false
	case x.decided == "commit":
		return x.mode != logpb.Mode_MODE_SAGA
	case x.mode == modeMessage || x.mode == modeNotify || x.noUndo[id]:
		return false
	case x.mode == logpb.Mode_MODE_SAGA:
		return x.called(id) && !x.nothing[id]
	}
	return true
}

// reaches: one names another, however far.
func (x *refTx) reaches(from, target string, depth int) bool {
	if depth > len(x.after) {
		return false
	}
	for _, id := range x.after[from] {
		if id == target || x.reaches(id, target, depth+1) {
			return true
		}
	}
	return false
}

func (x *refTx) possible() bool {
	for id, after := range x.after {
		for _, before := range after {
			if _, ok := x.after[before]; !ok {
				return false
			}
		}
		if x.reaches(id, id, 0) {
			return false
		}
	}
	return len(x.after) > 0
}

func (x *refTx) state() string {
	for _, id := range x.ids() {
		if x.decided != "" && x.owes(id) {
			return map[string]string{"commit": "C", "rollback": "R"}[x.decided]
		}
	}
	switch {
	case x.decided != "":
		return map[string]string{"commit": "C+", "rollback": "R+"}[x.decided]
	case x.mode == logpb.Mode_MODE_SAGA:
		return "S"
	}
	return "A"
}

func (x *refTx) due() string {
	word := map[string]string{
		fmt.Sprint(logpb.Mode_MODE_SAGA, ""): "action", fmt.Sprint(logpb.Mode_MODE_SAGA, "rollback"): "compensate",
		fmt.Sprint(logpb.Mode_MODE_TCC, "commit"): "confirm", fmt.Sprint(logpb.Mode_MODE_TCC, "rollback"): "cancel",
		fmt.Sprint(modeMessage, "commit"): "action", fmt.Sprint(modeNotify, "commit"): "action",
	}[fmt.Sprint(x.mode, x.decided)]
	switch {
	case x.decided == "" && x.mode == modeMessage:
		return "check_back"
	case x.decided == "" && x.mode == modeWorkflow:
		return "resume"
	case word == "":
		return ""
	}
	var list []string
	for _, id := range x.ids() {
		free := true
		switch x.decided {
		case "":
			free = x.called(id) && !x.answered(id)
		case "commit":
			free = x.owes(id)
			for _, other := range x.ids() {
				free = free && !(x.reaches(id, other, 0) && x.owes(other))
			}
		case "rollback":
			free = x.owes(id)
			for _, other := range x.ids() {
				free = free && !(x.reaches(other, id, 0) && x.owes(other))
			}
		}
		if free && (x.most == 0 || len(list) < x.most) {
			list = append(list, id)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return word + " " + strings.Join(list, " ")
}

// answer says what an answer of a saga's step comes to, and writes it down.
func (x *refTx) answer(id string, kind logpb.Answer_Kind, maybeDone bool) Code {
	_, member := x.after[id]
	sets := map[bool]map[string]bool{true: x.maybe, false: x.nothing}
	mine := x.done
	if kind != answerDone {
		mine = sets[maybeDone || kind == answerGaveUp]
	}
	switch {
	case x.mode != logpb.Mode_MODE_SAGA:
		return Invalid
	case !member:
		return NotEnlisted
	case mine[id]:
		return OK
	case x.answered(id):
		return VoteConflict
	case !x.called(id):
		return Invalid
	}
	if x.decided != "" {
		if kind == answerRefused && !maybeDone && !x.ended[id] && x.owes(id) {
			x.nothing[id] = true
		}
		return OK
	}
	mine[id] = true
	if kind != answerDone {
		x.decided = "rollback"
	} else if len(x.done) == len(x.after) {
		x.decided = "commit"
	}
	return OK
}

func (x *refTx) report(id string) Code {
	_, member := x.after[id]
	switch {
	case x.mode == modeWorkflow:
		return Invalid
	case member && x.decided == "":
		return Undecided
	case member:
		x.ended[id] = true
	}
	return OK
}

// Random transactions of every mode under random commands: after each, state
// and dues are the reference's, and so is each answer to what a step said.
func TestModesAgainstTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		w := newWorld(failer{t: t})
		g := testGID(testStartMS, 1)
		x := &refTx{
			mode:  []Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_SAGA, logpb.Mode_MODE_TCC, modeMessage, modeNotify, modeWorkflow}[pick(6)],
			most:  []int{0, 0, 1, 2}[pick(4)],
			after: map[string][]string{}, noUndo: map[string]bool{},
			done: map[string]bool{}, nothing: map[string]bool{}, maybe: map[string]bool{}, ended: map[string]bool{},
		}
		set := randomSet(pick, x)
		if !startBoth(t, w, g, x, set) {
			return
		}
		same := func(after string) {
			if got := w.column(g); got != x.state() {
				t.Fatalf("after %s: %s, the reference says %s: %+v", after, got, x.state(), x)
			}
			if got := w.due(g); got != x.due() {
				t.Fatalf("after %s: due %q, the reference says %q: %+v", after, got, x.due(), x)
			}
		}
		same("the start")
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := []string{"1", "2", "3", "4", "5", "6"}[pick(6)]
			// Often what is due, so that it gets somewhere.
			if due := w.s.DueOf(g); len(due) > 0 && pick(3) > 0 {
				if b := due[pick(len(due))].Branch.GetId(); b != "" {
					id = b
				}
			}
			var c *logpb.Command
			want := OK
			switch pick(12) {
			case 0, 1, 2, 3:
				kind := []logpb.Answer_Kind{answerDone, answerDone, answerDone, answerDone, answerRefused, answerGaveUp}[pick(6)]
				c = answerOf(g, id, kind)
				c.GetAnswer().MaybeDone = kind == answerRefused && pick(2) == 0
				want = x.answer(id, kind, c.GetAnswer().MaybeDone)
			case 4, 5, 6, 7:
				c = report(g, id, map[string]Outcome{"commit": committed, "rollback": rolledBack, "": rolledBack}[x.decided])
				want = x.report(id)
			case 8:
				c = clientRollback(g)
				switch x.decided {
				case "":
					x.decided = "rollback"
				case "commit":
					want = AlreadyDecided
				}
			case 9:
				c = commit(g)
				switch {
				case x.decided == "rollback":
					want = AlreadyDecided
				case x.decided == "" && x.mode == logpb.Mode_MODE_SAGA:
					want = Invalid
				default:
					x.decided = "commit"
				}
			case 10:
				if pick(4) > 0 {
					continue
				}
				c = stop(g)
				if x.decided == "" {
					x.decided = "rollback"
				}
				x.stopped = true
			default:
				w.leap(w.clock + 400)
				if x.decided == "" && w.clock >= testStartMS+testTimeoutMS && (x.mode == logpb.Mode_MODE_SAGA || x.mode == logpb.Mode_MODE_TCC) {
					x.decided = "rollback"
				}
				same("time")
				continue
			}
			if r := w.do(c); r.Code != want {
				t.Fatalf("%v: %v (%s), the reference says %v: %+v", c, r.Code, r.Detail, want, x)
			}
			same(fmt.Sprint(c))
		}
	})
}

// randomSet makes up to six branches in any order.
func randomSet(pick pick, x *refTx) []*logpb.BranchSpec {
	ids := []string{"1", "2", "3", "4", "5", "6"}[:1+pick(6)]
	var set []*logpb.BranchSpec
	for i, id := range ids {
		s := step(id)
		for k, before := range ids {
			// Mostly what cannot go in a circle, in one of two directions.
			if k != i && (k > i) == (len(ids)%2 == 0) && pick(3) == 0 || k > i && pick(40) == 0 {
				s.After = append(s.After, before)
			}
		}
		if x.noUndo[id] = x.mode != logpb.Mode_MODE_TCC && pick(5) == 0; x.noUndo[id] {
			s.Undo = ""
		}
		x.after[id] = s.After
		set = append(set, s)
	}
	return set
}

// startBoth brings the transaction to where the commands begin; false where
// both refuse it.
func startBoth(t *rapid.T, w *world, g GID, x *refTx, set []*logpb.BranchSpec) bool {
	b := beginMode(g, x.mode, &logpb.Plan{ConcurrencyMax: uint32(x.most), Callback: "http://ask"})
	b.TimeoutMs = testTimeoutMS
	var c *logpb.Command
	switch x.mode {
	case modeMessage:
		b.Branches = set
		c = begin(b)
	case logpb.Mode_MODE_SAGA, modeNotify:
		c = submit(b, set)
	case modeWorkflow:
		x.after = map[string][]string{}
		w.must(begin(b))
		return true
	default:
		w.must(begin(b))
		for _, s := range set {
			for _, before := range s.GetAfter() {
				if before > s.GetId() {
					w.want(Invalid, enlist(g, s)) // it names what does not stand
					return false
				}
			}
			w.must(enlist(g, s))
		}
		return true
	}
	if r := w.do(c); (r.Code == OK) != x.possible() {
		t.Fatalf("%v: %v (%s), possible: %v", c, r.Code, r.Detail, x.possible())
	}
	if x.mode == modeNotify {
		x.decided = "commit"
	}
	return x.possible()
}

func TestModesAgainstTheReferenceIsNotVacuous(t *testing.T) {
	x := &refTx{mode: logpb.Mode_MODE_SAGA, after: map[string][]string{"1": nil, "2": {"1"}}, done: map[string]bool{"1": true}, maybe: map[string]bool{}, nothing: map[string]bool{}}
	if x.due() != "action 2" || x.answer("2", answerGaveUp, false) != OK || x.due() != "compensate 2" || x.state() != "R" {
		t.Fatalf("%+v", x)
	}
}
