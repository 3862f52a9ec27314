package handlers_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
)

// A saga's action, once for each call, over HTTP and over gRPC.
func ExampleFenced() {
	var db *sql.DB // Postgres, with the fence's table: quorate fence init
	guard, err := fence.New(fence.Postgres)
	if err != nil {
		log.Fatal(err)
	}
	take := handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, item string) error {
		r, err := tx.ExecContext(ctx, "UPDATE goods SET n = n - 1 WHERE item = $1 AND n > 0", item)
		if err != nil {
			return err // asked again
		}
		if n, _ := r.RowsAffected(); n == 0 {
			return fmt.Errorf("%w: no %s left", participant.ErrRefused, item) // final
		}
		return nil
	})
	http.Handle("POST /take", take)

	methods := handlers.NewMethods()
	methods.Handle("/shop.Stock/Take", take)
	_ = grpc.NewServer(methods.Options()...)
}
