package raftnode

import (
	"testing"
)

func TestOneNode(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.set("a", "1")
	c.converge("a", "1")
}

func TestThreeNodes(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("a", "1")
	c.fill("many", 200)
	c.converge("a", "1")
	leader := c.leader()
	if _, err := leader.ReadIndex(c.ctx()); err != nil {
		t.Fatal(err)
	}
	c.stop(leader)
	c.set("a", "2")
	c.start(leader)
	c.converge("a", "2")
}
