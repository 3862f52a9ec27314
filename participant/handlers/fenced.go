package handlers

import (
	"context"
	"database/sql"

	"github.com/quorate/quorate/participant/fence"
)

// Fenced is a Func that does its work once: f runs in a local transaction of db that it
// shares with the fence's row, and repeats of the call are answered without it. The
// payload is JSON. f must do its work with tx alone, and neither commit nor roll it back.
func Fenced[T any](guard *fence.Fence, db fence.DB, f func(ctx context.Context, tx *sql.Tx, in T) error) Func {
	return JSON(func(ctx context.Context, in T) error {
		return guard.Do(ctx, db, fence.FromContext(ctx), func(tx *sql.Tx) error { return f(ctx, tx, in) })
	})
}

// CheckBack is the Func that answers check-backs of messages whose local transactions
// were marked in db with the same fence.
func CheckBack(guard *fence.Fence, db fence.DB) Func {
	return func(ctx context.Context, _ []byte) ([]byte, error) {
		return nil, guard.CheckBack(ctx, db, fence.FromContext(ctx))
	}
}
