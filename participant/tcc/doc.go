// Package tcc runs a transaction whose branches reserve first and then take what they
// reserved, or let it go: try, confirm, cancel.
//
//	err := tcc.Run(ctx, client, func(ctx context.Context, t *tcc.Transaction) error {
//		out := tcc.Branch{Try: "http://bank-a/hold", Confirm: "http://bank-a/take", Cancel: "http://bank-a/release"}
//		if _, err := t.Call(ctx, out, Amount{"ann", 30}); err != nil {
//			return err // every branch is cancelled
//		}
//		...
//	})
//
// A branch is registered before it is tried, so a branch that was tried is always
// confirmed or cancelled, whatever becomes of this process: confirms and cancels are
// called by the coordinator until they are done. A cancel may reach a branch whose try
// never did, and a try may arrive after it: package fence answers both.
//
// A try's handler that calls branches of its own joins the caller's transaction with
// [Join]; its branches are nested below its own, `1.2` below `1`.
package tcc
