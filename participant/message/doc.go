// Package message sends a message if, and only if, a local database transaction commits:
// no outbox table to poll, no message lost, none sent for what never happened.
//
//	m := message.New(client, "http://shop/check-back").
//		Add("http://cache/invalidate", Item{"lamp"}).
//		Topic("orders", Order{4711})
//	err := m.Do(ctx, guard, db, func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE items SET price = 12 WHERE name = 'lamp'")
//		return err
//	})
//
// The message is begun before the local transaction and submitted after it. When the
// submit does not arrive, because the process died or was cut off, the coordinator asks
// the callback, and it answers from a mark that the local transaction itself has
// written. Deliveries are repeated until they are taken, so a receiver hears of a message
// at least once.
package message
