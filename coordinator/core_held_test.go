package coordinator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

func heldBranch(id, resource string, holder []byte) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: id, Resource: resource, Holder: holder, Held: true}
}

// heldTx is begun, its branches enlisted, not voted.
func (w *world) heldTx(branches ...*logpb.BranchSpec) fsm.GID {
	w.t.Helper()
	return w.begun("held", time.Minute, branches...)
}

func (w *world) vouch(id SessionID, gid fsm.GID, branch string) {
	w.core.Vouch(w.now, id, []BranchRef{{gid, branch}})
	w.settle()
}

// PROTOCOL.md section 5: "the leader's driver proposes Decide(commit) ... only
// while every held branch's holder is attached in this term and has vouched."
func TestHeldCommitWaitsForEveryVoucher(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	one, two := heldBranch("1", "a", holderN(1)), heldBranch("2", "b", holderN(2))
	gid := w.heldTx(one, two)
	w.vouch(1, gid, "1")
	w.ok(cmdVote(gid, one, prepared))
	w.ok(cmdCommit(gid))
	if len(w.vouchFor) != 0 {
		t.Errorf("asked to vouch before every vote was in: %v", w.vouchFor)
	}
	w.ok(cmdVote(gid, two, prepared))
	w.wantState(gid, fsm.StateSealed)
	if len(w.vouchFor[1]) != 0 {
		t.Errorf("session 1 has vouched and is asked again")
	}
	if got := w.vouchFor[2]; len(got) != 1 || got[0] != (BranchRef{gid, "2"}) {
		t.Fatalf("session 2 was asked for %v", got)
	}
	w.vouch(1, gid, "2") // not its to vouch for
	w.wantState(gid, fsm.StateSealed)
	w.vouch(9, gid, "2") // no such session
	w.wantState(gid, fsm.StateSealed)
	w.vouch(2, gid, "2")
	w.wantState(gid, fsm.StateCommitting)
	rec := w.record(gid)
	if rec.GetOrigin() != logpb.Origin_ORIGIN_CLIENT && rec.GetOrigin() != logpb.Origin_ORIGIN_DRIVER {
		t.Errorf("origin %v", rec.GetOrigin())
	}
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #1")
	wantList(t, branchesOf(w.take(2)), "2 COMMIT #1")
	wantList(t, w.hits, "before-decision@held", "at-decision@held", "after-decision@held")
}

func TestReadOnlyHeldBranchNeedsNoVoucher(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	one, two := heldBranch("1", "a", holderN(1)), heldBranch("2", "b", holderN(2))
	gid := w.heldTx(one, two)
	w.vouch(1, gid, "1")
	w.ok(cmdVote(gid, one, prepared))
	w.ok(cmdVote(gid, two, readOnly)) // holder 2 never attached
	w.ok(cmdCommit(gid))
	w.wantState(gid, fsm.StateCommitting)
}

func TestVouchersAreVolatile(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	b := heldBranch("1", "a", holderN(1))
	gid := w.heldTx(b)
	w.vouch(1, gid, "1")
	w.ok(cmdVote(gid, b, prepared))

	w.lead()
	w.ok(cmdCommit(gid))
	w.wantState(gid, fsm.StateSealed) // what was said in the other term is no word in this one
	w.attach(2, holderN(1), "a")
	if got := w.vouchFor[2]; len(got) != 1 {
		t.Fatalf("the new leader asked for %v", got)
	}
	// The next session of the same holder must vouch again, too, and its attach list does.
	w.core.Attach(w.now, 3, AttachRequest{Holder: holderN(1), Resources: []string{"a"},
		Live: []LiveBranch{{BranchRef: BranchRef{gid, "1"}, Held: true, Resource: "a"}}})
	w.settle()
	w.wantState(gid, fsm.StateCommitting)
}

func TestHolderThatDoesNotVouchLosesItsBranch(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	b := heldBranch("1", "a", holderN(1))
	gid := w.heldTx(b)
	w.ok(cmdVote(gid, b, prepared))
	w.ok(cmdCommit(gid))
	w.advanceBeating(4*time.Second, 1)
	w.wantState(gid, fsm.StateSealed)
	w.advanceBeating(2*time.Second, 1)
	w.wantLost(gid)
}

