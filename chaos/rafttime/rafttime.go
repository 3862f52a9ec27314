// Package rafttime runs clusters of real Raft nodes in virtual time: raftnode and
// hashicorp/raft as they are, inside a testing/synctest bubble, over a network
// and disks held in memory. Hours of partitions, crashes, restarts, changes of
// membership, transfers and snapshots pass in seconds.
//
// A seed makes the schedule of faults and the clients' choices. It does not
// make the run: goroutines of one moment run in any order. So a seed that fails
// fails again often, not always.
//
// Held against every run:
//
//   - an index of the log holds one entry, on every node and for ever, and the
//     digests of the machines after it are equal;
//   - what was acknowledged is in the log where its answer said, once; what was
//     refused for certain is nowhere;
//   - a read behind ReadIndex sees everything acknowledged before it began, on
//     whichever node answers it;
//   - a node has applied what it says it has; the clock never falls along the log;
//   - one leader a term;
//   - no node stops itself, except where it was made to;
//   - once the faults have healed a command is acknowledged within a bound, and
//     all nodes come to one index.
package rafttime

import (
	"fmt"
	"sync"
	"time"
)

// Config is one run.
type Config struct {
	Seed  uint64
	Nodes int           // 3 or 5
	For   time.Duration // of virtual time
	Dir   string        // for snapshots and identities; a memory file system makes it quick
	// Storms is how many of the storms of clients break, from 0 to 1: an hour of the
	// cluster costs three times as much with all of them as with none.
	Storms float64
	// Lazy plants a bug: disks say done before they are.
	Lazy bool
}

// Report is what a run came to.
type Report struct {
	Suite        string   `json:"suite"`
	Seed         uint64   `json:"seed"`
	VirtualHours float64  `json:"virtual_hours"`
	Nodes        int      `json:"nodes"`
	Partitions   int      `json:"partitions"`
	Delays       int      `json:"delays"`
	Restarts     int      `json:"restarts"` // orderly
	Crashes      int      `json:"crashes"`
	Leaders      int      `json:"leaders_crashed"`
	Aimed        int      `json:"crashes_at_a_write"`
	Transfers    int      `json:"transfers"`
	CutTransfers int      `json:"transfers_cut"` // the old leader was cut off as it handed over
	Membership   int      `json:"membership"`    // nodes replaced
	Installs     int      `json:"installs"`
	Elections    int      `json:"elections"`
	HeldBytes    int      `json:"held_bytes"` // that partitions held back
	LostWrites   int      `json:"lost_writes"`
	Acknowledged int      `json:"acknowledged"`
	Unknown      int      `json:"unknown"`
	Refused      int      `json:"refused"`
	Reads        int      `json:"reads"`
	Recovery     Recovery `json:"recovery_ms"`
	Seconds      float64  `json:"seconds"`
	Violations   int      `json:"violations"`
	First        string   `json:"first,omitempty"`
}

// Recovery is how long after the last fault healed a command was acknowledged.
type Recovery struct {
	Max   int64 `json:"max"`
	Count int   `json:"count"`
}

// Add sums reports up.
func (r *Report) Add(o Report) {
	r.VirtualHours += o.VirtualHours
	for to, n := range map[*int]int{
		&r.Partitions: o.Partitions, &r.Delays: o.Delays, &r.Restarts: o.Restarts, &r.Crashes: o.Crashes, &r.Leaders: o.Leaders,
		&r.Aimed: o.Aimed, &r.Transfers: o.Transfers, &r.CutTransfers: o.CutTransfers, &r.Membership: o.Membership, &r.Installs: o.Installs, &r.Elections: o.Elections,
		&r.HeldBytes: o.HeldBytes, &r.LostWrites: o.LostWrites, &r.Acknowledged: o.Acknowledged, &r.Unknown: o.Unknown,
		&r.Refused: o.Refused, &r.Reads: o.Reads, &r.Violations: o.Violations, &r.Recovery.Count: o.Recovery.Count,
	} {
		*to += n
	}
	r.Recovery.Max = max(r.Recovery.Max, o.Recovery.Max)
	r.Seconds += o.Seconds
	if r.First == "" {
		r.First = o.First
	}
}

