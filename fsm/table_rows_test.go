package fsm

import "github.com/quorate/quorate/fsm/logpb"

// The order of the cells: U; X; A; S / C; C+ / R; R+ / T; T+.

var explicitRows = []row{
	{"begin, same", send(explicit), `
		OK - A; EXPIRED - X; OK - A; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"begin, other", send(func(g GID) *logpb.Command { return begin(longer(explicitBegin(g))) }), `
		OK - A||OK - R+; EXPIRED - X; GID_CONFLICT - A; GID_CONFLICT - S
		GID_CONFLICT - C; GID_CONFLICT - C+
		GID_CONFLICT - R; GID_CONFLICT - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},

	{"answer, of a saga", send(func(g GID) *logpb.Command { return done(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A; INVALID - S
		INVALID - C; INVALID - C+
		INVALID - R; INVALID - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"record, of a workflow", send(func(g GID) *logpb.Command { return record(g, "1", "action", "one") }), `
		NOT_FOUND - U; EXPIRED - X; INVALID - A; INVALID - S
		INVALID - C; INVALID - C+
		INVALID - R; INVALID - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"stop", send(stop), `
		NOT_FOUND - U; EXPIRED - X; OK - R+; OK - R+
		OK - C+; OK - C+
		OK - R+; OK - R+
		OK - T+; OK - T+`},

	{"enlist, new", send(func(g GID) *logpb.Command { return enlist(g, spec("3")) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A||OK r R+; SEALED r S
		ALREADY_DECIDED r C; ALREADY_DECIDED r C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"enlist, same", send(func(g GID) *logpb.Command { return enlist(g, spec("1")) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK w S
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T||OK r T+; ALREADY_DECIDED r T+`},
	{"enlist, other", send(func(g GID) *logpb.Command { return enlist(g, other(spec("2"))) }), `
		NOT_FOUND w U; EXPIRED r X; BRANCH_CONFLICT w A; SEALED w S
		ALREADY_DECIDED r C; ALREADY_DECIDED r C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},

	{"vote prepared, the missing one", send(func(g GID) *logpb.Command { return vote(g, spec("2"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK c C
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote prepared, same", send(func(g GID) *logpb.Command { return vote(g, spec("1"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK w S
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote prepared, of another resource", send(func(g GID) *logpb.Command { return vote(g, other(spec("2")), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; BRANCH_CONFLICT w A; BRANCH_CONFLICT w S
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote read-only, the missing one", send(func(g GID) *logpb.Command { return vote(g, spec("2"), voteReadOnly) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK r C||OK r C+
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote read-only, other", send(func(g GID) *logpb.Command { return vote(g, spec("1"), voteReadOnly) }), `
		NOT_FOUND w U; EXPIRED r X; VOTE_CONFLICT w A; VOTE_CONFLICT w S
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote prepared, no member", send(func(g GID) *logpb.Command { return vote(g, spec("9"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; NOT_ENLISTED w A; SEALED r S
		ALREADY_DECIDED r C; ALREADY_DECIDED r C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote refused, no vote yet", send(func(g GID) *logpb.Command { return vote(g, spec("2"), voteRefused) }), `
		NOT_FOUND w U; EXPIRED r X; OK r R; OK r R
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"vote refused, maybe prepared", send(func(g GID) *logpb.Command { return maybe(g, spec("2")) }), `
		NOT_FOUND w U; EXPIRED r X; OK r R; OK r R
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"vote refused, after prepared", send(func(g GID) *logpb.Command { return vote(g, spec("1"), voteRefused) }), `
		NOT_FOUND w U; EXPIRED r X; VOTE_CONFLICT w A; VOTE_CONFLICT w S
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"vote refused, no member", send(func(g GID) *logpb.Command { return vote(g, spec("9"), voteRefused) }), `
		NOT_FOUND w U; EXPIRED r X; NOT_ENLISTED w A; OK r S
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T; OK r T+`},

	{"commit, bare", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, the set", send(func(g GID) *logpb.Command { return commit(g, "1", "2") }), `
		NOT_FOUND - U; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, a member missing", send(func(g GID) *logpb.Command { return commit(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; SET_MISMATCH - A; COMMIT_CONFLICT - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, an unenlisted branch", send(func(g GID) *logpb.Command { return commit(g, "1", "2", "9") }), `
		NOT_FOUND - U; EXPIRED - X; NOT_ENLISTED - A; COMMIT_CONFLICT - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, by the driver", send(func(g GID) *logpb.Command { return driver(g, 1, 1) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A; OK - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, by an older driver", send(func(g GID) *logpb.Command { return driver(g, 1, 0) }), `
		NOT_FOUND - U; EXPIRED - X; STALE - A; STALE - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},

	{"rollback, client", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, naming a branch", send(func(g GID) *logpb.Command { return clientRollback(g, spec("1")) }), `
		OK r T; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, naming a hint", send(func(g GID) *logpb.Command { return clientRollback(g, spec("3?")) }), `
		OK r T+; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, participant", send(func(g GID) *logpb.Command { return rollback(g, participant) }), `
		OK r T+; OK r X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, operator", send(func(g GID) *logpb.Command { return rollback(g, operator) }), `
		OK r T+; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, driver", send(func(g GID) *logpb.Command { return driverRollback(g, 1, 1) }), `
		OK r T+; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, an older driver", send(func(g GID) *logpb.Command { return driverRollback(g, 1, 0) }), `
		STALE - U; EXPIRED - X; STALE - A; STALE - S
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},

	{"submit, all voted", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; OK - C; OK - C
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, no votes", send(func(g GID) *logpb.Command { return submit(explicitBegin(g), specs("1", "2")) }), `
		NOT_ENLISTED - U; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, a refusal", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1", "2"), ballots(voteRefused, "2")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; OK - R; OK - R
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, other begin", send(func(g GID) *logpb.Command {
		return submit(longer(explicitBegin(g)), specs("1", "2"), ballots(votePrepared, "1", "2")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; GID_CONFLICT - A; GID_CONFLICT - S
		GID_CONFLICT - C; GID_CONFLICT - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, an unenlisted branch", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1", "2", "9"), ballots(votePrepared, "1", "2", "9")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; NOT_ENLISTED - A; COMMIT_CONFLICT - S||ALREADY_DECIDED - R+
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, a member missing", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1"), ballots(votePrepared, "1")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; SET_MISMATCH - A; COMMIT_CONFLICT - S||ALREADY_DECIDED - R+
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, a contrary vote", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1", "2"), ballots(voteReadOnly, "1")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; VOTE_CONFLICT - A; VOTE_CONFLICT - S
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, another branch's content", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), []*logpb.BranchSpec{spec("1"), other(spec("2"))})
	}), `
		NOT_ENLISTED - U; EXPIRED - X; BRANCH_CONFLICT - A; BRANCH_CONFLICT - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},

	{"report committed", send(func(g GID) *logpb.Command { return report(g, "1", committed) }), `
		NOT_FOUND w U; OK r X; OK r R; OK r R
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+; OK r T+`},
	{"report rolled back", send(func(g GID) *logpb.Command { return report(g, "1", rolledBack) }), `
		NOT_FOUND w U; OK r X; OK r R; OK r R
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+; OK r T+`},
	{"report hazard", send(func(g GID) *logpb.Command { return report(g, "1", hazard) }), `
		NOT_FOUND w U; OK r X; OK r R; OK r R
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+; OK r T+`},
	{"report mixed", send(func(g GID) *logpb.Command { return report(g, "1", mixed) }), `
		NOT_FOUND w U; OK r X; OK r R; OK r R
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T+; OK r T+`},
	{"reports committed", send(func(g GID) *logpb.Command { return reportsAll(g, committed, "1", "2") }), `
		NOT_FOUND - U; OK - X; OK - R+; OK - R+
		OK - C+; OK - C+
		OK - R+; OK - R+
		OK - T+; OK - T+`},
	{"reports, one of no member", send(func(g GID) *logpb.Command { return reportsOf(g, reported("9", rolledBack), reported("1", committed)) }), `
		NOT_FOUND - U; OK - X; OK - R; OK - R
		OK - C; OK - C+
		OK - R; OK - R+
		OK - T+; OK - T+`},
	{"report committed, no member", send(func(g GID) *logpb.Command { return report(g, "9", committed) }), `
		NOT_FOUND w U; OK r X; OK w A; OK r S
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"report rolled back, no member", send(func(g GID) *logpb.Command { return report(g, "9", rolledBack) }), `
		NOT_FOUND w U; OK r X; OK w A; OK r S
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T; OK r T+`},

	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "1", committed) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A; UNDECIDED - S
		OK - C||OK - C+; ALREADY_REPORTED - C+
		OK - R||OK - R+; ALREADY_REPORTED - R+
		OK - T+||OK - T+; NOT_ENLISTED - T+`},
	{"resolve, no member", send(func(g GID) *logpb.Command { return resolve(g, "9", committed) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A; UNDECIDED - S
		NOT_ENLISTED - C; NOT_ENLISTED - C+
		NOT_ENLISTED - R; NOT_ENLISTED - R+
		NOT_ENLISTED - T; NOT_ENLISTED - T+`},

	{"tick, before the deadline", tickAt(func(w *world) uint64 { return testStartMS + testTimeoutMS - 1 }), `
		OK - U; OK - X; OK - A; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		OK - T; OK - T+`},
	{"tick, deadline", tickAt(func(w *world) uint64 { return testStartMS + testTimeoutMS }), `
		OK - U; OK - X; OK - R; OK - R
		OK - C; OK - C+
		OK - R; OK - R+
		OK - T; OK - T+`},
	{"tick, retention", tickAt(func(w *world) uint64 { return testStartMS + testTimeoutMS + w.s.Limits().GetRetentionMs() }), `
		OK - X; OK - X; OK - R||OK - R+; OK - R||OK - R+
		OK - C||OK - C+; OK - X
		OK - R||OK - R+; OK - X
		OK - T||OK - T+; OK - X`},

	{"inquire, prepared", inquire("1"), `
		OK w U; OK r X; OK w A; OK w S
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"inquire, not voted yet", inquire("2"), `
		OK w U; OK r X; OK w A; OK w S
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"inquire, no member", inquire("9"), `
		OK w U; OK r X; OK w A; OK r S
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T; OK r T+`},
}

