package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// asking is a leader with a participant attached, and what is proposed there.
type asking struct {
	*node
	s *Session

	mu      sync.Mutex
	entries [][]*logpb.Command
	refuse  func(commands []*logpb.Command) error // or nil
	lose    error                                 // what a proposal comes to once it is appended
}

func newAsking(t *testing.T, change ...func(*Config)) *asking {
	t.Helper()
	n := &asking{node: newNode(t, change...)}
	n.s = n.attach(holderN(1), "a")
	n.log.meet(func(commands []*logpb.Command) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if commands[0].GetTick() != nil {
			return nil
		}
		n.entries = append(n.entries, commands)
		if n.refuse != nil {
			return n.refuse(commands)
		}
		return nil
	}, func(commands []*logpb.Command) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if commands[0].GetTick() != nil {
			return nil
		}
		return n.lose
	})
	return n
}

// proposed is how many commands each proposal since the last look held.
func (n *asking) proposed() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	var counts []int
	for _, e := range n.entries {
		counts = append(counts, len(e))
	}
	n.entries = nil
	return counts
}

// refuses has proposals refused from now on.
func (n *asking) refuses(why func(commands []*logpb.Command) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = why
}

func yes(gid fsm.GID, b *logpb.BranchSpec) Asked {
	return Asked{GID: gid, Ballot: &logpb.Ballot{Branch: b, Kind: logpb.VoteKind_VOTE_KIND_PREPARED}}
}

// TestTogetherIsOneProposal: what is asked together is proposed together, each request is
// answered by its own result, and one that is refused, by the state machine or before
// that, refuses no other.
func TestTogetherIsOneProposal(t *testing.T) {
	n := newAsking(t)
	held := branchOf("2", "a", holderN(1))
	held.Held = true
	first, second := n.begin("one"), n.begin("two")
	if _, err := n.s.Enlist(n.ctx, second, held); err != nil {
		t.Fatal(err)
	}
	n.proposed()
	unseen := n.newGID()
	told := n.s.Together(n.ctx, []Asked{
		{GID: first, Branch: branchOf("1", "a", nil)},        // the session's holder is filled in
		{GID: unseen, Branch: branchOf("1", "a", nil)},       // NOT_FOUND
		{GID: first, Branch: branchOf("9", "a", holderN(2))}, // another's holder
		{GID: first},      // no branch at all
		yes(second, held), // vouched for as well
		yes(first, branchOf("1", "a", holderN(1))),                 // of what the same entry enlists
		yes(second, branchOf("7", "a", holderN(1))),                // NOT_ENLISTED
		{GID: first, Branch: branchOf("1", "another", holderN(1))}, // BRANCH_CONFLICT
	})
	if got := n.proposed(); !slices.Equal(got, []int{6}) {
		t.Errorf("proposed %v, want one proposal of the six that could be", got)
	}
	want := []fsm.Code{fsm.OK, fsm.NotFound, fsm.Invalid, fsm.Invalid, fsm.OK, fsm.OK, fsm.NotEnlisted, fsm.BranchConflict}
	for i, w := range want {
		var refused *Refusal
		switch {
		case w == fsm.OK && (told[i].Err != nil || told[i].Status.Verdict != fsm.VerdictWait):
			t.Errorf("request %d: %+v, want to wait", i, told[i])
		case w != fsm.OK && (!errors.As(told[i].Err, &refused) || refused.Code != w):
			t.Errorf("request %d: %v, want %v", i, told[i].Err, w)
		}
	}
	for _, gid := range []fsm.GID{first, second} {
		s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		if err != nil || s.Decision != fsm.DecisionCommit {
			t.Errorf("commit: %+v %v", s, err) // the held branch's, too: it was vouched for
		}
	}
	if b := n.recordOf(first).GetBranches(); len(b) != 1 || !slices.Equal(b[0].GetSpec().GetHolder(), holderN(1)) {
		t.Errorf("enlisted: %v", b)
	}
}

