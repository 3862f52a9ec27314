package coordinator

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Of what is asked together each is its own, behind one that was refused as well: it is
// told of its own transaction, it is what the log holds where each has an entry of its
// own, and all that are held are vouched for.
func TestOfWhatIsAskedTogetherEachIsItsOwn(t *testing.T) {
	n := newAsking(t)
	gids := []fsm.GID{n.begin(""), n.begin(""), n.begin("")}
	held := func(id string) *logpb.BranchSpec {
		return &logpb.BranchSpec{Id: id, Resource: "a", Held: true}
	}
	enlists, votes := []Asked{{GID: n.newGID()}}, []Asked{{GID: n.newGID()}} // of no branch
	for i, gid := range gids {
		enlists = append(enlists, Asked{GID: gid, Branch: held(fmt.Sprint(i))})
		votes = append(votes, yes(gid, held(fmt.Sprint(i))))
	}
	each := func(name string, asked []Asked, want error) {
		t.Helper()
		told := n.s.Together(n.ctx, asked)
		wantRefusal(t, told[0].Err, fsm.Invalid)
		for i, told := range told[1:] {
			var unknown *UnknownError
			switch {
			case !errors.Is(told.Err, want):
				t.Errorf("%s: request %d: %v, want %v", name, i, told.Err, want)
			case want != nil && (!errors.As(told.Err, &unknown) || unknown.GID != gids[i]):
				t.Errorf("%s: request %d is told of another: %v", name, i, told.Err)
			case want == nil && told.Status.GID != gids[i]:
				t.Errorf("%s: request %d is told of another: %+v", name, i, told.Status)
			}
		}
	}
	n.refuses(func([]*logpb.Command) error { return errors.New("nobody can tell") })
	each("lost", enlists, ErrUnknown)
	n.refuses(func(commands []*logpb.Command) error {
		if len(commands) > 1 {
			return ErrTooLarge
		}
		return nil
	})
	each("too large", enlists, nil)
	n.refuses(nil)
	for i, gid := range gids {
		if b := n.recordOf(gid).GetBranches(); len(b) != 1 || b[0].GetSpec().GetId() != fmt.Sprint(i) {
			t.Errorf("request %d was answered, and the log has %v", i, b)
		}
	}
	n.s.aliveAt.Store(int64(-time.Hour))
	each("votes", votes, nil)
	if n.s.aliveAt.Load() < 0 {
		t.Error("what is asked together is no sign of life")
	}
	for _, gid := range gids {
		if s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)}); err != nil || s.Decision != fsm.DecisionCommit {
			t.Errorf("%+v, %v", s, err)
		}
	}
	for { // one was not vouched for if it was asked for
		select {
		case m := <-n.s.Outgoing():
			if len(m.VouchFor) > 0 {
				t.Errorf("asked for %v, which had voted", m.VouchFor)
			}
			continue
		default:
		}
		return
	}
}
