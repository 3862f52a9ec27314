package fsm

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm/logpb"
)

// summary is all that a Record tells, as text.
func summary(r Record) string {
	text := fmt.Sprintf("%v %v %v %v %v %v %v %q %v %v %v %d", r.GetBegin(), r.GetState(), r.GetTombstone(), r.GetQuarantined(),
		r.GetWithheld(), r.GetDecision(), r.GetReason(), r.GetDetail(), r.GetBegan(), r.GetDecided(), r.GetFinished(), r.Unheard())
	for b := range r.GetBranches() {
		text += fmt.Sprintf("; %v %v %v %v", b.GetSpec(), b.GetHint(), b.GetVote(), b.GetReported())
	}
	return text
}

// summaryOf is the same of a record that was read whole.
func summaryOf(tx *logpb.Transaction, unheard int) string {
	at := func(s *logpb.Stamp) Stamp { return Stamp{fromStamp(s).value()} }
	text := fmt.Sprintf("%v %v %v %v %v %v %v %q %v %v %v %d", tx.GetBegin(), tx.GetState(), tx.GetTombstone(), tx.GetQuarantined(),
		tx.GetWithheld(), tx.GetDecision(), tx.GetReason(), tx.GetDetail(), at(tx.GetBegan()), at(tx.GetDecided()), at(tx.GetFinished()), unheard)
	for _, b := range tx.GetBranches() {
		text += fmt.Sprintf("; %v %v %v %v", b.GetSpec(), b.GetHint(), b.GetVote(), at(b.GetReported()))
	}
	return text
}

// Over random logs: a record says what its copy says, when it is read and ever
// after, whatever is applied; what is due, and what was touched, is the same.
func TestRecordsSayTheSameForEver(t *testing.T) {
	filed := 0
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
		p := newPair(failer{t: rt})
		var held []Record
		var said []string
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			p.clock = randomClock(pick, p.clock)
			if _, err := p.step(tick()); err != nil {
				rt.Fatal(err)
			}
			before := p.a.Clock().AppliedIndex
			if _, err := p.step(randomCommand(pick, p.clock)); err != nil {
				rt.Fatal(err)
			}
			touched, _ := p.a.Touched(before, nil)
			events, _, _ := p.a.Events(before, EventsKept)
			for _, e := range events {
				if e.Kind != EventDropped && !slices.Contains(touched, e.GID) {
					rt.Fatalf("%v happened to %s, and it was not touched", e.Kind, e.GID)
				}
			}
			for at := range p.a.begun.all() {
				r, ok := p.a.Read(at.GID)
				tx, _ := p.a.Get(at.GID)
				if !ok || !r.Stands() || summary(r) != summaryOf(tx, r.Unheard()) {
					rt.Fatalf("read %v, and it is %v", summary(r), tx)
				}
				due := r.AppendDue(nil)
				if fmt.Sprint(due) != fmt.Sprint(p.a.DueOf(at.GID)) {
					rt.Fatalf("due %v, want %v", due, p.a.DueOf(at.GID))
				}
				if r.Unheard() < len(due) && len(due) > 1 {
					rt.Fatalf("%d are due, and only %d are to be heard of", len(due), r.Unheard())
				}
				if r.t.filedMS != 0 {
					filed++
				}
				held, said = append(held, r), append(said, summary(r))
			}
			for i, r := range held {
				if got := summary(r); got != said[i] {
					rt.Fatalf("a record said\n%s\nwhen it was read, and says now\n%s", said[i], got)
				}
			}
		}
		for g := range 3 {
			gid := testGID(1, uint64(g))
			if _, ok := p.a.Read(gid); ok {
				rt.Fatalf("%s was never begun, and can be read", gid)
			}
		}
	})
	if filed == 0 {
		t.Error("no filed record was read")
	}
}

// What retention has dropped cannot be read, though it was filed a moment ago.
func TestDroppedRecordsCannotBeRead(t *testing.T) {
	w := newWorld(t)
	gid := testGID(testStartMS, 1)
	w.must(submit(beginOf(gid, logpb.Entry_ENTRY_NAMED), specs("1"), ballot(spec("1"), voteReadOnly)))
	if r, ok := w.s.Read(gid); !ok || r.GetState() != StateCommitted {
		t.Fatalf("not read: %v", ok)
	}
	w.leap(testStartMS + 2*w.s.limits.GetRetentionMs())
	if _, ok := w.s.Get(gid); ok {
		t.Fatal("it still stands")
	}
	if _, ok := w.s.Read(gid); ok {
		t.Error("a dropped record was read")
	}
}

// Records are read by one goroutine while another applies: this is for the race
// detector.
func TestRecordsAreReadWhileEntriesAreApplied(t *testing.T) {
	w := newWorld(t)
	gid := testGID(testStartMS, 1)
	w.must(submit(beginOf(gid, logpb.Entry_ENTRY_NAMED), specs("1", "2"), ballot(spec("1"), votePrepared), ballot(spec("2"), votePrepared)))
	read := make(chan Record)
	var reader sync.WaitGroup
	reader.Go(func() {
		for r := range read {
			if summary(r) == "" || len(r.AppendDue(nil)) > 2 {
				t.Error("nothing is said")
			}
		}
	})
	for _, c := range []*logpb.Command{tick(), report(gid, "1", committed), tick(), report(gid, "2", committed), report(gid, "2", rolledBack), tick()} {
		r, _ := w.s.Read(gid)
		read <- r
		w.do(c)
	}
	close(read)
	reader.Wait()
}

func TestReadingARecordAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	live, filed := testGID(testStartMS, 1), testGID(testStartMS, 2)
	w.must(submit(beginOf(live, logpb.Entry_ENTRY_NAMED), specs("1", "2"), ballot(spec("1"), votePrepared), ballot(spec("2"), votePrepared)))
	w.must(submit(beginOf(filed, logpb.Entry_ENTRY_NAMED), specs("1"), ballot(spec("1"), voteReadOnly)))
	due := make([]DueBranch, 0, 8)
	touched := make([]GID, 0, 8)
	n := testing.AllocsPerRun(100, func() {
		for _, gid := range []GID{live, filed} {
			r, _ := w.s.Read(gid)
			for b := range r.GetBranches() {
				if b.GetSpec() == nil {
					t.Error("no branch")
				}
			}
			due = r.AppendDue(due[:0])
		}
		touched, _ = w.s.Touched(0, touched[:0])
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	w := newWorld(b)
	gid := testGID(testStartMS, 1)
	w.must(submit(beginOf(gid, logpb.Entry_ENTRY_NAMED), specs("1", "2"), ballot(spec("1"), votePrepared), ballot(spec("2"), votePrepared)))
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r, ok := w.s.Read(gid); !ok || r.GetState() != StateCommitting {
				b.Fatal("not read")
			}
		}
	})
	b.Run("copy", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if tx, ok := w.s.Get(gid); !ok || tx.GetState() != StateCommitting {
				b.Fatal("not read")
			}
		}
	})
}
