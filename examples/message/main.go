// Command message keeps a cache honest: a price changes in Postgres, and the message that
// throws it out of Redis is sent if, and only if, the change commits. No outbox table, no
// poller, and nothing is lost when the sender dies in between. Run it: go run .
package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/quorate/quorate/internal/playground"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/message"
)

// Item names what has changed.
type Item struct{ Name string }

// priceMax is where the shop's own rules say no.
const priceMax = 1000

func main() { playground.Main(reprice) }

func reprice(ctx context.Context, p *playground.Playground) error {
	s := open(ctx, p)
	for _, step := range []struct {
		what string
		do   func(context.Context, int) error
	}{
		{"a change that commits", s.setPrice},
		{"a change that does not", func(ctx context.Context, _ int) error { return s.setPrice(ctx, priceMax) }},
		{"a sender that dies after its commit", s.setPriceAndDie},
	} {
		before := s.price(ctx)
		err := step.do(ctx, before+1)
		stored := s.stored(ctx)
		seen, err2 := s.seen(ctx, stored)
		if err2 != nil {
			return err2
		}
		p.Say("%s (%v): customers saw %d, Postgres holds %d, customers see %d", step.what, err, before, stored, seen)
	}
	return nil
}

// shop sells one item at a price that it keeps in Postgres, and in a cache before it.
type shop struct {
	client *participant.Client
	db     *sql.DB
	guard  *fence.Fence
	cache  *redis.Client
	url    string
}

func open(ctx context.Context, p *playground.Playground) *shop {
	s := &shop{
		client: p.Client(), // participant.Dial(ctx, []string{"localhost:36790"})
		db:     playground.Must(sql.Open("pgx", p.Postgres())),
		guard:  playground.Must(fence.New(fence.Postgres)),
		cache:  redis.NewClient(playground.Must(redis.ParseURL(p.Redis()))),
	}
	p.AtEnd(func() { _, _ = s.db.Close(), s.cache.Close() })
	playground.Must(0, s.guard.Init(ctx, s.db))
	playground.Must(s.db.ExecContext(ctx, "CREATE TABLE items (name text PRIMARY KEY, price int NOT NULL)"))
	playground.Must(s.db.ExecContext(ctx, "INSERT INTO items VALUES ('lamp', 10)"))

	mux := http.NewServeMux()
	// Where the coordinator asks what became of a local transaction.
	mux.Handle("POST /check-back", handlers.CheckBack(s.guard, s.db))
	// Deleting twice does no harm, so this handler needs no fence.
	mux.Handle("POST /invalidate", handlers.JSON(func(ctx context.Context, item Item) error {
		return s.cache.Del(ctx, "price:"+item.Name).Err()
	}))
	s.url = p.Serve(mux)
	return s
}

// message is what follows each change.
func (s *shop) message() *message.Message {
	return message.New(s.client, s.url+"/check-back", message.Name("reprice"),
		message.CheckBackAfter(time.Second), message.WaitFinish()).
		Add(s.url+"/invalidate", Item{"lamp"})
}

// setPrice changes the price and invalidates the cache: both happen, or neither does.
func (s *shop) setPrice(ctx context.Context, price int) error {
	return s.message().Do(ctx, s.guard, s.db, func(tx *sql.Tx) error {
		if price == priceMax {
			return errors.New("nobody would buy that")
		}
		return update(ctx, tx, price)
	})
}

func update(ctx context.Context, tx *sql.Tx, price int) error {
	_, err := tx.ExecContext(ctx, "UPDATE items SET price = $1 WHERE name = 'lamp'", price)
	return err
}

// setPriceAndDie is what Do does, up to the moment at which the process is killed.
func (s *shop) setPriceAndDie(ctx context.Context, price int) error {
	m := s.message()
	if _, err := m.Begin(ctx); err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := s.guard.Prepare(ctx, tx, string(m.GID())); err != nil {
		return err
	}
	if err := update(ctx, tx, price); err != nil {
		return err
	}
	return tx.Commit() // and no m.Submit: the check-back finds out
}

// price is what a customer sees: the cache's word, or Postgres' if it has none.
func (s *shop) price(ctx context.Context) int {
	if cached, err := s.cache.Get(ctx, "price:lamp").Int(); err == nil {
		return cached
	}
	price := s.stored(ctx)
	playground.Must(s.cache.Set(ctx, "price:lamp", price, 0).Result())
	return price
}

func (s *shop) stored(ctx context.Context) (price int) {
	playground.Must(0, s.db.QueryRowContext(ctx, "SELECT price FROM items WHERE name = 'lamp'").Scan(&price))
	return price
}

// seen waits until customers see a price; only a dead sender's takes a while.
func (s *shop) seen(ctx context.Context, want int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if price := s.price(ctx); price == want {
			return price, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.New("customers go on seeing an old price")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
