// Package participant is the other side of Quorate: what an initiator and a
// participant import.
//
// An initiator dials the cluster and runs a function as one transaction:
//
//	client, err := participant.Dial(ctx, []string{"localhost:36790"})
//	err = client.Run(ctx, func(ctx context.Context) error {
//		... // calls made with ctx carry the GID and the call path
//	})
//
// With [OneShot] the cluster hears of the transaction when it is to commit: one
// request, and one record before its answer.
//
// A participant guards a resource with a [Manager] (a database, the embedded
// store), attaches it with [Client.Attach], and starts branches with
// [Client.StartBranch]; the managers of this module do that by themselves when
// the context of a local transaction carries a GID.
//
// The package keeps three promises for its process. A branch is registered here
// before the cluster hears of it, so the list sent at each attach never misses
// one. A vote is repeated until it is answered. A prepared branch is ended by a
// verdict only: one that was delivered, or one that recovery asked for.
//
// It imports neither the state machine nor Raft: what it knows of the cluster
// it hears over the wire.
package participant
