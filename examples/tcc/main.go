// Command tcc moves money between two banks, one in Postgres and one in MariaDB: both
// first hold what the transfer needs, and then take it, or let it go. Run it: go run .
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/quorate/quorate/internal/playground"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/tcc"
)

// Entry is what a bank is asked to do.
type Entry struct {
	Account string
	Amount  int
}

func main() { playground.Main(transfer) }

func transfer(ctx context.Context, p *playground.Playground) error {
	client := p.Client() // participant.Dial(ctx, []string{"localhost:36790"})
	north, south := startNorth(ctx, p), startSouth(ctx, p)

	for _, amount := range []int{30, 500} {
		err := tcc.Run(ctx, client, func(ctx context.Context, t *tcc.Transaction) error {
			// A branch is registered before it is tried, so it is always ended.
			if _, err := t.Call(ctx, south.branch, Entry{"bob", amount}); err != nil {
				return err
			}
			_, err := t.Call(ctx, north.branch, Entry{"ann", amount})
			return err
		}, tcc.Name("transfer"), tcc.WaitFinish())
		switch {
		case err == nil:
			p.Say("%d moved", amount)
		case errors.Is(err, participant.ErrRefused): // both banks have let go of what they held
			p.Say("%d not moved: %v", amount, err)
		default:
			return err
		}
	}
	holds := north.holds(ctx) + ", " + south.holds(ctx)
	p.Say("%s", holds)
	if holds != "ann has 70 and 0 held, bob has 30 and 0 held" {
		return errors.New("that is wrong")
	}
	return nil
}

// startNorth pays out: a try sets the money aside.
func startNorth(ctx context.Context, p *playground.Playground) *bank {
	return startBank(ctx, p, "pgx", p.Postgres(), fence.Postgres, "ann", 100, map[string][]string{
		"try":     {"UPDATE accounts SET balance = balance - $1, held = held + $1 WHERE name = $2 AND balance >= $1"},
		"confirm": {"UPDATE accounts SET held = held - $1 WHERE name = $2"},
		"cancel":  {"UPDATE accounts SET balance = balance + $1, held = held - $1 WHERE name = $2"},
	})
}

// startSouth takes in: a try announces the money.
func startSouth(ctx context.Context, p *playground.Playground) *bank {
	return startBank(ctx, p, "mysql", p.MySQL(), fence.MySQL, "bob", 0, map[string][]string{
		"try":     {"UPDATE accounts SET held = held + ? WHERE name = ?"},
		"confirm": {"UPDATE accounts SET held = held - ? WHERE name = ?", "UPDATE accounts SET balance = balance + ? WHERE name = ?"},
		"cancel":  {"UPDATE accounts SET held = held - ? WHERE name = ?"},
	})
}

// bank is a service with a database of its own.
type bank struct {
	db     *sql.DB
	branch tcc.Branch
}

func startBank(ctx context.Context, p *playground.Playground, driver, dsn string, kind fence.Database, customer string, balance int, operations map[string][]string) *bank {
	db := playground.Must(sql.Open(driver, dsn))
	p.AtEnd(func() { _ = db.Close() })
	guard := playground.Must(fence.New(kind))
	playground.Must(0, guard.Init(ctx, db))
	playground.Must(db.ExecContext(ctx, "CREATE TABLE accounts (name VARCHAR(20) PRIMARY KEY, balance INT NOT NULL, held INT NOT NULL)"))
	playground.Must(db.ExecContext(ctx, fmt.Sprintf("INSERT INTO accounts VALUES ('%s', %d, 0)", customer, balance)))

	mux := http.NewServeMux()
	for operation, statements := range operations {
		// Fenced: once each; a cancel without a try has nothing to do, and a try that
		// comes after its cancel is refused.
		mux.Handle("POST /"+operation, handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, e Entry) error {
			for _, statement := range statements {
				if err := changeOne(ctx, tx, statement, e.Amount, e.Account); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	url := p.Serve(mux)
	return &bank{db, tcc.Branch{Try: url + "/try", Confirm: url + "/confirm", Cancel: url + "/cancel", Resource: string(kind)}}
}

// changeOne runs a statement that must change one row; none is a refusal.
func changeOne(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("%w: no such account, or too little in it", participant.ErrRefused)
}

func (b *bank) holds(ctx context.Context) string {
	var name string
	var balance, held int
	playground.Must(0, b.db.QueryRowContext(ctx, "SELECT name, balance, held FROM accounts").Scan(&name, &balance, &held))
	return fmt.Sprintf("%s has %d and %d held", name, balance, held)
}