// judge collects what was seen and what is wrong with it.
type judge struct {
	mu      sync.Mutex
	start   time.Time
	report  Report
	broken  []string
	log     map[uint64]seen   // by index: what every node must have there
	places  map[string]uint64 // by value: the index that holds it
	refused map[string]bool   // values that were refused for certain
	leaders map[uint64]string // by term
	claims  map[uint64]string // by index: a node that says it has applied it, and has applied no command there
	acked   uint64            // the highest acknowledged index
	trace   []string          // the latest events, for a story
}

// seen is an entry as some node applied it.
type seen struct {
	term   uint64
	sum    uint64
	digest string
	node   string
}

func newJudge() *judge {
	return &judge{
		start: time.Now(), log: map[uint64]seen{}, places: map[string]uint64{}, refused: map[string]bool{}, leaders: map[uint64]string{}, claims: map[uint64]string{},
	}
}

// breach notes a broken promise.
func (j *judge) breach(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.breachLocked(format, args...)
}

func (j *judge) breachLocked(format string, args ...any) {
	j.report.Violations++
	if len(j.broken) < 20 {
		j.broken = append(j.broken, fmt.Sprintf("%v: ", time.Since(j.start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// event notes what happened, for the story of a failed run.
func (j *judge) event(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.trace) > 400 {
		j.trace = append(j.trace[:0], j.trace[200:]...)
	}
	j.trace = append(j.trace, fmt.Sprintf("%v: ", time.Since(j.start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// count changes a figure of the report.
func (j *judge) count(f func(*Report)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.report)
}

// applied holds an entry that a node has applied against what others have there.
func (j *judge) applied(node string, index uint64, s seen, values []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.node = node
	known, ok := j.log[index]
	switch {
	case !ok:
		j.log[index] = s
		if other, ok := j.claims[index]; ok {
			j.breachLocked("%s said that it had applied index %d, and had not applied the command there", other, index)
		}
	case known.term != s.term || known.sum != s.sum:
		j.breachLocked("index %d holds an entry of term %d on %s and another one of term %d on %s", index, s.term, node, known.term, known.node)
	case known.digest != s.digest:
		j.breachLocked("after index %d the digests of %s and %s differ", index, node, known.node)
	}
	for _, v := range values {
		if at, ok := j.places[v]; ok && at != index {
			j.breachLocked("value %s was applied at %d and at %d", v, at, index)
		}
		j.places[v] = index
		if j.refused[v] {
			j.breachLocked("value %s was refused for certain, and is in the log at %d", v, index)
		}
	}
}

// restored holds what a node took from a snapshot against the log.
func (j *judge) restored(node string, index uint64, digest string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if known, ok := j.log[index]; ok && known.digest != digest {
		j.breachLocked("%s restored a snapshot of index %d whose digest is not that of %s", node, index, known.node)
	}
}

// claimed holds what a node says it has applied against what its machine has.
func (j *judge) claimed(node string, machine, index uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := machine + 1; i <= index; i++ { // mostly none; entries of membership have no command
		if _, ok := j.log[i]; ok {
			j.breachLocked("%s says that it has applied index %d, and its machine stands at %d", node, i, machine)
		}
		j.claims[i] = node
	}
}

// acknowledged holds an answer against the log.
func (j *judge) acknowledged(value string, index uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.Acknowledged++
	if at, ok := j.places[value]; !ok || at != index {
		j.breachLocked("value %s was acknowledged at %d before any node had applied it there (%d)", value, index, at)
	}
	j.acked = max(j.acked, index)
}

// refuse notes that a value is certain not to be in the log.
func (j *judge) refuse(value string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.Refused++
	j.refused[value] = true
	if at, ok := j.places[value]; ok {
		j.breachLocked("value %s is in the log at %d, and was refused for certain", value, at)
	}
}

// floor is what a read that begins now must see.
func (j *judge) floor() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.acked
}

// leads notes a reign.
func (j *judge) leads(node string, term uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.Elections++
	if other, ok := j.leaders[term]; ok && other != node {
		j.breachLocked("%s and %s both lead in term %d", other, node, term)
	}
	j.leaders[term] = node
}
