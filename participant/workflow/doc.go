// Package workflow runs a function of yours as a transaction: its steps are recorded as
// they are done, and after a crash it is run again, by whichever process the coordinator
// asks, with the steps that were done answered from the record.
//
//	flows := workflow.New(client, "http://shop:8080/workflows")
//	flows.Register("order", func(wf *workflow.Workflow, data []byte) ([]byte, error) {
//		if _, err := wf.Do("stock", take, workflow.OnRollback(giveBack)); err != nil {
//			return nil, err
//		}
//		return wf.Do("pay", pay)
//	})
//	mux.Handle("/workflows", flows) // where the coordinator asks for unfinished ones
//	receipt, err := flows.Execute(ctx, "order", "order-4711", data)
//
// What the function returns decides. A result: the steps' OnCommit functions run, and the
// result is kept. [participant.ErrRefused], wrapped: the OnRollback functions of all that
// was or may have been done run, the last step's first. Any other error decides nothing:
// the function is run again later.
//
// The function must be deterministic: given the same data and the same answers of its
// steps, it does the same steps. What is not (time, chance, calls) belongs into a step.
// Code that has changed may do more steps than before, but none that was done may be
// missing, or have another name: such a run decides nothing, and its error says so. A
// step whose record was lost runs again, so it fences its work: the context of a step
// carries a branch call, as that of a handler does (package fence).
//
// A saga, a TCC or a two-phase transaction is a step too, made repeatable by a key that
// [Workflow.Key] derives:
//
//	wf.Do("ship", func(ctx context.Context) ([]byte, error) {
//		return nil, saga.New(client, saga.Key(wf.Key("ship"))).Step(...).Run(ctx)
//	})
package workflow
