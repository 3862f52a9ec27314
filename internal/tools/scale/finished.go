package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/quorate/quorate/fsm"
)

// liveBeside is how many live transactions stand beside the finished ones.
const liveBeside = 100_000

// pacedEvery is the time between two entries while Apply's latency is measured: a
// load that leaves the machine some room, as one that lasts must.
const pacedEvery = 4 * time.Millisecond

// pacedMin is how long Apply is measured without a snapshot.
const pacedMin = 5 * time.Second

// measureFinished fills one state with finished transactions, says at three points
// what they take, and has snapshots written and restored.
func measureFinished(ctx context.Context, o *options, out *results) error {
	// Ten million fit beside others on this machine only if garbage is not let grow
	// to the size of what lives.
	defer debug.SetGCPercent(debug.SetGCPercent(40))
	f, err := newFiller(nil)
	if err != nil {
		return err
	}
	if err := f.fillLive(liveBeside, false); err != nil {
		return err
	}
	empty := heap()
	for _, n := range []int{o.finished / 10, o.finished / 10 * 3, o.finished} {
		begun := time.Now()
		missing := n - f.s.Counts().Finished
		if err := f.fillFinished(missing); err != nil {
			return err
		}
		took := time.Since(begun)
		if ctx.Err() != nil {
			return nil
		}
		out.add("finished", thousands(n)+" finished",
			figure{"bytes_each", float64(heap()-empty) / float64(n)}, figure{"us_per_tx", micros(took) / float64(missing)})
	}
	path, err := f.snapshotWhileApplying(ctx, o, out)
	if err != nil || ctx.Err() != nil {
		return err
	}
	digest := f.s.Digest()
	f = nil
	runtime.GC()
	return restoreFrom(path, digest, o.finished, out)
}

// snapshotWhileApplying applies entries at a pace, first with nothing beside, then
// while a snapshot is pinned, written and synced. It returns the snapshot of what
// stands at the end.
func (f *filler) snapshotWhileApplying(ctx context.Context, o *options, out *results) (string, error) {
	calm, err := f.paced(ctx, func() bool { return false })
	if err != nil {
		return "", err
	}
	dir, err := o.scratch()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "snapshot")
	begun := time.Now()
	pinned := f.s.Pin()
	pin := time.Since(begun)
	written := make(chan error, 1)
	var bytes int64
	go func() {
		var err error
		bytes, err = writeSnapshot(path, pinned)
		written <- err
	}()
	var took time.Duration
	busy, err := f.paced(ctx, func() bool {
		select {
		case err := <-written:
			took = time.Since(begun)
			written <- err
			return false
		default:
			return true
		}
	})
	if err := <-written; err != nil {
		return "", err
	}
	if err != nil {
		return "", err
	}
	out.add("finished", "apply, no snapshot",
		figure{"p50_ms", calm.quantile(0.5)}, figure{"p99_ms", calm.quantile(0.99)}, figure{"max_ms", calm.max()})
	out.add("finished", "apply while it is written",
		figure{"pin_ms", millis(pin)}, figure{"snapshot_s", took.Seconds()}, figure{"snapshot_mb", float64(bytes) / 1e6},
		figure{"p50_ms", busy.quantile(0.5)}, figure{"p99_ms", busy.quantile(0.99)}, figure{"max_ms", busy.max()})
	_, err = writeSnapshot(path, f.s.Pin())
	return path, err
}

// paced applies an entry now and then, for pacedMin and as long as more says so,
// and returns how long each took beyond the moment in which it was due: what waits
// behind a stall is part of it.
func (f *filler) paced(ctx context.Context, more func() bool) (latencies, error) {
	var each latencies
	begun := time.Now()
	for i := 0; ctx.Err() == nil && (time.Since(begun) < pacedMin || more()); {
		for _, entry := range f.lives(1024) {
			due := begun.Add(time.Duration(i) * pacedEvery)
			i++
			time.Sleep(time.Until(due))
			f.index++
			if _, err := f.s.ApplyEntry(f.index, 1, entry); err != nil {
				return nil, err
			}
			each = append(each, time.Since(due))
		}
	}
	return each, nil
}

func writeSnapshot(path string, pinned *fsm.Pinned) (int64, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	n, err := pinned.WriteTo(file)
	if err != nil {
		return n, err
	}
	return n, file.Sync()
}

// restoreFrom reads the snapshot into a fresh state.
func restoreFrom(path string, want fsm.Digest, finished int, out *results) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	s := fsm.New()
	begun := time.Now()
	if err := s.Restore(file); err != nil {
		return err
	}
	took := time.Since(begun)
	if s.Digest() != want {
		return fmt.Errorf("the restored state has the digest %s, the written one %s", s.Digest(), want)
	}
	out.add("finished", "restore of "+thousands(finished), figure{"restore_s", took.Seconds()},
		figure{"us_per_tx", micros(took) / float64(finished)})
	runtime.KeepAlive(s)
	return nil
}
