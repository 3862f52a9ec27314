package raftnode

import (
	"testing"

	"github.com/quorate/quorate/internal/testkit"
)

// Every node says of each what it is, and no node is two things.
func TestStatus_SaysWhoIsWho(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader, outsider := c.leader(), c.add()
	must(t, leader.AddNonvoter(c.ctx(), string(outsider.self), outsider.cfg.Address, outsider.Identity().ClusterID))
	c.set("x", "1")
	c.converge("x", "1")
	for _, m := range c.members {
		role := map[*member]Role{leader: RoleLeader, outsider: RoleNonvoter}[m]
		if role == "" {
			role = RoleFollower
		}
		testkit.Eventually(t, within, func() bool {
			return m.Status().Leader.ID == string(leader.self) && len(m.Status().Servers) == len(c.members)
		})
		status := m.Status()
		if status.Role != role || status.Identity.NodeID != string(m.self) || status.Leader.Address != leader.cfg.Address || status.Leader.Term != status.Term {
			t.Errorf("a %s says of itself %+v", role, status)
		}
		for i, s := range status.Servers {
			of := c.members[i]
			want := Server{ID: string(of.self), Address: of.cfg.Address, Voter: of != outsider, Leader: of == leader, Self: of == m}
			if m == leader {
				want.Heard, want.Healthy, want.LastContact, want.MatchIndex = true, true, s.LastContact, s.MatchIndex
				testkit.Eventually(t, within, func() bool { return leader.Status().Servers[i].MatchIndex == leader.raft().LastIndex() }, "it has all")
				if s.LastContact < 0 || s.LastContact > within || of == m && s.LastContact != 0 {
					t.Errorf("heard from %v ago", s.LastContact)
				}
			}
			if s != want {
				t.Errorf("a %s says %+v, want %+v", role, s, want)
			}
		}
	}
}
