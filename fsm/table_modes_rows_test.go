package fsm

import "github.com/quorate/quorate/fsm/logpb"

// The order of the cells: U; X; S / C+ / R; R+ / T+.
var sagaRows = []row{
	{"submit, same", send(submitSaga), `
		OK - S; EXPIRED - X; OK - S
		OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"submit, other", send(func(g GID) *logpb.Command { return submit(tableSaga(g), steps("1", "2<1")) }), `
		OK - S||OK - R+; EXPIRED - X; GID_CONFLICT - S
		GID_CONFLICT - C+
		GID_CONFLICT - R; GID_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"begin", send(func(g GID) *logpb.Command { return begin(tableSaga(g)) }), `
		INVALID - U; INVALID - X; INVALID - S
		INVALID - C+
		INVALID - R; INVALID - R+
		INVALID - T+`},
	{"enlist", send(func(g GID) *logpb.Command { return enlist(g, step("4")) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID r S
		INVALID r C+
		INVALID r R; INVALID r R+
		ALREADY_DECIDED r T+`},
	{"vote", send(func(g GID) *logpb.Command { return vote(g, step("2"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID w S
		INVALID c C+
		INVALID r R; INVALID r R+
		ALREADY_DECIDED r T+`},
	{"answer done, called", send(func(g GID) *logpb.Command { return done(g, "2") }), `
		NOT_FOUND - U; EXPIRED - X; OK - S
		OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"answer refused, called", send(func(g GID) *logpb.Command { return answerOf(g, "2", answerRefused) }), `
		NOT_FOUND - U; EXPIRED - X; OK - R
		VOTE_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"answer refused, maybe done", send(func(g GID) *logpb.Command { return refusedMaybe(g, "2") }), `
		NOT_FOUND - U; EXPIRED - X; OK - R
		VOTE_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"answer gave up", send(func(g GID) *logpb.Command { return answerOf(g, "2", answerGaveUp) }), `
		NOT_FOUND - U; EXPIRED - X; OK - R
		VOTE_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"answer done, same", send(func(g GID) *logpb.Command { return done(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; OK - S
		OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"answer refused, done before", send(func(g GID) *logpb.Command { return answerOf(g, "1", answerRefused) }), `
		NOT_FOUND - U; EXPIRED - X; VOTE_CONFLICT - S
		VOTE_CONFLICT - C+
		VOTE_CONFLICT - R; VOTE_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"answer done, never called", send(func(g GID) *logpb.Command { return done(g, "3") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - S
		OK - C+
		INVALID - R; INVALID - R+
		ALREADY_DECIDED - T+`},
	{"answers done", send(func(g GID) *logpb.Command { return answersOf(g, said("2", answerDone), said("3", answerDone)) }), `
		NOT_FOUND - U; EXPIRED - X; OK - C+
		OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"answers, one refused", send(func(g GID) *logpb.Command { return answersOf(g, said("1", answerDone), said("2", answerRefused)) }), `
		NOT_FOUND - U; EXPIRED - X; OK - R
		OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"reports rolled back", send(func(g GID) *logpb.Command { return reportsAll(g, rolledBack, "2", "1") }), `
		NOT_FOUND - U; OK - X; UNDECIDED - S
		OK - C+
		OK - R+; OK - R+
		OK - T+`},
	{"answer, no member", send(func(g GID) *logpb.Command { return done(g, "9") }), `
		NOT_FOUND - U; EXPIRED - X; NOT_ENLISTED - S
		NOT_ENLISTED - C+
		NOT_ENLISTED - R; NOT_ENLISTED - R+
		ALREADY_DECIDED - T+`},
	{"commit", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - S
		OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"driver commits", func(w *world, g GID) Result { return w.do(driver(g, 1, w.term)) }, `
		NOT_FOUND - U; EXPIRED - X; INVALID - S
		OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"client's rollback", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X; OK r R
		ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T+`},
	{"report rolled back", stepReport("2", rolledBack), `
		NOT_FOUND w U; OK r X; UNDECIDED w S
		OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report rolled back, never called", stepReport("3", rolledBack), `
		NOT_FOUND w U; OK r X; UNDECIDED w S
		OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report committed", stepReport("1", committed), `
		NOT_FOUND w U; OK r X; UNDECIDED w S
		OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report hazard", stepReport("2", hazard), `
		NOT_FOUND w U; OK r X; UNDECIDED w S
		OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report gave up", stepReport("2", logpb.Outcome_OUTCOME_GAVE_UP), `
		NOT_FOUND w U; OK r X; INVALID w S
		INVALID c C+
		INVALID r R; INVALID r R+
		ALREADY_DECIDED r T+`},
	{"report, no member", stepReport("9", rolledBack), `
		NOT_FOUND w U; OK r X; OK r S
		OK r C+
		OK r R; OK r R+
		OK r T+`},
	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "2", rolledBack) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - S
		ALREADY_REPORTED - C+
		OK - R||OK - R+; ALREADY_REPORTED - R+
		NOT_ENLISTED - T+`},
	{"record", send(func(g GID) *logpb.Command { return record(g, "1", "action", "one") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - S
		INVALID - C+
		INVALID - R; INVALID - R+
		ALREADY_DECIDED - T+`},
	{"stop", send(stop), `
		NOT_FOUND - U; EXPIRED - X; OK - R+
		OK - C+
		OK - R+; OK - R+
		OK - T+`},
	{"tick, deadline", tickAt(deadlinePasses), `
		OK - U; OK - X; OK - R
		OK - C+
		OK - R; OK - R+
		OK - T+`},
	{"inquire a member", inquire("1"), `
		OK w U; OK r X; OK w S
		OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"inquire a stranger", inquire("9"), `
		OK w U; OK r X; OK r S
		OK r C+
		OK r R; OK r R+
		OK r T+`},
}

// The order of the cells: U; X; A / C; C+ / R; R+ / T+.
var tccRows = []row{
	{"begin, same", send(func(g GID) *logpb.Command { return begin(beginMode(g, logpb.Mode_MODE_TCC, nil)) }), `
		OK - A; EXPIRED - X; OK - A
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T+`},
	{"begin, other", send(func(g GID) *logpb.Command { return begin(longer(beginMode(g, logpb.Mode_MODE_TCC, nil))) }), `
		OK - A||OK - R+; EXPIRED - X; GID_CONFLICT - A
		GID_CONFLICT - C; GID_CONFLICT - C+
		GID_CONFLICT - R; GID_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"submit", send(func(g GID) *logpb.Command { return submit(beginMode(g, logpb.Mode_MODE_TCC, nil), steps("1", "2")) }), `
		INVALID - U; INVALID - X; INVALID - A
		INVALID - C; INVALID - C+
		INVALID - R; INVALID - R+
		INVALID - T+`},
	{"enlist, new", send(func(g GID) *logpb.Command { return enlist(g, step("3")) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A||OK r R+
		ALREADY_DECIDED r C; ALREADY_DECIDED r C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T+`},
	{"enlist, same", send(func(g GID) *logpb.Command { return enlist(g, step("1")) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A
		OK c C; OK c C+
		OK r R; OK r R+
		ALREADY_DECIDED r T+`},
	{"enlist, other", send(func(g GID) *logpb.Command { return enlist(g, other(step("2"))) }), `
		NOT_FOUND w U; EXPIRED r X; BRANCH_CONFLICT w A
		ALREADY_DECIDED r C; ALREADY_DECIDED r C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T+`},
	{"vote", send(func(g GID) *logpb.Command { return vote(g, step("1"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID w A
		INVALID c C; INVALID c C+
		INVALID r R; INVALID r R+
		ALREADY_DECIDED r T+`},
	{"answer", send(func(g GID) *logpb.Command { return done(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A
		INVALID - C; INVALID - C+
		INVALID - R; INVALID - R+
		ALREADY_DECIDED - T+`},
	{"commit, bare", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X; OK - C
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"commit, its set", send(func(g GID) *logpb.Command { return commit(g, "1", "2") }), `
		NOT_FOUND - U; EXPIRED - X; OK - C
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"commit, a smaller set", send(func(g GID) *logpb.Command { return commit(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; SET_MISMATCH - A
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"commit, a larger set", send(func(g GID) *logpb.Command { return commit(g, "1", "2", "3") }), `
		NOT_FOUND - U; EXPIRED - X; NOT_ENLISTED - A
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"commit with a result", send(commitWith("r")), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"driver commits", func(w *world, g GID) Result { return w.do(driver(g, 1, w.term)) }, `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"client's rollback", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T+`},
	{"report committed", stepReport("1", committed), `
		NOT_FOUND w U; OK r X; UNDECIDED w A
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report rolled back", stepReport("1", rolledBack), `
		NOT_FOUND w U; OK r X; UNDECIDED w A
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report hazard", stepReport("1", hazard), `
		NOT_FOUND w U; OK r X; UNDECIDED w A
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"report, no member", stepReport("9", rolledBack), `
		NOT_FOUND w U; OK r X; OK w A
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T+`},
	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "1", rolledBack) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A
		OK - C||OK - C+; ALREADY_REPORTED - C+
		OK - R||OK - R+; ALREADY_REPORTED - R+
		NOT_ENLISTED - T+`},
	{"record", send(func(g GID) *logpb.Command { return record(g, "1", "action", "one") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A
		INVALID - C; INVALID - C+
		INVALID - R; INVALID - R+
		ALREADY_DECIDED - T+`},
	{"stop", send(stop), `
		NOT_FOUND - U; EXPIRED - X; OK - R+
		OK - C+; OK - C+
		OK - R+; OK - R+
		OK - T+`},
	{"tick, deadline", tickAt(deadlinePasses), `
		OK - U; OK - X; OK - R
		OK - C; OK - C+
		OK - R; OK - R+
		OK - T+`},
	{"inquire a member", inquire("1"), `
		OK w U; OK r X; OK w A
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+`},
	{"inquire a stranger", inquire("9"), `
		OK w U; OK r X; OK w A
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T+`},
}

// The order of the cells: U; X; A / C; C+ / R+ / T+.
var messageRows = []row{
	{"begin, same", send(tableMessage), `
		OK - A; EXPIRED - X; OK - A
		OK - C; OK - C+
		OK - R+
		ALREADY_DECIDED - T+`},
	{"begin, other", send(func(g GID) *logpb.Command { return message(g, to("1", "http://a")) }), `
		OK - A||OK - R+; EXPIRED - X; GID_CONFLICT - A
		GID_CONFLICT - C; GID_CONFLICT - C+
		GID_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"submit, same", send(submitMessage), `
		OK - C; EXPIRED - X; OK - C
		OK - C; OK - C+
		OK - R+
		ALREADY_DECIDED - T+`},
	{"submit, other", send(func(g GID) *logpb.Command { return submit(beginMode(g, modeMessage, nil), steps("1")) }), `
		OK - C||OK - C+; EXPIRED - X; GID_CONFLICT - A
		GID_CONFLICT - C; GID_CONFLICT - C+
		GID_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"enlist", send(func(g GID) *logpb.Command { return enlist(g, to("1", "http://a")) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID w A
		INVALID c C; INVALID c C+
		INVALID r R+
		ALREADY_DECIDED r T+`},
	{"vote", send(func(g GID) *logpb.Command { return vote(g, to("1", "http://a"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID w A
		INVALID c C; INVALID c C+
		INVALID r R+
		ALREADY_DECIDED r T+`},
	{"answer", send(func(g GID) *logpb.Command { return done(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A
		INVALID - C; INVALID - C+
		INVALID - R+
		ALREADY_DECIDED - T+`},
	{"commit", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X; OK - C
		OK - C; OK - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"check-back says committed", func(w *world, g GID) Result { return w.do(driverDecides(g, DecisionCommit, w.term)) }, `
		NOT_FOUND - U; EXPIRED - X; OK - C
		OK - C; OK - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"check-back says no", func(w *world, g GID) Result { return w.do(driverDecides(g, DecisionRollback, w.term)) }, `
		OK r T+; EXPIRED - X; OK r R+
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R+
		OK r T+`},
	{"an older driver commits", func(w *world, g GID) Result { return w.do(driverDecides(g, DecisionCommit, w.term-1)) }, `
		NOT_FOUND - U; EXPIRED - X; STALE - A
		OK - C; OK - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"client's rollback", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X; OK r R+
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R+
		OK r T+`},
	{"report committed", stepReport("1", committed), `
		NOT_FOUND w U; OK r X; UNDECIDED w A
		OK c C; OK c C+
		OK r R+
		OK r T+`},
	{"report rolled back", stepReport("1", rolledBack), `
		NOT_FOUND w U; OK r X; UNDECIDED w A
		OK c C; OK c C+
		OK r R+
		OK r T+`},
	{"report gave up", stepReport("1", logpb.Outcome_OUTCOME_GAVE_UP), `
		NOT_FOUND w U; OK r X; INVALID w A
		INVALID c C; INVALID c C+
		INVALID r R+
		ALREADY_DECIDED r T+`},
	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "1", committed) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A
		OK - C||OK - C+; ALREADY_REPORTED - C+
		ALREADY_REPORTED - R+
		NOT_ENLISTED - T+`},
	{"record", send(func(g GID) *logpb.Command { return record(g, "1", "action", "one") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A
		INVALID - C; INVALID - C+
		INVALID - R+
		ALREADY_DECIDED - T+`},
	{"stop", send(stop), `
		NOT_FOUND - U; EXPIRED - X; OK - R+
		OK - C+; OK - C+
		OK - R+
		OK - T+`},
	{"tick, long after", tickAt(func(w *world) uint64 { return testStartMS + 1_000_000 }), `
		OK - U; OK - X; OK - A
		OK - C; OK - C+
		OK - R+
		OK - T+`},
	{"inquire a member", inquire("1"), `
		OK w U; OK r X; OK w A
		OK c C; OK c C+
		OK r R+
		OK r T+`},
}

// The order of the cells: U; X / C; C+ / T+.
var notifyRows = []row{
	{"submit, same", send(submitNotify), `
		OK - C; EXPIRED - X
		OK - C; OK - C+
		ALREADY_DECIDED - T+`},
	{"submit, other", send(func(g GID) *logpb.Command { return submit(beginMode(g, modeNotify, nil), steps("1")) }), `
		OK - C||OK - C+; EXPIRED - X
		GID_CONFLICT - C; GID_CONFLICT - C+
		ALREADY_DECIDED - T+`},
	{"begin", send(func(g GID) *logpb.Command { return begin(beginMode(g, modeNotify, nil)) }), `
		INVALID - U; INVALID - X
		INVALID - C; INVALID - C+
		INVALID - T+`},
	{"enlist", send(func(g GID) *logpb.Command { return enlist(g, to("1", "http://a")) }), `
		NOT_FOUND w U; EXPIRED r X
		INVALID c C; INVALID c C+
		ALREADY_DECIDED r T+`},
	{"answer", send(func(g GID) *logpb.Command { return done(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X
		INVALID - C; INVALID - C+
		ALREADY_DECIDED - T+`},
	{"commit", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X
		OK - C; OK - C+
		ALREADY_DECIDED - T+`},
	{"client's rollback", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r T+`},
	{"report committed", stepReport("1", committed), `
		NOT_FOUND w U; OK r X
		OK c C; OK c C+
		OK r T+`},
	{"report gave up", stepReport("1", logpb.Outcome_OUTCOME_GAVE_UP), `
		NOT_FOUND w U; OK r X
		OK c C; OK c C+
		ALREADY_DECIDED r T+`},
	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "1", committed) }), `
		NOT_FOUND - U; EXPIRED - X
		OK - C||OK - C+; ALREADY_REPORTED - C+
		NOT_ENLISTED - T+`},
	{"stop", send(stop), `
		NOT_FOUND - U; EXPIRED - X
		OK - C+; OK - C+
		OK - T+`},
}

// The order of the cells: U; X; A / C+ / R+ / T+.
var workflowRows = []row{
	{"begin, same", send(beginWorkflow), `
		OK - A; EXPIRED - X; OK - A
		OK - C+
		OK - R+
		ALREADY_DECIDED - T+`},
	{"begin, other", send(func(g GID) *logpb.Command { return begin(beginMode(g, modeWorkflow, nil)) }), `
		OK - A||OK - R+; EXPIRED - X; GID_CONFLICT - A
		GID_CONFLICT - C+
		GID_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"submit", send(func(g GID) *logpb.Command { return submit(beginMode(g, modeWorkflow, nil), steps("1")) }), `
		INVALID - U; INVALID - X; INVALID - A
		INVALID - C+
		INVALID - R+
		INVALID - T+`},
	{"enlist", send(func(g GID) *logpb.Command { return enlist(g, step("1")) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID w A
		INVALID c C+
		INVALID r R+
		ALREADY_DECIDED r T+`},
	{"record, new", send(func(g GID) *logpb.Command { return record(g, "2", "action", "two") }), `
		NOT_FOUND - U; EXPIRED - X; OK - A||OK - R+
		ALREADY_DECIDED - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"record, another word", send(func(g GID) *logpb.Command { return record(g, "1", "compensate", "undone") }), `
		NOT_FOUND - U; EXPIRED - X; OK - A||OK - R+
		ALREADY_DECIDED - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"record, same", send(func(g GID) *logpb.Command { return record(g, "1", "action", "one") }), `
		NOT_FOUND - U; EXPIRED - X; OK - A
		OK - C+
		OK - R+
		ALREADY_DECIDED - T+`},
	{"record, other result", send(func(g GID) *logpb.Command { return record(g, "1", "action", "two") }), `
		NOT_FOUND - U; EXPIRED - X; VOTE_CONFLICT - A
		VOTE_CONFLICT - C+
		VOTE_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"record, failed", send(func(g GID) *logpb.Command { return recordFailed(g, "1", "action") }), `
		NOT_FOUND - U; EXPIRED - X; VOTE_CONFLICT - A
		VOTE_CONFLICT - C+
		VOTE_CONFLICT - R+
		ALREADY_DECIDED - T+`},
	{"answer", send(func(g GID) *logpb.Command { return done(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A
		INVALID - C+
		INVALID - R+
		ALREADY_DECIDED - T+`},
	{"commit", send(commitWith("all")), `
		NOT_FOUND - U; EXPIRED - X; OK - C+
		OK - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"driver commits", func(w *world, g GID) Result { return w.do(driver(g, 1, w.term)) }, `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A
		OK - C+
		ALREADY_DECIDED - R+
		ALREADY_DECIDED - T+`},
	{"client's rollback", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X; OK r R+
		ALREADY_DECIDED - C+
		OK r R+
		OK r T+`},
	{"report", stepReport("1", committed), `
		NOT_FOUND w U; OK r X; INVALID w A
		INVALID c C+
		INVALID r R+
		OK r T+`},
	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "1", committed) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A
		ALREADY_REPORTED - C+
		ALREADY_REPORTED - R+
		NOT_ENLISTED - T+`},
	{"stop", send(stop), `
		NOT_FOUND - U; EXPIRED - X; OK - R+
		OK - C+
		OK - R+
		OK - T+`},
	{"tick, long after", tickAt(func(w *world) uint64 { return testStartMS + 1_000_000 }), `
		OK - U; OK - X; OK - A
		OK - C+
		OK - R+
		OK - T+`},
	{"inquire", inquire("1"), `
		OK w U; OK r X; OK w A
		OK c C+
		OK r R+
		OK r T+`},
}
