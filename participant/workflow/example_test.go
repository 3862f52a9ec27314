package workflow_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/saga"
	"github.com/quorate/quorate/participant/workflow"
)

func Example() {
	ctx := context.Background()
	client, err := participant.Dial(ctx, []string{"localhost:36790"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	take := func(context.Context) ([]byte, error) { return []byte("shelf 7"), nil }
	giveBack := func(context.Context) error { return nil }

	flows := workflow.New(client, "http://shop:8080/workflows")
	defer flows.Close()
	flows.Register("order", func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		shelf, err := wf.Do("stock", take, workflow.OnRollback(giveBack))
		if err != nil {
			return nil, err
		}
		// A transaction of another mode is a step too, repeatable by its key.
		_, err = wf.Do("ship", func(ctx context.Context) ([]byte, error) {
			return nil, saga.New(client, saga.Key(wf.Key("ship"))).Step("http://post:8080/fetch", "", shelf).Run(ctx)
		})
		return shelf, err
	})
	http.Handle("POST /workflows", flows) // the coordinator asks here for unfinished ones

	shelf, err := flows.Execute(ctx, "order", "order-4711", []byte("lamp"))
	fmt.Println(string(shelf), err)
}
