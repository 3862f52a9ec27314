// Package sim is the deterministic simulator: a whole cluster, its participants
// and its initiators in one thread, driven by one seed.
//
// The state machine ([fsm.State]) and the driver ([coordinator.Core]) are the
// real ones. Everything around them is simulated, and hostile: the replicated
// log (a small, honest Raft), disks that lose and tear what was not synced,
// networks that delay, lose, repeat and reorder, clocks that drift and jump,
// processes that stop for longer than every timeout, participants that crash
// between any two steps, initiators that want opposite things.
//
// A run is a function of its [Plan], and a plan of its seed: nothing here reads
// a clock, starts a goroutine or depends on the order of a map. So a seed that
// fails once fails always, and [Shrink] can tell its story with fewer faults.
//
// What is checked stands in oracle.go: it judges by what participants hold and
// clients heard, never by asking the state machine whether it did right.
package sim
