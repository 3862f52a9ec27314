package fence

import (
	"fmt"
	"strings"
)

// encode is the record as a value of stores that keep bytes:
// `state incarnation.term detail`.
func (r Record) encode() string {
	return string(r.State) + " " + r.Epoch.String() + " " + r.Detail
}

// decodeRecord reads what encode wrote.
func decodeRecord(s string) (*Record, error) {
	state, rest, _ := strings.Cut(s, " ")
	epoch, detail, ok := strings.Cut(rest, " ")
	r := &Record{State: State(state), Detail: detail}
	var err error
	if r.Epoch, err = parseEpoch(epoch); err != nil || !ok {
		return nil, fmt.Errorf("fence: %q is no record: somebody else writes here", clip(s))
	}
	switch r.State {
	case StateOpen, StateDone, StateRefused, StateConfirmed, StateUndone, StateFenced:
		return r, nil
	}
	return nil, fmt.Errorf("fence: %q is no record: its state is unknown", clip(s))
}
