package fsm

import (
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// modeAlphabet is what every mode may be sent.
func modeAlphabet(g GID, letters ...letter) []letter {
	return append(letters,
		command("commit", commit(g)),
		command("rollback", clientRollback(g)),
		command("rollback naming", clientRollback(g, step("1"), spec("2?"))),
		command("driver's commit", driverDecides(g, DecisionCommit, 1)),
		command("driver's rollback", driverDecides(g, DecisionRollback, 1)),
		command("stop", stop(g)),
		command("resolve 1", resolve(g, "1", rolledBack)),
		command("report of a stranger", report(g, "9", committed)),
		command("reports", reportsAll(g, rolledBack, "1", "2", "3")),
		command("answers", answersOf(g, said("1", answerDone), said("2", answerDone))),
		command("vote", vote(g, spec("1"), votePrepared)),
		command("tick", tick()),
		letter{"later", later},
	)
}

// The search, on the modes whose branches are called: every command in every
// state that any order of them can reach, late and repeated.
func TestSearchModes(t *testing.T) {
	g := testGID(testStartMS, 1)
	sagas := func(texts ...string) []letter {
		var list []letter
		list = append(list,
			command("submit", submit(tableSaga(g), steps(texts...))),
			command("submit other", submit(tableSaga(g), steps("1"))))
		for _, s := range steps(texts...) {
			id := s.GetId()
			list = append(list, command("done "+id, done(g, id)), command("refused "+id, answerOf(g, id, answerRefused)))
		}
		list = append(list, command("maybe 2", refusedMaybe(g, "2")), command("gave up 3", answerOf(g, "3", answerGaveUp)))
		list = append(list, reports(g, []string{"1", "2", "3"}, rolledBack)...)
		return append(list, reports(g, []string{"2"}, hazard)...)
	}
	withTwo := func(c *logpb.Command, ids ...string) []letter {
		list := []letter{command("start", c)}
		return append(list, reports(g, ids, committed, rolledBack, hazard, logpb.Outcome_OUTCOME_GAVE_UP)...)
	}
	var tcc, workflow []letter
	tcc = append(withTwo(begin(beginMode(g, logpb.Mode_MODE_TCC, nil)), "1", "2"),
		command("enlist 1", enlist(g, step("1"))), command("enlist 2", enlist(g, step("2<1"))),
		command("enlist other", enlist(g, step("2"))), command("commit set", commit(g, "1", "2")))
	workflow = []letter{
		command("begin", beginWorkflow(g)), command("record 1", record(g, "1", "action", "a")),
		command("record 1 again", record(g, "1", "compensate", "b")), command("record 1 otherwise", record(g, "1", "action", "c")),
		command("record 2", recordFailed(g, "2", "action")), command("commit with", commitWith("all")(g)),
	}
	type variant struct {
		name    string
		letters []letter
		least   int
	}
	variants := []variant{
		{"saga, a chain", sagas("1", "2<1", "3<2"), 300},
		{"saga, a fork", sagas("1", "2<1", "3<1"), 500},
		{"tcc", tcc, 200},
		{"message", append(withTwo(message(g, to("1", "http://a"), to("2", "http://b", "1")), "1", "2"), command("submit", submit(beginMode(g, modeMessage, messagePlan()), []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b", "1")}))), 100},
		{"notify", withTwo(submitNotify(g), "1", "2"), 100},
		{"workflow", workflow, 40},
	}
	if *searchFull {
		variants = append(variants, variant{"saga, free", sagas("1", "2-", "3"), 500})
	}
	if raceDetector {
		variants = variants[3:] // one goroutine: there is nothing more to detect
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.must(tick())
			start := w.s.fork()
			start.now = stamp{index: w.index + 1, term: 1, clockMS: start.clockMS}
			(&search{t: t, gid: g, letters: modeAlphabet(g, v.letters...), least: v.least}).run(start)
		})
	}
}
