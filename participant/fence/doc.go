// Package fence makes a branch operation happen once and in order.
//
// A coordinator that cannot know whether a call was heard calls again. So an action,
// a try, a confirm or a compensation comes twice, a compensation comes before the action
// that it undoes, and an action comes after it. A fence is a table (or keys) beside the
// business' own data. The row of a branch is written first, in the local transaction of
// the business itself, so that both stand or neither does:
//
//	f, err := fence.New(fence.Postgres)
//	err = f.Do(ctx, db, call, func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE stock SET n = n - 1 WHERE id = $1", id)
//		return err
//	})
//
// What Do answers, by what the branch has seen before:
//
//	the same operation, done      nil, and the function is not run again
//	the same operation, refused   ErrRefused again
//	an ending, and nothing done   nil: recorded, nothing to undo (an empty rollback)
//	an action after its ending    ErrLate: it never runs
//	an action of an older leader  ErrStale: it never runs
//	the same operation, running   waits for it, then as above; or ErrOngoing
//	confirm and cancel, both      ErrOrder
//
// The call comes from [Middleware], [UnaryServerInterceptor], [FromHTTP] or [FromGRPC],
// native or in DTM's protocol.
//
// The sender of a two-phase message marks its local transaction with [Fence.Prepare]; its
// check-back is answered by [Fence.CheckBack], after which a local transaction that is
// still running can no longer commit.
//
// One table serves one cluster: clusters do not share a clock. Redis has [Redis], and the
// embedded store [DoStore]. No database driver is linked.
package fence
