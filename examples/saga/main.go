// Command saga sells lamps: the stock and the bank are services with a database each, and
// an order is a saga over both. Run it: go run .
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"sync"

	_ "modernc.org/sqlite"

	"github.com/quorate/quorate/internal/playground"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/saga"
)

// Goods and Payment are the bodies of the calls.
type (
	Goods struct {
		Item string
		N    int
	}
	Payment struct {
		From   string
		Amount int
	}
)

func main() { playground.Main(sell) }

func sell(ctx context.Context, p *playground.Playground) error {
	client := p.Client() // participant.Dial(ctx, []string{"localhost:36790"})

	stock, stockURL := startStock(ctx, p)
	bank, bankURL := startBank(ctx, p)

	for _, customer := range []string{"ann", "bob", "cyd"} {
		// An action that is refused, or given up, has what was done before it undone.
		err := saga.New(client, saga.Name("order"), saga.Key("order-of-"+customer)).
			Step(stockURL+"/take", stockURL+"/give-back", Goods{"lamp", 2}).
			Step(bankURL+"/pay", bankURL+"/refund", Payment{customer, 40}).
			Run(ctx)
		switch {
		case err == nil:
			p.Say("%s: bought", customer)
		case errors.Is(err, participant.ErrUnknown):
			p.Say("%s: ask again later", customer) // neither yes nor no
		default:
			p.Say("%s: %v", customer, err)
		}
	}
	return audit(ctx, p, stock, bank)
}

// startStock is the service that guards the goods.
func startStock(ctx context.Context, p *playground.Playground) (*sql.DB, string) {
	db, guard := open(ctx, p, "stock", "CREATE TABLE goods (item TEXT PRIMARY KEY, n INT CHECK (n >= 0)); INSERT INTO goods VALUES ('lamp', 10)")
	move := func(sign int) handlers.Func {
		// Fenced: once for each call, however often it comes, and never after its undoing.
		return handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, g Goods) error {
			return change(ctx, tx, "UPDATE goods SET n = n + ?1 WHERE item = ?2 AND n + ?1 >= 0", sign*g.N, g.Item)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("POST /take", move(-1))
	mux.Handle("POST /give-back", move(+1))
	return db, p.Serve(mux)
}

// startBank is the service that guards the money.
func startBank(ctx context.Context, p *playground.Playground) (*sql.DB, string) {
	db, guard := open(ctx, p, "bank", "CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INT CHECK (balance >= 0)); INSERT INTO accounts VALUES ('ann', 100), ('bob', 10), ('cyd', 50)")
	move := func(sign int) handlers.Func {
		return handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, pay Payment) error {
			return change(ctx, tx, "UPDATE accounts SET balance = balance + ?1 WHERE name = ?2 AND balance + ?1 >= 0", sign*pay.Amount, pay.From)
		})
	}
	var trouble sync.Once
	pay := func(ctx context.Context, body []byte) ([]byte, error) {
		said, err := move(-1)(ctx, body)
		if fence.FromContext(ctx).Key == "order-of-cyd" {
			trouble.Do(p.KillLeader) // the worst moment: it is paid, and the answer is lost
		}
		return said, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /pay", handlers.Func(pay))
	mux.Handle("POST /refund", move(+1))
	return db, p.Serve(mux)
}

// change runs a statement that must change one row; none is a refusal, which is final.
func change(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("%w: not enough", participant.ErrRefused)
}

// open makes a service's database, with the fence's table beside its own.
func open(ctx context.Context, p *playground.Playground, name, schema string) (*sql.DB, *fence.Fence) {
	db := playground.Must(sql.Open("sqlite", "file:"+p.Dir()+"/"+name+".db?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"))
	p.AtEnd(func() { _ = db.Close() })
	guard := playground.Must(fence.New(fence.SQLite))
	playground.Must(0, guard.Init(ctx, db))
	playground.Must(db.ExecContext(ctx, schema))
	return db, guard
}

// audit shows what the databases hold: whoever paid has lamps, and nobody else.
func audit(ctx context.Context, p *playground.Playground, stock, bank *sql.DB) error {
	var lamps, money int
	err := errors.Join(stock.QueryRowContext(ctx, "SELECT n FROM goods").Scan(&lamps),
		bank.QueryRowContext(ctx, "SELECT sum(balance) FROM accounts").Scan(&money))
	if err != nil {
		return err
	}
	p.Say("lamps left: %d of 10, money left: %d of 160", lamps, money)
	if sold, paid := 10-lamps, 160-money; paid != 20*sold {
		return fmt.Errorf("%d lamps sold for %d", sold, paid)
	}
	return nil
}
