package fsm

import "github.com/quorate/quorate/fsm/logpb"

// deadlineAction is what a passed deadline does to an undecided transaction.
type deadlineAction uint8

const (
	// deadlineNothing: time decides nothing.
	deadlineNothing deadlineAction = iota
	// deadlineRollback: it rolls back.
	deadlineRollback
	// deadlineCompensate: what was done is compensated.
	deadlineCompensate
	// deadlineCheckBack: the initiator is asked; it may have committed locally,
	// so time alone never rolls back.
	deadlineCheckBack
	// deadlineCallBack: the initiator's code is called to go on.
	deadlineCallBack
)

// modeRules are what differs between modes (PROTOCOL.md, section 4): one
// machine and a table, not one processor a mode.
type modeRules struct {
	name string
	// open says that this version accepts transactions of the mode.
	open bool
	// votes says that participants vote in phase one.
	votes bool
	// endless says that a transaction may have no deadline.
	endless  bool
	deadline deadlineAction
	// givesUp says that delivery ends after a bounded number of attempts.
	givesUp bool
}

var modes = [...]modeRules{
	logpb.Mode_MODE_TWO_PHASE: {name: "two-phase", open: true, votes: true, deadline: deadlineRollback},
	logpb.Mode_MODE_TCC:       {name: "tcc", deadline: deadlineRollback},
	logpb.Mode_MODE_SAGA:      {name: "saga", endless: true, deadline: deadlineCompensate},
	logpb.Mode_MODE_MESSAGE:   {name: "message", endless: true, deadline: deadlineCheckBack},
	logpb.Mode_MODE_WORKFLOW:  {name: "workflow", endless: true, deadline: deadlineCallBack},
	logpb.Mode_MODE_NOTIFY:    {name: "notify", endless: true, givesUp: true},
}

// rulesOf returns a mode's rules; ok is false for a number that is no mode.
func rulesOf(m Mode) (rules modeRules, ok bool) {
	if m <= 0 || int(m) >= len(modes) {
		return modeRules{}, false
	}
	return modes[m], true
}

// ModeName is the mode as people write it, "" for a number that is none.
func ModeName(m Mode) string {
	rules, _ := rulesOf(m)
	return rules.name
}
