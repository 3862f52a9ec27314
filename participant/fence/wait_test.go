package fence_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// "Wait bounds how long a call waits for an earlier run of itself": as long as that, and
// not much longer, and not as long as anything else that waits. Whoever calls with less
// patience is told of that, and not to ask again; and the row is as it was.
func TestWaitIsHowLongACallWaits(t *testing.T) {
	const wait = 700 * time.Millisecond
	const most = fence.WaitDefault - time.Second // well below what another bound would make of it
	for _, kind := range databases {
		if kind == fence.SQLite {
			continue // it waits by its own setting: the next test
		}
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := openSQL(t, kind, fence.Wait(wait))
			c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action, Mode: "saga"}
			again := func(ctx context.Context) (time.Duration, error) {
				begun := time.Now()
				err := s.Do(ctx, c, fencetest.Work{Counter: "n", N: 100})
				return time.Since(begun), err
			}
			err := s.Do(t.Context(), c, fencetest.Work{Counter: "n", N: 1, During: func() {
				if took, err := again(t.Context()); !errors.Is(err, fence.ErrOngoing) || took < wait || took > most {
					t.Errorf("after %v: %v, want to be asked again after %v", took, err, wait)
				}
				short, cancel := context.WithTimeout(t.Context(), wait/4)
				defer cancel()
				if took, err := again(short); err == nil || errors.Is(err, fence.ErrOngoing) || took > most {
					t.Errorf("with less patience, after %v: %v", took, err)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again(t.Context()); err != nil {
				t.Errorf("once the first run has ended: %v", err)
			}
			if n, err := s.Value(t.Context(), "n"); err != nil || n != 1 {
				t.Errorf("the counter is %d (%v), want 1", n, err)
			}
		})
	}
}

// "In SQLite the connection's busy_timeout says for how long, and fence.Wait nothing;
// without one a repeat is told at once."
func TestSQLiteWaitsByItsOwnSetting(t *testing.T) {
	const wait = 10 * time.Second // of the fence
	for _, busy := range []time.Duration{0, 300 * time.Millisecond} {
		s := newSQLStore(t, fence.SQLite, "sqlite", fmt.Sprintf("file:%s?_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)",
			filepath.Join(t.TempDir(), "db"), busy.Milliseconds()), fence.Wait(wait))
		c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action, Mode: "saga"}
		err := s.Do(t.Context(), c, fencetest.Work{Counter: "n", N: 1, During: func() {
			begun := time.Now()
			err := s.Do(t.Context(), c, fencetest.Work{Counter: "n", N: 100})
			if took := time.Since(begun); !errors.Is(err, fence.ErrOngoing) || took < busy || took > wait/2 {
				t.Errorf("with a busy_timeout of %v, after %v: %v", busy, took, err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}
