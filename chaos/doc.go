// Package chaos breaks a real cluster and judges what is left of its promises.
//
// A run starts a cluster of `quorate serve` processes, lets workloads use it,
// and hurts it by seeded windows of one to three faults at once, aimed at the
// phases of the protocol where a failpoint allows. After each window it heals
// and waits until the cluster is whole; at the end everything is healed, the
// workloads settle, the nodes are stopped, their logs are read back, and every
// answer that any client was given is compared with them.
//
// A run that did not hurt anything proves nothing: each injection must bring
// evidence, and commits must have been acknowledged during and after it.
// Otherwise the verdict is "vacuous", which is red.
//
//	fault.go     what a fault is; the table; faults_*.go hold the faults, a family a file
//	env.go       what a fault may touch
//	workload.go  what a workload is; registers*.go holds the one of raw clients
//	schedule.go  which faults, when
//	run.go       one run from start to verdict
//	verdict.go   what a run says
package chaos