func (w *world) wantLost(gid fsm.GID) {
	w.t.Helper()
	rec := w.record(gid)
	if rec.GetDecision() != fsm.DecisionRollback || rec.GetReason() != logpb.Reason_REASON_PARTICIPANT_LOST || rec.GetDetail() == "" {
		w.t.Fatalf("decision %v, reason %v, detail %q; want rollback, PARTICIPANT_LOST", rec.GetDecision(), rec.GetReason(), rec.GetDetail())
	}
}

// PROTOCOL.md section 5: "Holder lost beyond the grace before the decision,
// voted or not: rollback, PARTICIPANT_LOST."
func TestLostHolderRollsBackItsHeldAndItsUnvotedBranches(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	w.advanceBeating(20*time.Second, 1, 2)
	held := heldBranch("1", "a", holderN(1))
	voted := w.heldTx(held, branchOf("2", "b", holderN(2)))
	w.ok(cmdVote(voted, held, prepared))
	unvoted := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	durable := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.ok(cmdVote(durable, branchOf("1", "a", holderN(1)), prepared))
	others := w.begun("", time.Minute, branchOf("1", "b", holderN(2)))

	w.detach(1)
	w.advanceBeating(4900*time.Millisecond, 2)
	for _, gid := range []fsm.GID{voted, unvoted, durable, others} {
		w.wantState(gid, fsm.StateActive)
	}
	w.advanceBeating(200*time.Millisecond, 2)
	w.wantLost(voted)
	w.wantLost(unvoted)
	w.wantState(durable, fsm.StateActive) // prepared durably: any process of the resource finishes it
	w.wantState(others, fsm.StateActive)
	if !strings.Contains(w.record(unvoted).GetDetail(), "away for longer than the grace") {
		t.Errorf("detail %q", w.record(unvoted).GetDetail())
	}
}

func TestSilentSessionIsClosedAfterTheGraceAndItsHolderLost(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.advanceBeating(30*time.Second, 1)
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.advance(3 * time.Second)
	w.core.Alive(w.now, 1)
	w.advance(4900 * time.Millisecond)
	w.wantState(gid, fsm.StateActive)
	w.advance(200 * time.Millisecond)
	w.wantLost(gid)
	if !errors.Is(w.closed[1], ErrSilent) {
		t.Errorf("closed with %v", w.closed[1])
	}
}

func TestGoodbyeNeedsNoGrace(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.core.Detach(w.now, 1, true, ErrDetached)
	w.core.Detach(w.now, 1, true, ErrDetached) // once is enough
	w.settle()
	w.wantLost(gid)
}

func TestHolderThatNeverAttachesIsLostAfterTheGrace(t *testing.T) {
	w := newWorld(t)
	w.advance(20 * time.Second)
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.advance(4900 * time.Millisecond)
	w.wantState(gid, fsm.StateActive)
	w.advance(200 * time.Millisecond)
	w.wantLost(gid)
	// What it enlists later shows that it lives: it gets a grace of its own.
	again := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.advance(4900 * time.Millisecond)
	w.wantState(again, fsm.StateActive)
}

// DESIGN.md section 5: "grace runs from the new leadership"; PROTOCOL.md section
// 2: "which is extended while attaches queue".
func TestGraceRunsFromTheNewLeadershipAndIsExtendedByAttaches(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.begun("", 10*time.Minute, branchOf("1", "a", holderN(1)))
	w.advanceBeating(time.Minute, 1)
	w.lead()
	for i := range 4 { // others of a large herd find the leader, one a second
		w.advance(time.Second)
		w.attach(SessionID(10+i), holderN(byte(10+i)), "z")
	}
	w.advance(900 * time.Millisecond)
	w.attach(20, holderN(20), "z") // 4.9 s: extends to 4.9 s + 5/3 s
	w.advance(1600 * time.Millisecond)
	w.wantState(gid, fsm.StateActive)
	w.advance(200 * time.Millisecond)
	w.wantLost(gid)
}

func TestFlappingAttachesExtendTheGraceOnlySoFar(t *testing.T) {
	w := newWorld(t)
	gid := w.begun("", 10*time.Minute, branchOf("1", "a", holderN(1)))
	for i := range 30 {
		w.attach(SessionID(10+i), holderN(10), "z")
		w.advance(500 * time.Millisecond)
	}
	w.advance(100 * time.Millisecond)
	w.wantLost(gid) // three graces are the end
}

