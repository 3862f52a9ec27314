package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testkit"
)

// A cluster whose nodes all have a level comes to it by itself.
func TestTheLogReachesItsNodesLevel(t *testing.T) {
	n := startInProcess(t, "n1", "", func(c *config.Config) { c.Cluster.Bootstrap = true })
	testkit.Eventually(t, 30*time.Second, func() (known bool) {
		n.membership.cluster.log.View(func(s *fsm.State) { known = s.NextFeatureLevel() == fsm.FeatureLevel })
		return known
	}, "the node in the directory, with its level")
	begunBy(t, n, "order-1")
	n.membership.cluster.log.View(func(s *fsm.State) {
		if s.FeatureLevel() != fsm.FeatureLevel {
			t.Errorf("the entry after that is of level %d", s.FeatureLevel())
		}
	})
}

// A node that would stop at the log's next entry is not let in, whether it says what
// it reads or, as versions before the third level, does not; the leader asks nothing
// of it and nothing is left of it.
func TestANodeThatCannotReadTheLogIsNotAdded(t *testing.T) {
	n := startInProcess(t, "n1", "", func(c *config.Config) { c.Cluster.Bootstrap = true })
	cluster := n.membership.cluster
	testkit.Eventually(t, 30*time.Second, func() (known bool) {
		cluster.log.View(func(s *fsm.State) { known = s.NextFeatureLevel() == fsm.FeatureLevel })
		return known
	}, "the node in the directory, with its level")
	old := api.Node{ID: "3d7d6676-9fcb-4103-b2ba-4e05a59d2a24", RaftAddress: "127.0.0.1:1", GRPCAddress: "127.0.0.1:2", Version: "v0.2.0"}
	for _, level := range []uint32{0, fsm.FeatureLevel - 1} {
		old.FeatureLevel = level
		_, err := cluster.AddNode(t.Context(), old, false)
		var refusal *api.Error
		if !errors.As(err, &refusal) || refusal.Reason != api.ReasonInvalid {
			t.Fatalf("of level %d: %v", level, err)
		}
		for _, word := range []string{"v0.2.0", "level 2", fmt.Sprintf("level %d", fsm.FeatureLevel)} {
			if !strings.Contains(refusal.Message, word) {
				t.Errorf("the refusal does not say %q: %s", word, refusal.Message)
			}
		}
	}
	if _, in := cluster.server(old.ID); in || cluster.entry(old.ID) != nil {
		t.Error("it is in the cluster all the same")
	}
	// One that reads it is let in, though nobody answers at its address.
	old.FeatureLevel = fsm.FeatureLevel
	if _, err := cluster.AddNode(t.Context(), old, true); err != nil {
		t.Errorf("of level %d: %v", old.FeatureLevel, err)
	}
}

// A node asks for its entry until it is right, and does not plague a leader of a
// version that cannot write all of it.
func TestKnown(t *testing.T) {
	self := &logpb.Node{Id: "n1", Name: "one", FeatureLevel: fsm.FeatureLevel}
	without := &logpb.Node{Id: "n1", Name: "one"}
	for _, c := range []struct {
		name          string
		entry, leader *logpb.Node
		want          bool
	}{
		{"as it should be", self, &logpb.Node{Id: "n2", FeatureLevel: fsm.FeatureLevel}, true},
		{"not there", nil, &logpb.Node{Id: "n2"}, false},
		{"without its level, and the leader knows levels", without, &logpb.Node{Id: "n2", FeatureLevel: fsm.FeatureLevel}, false},
		{"without its level, and the leader knows none", without, &logpb.Node{Id: "n2"}, true},
		{"without its level, and no leader is known", without, nil, true},
		{"without its level, and it leads itself", without, without, false},
		{"another level", &logpb.Node{Id: "n1", Name: "one", FeatureLevel: 2}, &logpb.Node{Id: "n2"}, false},
		{"another name", &logpb.Node{Id: "n1", Name: "two"}, &logpb.Node{Id: "n2"}, false},
	} {
		if got := known(self, c.entry, c.leader); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if without.GetFeatureLevel() != 0 {
		t.Error("the directory's entry was changed")
	}
}
