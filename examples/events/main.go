// Command events publishes to NATS what happens in Postgres: an event goes out if, and
// only if, its order has committed. There is no outbox table and nothing polls. A private
// nats-server, built from its Go module, stands for yours. Run it: go run .
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/quorate/quorate/internal/playground"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/message"
)

// Ordered is the event.
type Ordered struct{ Order int }

const orders = 30

func main() { playground.Main(publish) }

func publish(ctx context.Context, p *playground.Playground) error {
	client := p.Client() // participant.Dial(ctx, []string{"localhost:36790"})
	db := playground.Must(sql.Open("pgx", p.Postgres()))
	p.AtEnd(func() { _ = db.Close() })
	guard := playground.Must(fence.New(fence.Postgres))
	playground.Must(0, guard.Init(ctx, db))
	playground.Must(db.ExecContext(ctx, "CREATE TABLE orders (n int PRIMARY KEY)"))
	events := startNATS(ctx, p)

	mux := http.NewServeMux()
	mux.Handle("POST /check-back", handlers.CheckBack(guard, db))
	mux.Handle("POST /publish", publisher(events))
	url := p.Serve(mux)

	for n := range orders {
		if n == orders/2 {
			p.KillLeader()
		}
		m := message.New(client, url+"/check-back", message.Name("ordered")).Add(url+"/publish", Ordered{n})
		err := m.Do(ctx, guard, db, func(tx *sql.Tx) error { return enter(ctx, tx, n) })
		switch {
		case errors.Is(err, errSoldOut):
		case errors.Is(err, participant.ErrUnknown): // the check-back will tell
			p.Say("order %d: %v", n, err)
		case err != nil:
			return err
		}
	}
	return audit(ctx, p, db, events)
}

var errSoldOut = errors.New("sold out")

// enter is the business' own transaction; every third order comes too late.
func enter(ctx context.Context, tx *sql.Tx, n int) error {
	if _, err := tx.ExecContext(ctx, "INSERT INTO orders VALUES ($1)", n); err != nil {
		return err
	}
	if n%3 == 2 {
		return errSoldOut
	}
	return nil
}

// publisher hands a message to the broker. A delivery whose answer was lost comes again;
// the branch it is of is the event's id, by which the broker knows it.
func publisher(events jetstream.JetStream) handlers.Func {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		call := fence.FromContext(ctx)
		_, err := events.Publish(ctx, "orders", payload, jetstream.WithMsgID(call.GID+"/"+call.Branch))
		return nil, err
	}
}

// startNATS runs a broker that keeps what it is given, and makes the stream.
func startNATS(ctx context.Context, p *playground.Playground) jetstream.JetStream {
	host, port := p.FreeAddress()
	p.Run(p.Tool("nats-server"), "--addr", host, "--port", port, "--jetstream", "--store_dir", p.Dir())
	conn := playground.Must(nats.Connect("nats://"+host+":"+port, nats.RetryOnFailedConnect(true), nats.ReconnectWait(50*time.Millisecond), nats.MaxReconnects(-1)))
	p.AtEnd(conn.Close)
	for !conn.IsConnected() && ctx.Err() == nil {
		_ = conn.FlushTimeout(100 * time.Millisecond)
	}
	events := playground.Must(jetstream.New(conn))
	playground.Must(events.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}}))
	return events
}

// audit reads the stream and compares it with the table: each order's event once.
func audit(ctx context.Context, p *playground.Playground, db *sql.DB, events jetstream.JetStream) error {
	var entered int
	playground.Must(0, db.QueryRowContext(ctx, "SELECT count(*) FROM orders").Scan(&entered))
	consumer := playground.Must(events.OrderedConsumer(ctx, "ORDERS", jetstream.OrderedConsumerConfig{}))
	heard := make(map[int]int)
	for len(heard) < entered {
		msg, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second))
		if err != nil {
			return fmt.Errorf("%d orders, and %d events: %w", entered, len(heard), err)
		}
		var e Ordered
		if err := json.Unmarshal(msg.Data(), &e); err != nil {
			return err
		}
		heard[e.Order]++
	}
	info := playground.Must(playground.Must(events.Stream(ctx, "ORDERS")).Info(ctx))
	p.Say("%d orders in Postgres, %d events in NATS, the leader killed in between", entered, info.State.Msgs)
	for n, times := range heard {
		if times != 1 || n%3 == 2 {
			return fmt.Errorf("order %d was published %d times", n, times)
		}
	}
	return nil
}