var namedRows = []row{
	{"begin, same", send(named), `
		OK - A; EXPIRED - X; OK - A; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"begin, explicit", send(explicit), `
		OK - A||OK - R+; EXPIRED - X; GID_CONFLICT - A; GID_CONFLICT - S
		GID_CONFLICT - C; GID_CONFLICT - C+
		GID_CONFLICT - R; GID_CONFLICT - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"enlist", send(func(g GID) *logpb.Command { return enlist(g, spec("2")) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A||OK r R+; OK w S||OK r R+
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote prepared", send(func(g GID) *logpb.Command { return vote(g, spec("2"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK c C
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote prepared, by name only", send(func(g GID) *logpb.Command { return vote(g, spec("2?"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; INVALID - A; INVALID - S
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote read-only", send(func(g GID) *logpb.Command { return vote(g, spec("2"), voteReadOnly) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK r C||OK r C+
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote refused", send(func(g GID) *logpb.Command { return vote(g, spec("2"), voteRefused) }), `
		NOT_FOUND w U; EXPIRED r X; OK r R; OK r R
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"vote refused, maybe prepared", send(func(g GID) *logpb.Command { return maybe(g, spec("2")) }), `
		NOT_FOUND w U; EXPIRED r X; OK r R; OK r R
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"vote prepared, outside of the set", send(func(g GID) *logpb.Command { return vote(g, spec("9"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; SEALED r S
		ALREADY_DECIDED r C; ALREADY_DECIDED r C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote refused, outside of the set", send(func(g GID) *logpb.Command { return vote(g, spec("9"), voteRefused) }), `
		NOT_FOUND w U; EXPIRED r X; OK r R; OK r S
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"commit, bare", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X; SET_REQUIRED - A; OK - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, those who voted", send(func(g GID) *logpb.Command { return commit(g, "1") }), `
		NOT_FOUND - U; EXPIRED - X; OK - C; COMMIT_CONFLICT - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, one that has not", send(func(g GID) *logpb.Command { return commit(g, "1", "2") }), `
		NOT_FOUND - U; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, a member missing", send(func(g GID) *logpb.Command { return commit(g, "2") }), `
		NOT_FOUND - U; EXPIRED - X; SET_MISMATCH - A; COMMIT_CONFLICT - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, an empty set", send(commitEmpty), `
		NOT_FOUND - U; EXPIRED - X; SET_MISMATCH - A; COMMIT_CONFLICT - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"rollback, client", send(func(g GID) *logpb.Command { return clientRollback(g) }), `
		OK r T+; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"rollback, naming the called ones", send(func(g GID) *logpb.Command { return clientRollback(g, specs("1", "2")...) }), `
		OK r T; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"submit, all voted", send(func(g GID) *logpb.Command {
		return submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...)
	}), `
		OK - C; EXPIRED - X; OK - C; OK - C
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, one vote", send(func(g GID) *logpb.Command {
		return submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1")...)
	}), `
		OK - S; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, a refusal", send(func(g GID) *logpb.Command {
		return submit(namedBegin(g), specs("1", "2"), ballots(voteRefused, "2")...)
	}), `
		OK - R; EXPIRED - X; OK - R; OK - R
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, a held branch that never enlisted", send(func(g GID) *logpb.Command {
		return submit(namedBegin(g), specs("1", "2!"), ballots(votePrepared, "1")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; NOT_ENLISTED - A; NOT_ENLISTED - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, other begin", send(func(g GID) *logpb.Command {
		return submit(longer(namedBegin(g)), specs("1", "2"), ballots(votePrepared, "1", "2")...)
	}), `
		OK - C||OK - C+; EXPIRED - X; GID_CONFLICT - A; GID_CONFLICT - S
		GID_CONFLICT - C; GID_CONFLICT - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, other set", send(func(g GID) *logpb.Command {
		return submit(namedBegin(g), specs("1", "3"), ballots(votePrepared, "1", "3")...)
	}), `
		OK - C||OK - C+; EXPIRED - X; OK - C||OK - C+; COMMIT_CONFLICT - S||ALREADY_DECIDED - R+
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, nothing", send(func(g GID) *logpb.Command { return submit(namedBegin(g), nil) }), `
		OK - C+||OK - C+; EXPIRED - X; SET_MISMATCH - A; COMMIT_CONFLICT - S||ALREADY_DECIDED - R+
		GID_CONFLICT - C; GID_CONFLICT - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"report rolled back", send(func(g GID) *logpb.Command { return report(g, "2", rolledBack) }), `
		NOT_FOUND w U; OK r X; OK w A; OK r R
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"report committed", send(func(g GID) *logpb.Command { return report(g, "2", committed) }), `
		NOT_FOUND w U; OK r X; OK w A; OK r R
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"resolve", send(func(g GID) *logpb.Command { return resolve(g, "2", rolledBack) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A; UNDECIDED - S||OK - R+
		OK - C||OK - C+; ALREADY_REPORTED - C+
		NOT_ENLISTED - R; NOT_ENLISTED - R+
		NOT_ENLISTED - T; NOT_ENLISTED - T+`},
	{"inquire, in the set", inquire("2"), `
		OK w U; OK r X; OK w A; OK w S
		OK c C; OK c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"inquire, outside", inquire("9"), `
		OK w U; OK r X; OK w A; OK r S
		OK r C; OK r C+
		OK r R; OK r R+
		OK r T; OK r T+`},
}

