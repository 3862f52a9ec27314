package raftnode

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"
)

// What is kept is what is in the log, whatever is appended and dropped.
func TestRecent_SaysWhatTheLogSays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	kept := newRecentLogs(&logStore{})
	log := map[uint64]raft.Log{}
	first, last := uint64(1), uint64(0)
	data := make([]byte, 200<<10)
	for round := range 400 {
		switch random.IntN(10) {
		case 0: // shorten the beginning
			if last > first {
				to := first + random.Uint64N(last-first)
				kept.forget(first, to)
				for ; first <= to; first++ {
					delete(log, first)
				}
			}
		case 1: // drop the end
			if last > first {
				from := first + 1 + random.Uint64N(last-first)
				kept.forget(from, last)
				for ; last >= from; last-- {
					delete(log, last)
				}
			}
		case 2: // a snapshot takes the place of all
			if random.IntN(20) == 0 {
				kept.forget(first, last)
				clear(log)
				last += random.Uint64N(5000)
				first = last + 1
			}
		default:
			for range random.IntN(300) {
				last++
				log[last] = raft.Log{Index: last, Term: uint64(round), Data: data[:random.IntN(len(data))/(1+random.IntN(100))]}
				l := log[last]
				kept.keep(&l)
			}
		}
		bytesHeld := 0
		for index := kept.first; index <= kept.last && kept.last >= kept.first; index++ {
			got, want := *kept.at(index), log[index]
			if got.Index != index || got.Term != want.Term || len(got.Data) != len(want.Data) {
				t.Fatalf("round %d: entry %d is %d of term %d, not of term %d", round, index, got.Index, got.Term, want.Term)
			}
			bytesHeld += len(got.Data)
		}
		n := kept.last + 1 - kept.first
		if bytesHeld != kept.bytes || bytesHeld > recentBytesMax && n > 1 || n > recentEntriesMax {
			t.Fatalf("round %d: %d entries of %d bytes, counted as %d", round, n, bytesHeld, kept.bytes)
		}
		if n > 0 && kept.last != last {
			t.Fatalf("round %d: it ends at %d, the log at %d", round, kept.last, last)
		}
	}
}

// The log that is shortened at its beginning stays in memory at its end: a
// follower's next entries do not come from the disk.
func TestRecent_IsKeptWhenTheLogIsShortened(t *testing.T) {
	var d disk
	c := newCluster(t, 1, func(_ int, cfg *Config) { d.on(cfg); cfg.TrailingEntries = 5; cfg.EntryCommandsMax = 1 })
	node := c.leader()
	c.fill("x", 40)
	must(t, node.Snapshot(c.ctx()))
	if node.stores.log.first.Load() < 30 {
		t.Fatal("the log was not shortened")
	}
	d.break_(only("read", errors.New("read from the disk")))
	var l raft.Log
	for index := node.stores.log.first.Load(); index <= node.raft().LastIndex(); index++ {
		must(t, node.stores.logs.GetLog(index, &l))
		if l.Index != index {
			t.Fatalf("entry %d instead of %d", l.Index, index)
		}
	}
}

// forgetAll lets go of everything, so that what is read next comes from the disk.
func (r *recentLogs) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(r.first, r.last)
}
