package participant

import (
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// GUARANTEES S12: an older epoch's questions are refused. A leader that was
// deposed and does not know it must not collect vouchers: it would count on them
// for a commit, while its successor counts the branch as free to roll back.
func TestVouchOnlyToTheNewestLeader(t *testing.T) {
	c := &Client{live: newRegistry(), cfg: defaultConfig()}
	ref := BranchRef{"01JD9S7KQ00000000000000000", "1"}
	b := &Branch{c: c, ref: ref, held: true, decided: make(chan struct{}), ended: make(chan struct{})}
	c.live.add(b)
	st := &stream{c: c, out: frames.NewQueue[*quoratev1.SessionRequest](1), epoch: epoch{incarnation: 1, term: 2}}
	question := []*quoratev1.LiveBranch{{Gid: string(ref.GID), Branch: ref.ID}}

	for _, step := range []struct {
		name    string
		newest  *quoratev1.Epoch
		vouches bool
	}{
		{"its leader is the newest", &quoratev1.Epoch{Incarnation: 1, Term: 2}, true},
		{"a newer term was heard of", &quoratev1.Epoch{Incarnation: 1, Term: 3}, false},
		{"a newer incarnation was heard of", &quoratev1.Epoch{Incarnation: 2, Term: 1}, false},
	} {
		if err := c.clock.hear(&quoratev1.ResponseHeader{Epoch: step.newest}); err != nil {
			t.Fatal(err)
		}
		st.vouch(question)
		if got := len(st.out.Take(nil)) == 1; got != step.vouches {
			t.Errorf("%s: vouched %v", step.name, got)
		}
	}

	st.epoch = epoch{incarnation: 2, term: 1}
	b.hear(VerdictRollback)
	if st.vouch(question); len(st.out.Take(nil)) != 0 {
		t.Error("it vouched for a branch that has heard its verdict")
	}
}