var heldRows = []row{
	{"vote prepared", send(func(g GID) *logpb.Command { return vote(g, spec("2!"), votePrepared) }), `
		NOT_FOUND w U; EXPIRED r X; OK w A; OK w S
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"vote refused", send(func(g GID) *logpb.Command { return vote(g, spec("2!"), voteRefused) }), `
		NOT_FOUND w U; EXPIRED r X; OK r R; VOTE_CONFLICT w S
		VOTE_CONFLICT c C; VOTE_CONFLICT c C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"vote prepared, held though it is not", send(func(g GID) *logpb.Command {
		b := spec("1")
		b.Held = true
		return vote(g, b, votePrepared)
	}), `
		NOT_FOUND w U; EXPIRED r X; BRANCH_CONFLICT w A; BRANCH_CONFLICT w S
		OK c C; OK c C+
		ALREADY_DECIDED r R; ALREADY_DECIDED r R+
		ALREADY_DECIDED r T; ALREADY_DECIDED r T+`},
	{"commit, client", send(func(g GID) *logpb.Command { return commit(g) }), `
		NOT_FOUND - U; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, driver", send(func(g GID) *logpb.Command { return driver(g, 1, 1) }), `
		NOT_FOUND - U; EXPIRED - X; UNDECIDED - A; OK - C
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, driver of an older term", send(func(g GID) *logpb.Command { return driver(g, 1, 0) }), `
		NOT_FOUND - U; EXPIRED - X; STALE - A; STALE - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"commit, driver of another incarnation", send(func(g GID) *logpb.Command { return driver(g, 2, 1) }), `
		NOT_FOUND - U; EXPIRED - X; STALE - A; STALE - S
		OK - C; OK - C+
		ALREADY_DECIDED - R; ALREADY_DECIDED - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"rollback, driver", send(func(g GID) *logpb.Command { return driverRollback(g, 1, 1) }), `
		OK r T+; EXPIRED - X; OK r R; OK r R
		ALREADY_DECIDED - C; ALREADY_DECIDED - C+
		OK r R; OK r R+
		OK r T; OK r T+`},
	{"submit, the others' votes", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1", "2!"), ballots(votePrepared, "1")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; OK - S; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"submit, the held one's vote", send(func(g GID) *logpb.Command {
		return submit(explicitBegin(g), specs("1", "2!"), ballots(votePrepared, "1", "2!")...)
	}), `
		NOT_ENLISTED - U; EXPIRED - X; INVALID - A; OK - S
		OK - C; OK - C+
		OK - R; OK - R+
		ALREADY_DECIDED - T; ALREADY_DECIDED - T+`},
	{"tick, deadline", tickAt(func(w *world) uint64 { return testStartMS + testTimeoutMS }), `
		OK - U; OK - X; OK - R; OK - R
		OK - C; OK - C+
		OK - R; OK - R+
		OK - T; OK - T+`},
}
