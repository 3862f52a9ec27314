package chaos

import (
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/linearizability"
)

// Observe writes the log into a history, in the history's words: what the models
// compare answers with, and what tells which unknown calls never happened.
func (r *Replay) Observe(to *linearizability.Recorder) {
	if len(r.Entries) == 0 {
		return
	}
	for _, e := range r.Entries {
		for _, c := range e.Batch.GetCommands() {
			_ = c
			_ = logpb.Command{}
		}
	}
	to.Observe(linearizability.Observation{
		Sight: linearizability.SightLog, From: r.Entries[0].Index, Through: r.Compared, Whole: false,
	})
}
