package fsm

import "github.com/quorate/quorate/fsm/logpb"

// randomCalled makes a command for modes whose branches are called, over few
// GIDs, steps and topics. Some GIDs are those of randomCommand.
func randomCalled(p pick, clock uint64) *logpb.Command {
	born := []uint64{testStartMS, testStartMS, testStartMS, clock}[p(4)]
	g := testGID(born, uint64(2+p(4)))
	branch := func() string { return []string{"1", "2", "3", "4", "1-01", "9"}[p(6)] }
	set := func() []*logpb.BranchSpec {
		texts := [][]string{
			{"1"}, {"1", "2<1", "3<2", "4<3"}, {"1", "2-<1", "3<1", "4<2,3"}, {"1", "2", "3"},
			{"1", "2<3", "3"}, {"1<2", "2<1"}, {"1", "2<9"}, {},
		}[p(8)]
		set := steps(texts...)
		if p(2) == 0 {
			for _, b := range set { // records share such (names.go)
				b.Payload = nil
			}
		}
		return set
	}
	plan := func() *logpb.Plan {
		return []*logpb.Plan{
			nil, {Callback: "http://ask", CallbackAfterMs: 5}, {ConcurrencyMax: 1, DelayMs: 3, Callback: "http://ask"},
			{Dialect: logpb.Dialect_DIALECT_DTM_HTTP, DialectMode: "msg"},
		}[p(4)]
	}
	start := func(mode Mode) *logpb.Begin {
		b := beginMode(g, mode, plan())
		b.Key = []string{"", "", "", "k1", "k3"}[p(5)]
		if p(2) == 0 {
			b.TimeoutMs = testTimeoutMS
		}
		return b
	}
	topics := func(set []*logpb.BranchSpec) []*logpb.BranchSpec {
		for _, b := range set {
			b.Undo = ""
			if p(2) == 0 {
				b.Endpoint = "topic://" + []string{"a", "b"}[p(2)]
			}
		}
		return set
	}
	switch p(20) {
	case 0, 1, 2:
		return submit(start(logpb.Mode_MODE_SAGA), set())
	case 3:
		return submit(start([]Mode{modeMessage, modeNotify, modeWorkflow}[p(3)]), topics(set()))
	case 4:
		b := start(modeMessage)
		b.Branches = topics(set())
		return begin(b)
	case 5:
		return begin(start([]Mode{modeWorkflow, logpb.Mode_MODE_TCC, logpb.Mode_MODE_SAGA}[p(3)]))
	case 6, 7:
		s := step([]string{"1", "2", "2<1", "3<2", "4-", "3<3"}[p(6)])
		return enlist(g, s)
	case 8, 9, 10, 11:
		c := answerOf(g, branch(), []logpb.Answer_Kind{answerDone, answerDone, answerDone, answerRefused, answerGaveUp}[p(5)])
		c.GetAnswer().MaybeDone = c.GetAnswer().Kind == answerRefused && p(2) == 0
		return c
	case 12, 13:
		return report(g, branch(), []Outcome{committed, rolledBack, rolledBack, hazard, logpb.Outcome_OUTCOME_GAVE_UP}[p(5)])
	case 14:
		if p(2) == 0 {
			return recordFailed(g, branch(), []string{"", "action"}[p(2)])
		}
		return record(g, branch(), []string{"", "action", "compensate"}[p(3)], []string{"a", "b"}[p(2)])
	case 15:
		return commitWith([]string{"", "", "all"}[p(3)])(g)
	case 16:
		return driverDecides(g, []Decision{DecisionCommit, DecisionRollback}[p(2)], uint64(1+p(2)))
	case 17:
		return clientRollback(g, []*logpb.BranchSpec{step("4<3,9"), spec("2?"), step("3<4"), spec("5!"), step("1<1")}[:p(6)]...)
	case 18:
		if p(3) == 0 {
			return stop(g)
		}
		return resolve(g, branch(), []Outcome{committed, rolledBack}[p(2)])
	default:
		return putTopic([]logpb.PutTopic_Change{1, 1, 1, 2, 3}[p(5)], []string{"a", "b"}[p(2)], []string{"http://a", "http://b", "http://c"}[p(3)])
	}
}
