package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm/logpb"
)

func reported(branch string, o Outcome) *logpb.Report {
	return &logpb.Report{Branch: branch, Outcome: o}
}

func reportsOf(g GID, list ...*logpb.Report) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Reports{Reports: &logpb.Reports{Gid: g.Bytes(), Reports: list}}}
}

// reportsAll reports one outcome for each of several branches.
func reportsAll(g GID, o Outcome, ids ...string) *logpb.Command {
	var list []*logpb.Report
	for _, id := range ids {
		list = append(list, reported(id, o))
	}
	return reportsOf(g, list...)
}

func said(branch string, kind logpb.Answer_Kind) *logpb.Answer {
	return &logpb.Answer{Branch: branch, Kind: kind}
}

func answersOf(g GID, list ...*logpb.Answer) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Answers{Answers: &logpb.Answers{Gid: g.Bytes(), Answers: list}}}
}

// singles are the commands that a packed one stands for.
func singles(c *logpb.Command) (list []*logpb.Command) {
	for single := range Unpack(c, Result{}) {
		list = append(list, single)
	}
	return list
}

// randomPacked is a packed command over the GIDs and branches of randomCommand and
// randomCalled.
func randomPacked(p pick) *logpb.Command {
	g := testGID(testStartMS, uint64(p(5)))
	branch := func() string { return []string{"1", "2", "3", "4", "9", ""}[(p(21)+3)/4%6] }
	if p(2) == 0 {
		var list []*logpb.Report
		for range 1 + p(4) {
			r := reported(branch(), []Outcome{committed, rolledBack, committed, rolledBack, hazard, mixed, 5, 0}[p(8)])
			r.Attempts, r.Detail = uint32(p(3)), []string{"", "", "so be it"}[p(3)]
			list = append(list, r)
		}
		return reportsOf(g, list...)
	}
	var list []*logpb.Answer
	for range 1 + p(4) {
		a := said(branch(), []logpb.Answer_Kind{answerDone, answerDone, answerDone, answerRefused, answerGaveUp, 0}[p(6)])
		a.MaybeDone = a.Kind == answerRefused && p(2) == 0
		list = append(list, a)
	}
	return answersOf(g, list...)
}

// A packed command comes to what its parts would come to, one after another: the
// same records, the same digest, and of each part the same answer, whatever
// stands when it arrives.
func TestPackedIsOneAfterAnother(t *testing.T) {
	met := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		p := newPair(failer{t: t})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			p.clock = randomClock(pick, p.clock)
			if _, err := p.step(randomCommand(pick, p.clock)); err != nil {
				t.Fatal(err)
			}
			c := randomPacked(pick)
			if due := dueNow(p.a, c); len(due) > 0 && pick(2) > 0 {
				c = due[pick(len(due))] // so that it gets somewhere
			}
			p.index++
			before := p.a.Digest()
			apply := func(s *State, commands ...*logpb.Command) []Result {
				entry := EncodeEntry(nil, &logpb.Batch{ClockMs: p.clock, WallMs: p.index, FeatureLevel: FeatureLevel, Commands: commands})
				results, err := s.ApplyEntry(p.index, 1, entry)
				if err == nil {
					err = s.CheckInvariants()
				}
				if err != nil {
					t.Fatal(err)
				}
				return results
			}
			whole, parts := apply(p.a, c)[0], apply(p.b, singles(c)...)
			if got, want := fmt.Sprintf("%+v", whole.Parts), fmt.Sprintf("%+v", parts); got != want {
				t.Fatalf("%v is answered\n%s, its parts\n%s", c, got, want)
			}
			if p.a.Digest() != p.b.Digest() || !bytes.Equal(snapshotRecords(p.a), snapshotRecords(p.b)) {
				t.Fatalf("%v leads elsewhere than its parts", c)
			}
			if whole.Code != OK && p.a.Digest() != before {
				t.Fatalf("%v: the refusal %v changed the state", c, whole.Code)
			}
			if whole.Code != OK && slices.ContainsFunc(parts, func(r Result) bool { return r.Code == OK }) {
				t.Fatalf("%v: %v, and a part was taken: %+v", c, whole.Code, parts)
			}
			if rec, ok := p.a.Get(whole.GID); ok && whole.Code == OK && (whole.State != rec.GetState() || whole.Decision != rec.GetDecision()) {
				t.Fatalf("%v: the answer %+v is not what stands: %v", c, whole, rec)
			}
			changed := 0
			for _, r := range parts {
				if r.Changed {
					changed++
				}
			}
			met[fmt.Sprintf("%T, %d changed", c.GetKind(), min(changed, 2))]++
		}
	})
	for _, kind := range []string{"*logpb.Command_Reports", "*logpb.Command_Answers"} {
		if met[kind+", 2 changed"] == 0 || met[kind+", 0 changed"] == 0 {
			t.Errorf("it is vacuous: %v", met)
		}
	}
}

