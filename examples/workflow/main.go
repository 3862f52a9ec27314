// Command workflow books trips: plain code, whose steps are recorded as they are done. The
// program that runs it dies in the middle of one, and another one goes on. Run it: go run .
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite"

	"github.com/quorate/quorate/internal/playground"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/workflow"
)

func main() { playground.Main(book) }

func book(ctx context.Context, p *playground.Playground) error {
	client := p.Client() // participant.Dial(ctx, []string{"localhost:36790"})
	a := openAgency(ctx, p)

	// The coordinator asks the callback for workflows that nobody has finished: any
	// program that knows their code may serve it.
	var serving atomic.Pointer[workflow.Engine]
	callback := p.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serving.Load().ServeHTTP(w, r) }))
	start := func() *workflow.Engine {
		e := workflow.New(client, callback, workflow.ResumeAfter(time.Second))
		e.Register("trip", a.trip)
		serving.Store(e)
		return e
	}

	first := start()
	for _, traveller := range []string{"ann", "bob"} {
		ticket, err := first.Execute(ctx, "trip", "trip-of-"+traveller, []byte(traveller))
		switch {
		case err == nil:
			p.Say("%s: %s", traveller, ticket)
		case errors.Is(err, participant.ErrRefused): // what had been booked is given back
			p.Say("%s stays at home: %v", traveller, err)
		default:
			return err
		}
	}

	go first.Execute(ctx, "trip", "trip-of-cyd", []byte("cyd"))
	<-a.flying    // cyd's hotel is booked, the flight is being booked,
	first.Close() // and the program ends
	second := start()
	p.AtEnd(second.Close)
	if _, err := client.Await(ctx, "key:trip-of-cyd", participant.Finished); err != nil {
		return err
	}
	ticket, err := second.Execute(ctx, "trip", "trip-of-cyd", []byte("cyd")) // kept
	p.Say("cyd: %s, by the second program", ticket)
	return errors.Join(err, a.audit(ctx, p))
}

// agency has a database of bookings.
type agency struct {
	db     *sql.DB
	guard  *fence.Fence
	flying chan struct{} // closed when cyd's flight is first asked for
	once   sync.Once
}

// trip is the workflow: it may be run several times, each step is done once.
func (a *agency) trip(wf *workflow.Workflow, data []byte) ([]byte, error) {
	traveller := string(data)
	for _, what := range []string{"hotel", "flight"} {
		_, err := wf.Do(what, func(ctx context.Context) ([]byte, error) {
			return nil, a.book(ctx, what, traveller)
		}, workflow.OnRollback(func(ctx context.Context) error {
			return a.cancel(ctx, what, traveller)
		}))
		if err != nil {
			return nil, err // refused: what was booked before is cancelled
		}
	}
	return fmt.Appendf(nil, "ticket %s", wf.ID()), nil
}

// book books once, whatever becomes of the record of the step: the step's context
// carries a branch call, as a handler's does.
func (a *agency) book(ctx context.Context, what, traveller string) error {
	if what == "flight" && traveller == "cyd" {
		hangs := false
		a.once.Do(func() { hangs = true; close(a.flying) })
		if hangs {
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return a.guard.Do(ctx, a.db, fence.FromContext(ctx), func(tx *sql.Tx) error {
		if what == "flight" && traveller == "bob" {
			return fmt.Errorf("%w: no seat for %s", participant.ErrRefused, traveller)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO bookings VALUES (?, ?)", what, traveller)
		return err
	})
}

func (a *agency) cancel(ctx context.Context, what, traveller string) error {
	return a.guard.Do(ctx, a.db, fence.FromContext(ctx), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM bookings WHERE what = ? AND traveller = ?", what, traveller)
		return err
	})
}

func openAgency(ctx context.Context, p *playground.Playground) *agency {
	a := &agency{
		db:     playground.Must(sql.Open("sqlite", "file:"+p.Dir()+"/agency.db?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=synchronous(FULL)")),
		guard:  playground.Must(fence.New(fence.SQLite)),
		flying: make(chan struct{}),
	}
	p.AtEnd(func() { _ = a.db.Close() })
	playground.Must(0, a.guard.Init(ctx, a.db))
	playground.Must(a.db.ExecContext(ctx, "CREATE TABLE bookings (what TEXT, traveller TEXT)"))
	return a
}

func (a *agency) audit(ctx context.Context, p *playground.Playground) error {
	var bookings string
	err := a.db.QueryRowContext(ctx, "SELECT group_concat(traveller || ' ' || what, ', ') FROM (SELECT * FROM bookings ORDER BY traveller, what DESC)").Scan(&bookings)
	p.Say("bookings: %s", bookings)
	if want := "ann hotel, ann flight, cyd hotel, cyd flight"; err == nil && bookings != want {
		return errors.New("want " + want)
	}
	return err
}
