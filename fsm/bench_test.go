package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// bencher applies commands without the tests' checks.
type bencher struct {
	b     *testing.B
	s     *State
	index uint64
}

func newBencher(b *testing.B) *bencher {
	w := newWorld(b)
	return &bencher{b: b, s: w.s, index: w.index}
}

func (x *bencher) apply(batch *logpb.Batch) {
	x.index++
	results, err := x.s.Apply(Meta{x.index, 1}, batch)
	if err != nil {
		x.b.Fatal(err)
	}
	for _, r := range results {
		if r.Code != OK {
			x.b.Fatal(r)
		}
	}
}

// each measures one command on transactions that were brought to where it
// applies by others.
func each(b *testing.B, measured func(GID) *logpb.Command, before ...func(GID) *logpb.Command) {
	x := newBencher(b)
	batches := make([]*logpb.Batch, b.N)
	for i := range batches {
		g := testGID(testStartMS, uint64(i))
		first := &logpb.Batch{FeatureLevel: FeatureLevel}
		for _, c := range before {
			first.Commands = append(first.Commands, c(g))
		}
		x.apply(first)
		batches[i] = &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel, Commands: []*logpb.Command{measured(g)}}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, batch := range batches {
		x.apply(batch)
	}
}

func BenchmarkApply(b *testing.B) {
	enlistBranch := func(id string) func(GID) *logpb.Command {
		return func(g GID) *logpb.Command { return enlist(g, spec(id)) }
	}
	voteBranch := func(id string) func(GID) *logpb.Command {
		return func(g GID) *logpb.Command { return vote(g, spec(id), votePrepared) }
	}
	commitBare := func(g GID) *logpb.Command { return commit(g) }
	reportBranch := func(id string) func(GID) *logpb.Command {
		return func(g GID) *logpb.Command { return report(g, id, committed) }
	}
	voted := []func(GID) *logpb.Command{explicit, enlistBranch("1"), enlistBranch("2"), voteBranch("1"), voteBranch("2")}
	b.Run("begin", func(b *testing.B) { each(b, explicit) })
	b.Run("enlist", func(b *testing.B) { each(b, enlistBranch("1"), explicit) })
	b.Run("vote", func(b *testing.B) { each(b, voteBranch("1"), explicit, enlistBranch("1")) })
	b.Run("commit", func(b *testing.B) { each(b, commitBare, voted...) })
	b.Run("report", func(b *testing.B) { each(b, reportBranch("1"), append(voted, commitBare)...) })
	b.Run("last report", func(b *testing.B) { each(b, reportBranch("2"), append(voted, commitBare, reportBranch("1"))...) })
	b.Run("submit", func(b *testing.B) {
		each(b, func(g GID) *logpb.Command {
			return submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...)
		})
	})
}