// PROTOCOL.md section 2: "A new instance proves death; silence does not, within
// the grace." See docs/decisions on what a process is.
func TestNewerInstanceOfAProcessProvesDeathAtOnce(t *testing.T) {
	w := newWorld(t)
	attach := func(id SessionID, holder []byte, process string) {
		w.core.Attach(w.now, id, AttachRequest{Holder: holder, Resources: []string{"a"}, Process: process})
		w.settle()
	}
	attach(1, holderN(1), "bank-a-0")
	mine := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	attach(2, holderN(3), "bank-a-1") // another process of the resource proves nothing
	attach(3, holderN(4), "")
	w.wantState(mine, fsm.StateActive)
	attach(4, holderN(2), "bank-a-0")
	w.wantLost(mine)
	if !errors.Is(w.closed[1], ErrSuperseded) {
		t.Errorf("the dead one's session ended with %v", w.closed[1])
	}
	// A zombie of an older instance proves nothing about its successor.
	theirs := w.begun("", time.Minute, branchOf("1", "a", holderN(2)))
	attach(5, holderN(1), "bank-a-0")
	w.wantState(theirs, fsm.StateActive)
	// Nor does the newest one's own next session.
	attach(6, holderN(2), "bank-a-0")
	w.wantState(theirs, fsm.StateActive)
}

func TestDeathProvedAfterTheSessionEnded(t *testing.T) {
	w := newWorld(t)
	w.core.Attach(w.now, 1, AttachRequest{Holder: holderN(1), Resources: []string{"a"}, Process: "p"})
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	prep := w.committedTx("", branchOf("1", "a", holderN(1)))
	w.take(1)
	w.detach(1)
	w.core.Attach(w.now, 2, AttachRequest{Holder: holderN(2), Resources: []string{"a"}, Process: "p"})
	w.settle()
	w.wantLost(gid)
	got := w.take(2)
	if len(got) != 2 || got[0].GID == got[1].GID {
		t.Fatalf("the new instance was told %v", branchesOf(got))
	}
	w.wantState(prep, fsm.StateCommitting)
}

func TestDriversDecisionIsProposedUntilItIsKnown(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	b := heldBranch("1", "a", holderN(1))
	gid := w.heldTx(b)
	w.vouch(1, gid, "1")
	w.ok(cmdVote(gid, b, prepared))
	w.lose = ErrOverload
	w.ok(cmdCommit(gid))
	w.wantState(gid, fsm.StateSealed)
	w.lose = nil
	w.advance(200 * time.Millisecond)
	w.wantState(gid, fsm.StateCommitting)
}

func TestLossIsDecidedAfterAFailedProposalToo(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.lose = ErrUnknown
	w.core.Detach(w.now, 1, true, ErrDetached)
	w.settle()
	w.wantState(gid, fsm.StateActive)
	w.lose = nil
	w.advance(200 * time.Millisecond)
	w.wantLost(gid)
}

func TestOlderDriversWordIsRefusedAndNothingElseHappens(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	b := heldBranch("1", "a", holderN(1))
	gid := w.heldTx(b)
	w.vouch(1, gid, "1")
	w.ok(cmdVote(gid, b, prepared))
	w.hold = true
	w.do(cmdCommit(gid))
	if len(w.held) != 1 {
		t.Fatalf("%d proposals under way", len(w.held))
	}
	old := w.held[0]
	w.hold, w.held = false, nil
	w.lead()
	if r := w.apply(old.Command)[0]; r.Code != fsm.Stale {
		t.Fatalf("the older leader's word was answered %v", r.Code)
	}
	w.core.Proposed(w.now, ProposeResult{Token: old.Token}) // of an earlier leadership: nobody waits for it
	w.core.Applied(w.now)
	w.settle()
	w.wantState(gid, fsm.StateSealed)
}

// Each voucher counts, in whatever order they come.
func TestHeldCommitWaitsForTheFirstVoucherToo(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	one, two := heldBranch("1", "a", holderN(1)), heldBranch("2", "b", holderN(2))
	gid := w.heldTx(one, two)
	w.ok(cmdVote(gid, one, prepared))
	w.ok(cmdVote(gid, two, prepared))
	w.ok(cmdCommit(gid))
	w.vouch(2, gid, "2")
	w.wantState(gid, fsm.StateSealed)
	w.vouch(1, gid, "1")
	w.wantState(gid, fsm.StateCommitting)
}
