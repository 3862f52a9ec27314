package coordinator

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Any node serves a watch: who follows wakes its watchers, too.
func TestAFollowersWatchIsWoken(t *testing.T) {
	n := newNode(t)
	n.follow("other")
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	out, done := n.watch(ctx, WatchRequest{AfterIndex: n.Header().AppliedIndex})
	for n.log.applies() < 50 { // it waits for some of them
		n.log.appendAll(t, cmdBegin(n.newGID(), "", time.Minute))
		select {
		case <-out:
		case <-time.After(10 * time.Second):
			t.Fatal("an entry was applied, and the watch says nothing")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What is applied between a watch's look at the log and its wait is not waited for.
func TestAWatchMissesNothingBetweenItsLookAndItsWait(t *testing.T) {
	log := &meddledLog{}
	n := followingNode(t, func(cfg *Config) { // so nobody but the watch looks
		log.memLog = cfg.Log.(*memLog)
		cfg.Log = log
	})
	const most = 20
	made := 0
	log.after = func() {
		if made < most {
			made++
			n.log.appendAll(t, cmdBegin(fsm.NewGID(10_000, [10]byte{byte(made)}), "", time.Minute))
		}
	}
	ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
	defer cancel()
	seen, enough := 0, errors.New("enough")
	err := n.Watch(ctx, WatchRequest{AfterIndex: n.log.applies()}, func(uint64, []fsm.Event) error {
		if seen++; seen == most {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("%d of %d entries were seen: %v", seen, made, err)
	}
}

// However much has happened since, each entry is told once, whole, and in order; of one
// transaction as of all.
func TestAWatchFromLongAgoTellsEachEntryOnce(t *testing.T) {
	n := newNode(t)
	mine := n.newGID()
	start := n.Header().AppliedIndex
	want := map[bool][]uint64{} // the entries with events: of all, and of mine
	for i := range 3 * eventsPerRead / 2 {
		commands := []*logpb.Command{cmdBegin(n.newGID(), "", time.Minute)}
		switch i {
		case 0:
			commands = append(commands, cmdBegin(mine, "", time.Minute))
		case 5, eventsPerRead - 6, eventsPerRead - 5, eventsPerRead - 4, eventsPerRead - 3, eventsPerRead - 2, eventsPerRead - 1, eventsPerRead, eventsPerRead + 1, 3*eventsPerRead/2 - 1:
			commands = append(commands, cmdEnlist(mine, branchOf(string(rune('a'+i%26))+string(rune('a'+i/26%26)), "r", nil)))
		}
		n.log.appendAll(t, commands...)
		at := n.log.applies()
		want[false] = append(want[false], at)
		if len(commands) > 1 {
			want[true] = append(want[true], at)
		}
	}
	for of, want := range want {
		r := WatchRequest{AfterIndex: start}
		if of {
			r.Transaction = ByGID(mine)
		}
		var got []uint64
		enough := errors.New("enough")
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		err := n.Watch(ctx, r, func(index uint64, events []fsm.Event) error {
			for _, e := range events {
				if e.Index != index || of && e.GID != mine {
					t.Errorf("in the entry at %d: %+v", index, e)
				}
			}
			if got = append(got, index); len(got) >= len(want) {
				return enough
			}
			return nil
		})
		cancel()
		if !errors.Is(err, enough) || !slices.Equal(got, want) {
			t.Errorf("one transaction's: %v: %d entries told, want %d; %v", of, len(got), len(want), err)
		}
	}
}