// TestTogetherFailsAsOneWould: what became of a proposal that is lost is unknown of each
// of its requests; one that was never appended says so; one that is too large is made of
// single ones; and none of them keeps its place.
func TestTogetherFailsAsOneWould(t *testing.T) {
	n := newAsking(t)
	gids := []fsm.GID{n.begin("one"), n.begin("two"), n.begin("three")}
	ask := func(branch string) (asked []Asked) {
		for _, gid := range gids {
			asked = append(asked, Asked{GID: gid, Branch: branchOf(branch, "a", nil)})
		}
		return asked
	}
	n.proposed()
	for _, tt := range []struct {
		came, want error
	}{{fmt.Errorf("%w: gone", ErrUnknown), ErrUnknown}, {errors.New("anything"), ErrUnknown}, {ErrOverload, ErrOverload}, {ErrNotLeader, ErrNoLeader}} {
		n.refuses(func([]*logpb.Command) error { return tt.came })
		for i, told := range n.s.Together(n.ctx, ask("1")) {
			if !errors.Is(told.Err, tt.want) {
				t.Errorf("%v: request %d was told %v, want %v", tt.came, i, told.Err, tt.want)
			}
			if unknown := new(UnknownError); tt.want == ErrUnknown && (!errors.As(told.Err, &unknown) || unknown.GID != gids[i]) {
				t.Errorf("%v: request %d was told of %v, want its own transaction", tt.came, i, told.Err)
			}
		}
	}
	n.proposed()
	n.refuses(func(commands []*logpb.Command) error {
		if len(commands) > 1 {
			return ErrTooLarge
		}
		return nil
	})
	for i, told := range n.s.Together(n.ctx, ask("1")) {
		if told.Err != nil {
			t.Errorf("request %d by itself: %v", i, told.Err)
		}
	}
	if got := n.proposed(); !slices.Equal(got, []int{3, 1, 2, 1, 1}) {
		t.Errorf("proposed %v, want all together, then halves of what is too large", got)
	}
	n.refuses(nil)
	n.mu.Lock()
	n.lose = fmt.Errorf("%w: the leadership went", ErrUnknown)
	n.mu.Unlock()
	for i, told := range n.s.Together(n.ctx, ask("2")) {
		if !errors.Is(told.Err, ErrUnknown) {
			t.Errorf("request %d was appended, and nobody knows: told %+v", i, told)
		}
	}
	n.follow("other")
	for i, told := range n.s.Together(n.ctx, ask("3")) {
		if !errors.Is(told.Err, ErrNotLeader) {
			t.Errorf("request %d, where another leads: %+v", i, told)
		}
	}
	if got := n.pending.Load(); got != 0 {
		t.Errorf("%d places are kept", got)
	}
}

// TestTogetherIsHalvedWhereItIsTooLarge: as much goes together as an entry takes, in the
// order in which it was asked: a vote never passes its enlist.
func TestTogetherIsHalvedWhereItIsTooLarge(t *testing.T) {
	n := newAsking(t)
	const many, most = 16, 5
	var asked []Asked
	for i := range many / 2 {
		gid, branch := n.begin(fmt.Sprint(i)), branchOf("1", "a", nil)
		asked = append(asked, Asked{GID: gid, Branch: branch}, yes(gid, branchOf("1", "a", nil)))
	}
	n.proposed()
	n.refuses(func(commands []*logpb.Command) error {
		if len(commands) > most {
			return ErrTooLarge
		}
		return nil
	})
	for i, told := range n.s.Together(n.ctx, asked) {
		if told.Err != nil || told.Status.GID != asked[i].GID {
			t.Errorf("request %d: %+v, want an answer of its own", i, told)
		}
	}
	if got := n.proposed(); !slices.Equal(got, []int{16, 8, 4, 4, 8, 4, 4}) {
		t.Errorf("proposed %v, want halves, and no smaller ones than they must be", got)
	}
}

// TestTogetherKeepsTheLimit: each request takes a place, and those beyond are refused,
// votes later than what begins work.
func TestTogetherKeepsTheLimit(t *testing.T) {
	n := newAsking(t, func(c *Config) { c.Settings.ProposalsPendingMax = 2 })
	gid := n.begin("one", branchOf("1", "a", holderN(1)))
	enlist := func(id string) Asked { return Asked{GID: gid, Branch: branchOf(id, "a", nil)} }
	told := n.s.Together(n.ctx, []Asked{enlist("2"), enlist("3"), enlist("4"), yes(gid, branchOf("1", "a", holderN(1)))})
	for i, overload := range []bool{false, false, true, false} {
		if errors.Is(told[i].Err, ErrOverload) != overload {
			t.Errorf("request %d: %v", i, told[i].Err)
		}
	}
}

// TestTogetherPassesThePlaces: each request passes the places of the protocol that it
// passes alone, and one that fails there is unknown by itself.
func TestTogetherPassesThePlaces(t *testing.T) {
	arm(t, "before-enlist@one=error;enlisted@two=error;before-vote@three=error;voted@four=error")
	n := newAsking(t)
	var asked []Asked
	for _, key := range []string{"one", "two"} {
		asked = append(asked, Asked{GID: n.begin(key), Branch: branchOf("1", "a", nil)})
	}
	for _, key := range []string{"three", "four", "five"} {
		asked = append(asked, yes(n.begin(key, branchOf("1", "a", holderN(1))), branchOf("1", "a", holderN(1))))
	}
	n.proposed()
	told := n.s.Together(n.ctx, asked)
	if got := n.proposed(); !slices.Equal(got, []int{3}) {
		t.Errorf("proposed %v, want the three that passed", got)
	}
	for i := range told {
		if stopped := i < 4; errors.Is(told[i].Err, ErrUnknown) != stopped || !stopped && told[i].Err != nil {
			t.Errorf("request %d: %+v", i, told[i])
		}
	}
}
