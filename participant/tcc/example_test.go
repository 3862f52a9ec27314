package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/tcc"
)

func Example() {
	ctx := context.Background()
	client, err := participant.Dial(ctx, []string{"localhost:36790"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	bank := func(name string) tcc.Branch {
		url := "http://" + name + ":8080"
		return tcc.Branch{Try: url + "/try", Confirm: url + "/confirm", Cancel: url + "/cancel", Resource: name}
	}
	err = tcc.Run(ctx, client, func(ctx context.Context, t *tcc.Transaction) error {
		if _, err := t.Call(ctx, bank("bank-a"), -30); err != nil {
			return err // both are cancelled
		}
		_, err := t.Call(ctx, bank("bank-b"), +30)
		return err
	}, tcc.Key("transfer-7"))
	switch {
	case err == nil:
		fmt.Println("both will be confirmed")
	case errors.Is(err, participant.ErrUnknown):
		fmt.Println("neither yes nor no yet: the same key tells")
	default:
		fmt.Println("both will be cancelled:", err)
	}
}

// A try that calls branches of its own: they are confirmed and cancelled with the rest.
func ExampleJoin() {
	var client *participant.Client
	_ = func(ctx context.Context, payload []byte) ([]byte, error) { // a handlers.Func
		t, err := tcc.Join(ctx, client)
		if err != nil {
			return nil, err
		}
		return t.Call(ctx, tcc.Branch{Try: "http://vault/try", Confirm: "http://vault/confirm", Cancel: "http://vault/cancel"}, payload)
	}
}
