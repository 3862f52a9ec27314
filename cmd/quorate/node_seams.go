package main

import (
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/raftnode"
)

// seams are where tests put faults into a node; everywhere else they are as
// defaultSeams has them.
type seams struct {
	// machine is what the log is applied to.
	machine func(*fsm.State) raftnode.Machine
	// hears says whether the coordinator is told of what was just applied.
	hears func() bool
	// settings are the coordinator's.
	settings func(*config.Config) coordinator.Settings
	// fatal ends a node that must not go on; nil ends the process.
	fatal func(error)
}

func defaultSeams() seams {
	return seams{machine: raftnode.State, hears: func() bool { return true }, settings: driverSettings}
}