// BenchmarkApplyEntry is a whole entry of 64 begins, decoded and applied.
func BenchmarkApplyEntry(b *testing.B) {
	x := newBencher(b)
	entries := make([][]byte, b.N)
	for i := range entries {
		batch := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
		for k := range 64 {
			batch.Commands = append(batch.Commands, explicit(testGID(testStartMS, uint64(i*64+k))))
		}
		entries[i] = EncodeEntry(nil, batch)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, entry := range entries {
		x.index++
		if _, err := x.s.ApplyEntry(x.index, 1, entry); err != nil {
			b.Fatal(err)
		}
	}
}

// fastPath is the log of n transactions on the fast path, of two branches and 512
// bytes of labels: an entry of their submits, and one of their reports.
func fastPath(n, from int) (submits, reports []*logpb.Command) {
	return fastPathAt(testStartMS, n, from)
}

func fastPathAt(bornMS uint64, n, from int) (submits, reports []*logpb.Command) {
	for k := range n {
		g := testGID(bornMS, uint64(from+k))
		b := namedBegin(g)
		b.Initiator, b.Labels = "checkout-7", []*logpb.Label{{Name: "payload", Value: strings.Repeat("x", 512)}}
		set := specs("1", "2")
		for _, s := range set {
			s.Resource, s.Holder = "orders-db", []byte(testHolder)
		}
		submits = append(submits, submit(b, set, ballot(set[0], votePrepared), ballot(set[1], votePrepared)))
		reports = append(reports, reportsAll(g, committed, "1", "2"))
	}
	return submits, reports
}

func entryOf(commands []*logpb.Command) []byte {
	return EncodeEntry(nil, &logpb.Batch{ClockMs: testStartMS, WallMs: 1_700_000_000_000, FeatureLevel: FeatureLevel, Commands: commands})
}

// BenchmarkFastPath is what a transaction costs a node, decoded and applied, by the
// number that share an entry.
func BenchmarkFastPath(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := newBencher(b)
			var entries [][]byte
			for from := 0; from < b.N; from += n {
				submits, reports := fastPath(n, from)
				entries = append(entries, entryOf(submits), entryOf(reports))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, entry := range entries {
				x.index++
				if _, err := x.s.ApplyEntry(x.index, 1, entry); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecode reads an entry of 32 commands of a kind.
func BenchmarkDecode(b *testing.B) {
	submits, reports := fastPath(32, 0)
	for name, commands := range map[string][]*logpb.Command{"submit": submits, "reports": reports} {
		b.Run(name, func(b *testing.B) {
			entry := entryOf(commands)
			b.SetBytes(int64(len(entry)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeEntry(entry); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeEntry(b *testing.B) {
	g := testGID(testStartMS, 1)
	commands := make([][]byte, 64)
	for i := range commands {
		commands[i] = MarshalCommand(vote(g, spec("1"), votePrepared))
	}
	var entry []byte
	b.ReportAllocs()
	for b.Loop() {
		entry = EncodeEntryRaw(entry[:0], testStartMS, testStartMS, 1, commands)
	}
	b.SetBytes(int64(len(entry)))
}

// BenchmarkSnapshot pins and writes states of several sizes: what a pin costs
// is what Apply waits for.
func BenchmarkSnapshot(b *testing.B) {
	for _, size := range []struct{ live, filed int }{{1_000, 0}, {0, 100_000}, {100_000, 100_000}} {
		x := newBencher(b)
		for i := range size.live + size.filed {
			c := explicit(testGID(testStartMS, uint64(i)))
			if i >= size.live {
				c = rollback(testGID(testStartMS, uint64(i)), participant)
			}
			x.apply(&logpb.Batch{Commands: []*logpb.Command{c}})
		}
		name := fmt.Sprintf("live=%d,filed=%d", size.live, size.filed)
		b.Run("pin/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.s.Pin()
			}
		})
		b.Run("write/"+name, func(b *testing.B) {
			pin := x.s.Pin()
			b.ReportAllocs()
			for b.Loop() {
				n, err := pin.WriteTo(io.Discard)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}

// stallLive is how many live transactions BenchmarkApplyWhileSnapshot holds, and
// stallFiled how many finished ones:
//
//	go test ./fsm -run '^$' -bench WhileSnapshot -stall.live 900000 -stall.filed 2000000
var (
	stallLive  = flag.Int("stall.live", 50_000, "live transactions of BenchmarkApplyWhileSnapshot")
	stallFiled = flag.Int("stall.filed", 100_000, "finished ones")
)

// BenchmarkApplyWhileSnapshot is a transaction's two entries applied while one
// snapshot after another is taken and written: the longest that one of them took,
// and that one waited for a pin, in milliseconds.
func BenchmarkApplyWhileSnapshot(b *testing.B) {
	x := newBencher(b)
	made := 0
	for made < *stallLive+*stallFiled {
		begun, filed := &logpb.Batch{FeatureLevel: FeatureLevel}, &logpb.Batch{FeatureLevel: FeatureLevel}
		for range 500 {
			begun.Commands = append(begun.Commands, submit(namedBegin(testGID(testStartMS, uint64(made))), specs("1", "2"), ballots(votePrepared, "1", "2")...))
			if made >= *stallLive {
				filed.Commands = append(filed.Commands, reportsAll(testGID(testStartMS, uint64(made)), committed, "1", "2"))
			}
			made++
		}
		x.apply(begun)
		x.apply(filed)
	}
	pins, written := make(chan *Pinned), make(chan int64)
	defer close(pins)
	go func() {
		for p := range pins {
			n, _ := p.WriteTo(io.Discard)
			written <- n
		}
	}()
	var took []time.Duration
	var pinned time.Duration
	snapshots := 0
	writing := false
	b.ResetTimer()
	for i := range b.N {
		if writing {
			select {
			case n := <-written:
				b.SetBytes(n)
				writing = false
			default:
			}
		}
		if !writing {
			begun := time.Now()
			p := x.s.Pin()
			pinned = max(pinned, time.Since(begun))
			pins <- p
			writing = true
			snapshots++
		}
		submits, reports := fastPath(1, made+i)
		for _, commands := range [][]*logpb.Command{submits, reports} {
			entry := entryOf(commands)
			begun := time.Now()
			x.index++
			if _, err := x.s.ApplyEntry(x.index, 1, entry); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begun))
		}
	}
	b.StopTimer()
	if writing {
		<-written
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
	b.ReportMetric(ms(pinned), "pin-ms")
	b.ReportMetric(float64(snapshots), "snapshots")
}

// BenchmarkRestore reads a snapshot of live and of filed transactions.
func BenchmarkRestore(b *testing.B) {
	for name, reports := range map[string]bool{"live": false, "filed": true} {
		b.Run(name, func(b *testing.B) {
			x := newBencher(b)
			for i := range 2_000 {
				submits, ends := fastPath(1, i)
				x.apply(&logpb.Batch{FeatureLevel: FeatureLevel, Commands: submits})
				if reports {
					x.apply(&logpb.Batch{FeatureLevel: FeatureLevel, Commands: ends})
				}
			}
			snapshot := snapshotOf(b, x.s)
			b.SetBytes(int64(len(snapshot)))
			b.ReportAllocs()
			for b.Loop() {
				if err := New().Restore(bytes.NewReader(snapshot)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSaga is what an answer and a look at what is due cost, by the number
// of steps: a chain, so that each step waits for another.
func BenchmarkSaga(b *testing.B) {
	for _, n := range []int{10, 64, 256} {
		texts := []string{"0000"}
		for i := 1; i < n; i++ {
			texts = append(texts, fmt.Sprintf("%04d<%04d", i, i-1))
		}
		b.Run(fmt.Sprintf("answer/%d", n), func(b *testing.B) {
			each(b, func(g GID) *logpb.Command { return done(g, "0000") },
				func(g GID) *logpb.Command { return saga(g, texts...) })
		})
		b.Run(fmt.Sprintf("due/%d", n), func(b *testing.B) {
			x := newBencher(b)
			g := testGID(testStartMS, 1)
			x.apply(&logpb.Batch{FeatureLevel: FeatureLevel, Commands: []*logpb.Command{saga(g, texts...)}})
			b.ReportAllocs()
			for b.Loop() {
				if len(x.s.DueOf(g)) != 1 {
					b.Fatal("not due")
				}
			}
		})
	}
}

// BenchmarkCounts is what a look at the figures costs, which holds up whoever
// applies: among many that began long ago and have not voted, one is in doubt.
func BenchmarkCounts(b *testing.B) {
	for _, live := range []int{1_000, 100_000} {
		x := newBencher(b)
		for i := range live {
			x.apply(&logpb.Batch{ClockMs: testStartMS, Commands: []*logpb.Command{explicit(testGID(testStartMS, uint64(i)))}})
		}
		g := testGID(testStartMS, uint64(live))
		x.apply(&logpb.Batch{ClockMs: testStartMS + 1, Commands: []*logpb.Command{explicit(g), enlist(g, spec("1")), vote(g, spec("1"), votePrepared)}})
		b.Run(fmt.Sprintf("live=%d", live), func(b *testing.B) {
			for b.Loop() {
				if x.s.Counts().OldestInDoubtMS != testStartMS+1 {
					b.Fatal("not found")
				}
			}
		})
	}
}
