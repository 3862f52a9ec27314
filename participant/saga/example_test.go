package saga_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/saga"
)

// Goods is the body of a call.
type Goods struct {
	Item string
	N    int
}

func Example() {
	ctx := context.Background()
	client, err := participant.Dial(ctx, []string{"localhost:36790"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	order := saga.New(client, saga.Key("order-4711"), saga.Timeout(time.Hour)).
		Step("http://stock:8080/take", "http://stock:8080/give-back", Goods{"lamp", 2}).
		Step("http://bank:8080/pay", "http://bank:8080/refund", 40, saga.StepAttempts(5))

	var rolledBack *participant.RolledBackError
	switch err := order.Run(ctx); {
	case err == nil:
		fmt.Println("both are done")
	case errors.As(err, &rolledBack):
		fmt.Println("nothing is left of it:", rolledBack.Reason, rolledBack.Detail)
	case errors.Is(err, participant.ErrUnknown):
		fmt.Println("it goes on: ask again")
	default:
		fmt.Println("it was not taken:", err)
	}
}

// A graph: two steps at once, and one after both.
func ExampleAfter() {
	var client *participant.Client
	saga.New(client).
		Step("http://stock:8080/take", "http://stock:8080/give-back", nil, saga.ID("stock")).
		Step("http://bank:8080/pay", "http://bank:8080/refund", nil, saga.ID("money"), saga.After()).
		Step("http://post:8080/ship", "", nil, saga.After("stock", "money"))
}
