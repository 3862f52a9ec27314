package coordinator

import (
	"encoding/binary"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// elected is a leader that finds so many transactions decided and not told, and
// has looked at one page of them.
func elected(t *testing.T, transactions, page int) (*world, []fsm.GID) {
	t.Helper()
	w := newWorld(t, func(s *Settings) { s.SurveyPage = page })
	w.follow()
	var gids []fsm.GID
	for range transactions {
		gids = append(gids, w.committedTx("", branchOf("1", "bank-a", holderN(1))))
	}
	w.lead()
	return w, gids
}

func gidsOf(ds []Delivery) []fsm.GID {
	var gids []fsm.GID
	for _, d := range ds {
		gids = append(gids, d.GID)
	}
	return gids
}

func TestNewLeaderDeliversBeforeItHasLookedAtAll(t *testing.T) {
	w, gids := elected(t, 9, 2)
	w.attach(1, holderN(1), "bank-a")
	if got := gidsOf(w.take(1)); !slices.Equal(got, gids[:2]) {
		t.Fatalf("told %v after the first page, want %v", got, gids[:2])
	}
	fresh := w.committedTx("", branchOf("1", "bank-a", holderN(1)))
	if got := gidsOf(w.take(1)); !slices.Equal(got, []fsm.GID{fresh}) {
		t.Fatalf("told %v of what came meanwhile, want %v", got, fresh)
	}
	for next := 2; next < len(gids); next += 2 {
		w.core.Expire(w.now)
		w.settle()
		want := gids[next:min(next+2, len(gids))]
		if got := gidsOf(w.take(1)); !slices.Equal(got, want) {
			t.Fatalf("told %v after another page, want %v", got, want)
		}
	}
	w.advance(0)
	if got := w.take(1); len(got) != 0 {
		t.Fatalf("told again: %v", got)
	}
	if at, ok := w.core.Wake(); !ok || !at.After(w.now) {
		t.Fatalf("it goes on looking: it wants to be woken at %v", at)
	}
}

// What a survey has not come to is there for whoever names it.
func TestWhatASurveyHasNotComeToIsKnown(t *testing.T) {
	w, gids := elected(t, 9, 2)
	last := gids[8]
	w.core.Wait(w.now, 7, last, true)
	w.settle()
	if got, answered := w.answers[7]; answered {
		t.Fatalf("a caller that waits for its end is answered %+v", got)
	}
	if n := w.core.Retry(w.now, gids[7], ""); n != 1 {
		t.Errorf("retry found %d due branches, want 1", n)
	}
	if got := w.core.Deliveries(w.now, gids[6]); len(got) != 1 {
		t.Errorf("deliveries %+v, want one", got)
	}
	w.settle()
	w.attach(1, holderN(1), "bank-a")
	w.ok(cmdReport(last, "1", committed))
	if got := w.answers[7]; got.Lost || got.Status.Decision != fsm.DecisionCommit {
		t.Errorf("the caller heard %+v", got)
	}
}

// A vouch that comes before its transaction's page must not be lost: nobody says
// it twice unasked.
func TestVouchBeforeItsPageCounts(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.SurveyPage = 1 })
	w.attach(1, holderN(1), "bank-a")
	w.committedTx("", branchOf("1", "bank-b", holderN(9)))
	held := branchOf("1", "bank-a", holderN(1))
	held.Held = true
	gid := w.begun("", time.Minute, held)
	w.ok(cmdVote(gid, held, prepared))
	w.follow()
	w.lead()
	w.core.Attach(w.now, 2, AttachRequest{Holder: holderN(1), Resources: []string{"bank-a"},
		Live: []LiveBranch{{BranchRef: BranchRef{GID: gid, Branch: "1"}, Held: true, Resource: "bank-a"}}})
	w.settle()
	w.ok(cmdCommit(gid))
	w.wantState(gid, fsm.StateCommitting)
	if asked := w.vouchFor[2]; len(asked) != 0 {
		t.Errorf("it was asked to vouch again: %v", asked)
	}
}

// A leader of a survey that began anew looks again at what stood, and forgets what
// has ended unseen.
func TestASecondSurveyDropsWhatHasEnded(t *testing.T) {
	w, gids := elected(t, 9, 2)
	w.advance(0)
	if len(w.core.txns) != 9 {
		t.Fatalf("%d transactions are noted, want 9", len(w.core.txns))
	}
	for _, gid := range gids[:5] {
		w.apply(cmdReport(gid, "1", committed)) // its event will be missed
	}
	w.core.resync()
	w.core.end()
	w.settle()
	w.advance(0)
	if len(w.core.txns) != 4 || w.core.due.length != 4 {
		t.Errorf("%d transactions are noted and %d branches are due, want 4", len(w.core.txns), w.core.due.length)
	}
}

// Of many deliveries that wait for many holders of one resource, the end of one
// holder's absence must cost its own alone: 2,000 times 2,000 looks held a
// leader for seconds.
func TestAHolderThatComesBackCostsItsOwnDeliveries(t *testing.T) {
	const many = 1000
	w := newWorld(t)
	w.onEffect = func(Effect) {}
	w.hold = true
	holder := func(i int) []byte {
		var random [10]byte
		binary.BigEndian.PutUint16(random[:], uint16(i))
		return fsm.NewGID(1000, random).Bytes()
	}
	for i := range many {
		b := branchOf("1", "bank-a", holder(i))
		gid := w.gid()
		w.apply(cmdBegin(gid, "", time.Minute), cmdEnlist(gid, b), cmdVote(gid, b, prepared), cmdCommit(gid))
	}
	w.core.Applied(w.now)
	w.settle()
	moved := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	first := many / 2
	cost := moved(func() {
		for i := range first {
			w.attach(SessionID(i+1), holder(i), "bank-a")
		}
	})
	if most := uint64(first * 100); cost > most {
		t.Errorf("%d holders came back with %d allocations, want at most %d", first, cost, most)
	}
	for i := range first {
		if got := w.take(SessionID(i + 1)); len(got) != 1 {
			t.Fatalf("session %d was sent %d deliveries, want its own", i+1, len(got))
		}
	}
	cost = moved(func() { w.advanceBeating(20*time.Second, sessions(first)...) })
	if got := w.take(1); len(got) == 0 {
		t.Error("what the lost holders left was told to nobody else")
	}
	if most := uint64(many * 200); cost > most {
		t.Errorf("the others were lost with %d allocations, want at most %d", cost, most)
	}
}

func sessions(n int) []SessionID {
	ids := make([]SessionID, n)
	for i := range ids {
		ids[i] = SessionID(i + 1)
	}
	return ids
}
