package coordinator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// What one comparison of the nodes' states comes to: the log holds the quorum's digest,
// of the very index at which it was compared, wherever a node differs or was not heard.
func TestWhatOneAuditComesTo(t *testing.T) {
	var logged bytes.Buffer
	n := newNode(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	n.begin("k")
	var index uint64
	var mine fsm.Digest
	same, other, third := fsm.Digest{}, fsm.Digest{9}, fsm.Digest{8}
	refused := errors.New("no disk")
	for name, c := range map[string]struct {
		others  map[string]fsm.Digest
		voters  int
		lost    error // of asking
		refused error // of the log
		check   bool
		want    error // or nil
		nothing bool  // is compared, which people are told
	}{
		"all agree":                       {others: map[string]fsm.Digest{"2": same, "3": same}, voters: 3},
		"alone":                           {voters: 1},
		"one is silent":                   {others: map[string]fsm.Digest{"2": same}, voters: 3, check: true},
		"one differs":                     {others: map[string]fsm.Digest{"2": same, "3": other}, voters: 3, check: true},
		"one differs and one is silent":   {others: map[string]fsm.Digest{"2": same, "3": same, "4": other}, voters: 5, check: true},
		"too few are heard":               {others: map[string]fsm.Digest{"2": same}, voters: 5, nothing: true},
		"nobody is heard":                 {voters: 3, nothing: true},
		"each is another":                 {others: map[string]fsm.Digest{"2": other, "3": third}, voters: 3, nothing: true},
		"a quorum has another":            {others: map[string]fsm.Digest{"2": other, "3": other}, voters: 3, want: ErrMinority},
		"a quorum of four has another":    {others: map[string]fsm.Digest{"2": other, "3": other, "4": other}, voters: 4, want: ErrMinority},
		"half of four have another":       {others: map[string]fsm.Digest{"2": other, "3": other, "4": same}, voters: 4, nothing: true},
		"nobody can be asked":             {lost: context.DeadlineExceeded, want: context.DeadlineExceeded},
		"the log does not take the check": {others: map[string]fsm.Digest{"2": same}, voters: 3, refused: refused, check: true, want: refused},
	} {
		var checks []*logpb.CheckDigest
		n.log.meet(func(commands []*logpb.Command) error {
			if d := commands[0].GetCheckDigest(); d != nil {
				checks = append(checks, d)
				return c.refused
			}
			return ErrOverload // nothing else may be applied in between
		}, nil)
		n.log.View(func(s *fsm.State) { index, mine, _ = s.LastDigest() })
		for id, d := range c.others {
			if d == same {
				c.others[id] = mine
			}
		}
		asked := uint64(0)
		logged.Reset()
		err := n.auditOnce(n.ctx, peersFunc(func(at uint64) (map[string]fsm.Digest, int, error) {
			asked = at
			return c.others, c.voters, c.lost
		}))
		n.log.meet(nil, nil)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if asked != index {
			t.Errorf("%s: compared at %d, and the last digest is of %d", name, asked, index)
		}
		if told := strings.Contains(logged.String(), "too few nodes"); told != c.nothing {
			t.Errorf("%s: people are told %q", name, &logged)
		}
		switch {
		case c.check != (len(checks) == 1):
			t.Errorf("%s: the log was told of %v", name, checks)
		case c.check && (checks[0].GetIndex() != index || fsm.Digest(checks[0].GetDigest()) != mine):
			t.Errorf("%s: the log was told %v, and at %d it is %s", name, checks[0], index, mine)
		}
	}
}
