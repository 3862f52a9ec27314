package linearizability

import "slices"

// The promises, as docs/verify.md numbers them, and a finding that is none.
const (
	promiseAgreement    = "S1"
	promiseIrrevocable  = "S2"
	promiseValidity     = "S3"
	promiseNonTrivial   = "S4"
	promiseTermination  = "S5"
	promiseDurability   = "S6"
	promiseLinearizable = "S7"
	promiseReads        = "S8"
	promiseIdempotence  = "S9"
	promiseNoLostBranch = "S10"
	promiseDelivery     = "S11"
	promiseFencing      = "S12"
	promisePresumed     = "S13"
	promiseAtomic       = "S14"
	promiseEffects      = "S15"
	// promiseTimeout: a checker ran out of time.
	promiseTimeout = "TIMEOUT"
)

// Promises are what Check looks at, in order, with a few words each.
var Promises = []struct{ ID, Words string }{
	{promiseAgreement, "agreement: one decision for a transaction, everywhere"},
	{promiseIrrevocable, "irrevocability: a decision never changes"},
	{promiseValidity, "validity: commit only with every vote of a sealed set"},
	{promiseNonTrivial, "non-triviality: what can commit, commits"},
	{promiseTermination, "termination: everything ends once faults heal"},
	{promiseDurability, "durability: what was acknowledged is kept"},
	{promiseLinearizable, "linearizability, for each transaction and for each key"},
	{promiseReads, "reads of any node: a prefix of the truth, never backwards"},
	{promiseIdempotence, "idempotence: a repeated request has one effect and one answer"},
	{promiseNoLostBranch, "no lost branch: an acknowledged one hears the outcome"},
	{promiseDelivery, "delivery: takes effect once, after the decision, and never reversed"},
	{promiseFencing, "fencing: older epochs are refused"},
	{promisePresumed, "presumed abort: never told of what might commit"},
	{promiseAtomic, "atomic effects: all branches' work, or none"},
	{promiseEffects, "called branches: each effect once, tries = confirms or cancels, compensations the exact reverse"},
	{promiseTimeout, "every check came to its end"},
}

func rank(promise string) int {
	return slices.IndexFunc(Promises, func(p struct{ ID, Words string }) bool { return p.ID == promise })
}
