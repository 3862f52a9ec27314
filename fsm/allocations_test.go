package fsm

import (
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// allocated is what one command allocates: in Apply, and in ApplyEntry, which reads the
// entry first. The numbers are exact, but for what grows now and then (maps, heaps),
// which is less than one an operation and is rounded away.
type allocated struct{ apply, entry float64 }

// TestAllocationsOfApply: every node pays them for every command.
func TestAllocationsOfApply(t *testing.T) {
	if raceDetector || checkEveryApply {
		t.Skip("the race detector, and checks after every entry, allocate themselves: a plain `go test ./fsm` counts")
	}
	enlists := func(id string) func(GID) *logpb.Command {
		return func(g GID) *logpb.Command { return enlist(g, spec(id)) }
	}
	votes := func(id string) func(GID) *logpb.Command {
		return func(g GID) *logpb.Command { return vote(g, spec(id), votePrepared) }
	}
	reports := func(id string) func(GID) *logpb.Command {
		return func(g GID) *logpb.Command { return report(g, id, committed) }
	}
	commits := func(g GID) *logpb.Command { return commit(g) }
	sagas := func(g GID) *logpb.Command { return saga(g, "1", "2") }
	answers := func(id string) func(GID) *logpb.Command { return func(g GID) *logpb.Command { return done(g, id) } }
	voted := []func(GID) *logpb.Command{explicit, enlists("1"), enlists("2"), votes("1"), votes("2")}
	decided := append(voted[:len(voted):len(voted)], commits)
	type commands = []func(GID) *logpb.Command
	for _, c := range []struct {
		name    string
		want    allocated
		command func(GID) *logpb.Command
		before  commands
	}{
		{"begin", allocated{2, 4}, explicit, nil},
		{"enlist", allocated{3, 3}, enlists("1"), commands{explicit}},
		{"vote", allocated{3, 3}, votes("1"), commands{explicit, enlists("1")}},
		{"commit", allocated{2, 2}, commits, voted},
		{"report", allocated{3, 3}, reports("1"), decided},
		{"last report", allocated{3, 3}, reports("2"), append(decided[:len(decided):len(decided)], reports("1"))},
		{"submit", allocated{2, 3}, func(g GID) *logpb.Command {
			return submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...)
		}, nil},
		{"reports of both", allocated{3, 3}, func(g GID) *logpb.Command { return reportsAll(g, committed, "1", "2") }, decided},
		{"answers of both", allocated{4, 4}, func(g GID) *logpb.Command { return answersOf(g, said("1", answerDone), said("2", answerDone)) }, commands{sagas}},
		{"submit of a saga", allocated{4, 6}, sagas, nil},
		{"answer", allocated{3, 3}, answers("1"), commands{sagas}},
		{"last answer", allocated{5, 5}, answers("2"), commands{sagas, answers("1")}},
		{"rollback of nothing", allocated{7, 7}, func(g GID) *logpb.Command { return rollback(g, participant) }, nil},
		{"tick", allocated{1, 3}, func(GID) *logpb.Command { return tick() }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := allocated{
				apply: allocationsOf(t, false, c.command, c.before), entry: allocationsOf(t, true, c.command, c.before),
			}
			if got != c.want {
				t.Errorf("Apply allocates %v times, and with reading its entry %v; it was %v and %v. If it is more, find what allocates "+
					"(go test ./fsm -bench Apply -benchmem -memprofile m.out -memprofilerate 1) and spare it, or change the number here and say why; if less, write it here, so that it stays",
					got.apply, got.entry, c.want.apply, c.want.entry)
			}
		})
	}
}

// allocationRuns are enough for what grows now and then to be less than one each.
const allocationRuns = 512

// allocationsOf measures a command on transactions that others brought to where it applies.
func allocationsOf(t *testing.T, whole bool, command func(GID) *logpb.Command, before []func(GID) *logpb.Command) float64 {
	t.Helper()
	w := newWorld(t)
	var batches []*logpb.Batch
	var entries [][]byte
	for i := range allocationRuns + 1 { // AllocsPerRun makes one more
		g := testGID(testStartMS, uint64(i))
		if len(before) > 0 {
			first := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
			for _, c := range before {
				first.Commands = append(first.Commands, c(g))
			}
			w.applied(first)
		}
		batch := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel, Commands: []*logpb.Command{command(g)}}
		batches, entries = append(batches, batch), append(entries, EncodeEntry(nil, batch))
	}
	next := 0
	return testing.AllocsPerRun(allocationRuns, func() {
		w.index++
		var results []Result
		var err error
		if whole {
			results, err = w.s.ApplyEntry(w.index, 1, entries[next])
		} else {
			results, err = w.s.Apply(Meta{w.index, 1}, batches[next])
		}
		next++
		if err != nil || results[0].Code != OK {
			t.Fatal(err, results)
		}
	})
}

// applied applies a batch without the checks of world.batch.
func (w *world) applied(b *logpb.Batch) {
	w.t.Helper()
	w.index++
	results, err := w.s.Apply(Meta{w.index, 1}, b)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range results {
		if r.Code != OK {
			w.t.Fatal(r)
		}
	}
}

// TestAllocationsOfEntries: an entry is packed by one goroutine, and read on every node.
func TestAllocationsOfEntries(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates itself: a plain `go test ./fsm` counts")
	}
	const many = 64
	commands := make([][]byte, many)
	for i := range commands {
		commands[i] = MarshalCommand(vote(testGID(testStartMS, uint64(i)), spec("1"), votePrepared))
	}
	room := make([]byte, 0, 64<<10)
	entry := EncodeEntryRaw(nil, testStartMS, testStartMS, FeatureLevel, commands)
	one := vote(testGID(testStartMS, 1), spec("1"), votePrepared)
	for _, c := range []struct {
		name string
		want float64
		f    func()
	}{
		{"marshal a vote", 1, func() { MarshalCommand(one) }},
		{"pack 64 votes where there is room", 0, func() { room = EncodeEntryRaw(room[:0], testStartMS, testStartMS, FeatureLevel, commands) }},
		{"read 64 votes", 137, func() {
			if _, err := DecodeEntry(entry); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		if got := testing.AllocsPerRun(allocationRuns, c.f); got != c.want {
			t.Errorf("%s: %v allocations, and it was %v: spare what was added, or change the number here and say why", c.name, got, c.want)
		}
	}
}
