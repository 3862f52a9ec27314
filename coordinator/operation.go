package coordinator

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// called says that an operation is a call of the modes that call their branches.
// The others, commit and rollback, tell a prepared branch its outcome.
func called(op fsm.Operation) bool { return op >= fsm.OperationAction }

// endpointOf is where a branch is called for an operation: what undoes has an
// endpoint of its own. Empty means that there is nothing to do (or, for a prepared
// branch, that it is reached over a session).
func endpointOf(spec *logpb.BranchSpec, op fsm.Operation) string {
	if op == fsm.OperationCompensate || op == fsm.OperationCancel {
		return spec.GetUndo()
	}
	return spec.GetEndpoint()
}

// callsBack says that an operation is the transaction's own, and names no branch.
func callsBack(op fsm.Operation) bool {
	return op == fsm.OperationCheckBack || op == fsm.OperationResume
}