// dueNow packs, for each transaction that c's GIDs name, what is due there: all of
// it in one command.
func dueNow(s *State, c *logpb.Command) (list []*logpb.Command) {
	for n := range uint64(6) {
		g := testGID(testStartMS, n)
		var answers []*logpb.Answer
		var reports []*logpb.Report
		for _, d := range s.DueOf(g) {
			switch {
			case d.Branch.GetId() == "":
			case d.Operation == OperationAction && d.Verdict == VerdictWait:
				answers = append(answers, said(d.Branch.GetId(), answerDone))
			case d.Verdict == VerdictCommit:
				reports = append(reports, reported(d.Branch.GetId(), committed))
			default:
				reports = append(reports, reported(d.Branch.GetId(), rolledBack))
			}
		}
		if len(answers) > 0 && c.GetAnswers() != nil {
			list = append(list, answersOf(g, answers...))
		}
		if len(reports) > 0 && c.GetReports() != nil {
			list = append(list, reportsOf(g, reports...))
		}
	}
	return list
}

// Both branches of a commit report in one command, and so does what a saga's free
// steps answer: one record, the last word of which ends it.
func TestPackedEndsIt(t *testing.T) {
	w := newWorld(t)
	g, h := testGID(testStartMS, 1), testGID(testStartMS, 2)
	w.must(submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...))
	r := w.must(reportsAll(g, committed, "1", "2"))
	if r.State != StateCommitted || !r.Changed || r.Verdict != VerdictNone || r.GID != g || len(r.Parts) != 2 {
		t.Fatalf("%+v", r)
	}
	if first, last := r.Parts[0], r.Parts[1]; first.State != StateCommitting || last.State != StateCommitted || first.Verdict != VerdictCommit {
		t.Fatalf("%+v", r.Parts)
	}
	if r = w.must(reportsAll(g, committed, "1", "2")); r.Changed {
		t.Fatalf("repeated: %+v", r)
	}

	w.must(saga(h, "1", "2", "3<1,2"))
	r = w.must(answersOf(h, said("1", answerDone), said("2", answerDone)))
	if r.State != StateSealed || !r.Changed {
		t.Fatalf("%+v", r)
	}
	w.wantDue(h, "action 3")
	r = w.must(answersOf(h, said("9", answerDone), said("3", answerDone)))
	if r.State != StateCommitted || r.Parts[0].Code != NotEnlisted || r.Parts[1].Code != OK {
		t.Fatalf("%+v", r)
	}
}

// What people must hear of is said by the whole answer too.
func TestPackedAlarms(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...))
	r := w.must(reportsOf(g, reported("1", committed), reported("2", rolledBack)))
	if !r.Alarm || !strings.Contains(r.Detail, "branch 2 ") || r.Parts[0].Alarm || !r.Parts[1].Alarm {
		t.Fatalf("%+v", r)
	}
	dropped := testGID(testStartMS-1_000_000+1, 9)
	w.leap(testStartMS + w.s.Limits().GetRetentionMs())
	if r = w.must(reportsAll(dropped, committed, "1", "2")); !r.Alarm || r.Changed || len(r.Parts) != 2 {
		t.Fatalf("%+v", r)
	}
}

// A part that breaks an invariant is stored with none of the others, and nobody
// hears that it was.
func TestPackedQuarantine(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(saga(g, "1", "2"))
	x := change{old: w.s.find(g)}
	parts := []Result{
		w.s.answerTo(&x, g, said("1", answerDone)),
		w.s.answerTo(&x, g, said("1", answerDone)).toBranch(VerdictCommit),
	}
	x.next.require(false, "broken by hand")
	w.s.store(&x, parts...)
	whole := together(parts)
	if whole.Code != Quarantined || parts[0].Code != Quarantined || parts[0].Verdict != VerdictNone || parts[1].Verdict != VerdictWait {
		t.Fatalf("%+v", whole)
	}
	if tx := w.get(g); !tx.GetQuarantined() || tx.GetBranches()[0].GetVote() != voteNone {
		t.Fatalf("%v", tx)
	}
	for _, c := range []*logpb.Command{reportsAll(g, rolledBack, "1", "2"), answersOf(g, said("1", answerDone))} {
		if r := w.want(Quarantined, c); len(r.Parts) == 0 || r.Parts[0].Code != Quarantined {
			t.Fatalf("%+v", r)
		}
	}
}

