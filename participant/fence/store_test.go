package fence_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// keyedStore keeps counters in the embedded store.
type keyedStore struct{ s *embedded.Store }

var _ fencetest.Sender = keyedStore{}

func (k keyedStore) business(tx *embedded.Tx, w fencetest.Work) error {
	value, err := tx.Get(w.Counter)
	if err != nil {
		return err
	}
	n := int64(0)
	if value != nil {
		n = int64(binary.BigEndian.Uint64(value))
	}
	if err := tx.Put(w.Counter, binary.BigEndian.AppendUint64(nil, uint64(n+w.N))); err != nil {
		return err
	}
	if w.During != nil {
		w.During()
	}
	return w.End
}

func (k keyedStore) Do(ctx context.Context, c fence.Call, w fencetest.Work) error {
	return fence.DoStore(ctx, k.s, c, func(tx *embedded.Tx) error { return k.business(tx, w) })
}

func (k keyedStore) Value(_ context.Context, counter string) (int64, error) {
	value, err := k.s.Get(counter)
	if err != nil || value == nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(value)), nil
}

func (k keyedStore) Sweep(ctx context.Context, cluster string, floorMS uint64) error {
	return fence.SweepStore(ctx, k.s, cluster, floorMS)
}

func (k keyedStore) Send(ctx context.Context, gid string, w fencetest.Work) error {
	ctx = participant.Outside(ctx)
	tx, err := k.s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fence.PrepareStore(k.s, tx, "", gid); err != nil {
		return err
	}
	if err := k.business(tx, w); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (k keyedStore) Committed(ctx context.Context, gid string) (bool, error) {
	return fence.CommittedStore(ctx, k.s, "", gid)
}

// TestS15_InTheEmbeddedStore: "each effect once". The short lock timeout makes repeats
// that meet hear that they must ask again.
func TestS15_InTheEmbeddedStore(t *testing.T) {
	for name, wait := range map[string]time.Duration{"waiting": embedded.LockTimeoutDefault, "hardly waiting": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s, err := embedded.Open(filepath.Join(t.TempDir(), "store"), "counters", embedded.WithLockTimeout(wait))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			fencetest.Run(t, func(*testing.T) fencetest.Store { return keyedStore{s} })
		})
	}
}

// TestASweepOfAStoreDropsAllThatIsDue: more records than one transaction drops, and those
// of another cluster among them.
func TestASweepOfAStoreDropsAllThatIsDue(t *testing.T) {
	s, err := embedded.Open(filepath.Join(t.TempDir(), "store"), "counters")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	ctx := t.Context()
	do := func(cluster, branch string, born uint64) {
		t.Helper()
		c := fence.Call{GID: fencetest.GID(born), Branch: branch, Operation: fence.Compensate, Cluster: cluster}
		if err := fence.DoStore(ctx, s, c, func(*embedded.Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	do("theirs", "1", 3999)
	do("ours", "1", 4000)
	do("theirs", "1", 4001)
	do("ours", "1", 6000)
	records := func() (keys []string, value []byte) {
		t.Helper()
		if err := s.Range(fence.KeyPrefix+"gid/", func(key string, v []byte) error {
			keys, value = append(keys, key), append([]byte(nil), v...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return keys, value
	}
	_, ours := records() // of the youngest
	tx, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2100 { // in one transaction
		if err := tx.Put(fence.KeyPrefix+"gid/"+fencetest.GID(4000)+"/"+strconv.Itoa(i)+"/", ours); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := fence.SweepStore(ctx, s, "ours", 5000); err != nil {
		t.Fatal(err)
	}
	if left, _ := records(); len(left) != 3 {
		t.Errorf("%d records are left, want theirs and the young one: %.200q", len(left), left)
	}
}
