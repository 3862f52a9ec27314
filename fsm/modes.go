package fsm

import "github.com/quorate/quorate/fsm/logpb"

// modeRules are what differs between modes (PROTOCOL.md, section 4): one
// machine and a table, not one processor a mode.
type modeRules struct {
	name string
	// level is the feature level from which on the log holds the mode.
	level uint32
	// votes says that participants vote in phase one.
	votes bool
	// waits says that the commit waits for a word from each branch of the set: a
	// vote, or a step's answer.
	waits bool
	// begins says that Begin opens it; without it, it is submitted whole.
	begins bool
	// enlists says that branches enlist one by one while it is active.
	enlists bool
	// prepares says that Begin carries the branches.
	prepares bool
	// submits says that one Submit makes it whole.
	submits bool
	// records says that it keeps the progress of the initiator's code.
	records bool
	// topics says that an endpoint may be a topic.
	topics bool
	// phaseOne is what branches are asked while it is sealed, and callback what
	// the initiator is asked while it is active.
	phaseOne, callback Operation
	// onCommit and onRollback are what branches are asked once it is decided;
	// without one there is nothing to ask, and the branch is terminal.
	onCommit, onRollback Operation
	// endless says that a transaction may have no deadline.
	endless bool
	// expires says that a passed deadline rolls it back. Where it does not, the
	// initiator may have committed locally, or its code be half way: it is called
	// back instead.
	expires bool
	// givesUp says that delivery ends after a bounded number of attempts.
	givesUp bool
}

var modes = [...]modeRules{
	logpb.Mode_MODE_TWO_PHASE: {
		name: "two-phase", votes: true, waits: true, begins: true, enlists: true, submits: true,
		onCommit: OperationCommit, onRollback: OperationRollback, expires: true,
	},
	logpb.Mode_MODE_TCC: {
		name: "tcc", level: LevelModes, begins: true, enlists: true,
		onCommit: OperationConfirm, onRollback: OperationCancel, expires: true,
	},
	logpb.Mode_MODE_SAGA: {
		name: "saga", level: LevelModes, waits: true, submits: true,
		phaseOne: OperationAction, onRollback: OperationCompensate, endless: true, expires: true,
	},
	logpb.Mode_MODE_MESSAGE: {
		name: "message", level: LevelModes, begins: true, prepares: true, submits: true, topics: true,
		callback: OperationCheckBack, onCommit: OperationAction, endless: true,
	},
	logpb.Mode_MODE_WORKFLOW: {
		name: "workflow", level: LevelModes, begins: true, records: true,
		callback: OperationResume, endless: true,
	},
	logpb.Mode_MODE_NOTIFY: {
		name: "notify", level: LevelModes, submits: true, topics: true,
		onCommit: OperationAction, endless: true, givesUp: true,
	},
}

// rulesOf returns a mode's rules; ok is false for a number that is no mode.
func rulesOf(m Mode) (rules *modeRules, ok bool) {
	if m <= 0 || int(m) >= len(modes) {
		return new(modeRules), false
	}
	return &modes[m], true
}

// rules are those of the transaction's mode. A tombstone has none of its own:
// whoever asks about it hears rollback, as in two-phase.
func (t *transaction) rules() *modeRules {
	m := t.begin.GetMode()
	if t.tombstone || m <= 0 || int(m) >= len(modes) {
		m = logpb.Mode_MODE_TWO_PHASE
	}
	return &modes[m]
}

// notIn refuses a command that the transaction's mode has no use for.
func (t *transaction) notIn(what string) Result {
	if t.tombstone {
		return t.answer(AlreadyDecided, "%s was rolled back before it began", t.gid)
	}
	return t.answer(Invalid, "mode %s has no %s: %s is of that mode", t.rules().name, what, t.gid)
}

// ModeName is the mode as people write it, "" for a number that is none.
func ModeName(m Mode) string {
	rules, _ := rulesOf(m)
	return rules.name
}
