package main

import (
	"testing"
	"time"

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
