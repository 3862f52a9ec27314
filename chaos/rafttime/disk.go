package rafttime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// errCrashed is what a store says to a process that has crashed: nothing that it
// still does reaches the disk.
var errCrashed = errors.New("this process has crashed")

// disk is where a node's log, term and vote are, in memory. A write is on it when
// the call returns, and outlives the process.
//
// A lazy disk is a planted bug: what was written last is lost in a crash.
type disk struct {
	mu     sync.Mutex
	lazy   bool
	breach func(format string, args ...any) // what is written may break a rule itself
	logs   map[uint64]raft.Log
	first  uint64
	last   uint64
	stable map[string][]byte
	owner  *handle // the process that may write

	undo      []undo // of a lazy disk: what a crash takes back, latest last
	lost      int
	countdown int      // writes until the process crashes; 0 for never
	stables   bool     // only writes of term and vote count
	latest    []string // what was written last, for whoever must understand a node that does not start
	keeps     bool     // the write that it crashes at is on the disk
}

// undo is a state that a crash of a lazy disk may go back to.
type undo struct {
	at          time.Time
	logs        map[uint64]raft.Log
	first, last uint64
	stable      map[string][]byte
}

// lazyFor is how long a lazy disk takes to do what it says it has done.
const lazyFor = 400 * time.Millisecond

func newDisk(lazy bool, breach func(string, ...any)) *disk {
	return &disk{lazy: lazy, breach: breach, logs: map[uint64]raft.Log{}, stable: map[string][]byte{}}
}

// latestWrites is how many writes a disk tells of.
const latestWrites = 24

// note keeps what was written, and what came of it.
func (d *disk) note(what, came string) {
	if len(d.latest) == latestWrites {
		d.latest = d.latest[1:]
	}
	d.latest = append(d.latest, time.Now().Format("04:05.000 ")+what+came)
}

// tale tells the latest writes.
func (d *disk) tale() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.latest, "; ")
}

// handle is one process's hold on its disk.
type handle struct {
	disk  *disk
	crash func() // called when the process is to crash at a write
}

var (
	_ raft.LogStore    = (*handle)(nil)
	_ raft.StableStore = (*handle)(nil)
)

// open gives the disk to a process.
func (d *disk) open(crash func()) *handle {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owner = &handle{disk: d, crash: crash}
	d.countdown = 0
	return d.owner
}

// crashes takes the disk from its process, and from a lazy one what it had not
// done yet.
func (d *disk) crashes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owner, d.countdown = nil, 0
	for _, u := range d.undo {
		if time.Since(u.at) < lazyFor {
			d.logs, d.first, d.last, d.stable = u.logs, u.first, u.last, u.stable
			d.lost++
			break
		}
	}
	d.undo = nil
}

// aim lets the process crash at one of its next writes, or of those of its term
// and vote.
func (d *disk) aim(random *rand.Rand, stables bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countdown, d.stables, d.keeps = 1+random.IntN(12), stables, random.IntN(2) == 0
	if stables {
		d.countdown = 1 + random.IntN(4)
	}
}

// disarm takes back what aim has set up.
func (d *disk) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countdown = 0
}

// write changes the disk, unless the process has crashed, or does so here.
func (h *handle) write(stable bool, what string, change func(d *disk)) error {
	d := h.disk
	d.mu.Lock()
	if d.owner != h {
		d.note(what, ": by a dead process, nothing is written")
		d.mu.Unlock()
		return errCrashed
	}
	aimed := d.countdown > 0 && (stable || !d.stables)
	if aimed && d.countdown == 1 {
		if d.keeps {
			change(d)
		}
		d.note(what, fmt.Sprintf(": crashes here, written: %t", d.keeps))
		d.owner, d.countdown = nil, 0
		d.mu.Unlock()
		h.crash()
		return errCrashed
	}
	if aimed {
		d.countdown--
	}
	if d.lazy {
		d.remember()
	}
	change(d)
	d.note(what, "")
	d.mu.Unlock()
	return nil
}

// remember keeps what a crash may go back to.
func (d *disk) remember() {
	for len(d.undo) > 0 && time.Since(d.undo[0].at) >= lazyFor {
		d.undo = d.undo[1:]
	}
	d.undo = append(d.undo, undo{time.Now(), maps.Clone(d.logs), d.first, d.last, maps.Clone(d.stable)})
}

func (h *handle) read(f func(d *disk) error) error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.disk.owner != h {
		return errCrashed
	}
	return f(h.disk)
}

func (h *handle) FirstIndex() (index uint64, err error) {
	return index, h.read(func(d *disk) error { index = d.first; return nil })
}

func (h *handle) LastIndex() (index uint64, err error) {
	return index, h.read(func(d *disk) error { index = d.last; return nil })
}

func (h *handle) GetLog(index uint64, l *raft.Log) error {
	return h.read(func(d *disk) error {
		stored, ok := d.logs[index]
		if !ok {
			return raft.ErrLogNotFound
		}
		*l = stored
		return nil
	})
}

func (h *handle) StoreLog(l *raft.Log) error { return h.StoreLogs([]*raft.Log{l}) }

func (h *handle) StoreLogs(logs []*raft.Log) error {
	what := "nothing"
	if n := len(logs); n > 0 {
		what = fmt.Sprintf("entries %d to %d of term %d", logs[0].Index, logs[n-1].Index, logs[n-1].Term)
	}
	return h.write(false, what, func(d *disk) {
		for _, l := range logs {
			d.verifyTerm(l)
			d.logs[l.Index] = *l
			d.last = max(d.last, l.Index)
			if d.first == 0 {
				d.first = l.Index
			}
		}
	})
}

// verifyTerm: a node takes a term before it takes an entry of it. One that has
// crashed since would be refused by its own log; one that has not hides it, since
// it mostly hears of the term a moment later.
func (d *disk) verifyTerm(l *raft.Log) {
	term := uint64(0)
	if stored := d.stable["CurrentTerm"]; len(stored) >= 8 {
		term = binary.BigEndian.Uint64(stored)
	}
	if l.Term > term {
		d.breach("entry %d of term %d is written to a disk whose term is %d; before that %s", l.Index, l.Term, term, strings.Join(d.latest, "; "))
	}
}

func (h *handle) DeleteRange(first, last uint64) error {
	return h.write(false, fmt.Sprintf("entries %d to %d are deleted", first, last), func(d *disk) {
		for i := first; i <= last; i++ {
			delete(d.logs, i)
		}
		switch {
		case len(d.logs) == 0:
			d.first, d.last = 0, 0
		case first <= d.first:
			d.first = last + 1
		default:
			d.last = first - 1
		}
	})
}

func (h *handle) Set(key, value []byte) error {
	what := string(key)
	if len(value) >= 8 {
		what += fmt.Sprint(" ", binary.BigEndian.Uint64(value))
	}
	return h.write(true, what, func(d *disk) { d.stable[string(key)] = append([]byte(nil), value...) })
}

func (h *handle) Get(key []byte) (value []byte, err error) {
	return value, h.read(func(d *disk) error {
		stored, ok := d.stable[string(key)]
		if !ok {
			return errors.New("not found") // the text by which the library knows it
		}
		value = append([]byte(nil), stored...)
		return nil
	})
}

func (h *handle) SetUint64(key []byte, value uint64) error {
	return h.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

func (h *handle) GetUint64(key []byte) (uint64, error) {
	value, err := h.Get(key)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}
