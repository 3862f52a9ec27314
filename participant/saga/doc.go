// Package saga runs a chain, or a graph, of steps over several services. The coordinator
// calls each step's action; when one fails for good, it calls the compensations of all
// that was or may have been done, in exact reverse.
//
//	err := saga.New(client, saga.Key("order-4711")).
//		Step("http://stock/take", "http://stock/give-back", Goods{"lamp", 2}).
//		Step("http://bank/pay", "http://bank/refund", Payment{"ann", 40}).
//		Run(ctx)
//
// Steps are http(s)://host:port/path or grpc(s)://host:port/package.Service/Method; the
// coordinator's --endpoint-allow must name the hosts. What an answer means: package
// handlers. An action that was refused (409, ABORTED) has done nothing and is not
// compensated; one whose attempts are used up, or whose answer was lost, may have been
// done, and is.
//
// [Saga.Run] tells the end, or that it is not known yet, and never a false failure:
//
//	nil                          every step is done
//	*participant.RolledBackError everything that was done has been compensated
//	participant.ErrUnknown       the saga goes on without us; run the same one again to wait
//	*participant.RefusedError    the cluster did not take the saga: nothing was called
package saga
