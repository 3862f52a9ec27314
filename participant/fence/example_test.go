package fence_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"

	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// A saga's step that takes a lamp off the shelf. The coordinator has not heard the answer
// to the first call, and calls again.
func Example() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file::memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // a database in memory is its connection's own
	if _, err := db.ExecContext(ctx, "CREATE TABLE stock (item TEXT PRIMARY KEY, n INTEGER); INSERT INTO stock VALUES ('lamp', 3)"); err != nil {
		log.Fatal(err)
	}
	f, err := fence.New(fence.SQLite)
	if err != nil {
		log.Fatal(err)
	}
	if err := f.Init(ctx, db); err != nil { // or: quorate fence init
		log.Fatal(err)
	}

	call := fence.Call{GID: fencetest.GID(1), Branch: "1", Operation: fence.Action, Mode: "saga"} // a handler has it from its context
	for range 2 {
		err := f.Do(ctx, db, call, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE stock SET n = n - 1 WHERE item = 'lamp'")
			return err
		})
		fmt.Println("answer:", err)
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT n FROM stock").Scan(&n); err != nil {
		log.Fatal(err)
	}
	fmt.Println("lamps:", n)
	// Output:
	// answer: <nil>
	// answer: <nil>
	// lamps: 2
}

// A handler of actions and compensations over HTTP.
func ExampleHandler() {
	var (
		db *sql.DB
		f  *fence.Fence
	)
	http.Handle("POST /stock", fence.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		call := fence.FromContext(r.Context())
		change := -1
		if call.Operation == fence.Compensate {
			change = 1
		}
		return f.Do(r.Context(), db, call, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(r.Context(), "UPDATE stock SET n = n + $1 WHERE item = 'lamp' AND n + $1 >= 0", change)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 {
				return fmt.Errorf("%w: no lamps left", fence.ErrRefused) // answered 409, now and in every repeat
			}
			return nil
		})
	}))
}
