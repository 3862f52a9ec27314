package fsm

import (
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// The transition tables of docs/modes.md, transcribed by hand: every command in
// every state that a mode has, in the manner of table_test.go.

var (
	sagaColumns     = strings.Fields("U X S C+ R R+ T+")
	tccColumns      = strings.Fields("U X A C C+ R R+ T+")
	messageColumns  = strings.Fields("U X A C C+ R+ T+")
	notifyColumns   = strings.Fields("U X C C+ T+")
	workflowColumns = strings.Fields("U X A C+ R+ T+")
)

func tableSaga(g GID) *logpb.Begin {
	b := beginMode(g, logpb.Mode_MODE_SAGA, nil)
	b.TimeoutMs = testTimeoutMS
	return b
}

func submitSaga(g GID) *logpb.Command { return submit(tableSaga(g), steps("1", "2<1", "3<2")) }

// sagaSituation: three steps in a chain. Step 1 is done, step 2 was called and
// has not answered, step 3 was not called; all are done where it is committed.
func sagaSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(submitSaga(g))
	w.must(done(g, "1"))
	switch column {
	case "R", "R+":
		w.must(clientRollback(g))
	case "C+":
		w.must(done(g, "2"))
		w.must(done(g, "3"))
	}
	conclude(w, g, column)
	return g
}

// tccSituation: branches 1 and 2 are registered.
func tccSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(begin(beginMode(g, logpb.Mode_MODE_TCC, nil)))
	w.must(enlist(g, step("1")))
	w.must(enlist(g, step("2")))
	switch column {
	case "R", "R+":
		w.must(clientRollback(g))
	case "C", "C+":
		w.must(commit(g))
	}
	conclude(w, g, column)
	return g
}

func tableMessage(g GID) *logpb.Command { return message(g, to("1", "http://a"), to("2", "http://b")) }

func submitMessage(g GID) *logpb.Command {
	return submit(beginMode(g, modeMessage, messagePlan()), []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b")})
}

// messageSituation: a message to two branches is prepared.
func messageSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(tableMessage(g))
	switch column {
	case "R+":
		w.must(clientRollback(g))
	case "C", "C+":
		w.must(commit(g))
	}
	conclude(w, g, column)
	return g
}

func submitNotify(g GID) *logpb.Command {
	return submit(beginMode(g, modeNotify, nil), []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b")})
}

// notifySituation: a notification of two branches.
func notifySituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(submitNotify(g))
	conclude(w, g, column)
	return g
}

func beginWorkflow(g GID) *logpb.Command {
	return begin(beginMode(g, modeWorkflow, &logpb.Plan{Callback: "http://resume", Workflow: "order"}))
}

func commitWith(result string) func(g GID) *logpb.Command {
	return func(g GID) *logpb.Command {
		c := commit(g)
		c.GetDecide().Result = []byte(result)
		return c
	}
}

// workflowSituation: step 1 is recorded.
func workflowSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(beginWorkflow(g))
	w.must(record(g, "1", "action", "one"))
	switch column {
	case "R+":
		w.must(clientRollback(g))
	case "C+":
		w.must(commitWith("all")(g))
	}
	conclude(w, g, column)
	return g
}

func stepReport(branch string, o Outcome) func(*world, GID) Result {
	return send(func(g GID) *logpb.Command { return report(g, branch, o) })
}

func deadlinePasses(w *world) uint64 { return testStartMS + testTimeoutMS }
