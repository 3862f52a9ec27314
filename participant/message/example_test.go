package message_test

import (
	"context"
	"database/sql"
	"log"
	"net/http"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/message"
)

func Example() {
	ctx := context.Background()
	client, err := participant.Dial(ctx, []string{"localhost:36790"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	var db *sql.DB // Postgres, with the fence's table: quorate fence init
	guard, err := fence.New(fence.Postgres)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("POST /check-back", handlers.CheckBack(guard, db))

	m := message.New(client, "http://shop:8080/check-back").
		Add("http://cache:8080/invalidate", "lamp").
		Topic("prices", map[string]int{"lamp": 12})
	err = m.Do(ctx, guard, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE items SET price = 12 WHERE name = 'lamp'")
		return err
	})
	if err != nil {
		log.Print(err) // neither has happened; with participant.ErrUnknown, both will or neither
	}
}

// A message that hangs on nothing local.
func ExampleMessage_Send() {
	var client *participant.Client
	m := message.New(client, "", message.Key("reminder-7")).Add("http://mail:8080/send", "do not forget")
	if err := m.Send(context.Background()); err != nil {
		log.Print(err)
	}
}
