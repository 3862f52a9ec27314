// Package handlers serves the calls that the coordinator makes: a saga's actions and
// compensations, TCC's tries, confirms and cancels, a message's deliveries and
// check-backs, a workflow's resumes.
//
// A [Func] is an http.Handler, and most are a [Fenced] function: it runs once however
// often it is called, in a local transaction of its database.
//
//	guard, err := fence.New(fence.Postgres)
//	mux.Handle("POST /take", handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, want Goods) error {
//		...
//		return fmt.Errorf("%w: too few lamps", participant.ErrRefused)
//	}))
//
// By a [Methods] it is also a method of a gRPC server:
//
//	m := handlers.NewMethods()
//	m.Handle("/shop.Stock/Take", take)
//	server := grpc.NewServer(m.Options()...)
//
// The context carries the call: [fence.FromContext] tells GID, branch, operation, attempt
// and epoch. What a Func returns is the answer:
//
//	nil                                done     200          OK
//	participant.ErrRefused, wrapped    refused  409          ABORTED
//	participant.ErrOngoing, wrapped    asked again, 425      UNAVAILABLE, reason ONGOING
//	anything else                      asked again, 500      UNKNOWN
//
// A refusal says that nothing was done. Of a compensation, a confirm, a cancel or a
// message's delivery it is an error like any other: those are asked for until they are
// done. Calls of DTM's protocol are answered in its words.
package handlers
