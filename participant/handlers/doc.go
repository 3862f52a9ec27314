// Package handlers serves the calls that the coordinator makes: a saga's actions and
// compensations, TCC's tries, confirms and cancels, a message's deliveries and
// check-backs, a workflow's resumes.
//
// A [Func] is an http.Handler:
//
//	mux.Handle("POST /take", handlers.JSON(func(ctx context.Context, want Goods) error {
//		call, _ := handlers.FromContext(ctx) // GID, branch, operation, attempt, epoch
//		...
//		return fmt.Errorf("%w: too few lamps", participant.ErrRefused)
//	}))
//
// and, by a [Methods], a method of a gRPC server:
//
//	m := handlers.NewMethods()
//	m.Handle("/shop.Stock/Take", take)
//	server := grpc.NewServer(m.Options()...)
//
// What a Func returns is the answer:
//
//	nil                                done     200          OK
//	participant.ErrRefused, wrapped    refused  409          ABORTED
//	participant.ErrOngoing, wrapped    asked again, 425      UNAVAILABLE, reason ONGOING
//	anything else                      asked again, 500      UNKNOWN
//
// A refusal says that nothing was done. Of a compensation, a confirm, a cancel or a
// message's delivery it is an error like any other: those are asked for until they are
// done.
//
// A call whose answer was lost comes again. What must happen once belongs behind a
// fence, in the local transaction of the work: see package fence.
package handlers