func TestPackedRefusals(t *testing.T) {
	g := testGID(testStartMS, 1)
	with := func(c *logpb.Command, gid []byte) *logpb.Command {
		if r := c.GetReports(); r != nil {
			r.Gid = gid
		} else {
			c.GetAnswers().Gid = gid
		}
		return c
	}
	named := reported("1", committed)
	named.Gid = g.Bytes()
	for _, c := range []struct {
		want  string
		parts int
		do    *logpb.Command
	}{
		{"gid is of 0 bytes", 0, with(reportsAll(g, committed, "1"), nil)},
		{"gid is of 3 bytes", 0, with(answersOf(g, said("1", answerDone)), []byte("abc"))},
		{"reports are none", 0, reportsOf(g)},
		{"answers are none", 0, answersOf(g)},
		{"reports[1].gid is given", 0, reportsOf(g, reported("2", committed), named)},
		{"answers[0].gid is given", 0, answersOf(g, &logpb.Answer{Gid: g.Bytes(), Branch: "1", Kind: answerDone})},
		{"outcome is missing", 2, reportsOf(g, reported("1", 0), reported("", committed))},
		{"branch is empty", 2, reportsOf(g, reported("", committed), reported("1", 0))},
		{"kind is neither", 1, answersOf(g, said("1", 0))},
	} {
		w := newWorld(t)
		w.must(submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...))
		r := w.want(Invalid, c.do)
		if !strings.Contains(r.Detail, c.want) || len(r.Parts) != c.parts {
			t.Errorf("%v: %+v, want %q", c.do, r, c.want)
		}
	}
}

// In a batch of a lower level every node answers as one that has never heard of
// packed commands does.
func TestPackedNeedsItsFeatureLevel(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...))
	for _, c := range []*logpb.Command{reportsAll(g, committed, "1", "2"), answersOf(g, said("1", answerDone))} {
		w.index++
		before := w.s.Digest()
		r, err := w.s.Apply(Meta{w.index, w.term}, &logpb.Batch{ClockMs: w.clock, FeatureLevel: LevelPacked - 1, Commands: []*logpb.Command{c}})
		if err != nil || r[0].Code != Invalid || r[0].Detail != "kind names no command" || before != w.s.Digest() {
			t.Errorf("%v: %+v %v", c, r, err)
		}
	}
	w.must(reportsAll(g, committed, "1", "2"))
}

func TestUnpack(t *testing.T) {
	g := testGID(testStartMS, 1)
	full := &logpb.Report{Branch: "1", Outcome: committed, Detail: "d", Attempts: 3, Holder: []byte(testHolder)}
	c := reportsOf(g, full, reported("2", hazard))
	was := proto.CloneOf(c)
	result := Result{Code: OK, Parts: []Result{{Detail: "first"}, {Detail: "second"}}}
	var got []string
	for single, r := range Unpack(c, result) {
		if !bytes.Equal(single.GetReport().GetGid(), g[:]) {
			t.Fatal(single)
		}
		got = append(got, single.GetReport().GetBranch()+" "+r.Detail)
	}
	if !slices.Equal(got, []string{"1 first", "2 second"}) || !proto.Equal(c, was) {
		t.Fatal(got, c)
	}
	// Every field of a part is carried over.
	whole := singles(c)[0].GetReport()
	whole.Gid = nil
	if !proto.Equal(whole, full) {
		t.Fatalf("%v of %v", whole, full)
	}
	a := &logpb.Answer{Branch: "1", Kind: answerRefused, MaybeDone: true, Detail: "d", Attempts: 2}
	answer := singles(answersOf(g, a, said("2", answerDone)))[0].GetAnswer()
	answer.Gid = nil
	if !proto.Equal(answer, a) {
		t.Fatalf("%v of %v", answer, a)
	}
	for single, r := range Unpack(c, Result{Code: Invalid}) {
		if r.Code != Invalid || single.GetReport() == nil {
			t.Fatal(r)
		}
		break
	}
	if other := tick(); len(singles(other)) != 1 || singles(other)[0] != other {
		t.Fatal("a command that is not packed is not given as it is")
	}
}
