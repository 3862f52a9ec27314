package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Peers reaches the other nodes beside the log.
type Peers interface {
	// DigestsAt asks the other voters for their state's digest right after the
	// entry at index. It returns those of the nodes that answered, by node id, and
	// how many voters there are, this node among them.
	DigestsAt(ctx context.Context, index uint64) (digests map[string]fsm.Digest, voters int, err error)
}

// ErrMinority is what stops a leader whose state differs from that of a quorum.
var ErrMinority = errors.New("this leader's state differs from the majority's")

// audit compares the nodes' states from time to time while this node leads
// (PROTOCOL.md, section 6). A quorum that agrees with the leader is put into the
// log where a node differs, or was not heard: that node compares when it applies
// the entry, and stops if it differs. Where a quorum agrees on something else, the leader
// is the one that is broken, and stops itself: its digest in the log would stop
// every healthy follower, again at each replay.
func (c *Coordinator) audit(peers Peers, fatal func(error)) {
	tick := time.NewTicker(c.settings.AuditInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.closing:
			return
		}
		if lead := c.lead.Load(); lead != nil {
			if err := c.auditOnce(lead.ctx, peers); errors.Is(err, ErrMinority) {
				fatal(err)
				return
			} else if err != nil {
				c.log.Warn("the nodes' states could not be compared", "error", err)
			}
		}
	}
}

func (c *Coordinator) auditOnce(ctx context.Context, peers Peers) error {
	var index uint64
	var mine fsm.Digest
	known := false
	c.replog.View(func(s *fsm.State) { index, mine, known = s.LastDigest() })
	if !known {
		return nil // nothing was applied since the start
	}
	ctx, cancel := context.WithTimeout(ctx, c.settings.AuditInterval)
	defer cancel()
	others, voters, err := peers.DigestsAt(ctx, index)
	if err != nil {
		return err
	}
	v := verdictOn(mine, others, voters)
	for _, id := range v.differ {
		c.log.Error("a node's state differs from this leader's", "node", id, "index", index, "leader", mine.String(), "node_digest", others[id].String())
	}
	c.log.Debug("compared the nodes' states", "index", index, "heard", len(others), "voters", voters, "differ", len(v.differ))
	switch {
	case v.minority:
		return fmt.Errorf("%w: at index %d it is %s, and nodes %v agree on another", ErrMinority, index, mine, v.differ)
	case v.agreed && len(others)+1-len(v.differ) < voters:
		return c.checkDigest(ctx, index, mine)
	case !v.agreed:
		// Nodes remember the digests of some entries, and those of two versions perhaps of
		// other ones: silence must not pass for agreement.
		c.log.Warn("too few nodes tell this leader's state's digest: states are not compared until a quorum does", "index", index, "heard", len(others), "voters", voters)
	}
	return nil
}

// auditVerdict is what the digests of one index say.
type auditVerdict struct {
	differ   []string // nodes, in the order of their ids
	agreed   bool     // a quorum, the leader among it
	minority bool     // a quorum agrees, and the leader differs
}

func verdictOn(mine fsm.Digest, others map[string]fsm.Digest, voters int) auditVerdict {
	var v auditVerdict
	quorum := voters/2 + 1
	equal := 1
	votes := make(map[fsm.Digest]int)
	for id, d := range others {
		if d == mine {
			equal++
			continue
		}
		v.differ = append(v.differ, id)
		votes[d]++
		v.minority = v.minority || votes[d] >= quorum
	}
	slices.Sort(v.differ)
	v.agreed = equal >= quorum
	return v
}

// checkDigest puts into the log what a quorum agrees on.
func (c *Coordinator) checkDigest(ctx context.Context, index uint64, digest fsm.Digest) error {
	done := make(chan result, 1)
	c.batcher.add(batched{done: func(r result) { done <- r }, Propose: Propose{Command: &logpb.Command{
		Kind: &logpb.Command_CheckDigest{CheckDigest: &logpb.CheckDigest{Index: index, Digest: digest[:]}}}}})
	select {
	case r := <-done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
