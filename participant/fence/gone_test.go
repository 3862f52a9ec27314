package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// A caller that has gone while its call was at work leaves its epoch, and its refusal, all
// the same: an older leader's call would be done after it.
func TestWhatFailsIsNotedThoughItsCallerHasGone(t *testing.T) {
	test := func(t *testing.T, s fencetest.Store) {
		broken := errors.New("broken")
		for _, end := range []error{broken, fmt.Errorf("%w: sold out", fence.ErrRefused)} {
			c := fence.Call{GID: fencetest.GID(2000), Branch: "1", Operation: fence.Action, Mode: "saga", Epoch: fence.Epoch{Incarnation: 1, Term: 7}}
			counter := c.GID
			ctx, gone := context.WithCancel(t.Context())
			if err := s.Do(ctx, c, fencetest.Work{Counter: counter, N: 1, End: end, During: gone}); !errors.Is(err, end) {
				t.Errorf("the call: %v, want %v", err, end)
			}
			older := c
			older.Epoch.Term = 6
			if err := s.Do(t.Context(), older, fencetest.Work{Counter: counter, N: 1}); !errors.Is(err, fence.ErrStale) {
				t.Errorf("an older leader's call after %q: %v", end, err)
			}
			again := s.Do(t.Context(), c, fencetest.Work{Counter: counter, N: 1})
			if refused := errors.Is(end, fence.ErrRefused); refused != errors.Is(again, fence.ErrRefused) || !refused && again != nil {
				t.Errorf("the call again after %q: %v", end, again)
			}
		}
	}
	eachDatabase(t, func(t *testing.T, s *sqlStore) { test(t, s) })
	t.Run("embedded", func(t *testing.T) {
		s, err := embedded.Open(filepath.Join(t.TempDir(), "store"), "counters")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		test(t, keyedStore{s})
	})
}

// What others hold, or did faster, is no failure: the call is asked again, and no attempt is
// used up.
func TestWhatOthersHoldIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		err     error
		ongoing bool
	}{
		{&pgconn.PgError{Code: "55P03"}, true}, {&pgconn.PgError{Code: "40P01"}, true}, {&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "23505"}, false}, {&pgconn.PgError{Code: "53100"}, false},
		{&mysql.MySQLError{Number: 1205}, true}, {&mysql.MySQLError{Number: 1213}, true}, {&mysql.MySQLError{Number: 1020}, true},
		{&mysql.MySQLError{Number: 1062}, false}, {&mysql.MySQLError{Number: 1290}, false},
		{sqliteError(5), true}, {sqliteError(6), true}, {sqliteError(5 | 2<<8), true}, {sqliteError(6 | 1<<8), true}, {sqliteError(13), false},
		{mattnError{Code: 5, ExtendedCode: 517}, true}, {mattnError{Code: 13, ExtendedCode: 13}, false},
		{context.DeadlineExceeded, false}, {errors.New("something else"), false},
	} {
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err)} {
			if got := fence.Judge(err); errors.Is(got, fence.ErrOngoing) != c.ongoing || !errors.Is(got, c.err) {
				t.Errorf("%#v: %v", err, got)
			}
		}
	}
	for _, err := range []error{&pgconn.PgError{Code: "42P01"}, &mysql.MySQLError{Number: 1146}, sql.ErrNoRows} {
		if got := fence.Judge(err); !errors.Is(got, fence.ErrNoTable) || errors.Is(got, fence.ErrOngoing) {
			t.Errorf("%v: %v, want that the table is missing", err, got)
		}
	}
}

// sqliteError is what modernc's driver returns, and mattnError what mattn's does.
type sqliteError int

func (e sqliteError) Code() int     { return int(e) }
func (e sqliteError) Error() string { return fmt.Sprintf("SQLite error %d", int(e)) }

type mattnError struct{ Code, ExtendedCode int }

func (e mattnError) Error() string { return fmt.Sprintf("SQLite error %d", e.ExtendedCode) }

// outsideDB fails the test where a local transaction would become a branch of the
// two-phase transaction that the context carries.
type outsideDB struct {
	t *testing.T
	*sql.DB
}

func (db outsideDB) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	if !participant.IsOutside(ctx) {
		db.t.Error("a local transaction of the fence begins as a branch")
	}
	return db.DB.BeginTx(ctx, opts)
}

func TestLocalTransactionsAreNoBranches(t *testing.T) {
	s := openSQL(t, fence.SQLite)
	ctx, err := participant.Join(t.Context(), participant.Info{GID: participant.GID(fencetest.GID(2000)), Path: "1"})
	if err != nil {
		t.Fatal(err)
	}
	db := outsideDB{t, s.db}
	c := fence.Call{GID: fencetest.GID(2000), Branch: "1", Operation: fence.Action, Mode: "saga", Epoch: fence.Epoch{Incarnation: 1, Term: 7}}
	no := fmt.Errorf("%w: no", fence.ErrRefused)
	if err := s.f.Do(ctx, db, c, func(*sql.Tx) error { return no }); !errors.Is(err, no) {
		t.Error(err)
	}
	_, committedErr := s.f.Committed(ctx, db, fencetest.GID(2000))
	_, sweepErr := s.f.Sweep(ctx, db, 1000)
	if err := errors.Join(committedErr, sweepErr, s.f.Init(ctx, db), s.f.Check(ctx, db), s.f.Probe(ctx, db)); err != nil {
		t.Error(err)
	}
}
