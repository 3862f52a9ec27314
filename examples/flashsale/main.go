// Command flashsale sells few lamps to many: the stock is in Redis, where it is quick to
// say no, and the orders are in Postgres. A sale is a saga over both, so that no lamp is
// sold twice and none is lost with an order that failed. Run it: go run .
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/quorate/quorate/internal/playground"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/saga"
)

// Order is the body of both calls.
type Order struct {
	Customer, Item string
	N              int
}

const (
	lamps     = 20
	customers = 60
)

func main() { playground.Main(sale) }

func sale(ctx context.Context, p *playground.Playground) error {
	client := p.Client() // participant.Dial(ctx, []string{"localhost:36790"})
	stock, stockURL := startStock(ctx, p)
	orders, ordersURL := startOrders(ctx, p)

	var bought, soldOut, unknown atomic.Int64
	began := time.Now()
	var crowd sync.WaitGroup
	for i := range customers {
		crowd.Go(func() {
			order := Order{fmt.Sprint("customer-", i), "lamp", 1}
			err := saga.New(client, saga.Name("sale"), saga.Key("sale/"+order.Customer)).
				Step(stockURL+"/take", stockURL+"/give-back", order).
				Step(ordersURL+"/enter", ordersURL+"/strike", order).
				Run(ctx)
			switch {
			case err == nil:
				bought.Add(1)
			case errors.Is(err, participant.ErrRefused):
				soldOut.Add(1)
			default:
				unknown.Add(1)
			}
		})
	}
	crowd.Wait()
	p.Say("%d customers in %v: %d bought, %d were too late, %d know nothing", customers, time.Since(began).Round(time.Millisecond), bought.Load(), soldOut.Load(), unknown.Load())

	left := playground.Must(stock.Get(ctx, "stock:lamp").Int64())
	var entered int64
	playground.Must(0, orders.QueryRowContext(ctx, "SELECT COALESCE(sum(n), 0) FROM orders").Scan(&entered))
	p.Say("of %d lamps, Redis has %d left and Postgres has %d orders", lamps, left, entered)
	if unknown.Load() == 0 && (left+entered != lamps || entered != bought.Load()) {
		return errors.New("that does not add up")
	}
	return nil
}

// startStock guards the stock in Redis. Its fence is there too: one script checks that
// the call is new, looks whether there is enough, and takes it.
func startStock(ctx context.Context, p *playground.Playground) (*redis.Client, string) {
	rdb := redis.NewClient(playground.Must(redis.ParseURL(p.Redis())))
	p.AtEnd(func() { _ = rdb.Close() })
	// NewRedis refuses a Redis that may lose what it has acknowledged.
	guard := playground.Must(fence.NewRedis(ctx, rdb))
	playground.Must(rdb.Set(ctx, "stock:lamp", lamps, 0).Result())

	adjust := func(sign int) handlers.Func {
		return func(ctx context.Context, body []byte) ([]byte, error) {
			var o Order
			if err := json.Unmarshal(body, &o); err != nil {
				return nil, err
			}
			return nil, guard.Adjust(ctx, fence.FromContext(ctx), "stock:"+o.Item, int64(sign*o.N))
		}
	}
	mux := http.NewServeMux()
	mux.Handle("POST /take", adjust(-1))
	mux.Handle("POST /give-back", adjust(+1))
	return rdb, p.Serve(mux)
}

// startOrders keeps the orders in Postgres; every tenth customer's card is no good.
func startOrders(ctx context.Context, p *playground.Playground) (*sql.DB, string) {
	db := playground.Must(sql.Open("pgx", p.Postgres()))
	p.AtEnd(func() { _ = db.Close() })
	db.SetMaxOpenConns(10)
	guard := playground.Must(fence.New(fence.Postgres))
	playground.Must(0, guard.Init(ctx, db))
	playground.Must(db.ExecContext(ctx, "CREATE TABLE orders (customer text PRIMARY KEY, item text NOT NULL, n int NOT NULL)"))

	mux := http.NewServeMux()
	mux.Handle("POST /enter", handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, o Order) error {
		if o.Customer[len(o.Customer)-1] == '7' {
			return fmt.Errorf("%w: the card of %s is no good", participant.ErrRefused, o.Customer)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO orders VALUES ($1, $2, $3)", o.Customer, o.Item, o.N)
		return err
	}))
	mux.Handle("POST /strike", handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, o Order) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM orders WHERE customer = $1", o.Customer)
		return err
	}))
	return db, p.Serve(mux)
}
