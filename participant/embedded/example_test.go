package embedded_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
)

// A local transaction needs no cluster.
func ExampleStore_Begin() {
	dir, err := os.MkdirTemp("", "embedded")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := embedded.Open(filepath.Join(dir, "bank.db"), "bank")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	ctx := context.Background()
	tx, err := store.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback() // has no effect after Commit
	if err := tx.Put("account/1", []byte("100")); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	balance, err := store.Get("account/1")
	fmt.Println(string(balance), err)
	// Output: 100 <nil>
}

// Two stores, in one process here, change together or not at all.
func ExampleStore_Serve() {
	ctx := context.Background()
	client, err := participant.Dial(ctx, []string{"localhost:36790"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	move := func(ctx context.Context, s *embedded.Store, account, balance string) error {
		tx, err := s.Begin(ctx) // ctx carries the transaction: this is a branch
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := tx.Put(account, []byte(balance)); err != nil {
			return err
		}
		return tx.Commit(ctx) // prepares, votes and returns
	}
	var stores []*embedded.Store
	for _, name := range []string{"bank-a", "bank-b"} {
		s, err := embedded.Open(name+".db", name)
		if err != nil {
			log.Fatal(err)
		}
		defer s.Close()
		if err := s.Serve(ctx, client); err != nil {
			log.Fatal(err)
		}
		stores = append(stores, s)
	}
	err = client.Run(ctx, func(ctx context.Context) error {
		if err := move(ctx, stores[0], "account/1", "70"); err != nil {
			return err
		}
		return move(ctx, stores[1], "account/7", "130")
	})
	if err != nil {
		log.Print("nothing has changed: ", err)
	}
}
