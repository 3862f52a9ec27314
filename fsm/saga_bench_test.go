package fsm

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// sagasAt is the log of n sagas of two steps at once, with 256 bytes for each: an entry of
// their submits, and one of their answers.
func sagasAt(bornMS uint64, n, from int) (submits, answers []*logpb.Command) {
	for k := range n {
		g := testGID(bornMS, uint64(from+k))
		c := saga(g, "1", "2")
		c.GetSubmit().GetBegin().Initiator = "checkout-7"
		for _, spec := range c.GetSubmit().GetSet() {
			spec.Endpoint = "grpc://accounts.bank.example:8443/bank.v1.Accounts/Withdraw"
			spec.Undo = "grpc://accounts.bank.example:8443/bank.v1.Accounts/Deposit"
			spec.Payload = []byte(strings.Repeat("x", 256))
		}
		submits, answers = append(submits, c), append(answers, answersOf(g, said("1", answerDone), said("2", answerDone)))
	}
	return submits, answers
}

// sagaEntries are those of count sagas, 16 to an entry, in turns with those of their answers.
func sagaEntries(count int) (entries [][]byte) {
	const n = 16
	for at := 0; at < count; at += n {
		submits, answers := sagasAt(testStartMS+uint64(at/10), n, at)
		for _, commands := range [][]*logpb.Command{submits, answers} {
			entries = append(entries, EncodeEntry(nil, &logpb.Batch{
				ClockMs: testStartMS + uint64(at/10), WallMs: 1_700_000_000_000, FeatureLevel: FeatureLevel, Commands: commands,
			}))
		}
	}
	return entries
}

// BenchmarkSagaPair is what a saga of two steps costs a node: its Submit and its Answers.
func BenchmarkSagaPair(b *testing.B) {
	for _, node := range []string{"apply", "follow"} {
		b.Run(node, func(b *testing.B) {
			x := newBencher(b)
			entries := sagaEntries(b.N)
			b.ReportAllocs()
			b.ResetTimer()
			begun := cpuTime(b)
			for _, entry := range entries {
				x.index++
				var err error
				if node == "follow" {
					err = x.s.Follow(x.index, 1, entry)
				} else {
					_, err = x.s.ApplyEntry(x.index, 1, entry)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N), "cpu-ns/op")
		})
	}
}

// TestAllocationsOfFollowedSagas: what a follower pays for one.
func TestAllocationsOfFollowedSagas(t *testing.T) {
	if raceDetector || checkEveryApply {
		t.Skip("the race detector, and checks after every entry, allocate themselves: a plain `go test ./fsm` counts")
	}
	const many, runs = 16, 80
	w := newWorld(t)
	entries := sagaEntries(many * (runs + 2))
	next := 0
	got := testing.AllocsPerRun(runs, func() {
		for range 2 {
			w.index++
			if err := w.s.Follow(w.index, 1, entries[next]); err != nil {
				t.Fatal(err)
			}
			next++
		}
	}) / many
	// Its begin, steps and their payloads, the record, what it has beyond those of two-phase,
	// its branches. Maps and chunks grow now and then, which is less than one a saga.
	if want := 7; int(got) != want {
		t.Errorf("a Submit and its Answers allocate %.1f times, and it was %v: spare what was added, or change the number here and say why", got, want)
	}
}
