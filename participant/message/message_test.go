package message_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/message"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), modetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// shop is a world with the sender's database.
type shop struct {
	*modetest.World
	db    *sql.DB
	guard *fence.Fence
}

func newShop(t *testing.T) *shop {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "shop.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	guard, err := fence.New(fence.SQLite)
	if err == nil {
		err = guard.Init(t.Context(), db)
	}
	if err == nil {
		_, err = db.Exec("CREATE TABLE orders (n INT)")
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{World: modetest.New(t), db: db, guard: guard}
	s.On("check-back", handlers.CheckBack(guard, db))
	return s
}

func (s *shop) message(opts ...message.Option) *message.Message {
	return message.New(s.Client, s.URL("check-back"), opts...).Add(s.URL("tell"), map[string]int{"order": 1})
}

func order(tx *sql.Tx) error {
	_, err := tx.Exec("INSERT INTO orders VALUES (1)")
	return err
}

func (s *shop) orders(t *testing.T) (n int) {
	t.Helper()
	if err := s.db.QueryRow("SELECT count(*) FROM orders").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// ends waits until the message has ended, and tells how.
func (s *shop) ends(t *testing.T, m *message.Message) error {
	t.Helper()
	return s.Client.AwaitFinish(within(t), m.GID())
}

func TestMessage_IsDeliveredOnceTheLocalTransactionHasCommitted(t *testing.T) {
	s := newShop(t)
	m := s.message(message.WaitFinish(), message.Header("Tenant", "acme"))
	if err := m.Do(within(t), s.guard, s.db, order); err != nil {
		t.Fatal(err)
	}
	if told := s.Told(); told != "action 01 tell" || s.orders(t) != 1 {
		t.Errorf("%d orders, told %q", s.orders(t), told)
	}
	if c := s.Calls()[0]; c.Payload != `{"order":1}` || c.Mode != "message" || c.Header.Get("Tenant") != "acme" {
		t.Errorf("%+v with %q", c.Call, c.Payload)
	}
	// The same message again: the local transaction does not run twice.
	if err := m.Do(within(t), s.guard, s.db, order); err != nil || s.orders(t) != 1 {
		t.Errorf("again: %v, %d orders", err, s.orders(t))
	}
}

func TestMessage_IsDroppedWithTheLocalTransaction(t *testing.T) {
	s := newShop(t)
	no := errors.New("sold out")
	m := s.message()
	err := m.Do(within(t), s.guard, s.db, func(tx *sql.Tx) error { return errors.Join(order(tx), no) })
	if !errors.Is(err, no) {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := s.ends(t, m); !errors.As(err, &rolledBack) || s.orders(t) != 0 || s.Told() != "" {
		t.Errorf("%v, %d orders, told %q", err, s.orders(t), s.Told())
	}
}

// A sender that dies after its local commit, or before it: the check-back tells.
func TestMessage_TheCheckBackTells(t *testing.T) {
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprint("committed=", commits), func(t *testing.T) {
			s := newShop(t)
			m := s.message(message.CheckBackAfter(50*time.Millisecond), message.Retry(50*time.Millisecond, 100*time.Millisecond))
			if fresh, err := m.Begin(within(t)); err != nil || !fresh {
				t.Fatal(fresh, err)
			}
			if commits {
				tx, err := s.db.BeginTx(t.Context(), nil)
				if err == nil {
					err = errors.Join(s.guard.Prepare(t.Context(), tx, string(m.GID())), order(tx), tx.Commit())
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			err := s.ends(t, m)
			if commits != (err == nil) {
				t.Fatalf("the message ended with %v", err)
			}
			want := "check-back check-back"
			if commits {
				want += "\naction 01 tell"
			}
			if s.Told() != want {
				t.Errorf("told:\n%s", s.Told())
			}
			// The sender comes back to life: too late, or done already.
			err = m.Do(within(t), s.guard, s.db, order)
			if commits != (err == nil) || s.orders(t) > 1 || !commits && s.orders(t) != 0 {
				t.Errorf("the sender's own Do afterwards: %v, %d orders", err, s.orders(t))
			}
		})
	}
}

// slowDB begins no local transaction before what first waits for.
type slowDB struct {
	fence.DB
	first func()
}

func (db slowDB) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	db.first()
	return db.DB.BeginTx(ctx, opts)
}

// A check-back that comes before the local transaction has begun: it can no longer, and
// whoever sends hears what was decided.
func TestMessage_ACheckBackCameFirst(t *testing.T) {
	s := newShop(t)
	m := s.message(message.CheckBackAfter(50 * time.Millisecond))
	err := m.Do(within(t), s.guard, slowDB{s.db, func() { _ = s.ends(t, m) }}, order)
	var rolledBack *participant.RolledBackError
	if !errors.As(err, &rolledBack) || rolledBack.Reason != "CHECKED_BACK" || s.orders(t) != 0 {
		t.Errorf("%v, %d orders", err, s.orders(t))
	}
}

// A process that is gone is asked after at once, not only when the time is up.
func TestMessage_ALostSenderIsAskedAfterAtOnce(t *testing.T) {
	s := newShop(t)
	sender := s.Dial(t)
	m := message.New(sender, s.URL("check-back"), message.CheckBackAfter(time.Hour)).Add(s.URL("tell"), nil)
	if _, err := m.Begin(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := sender.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.ends(t, m); !errors.Is(err, participant.ErrRefused) {
		t.Fatalf("%v, want a rollback by the check-back", err)
	}
}

func TestMessage_ReachesATopicsSubscribers(t *testing.T) {
	s := newShop(t)
	for _, path := range []string{"mail", "stats"} {
		_, err := s.Client.Service().Subscribe(within(t), &quoratev1.SubscribeRequest{
			Topic: "orders", Subscriber: &quoratev1.Subscriber{Endpoint: s.URL(path)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	m := message.New(s.Client, "", message.WaitFinish()).Topic("orders", "new")
	if err := m.Send(within(t)); err != nil {
		t.Fatal(err)
	}
	paths := map[string]int{}
	for _, c := range s.Calls() {
		paths[c.Path]++
	}
	if paths["mail"] != 1 || paths["stats"] != 1 || len(paths) != 2 {
		t.Errorf("told:\n%s", s.Told())
	}
	err := message.New(s.Client, "").Topic("nobody-knows", nil).Send(within(t))
	var refused *participant.RefusedError
	if !errors.As(err, &refused) || refused.Reason != "NOT_FOUND" {
		t.Errorf("an unknown topic: %v", err)
	}
}

func TestMessage_ReceiversInOrder(t *testing.T) {
	s := newShop(t)
	failed := false
	s.On("first", func(context.Context, []byte) ([]byte, error) {
		if !failed {
			failed = true
			return nil, participant.ErrRefused // an error like any other: asked again
		}
		return nil, nil
	})
	m := message.New(s.Client, "", message.WaitFinish(), message.Retry(20*time.Millisecond, 20*time.Millisecond)).
		Add(s.URL("first"), nil).Add(s.URL("second"), nil, message.After("01"))
	if err := m.Send(within(t)); err != nil {
		t.Fatal(err)
	}
	if want := "action 01 first\naction 01 first\naction 02 second"; s.Told() != want {
		t.Errorf("told:\n%s", s.Told())
	}
}

func TestMessage_Delay(t *testing.T) {
	s := newShop(t)
	const delay = 500 * time.Millisecond
	later := message.New(s.Client, "", message.Delay(delay), message.WaitFinish()).Add(s.URL("later"), nil)
	began := time.Now()
	if err := later.Send(within(t)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < delay || len(s.Calls()) != 1 {
		t.Errorf("%d deliveries after %v, want one after %v at the soonest", len(s.Calls()), took, delay)
	}
}

func TestMessage_AKeyRunsItsFunctionOnce(t *testing.T) {
	s := newShop(t)
	for range 2 {
		if err := s.message(message.Key("order-1"), message.WaitFinish()).Do(within(t), s.guard, s.db, order); err != nil {
			t.Fatal(err)
		}
	}
	if s.orders(t) != 1 || len(s.Calls()) != 1 {
		t.Errorf("%d orders, told:\n%s", s.orders(t), s.Told())
	}
}

// A message that was dropped is told, and its local transaction does not run again: it
// would commit without anybody who hears of it.
func TestMessage_ADroppedOneRunsNothing(t *testing.T) {
	s := newShop(t)
	no := errors.New("sold out")
	m := s.message()
	if err := m.Do(within(t), s.guard, s.db, func(*sql.Tx) error { return no }); !errors.Is(err, no) {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := m.Do(within(t), s.guard, s.db, order); !errors.As(err, &rolledBack) || s.orders(t) != 0 || s.Told() != "" {
		t.Errorf("again: %v, %d orders, told %q", err, s.orders(t), s.Told())
	}
}

// WaitFinish waits for the deliveries, also of a message that stands under its key
// already, sent or done.
func TestMessage_WaitFinishWaitsForAnothersMessageToo(t *testing.T) {
	for _, how := range []string{"send", "do"} {
		t.Run(how, func(t *testing.T) {
			s := newShop(t)
			free := make(chan struct{})
			s.On("tell", func(ctx context.Context, _ []byte) ([]byte, error) {
				select {
				case <-free:
					return nil, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
			say := func(ctx context.Context, opts ...message.Option) error {
				m := s.message(append(opts, message.Key("order-1"))...)
				if how == "send" {
					return m.Send(ctx)
				}
				return m.Do(ctx, s.guard, s.db, order)
			}
			if err := say(within(t)); err != nil {
				t.Fatal(err)
			}
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := say(short, message.WaitFinish()); !errors.Is(err, participant.ErrUnknown) {
				t.Errorf("before the delivery: %v, want unknown", err)
			}
			close(free)
			if err := say(within(t), message.WaitFinish()); err != nil || len(s.Calls()) != 1 {
				t.Errorf("after it: %v, told:\n%s", err, s.Told())
			}
		})
	}
}

// What was decided is told to whoever says the contrary.
func TestMessage_TheFirstWordStands(t *testing.T) {
	s := newShop(t)
	dropped, sent := s.message(), s.message()
	for _, m := range []*message.Message{dropped, sent} {
		if _, err := m.Begin(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(dropped.Drop(within(t), "no"), sent.Submit(within(t))); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := dropped.Submit(within(t)); !errors.As(err, &rolledBack) {
		t.Errorf("the submit of a dropped message: %v", err)
	}
	var committed *participant.CommittedError
	if err := sent.Drop(within(t), "no"); !errors.As(err, &committed) {
		t.Errorf("the drop of a sent message: %v", err)
	}
	if err := errors.Join(dropped.Drop(within(t), "no"), sent.Submit(within(t))); err != nil {
		t.Errorf("the same again: %v", err)
	}
}
