// Command orders is the first of two services: it writes an order into Postgres
// and has the second one, stock, take the goods from MariaDB. Both happen, or
// neither does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"time"

	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/quorate/quorate/participant"
)

func main() {
	listen := flag.String("listen", "localhost:8081", "address to serve on")
	quorate := flag.String("quorate", "localhost:36790", "gRPC address of a node of the cluster")
	dsn := flag.String("postgres", "", "DSN of the Postgres database")
	stock := flag.String("stock", "http://localhost:8082", "address of the stock service")
	flag.Parse()

	client, err := participant.Dial(context.Background(), []string{*quorate})
	if err != nil {
		log.Fatal(err)
	}
	config, err := pgx.ParseConfig(*dsn)
	if err != nil {
		log.Fatal(err)
	}
	// The proxy makes a branch of every local transaction whose context has a GID.
	db := sql.OpenDB(participant.Postgres(stdlib.GetConnector(*config), client, "orders-db"))
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL, n int NOT NULL)"); err != nil {
		log.Fatal(err)
	}
	shop := &shop{client: client, db: db, stock: *stock,
		http: &http.Client{Transport: participant.Transport(nil), Timeout: 10 * time.Second}}
	http.HandleFunc("POST /buy", shop.buy)
	log.Printf("orders: try curl -d 'item=lamp&n=2' http://%s/buy", *listen)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

type shop struct {
	client *participant.Client
	db     *sql.DB
	http   *http.Client
	stock  string
}

// buy is one transaction over both databases.
func (s *shop) buy(w http.ResponseWriter, r *http.Request) {
	item, n := r.FormValue("item"), r.FormValue("n")
	err := s.client.Run(r.Context(), func(ctx context.Context) error {
		if err := s.order(ctx, item, n); err != nil {
			return err
		}
		return s.take(ctx, item, n)
	})
	var unknown *participant.OutcomeUnknownError
	switch {
	case err == nil:
		fmt.Fprintln(w, "bought")
	case errors.As(err, &unknown): // neither yes nor no: ask again later
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	default:
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// order is the branch in Postgres. Commit prepares and votes; the decision, which
// Run asks for when its function has returned, finishes it.
func (s *shop) order(ctx context.Context, item, n string) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "INSERT INTO orders (item, n) VALUES ($1, $2)", item, n); err != nil {
		return err
	}
	return tx.Commit()
}

// take calls the other service. The transport carries the transaction along.
func (s *shop) take(ctx context.Context, item, n string) error {
	to := s.stock + "/take?" + url.Values{"item": {item}, "n": {n}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, nil)
	if err != nil {
		return err
	}
	answer, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("stock: %s", said)
	}
	return err
}
