package main

import (
	"context"
	"encoding/hex"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

// auditPeers asks the other nodes for their states' digests over their own API.
type auditPeers struct{ *membership }

var _ coordinator.Peers = auditPeers{}

// DigestsAt asks every other voter; who does not answer is left out.
func (p auditPeers) DigestsAt(ctx context.Context, index uint64) (digests map[string]fsm.Digest, voters int, err error) {
	self := p.node.Identity().NodeID
	nodes := make(map[string]string) // id by address
	var addresses []string
	for _, n := range p.cluster.Status().Nodes {
		if !n.Voter {
			continue
		}
		voters++
		if n.ID != self && n.GRPCAddress != "" {
			nodes[n.GRPCAddress] = n.ID
			addresses = append(addresses, n.GRPCAddress)
		}
	}
	answers, err := p.askAllFor(ctx, addresses, &quoratev1.StatusRequest{DigestAt: index})
	if err != nil {
		return nil, 0, err
	}
	digests = make(map[string]fsm.Digest)
	for address, answer := range answers {
		if answer.GetDigestAt() != index {
			continue // a version that tells the present digest, whatever it is asked
		}
		var d fsm.Digest
		text, err := hex.DecodeString(answer.GetDigest())
		if err == nil && len(text) == len(d) {
			digests[nodes[address]] = fsm.Digest(text)
		}
	}
	return digests, voters, nil
}
