// Package participanttest tests those who take part in transactions.
//
// [Run] is a conformance suite for implementers of participant.Manager: what
// PROTOCOL asks of one that guards a resource, each rule a test of its own.
//
// [Cluster] stands in for a cluster within the test's process: gRPC over loopback
// on one side, and a small machine of two-phase commit in memory on the other. It
// is there to be disturbed: answers get lost, leaders change, deliveries come late
// and twice, whenever the test says so. It replicates nothing and keeps nothing;
// for everything else use a real cluster (`quorate dev`).
package participanttest
