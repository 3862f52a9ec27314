package raftnode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// An operation of the disk that has ended is timed no more, and one that has not is.
func TestFailStop_WhatHasEndedIsTimedNoMore(t *testing.T) {
	f := newFailStop(func(error) {})
	for range 3 {
		must(t, f.guard("write", 100*time.Millisecond, func() error { return nil }))
	}
	select {
	case <-f.failed:
		t.Fatal(f.cause())
	case <-time.After(250 * time.Millisecond):
	}
	if err := f.guard("write", 100*time.Millisecond, func() error { <-f.failed; return nil }); err != nil || f.cause() == nil {
		t.Errorf("%v, %v", err, f.cause())
	}
}

// refusing is a machine that will not be recovered.
type refusing struct{ *registers }

func (r refusing) ApplyEntry(uint64, uint64, []byte) ([]fsm.Result, error) {
	return []fsm.Result{{Code: fsm.Invalid, Detail: "no"}}, nil
}

func (r refusing) Follow(index, term uint64, entry []byte) error {
	return r.registers.Follow(index, term, entry)
}

// A recovery that the machine refuses is none: the order for it stands, and so does the log.
func TestRecovery_ThatIsRefused(t *testing.T) {
	c := newCluster(t, 1, nil)
	m := c.members[0]
	c.set("x", "1")
	must(t, m.Snapshot(c.ctx()))
	c.set("y", "1")
	c.stop(m)
	writePeers(t, m, m.asPeer())
	if n, err := Open(m.cfg, refusing{newRegisters()}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("it was refused: %v", err)
		must(t, n.Close())
	}
	must(t, os.Remove(filepath.Join(m.cfg.DataDir, peersFile)))
	c.start(m)
	c.leader()
	if m.get("x") != "1" || m.get("y") != "1" || m.machine.state.Incarnation != 0 {
		t.Errorf("it holds %+v", m.machine.state)
	}
}
