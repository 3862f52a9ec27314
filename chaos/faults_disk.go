package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/cluster"
)

// diskFaults break the nodes' disks: next to the disk, below everything that the
// nodes do about a bad one.
var diskFaults = []Fault{
	failingDisk("disk-error", "a write of the log fails (EIO): the node must stop itself, and never try again",
		"store-write@log=error(EIO)", "input/output error"),
	failingDisk("disk-sync-error", "a write of the log is on the disk and its fsync fails (EIO): the node must not believe a later one",
		"store-written@log=error(EIO)", "input/output error"),
	failingDisk("disk-full-injected", "the disk says that it is full (ENOSPC): the node stops and says what to do",
		"store-write@log=error(ENOSPC)", "make room"),
	slowDisk("disk-slow-follower", "each write of a follower's log takes 500 ms longer: decisions go on",
		"store-write@log=pause(500ms)", 0),
	slowDisk("disk-slow-leader", "each write of the leader's log takes 50 ms longer: decisions go on, later",
		"store-written@log=pause(50ms)", 1),
	{
		Name: "disk-full", Kind: "disk", Possible: volumesPossible, Prepare: mountVolumes, Inject: fillDisk,
		Doc: "fill the file system of a node's data directory until it stops itself, then make room",
	},
}

// stopsMax is how long a node may go on after a fault of its disk was switched
// on: until its next write, which the workload brings about.
const stopsMax = 5 * time.Second

// failingDisk is a fault that makes a node stop itself.
func failingDisk(name, doc, spec, says string) Fault {
	t := toggle{name: name, spec: spec}
	return Fault{
		Name: name, Kind: "disk", Doc: doc, Prepare: t.prepare,
		Inject: func(ctx context.Context, env *Env) (*Injection, error) {
			n, leads := claimEither(ctx, env, 0.5)
			if n == nil {
				return nil, nil
			}
			offset := saidSoFar(n)
			done, before := env.Expect(n), t.hits(env, n)
			if err := t.on(env, n); err != nil {
				return nil, err
			}
			exited := exitsWithin(ctx, n, stopsMax)
			hits, at := t.hits(env, n)-before, env.Now() // this node may have met it earlier in the run
			return &Injection{
				Target: titled(n, leads), Leader: leads && exited, At: at,
				Heal: func(ctx context.Context) error {
					defer env.Release(n)
					defer done()
					if err := t.off(env, n); err != nil {
						return err
					}
					return bringBack(ctx, n, exited)
				},
				Evidence: func() (string, error) { return stoppedItself(env, n, exited, hits, saidSince(n, offset), says) },
			}, nil
		},
	}
}

// bringBack starts a node that has stopped itself; one that runs is left alone.
func bringBack(ctx context.Context, n *cluster.Node, exited bool) error {
	if !exited && n.Running() {
		return nil
	}
	return n.Restart(ctx)
}

// stoppedItself checks how a node has answered to a write that failed.
func stoppedItself(env *Env, n *cluster.Node, exited bool, hits int, said, says string) (string, error) {
	switch {
	case hits == 0:
		return "", fmt.Errorf("%s did not write while its disk was bad", n.Name)
	case !exited:
		env.Surprise("S6: %s has met %d errors of its disk and went on", n.Name, hits)
	case hits > 1:
		env.Surprise("S6: %s tried its disk again after an error: %d times", n.Name, hits)
	case !strings.Contains(said, "the node stops itself") || !strings.Contains(said, says):
		env.Surprise("%s stopped at an error of its disk without saying so (%q); see %s", n.Name, says, n.LogPath)
	}
	return "it stopped itself at the first error", nil
}

// slowDisk is a fault that a node lives with.
func slowDisk(name, doc, spec string, leader float64) Fault {
	t := toggle{name: name, spec: spec}
	return Fault{
		Name: name, Kind: "disk", Doc: doc, Prepare: t.prepare, Hold: Range{1 * time.Second, 3 * time.Second},
		Inject: func(ctx context.Context, env *Env) (*Injection, error) {
			n, leads := claimEither(ctx, env, leader)
			if n == nil || leads != (leader > 0) {
				if n != nil {
					env.Release(n)
				}
				return nil, nil
			}
			before := t.hits(env, n)
			if err := t.on(env, n); err != nil {
				return nil, err
			}
			return &Injection{
				Target: titled(n, leads),
				Heal: func(context.Context) error {
					defer env.Release(n)
					return t.off(env, n)
				},
				Evidence: func() (string, error) {
					if hits := t.hits(env, n) - before; hits > 0 {
						return fmt.Sprintf("%d slow writes", hits), nil
					}
					return "", errors.New("it did not write meanwhile")
				},
			}, nil
		},
	}
}

// fillDisk fills a node's volume. ext4 lets a file that has its blocks be written
// when nothing else fits, so the node may live; mostly its log must grow.
func fillDisk(ctx context.Context, env *Env) (*Injection, error) {
	n, leads := claimEither(ctx, env, 0.5)
	if n == nil {
		return nil, nil
	}
	offset, done := saidSoFar(n), env.Expect(n)
	free, err := disks.Fill(n.DataDir)
	if err != nil {
		done()
		env.Release(n)
		return nil, err
	}
	exited := exitsWithin(ctx, n, stopsMax)
	at := env.Now()
	return &Injection{
		Target: titled(n, leads), Leader: leads && exited, At: at,
		Heal: func(ctx context.Context) error {
			defer env.Release(n)
			defer done()
			if err := free(); err != nil {
				return err
			}
			return bringBack(ctx, n, exited)
		},
		Evidence: func() (string, error) {
			if !exited {
				return "full, and it needed no more room", nil
			}
			if said := saidSince(n, offset); !strings.Contains(said, "make room") {
				env.Surprise("%s ended on a full disk without saying what to do; see %s", n.Name, n.LogPath)
			}
			return "it stopped itself for want of room", nil
		},
	}, nil
}

// volumeBytes is the size of each node's volume, whose image has holes. A run keeps
// its whole log: half an hour of it is 300 MB in bbolt, with three snapshots beside it.
const volumeBytes = 640 << 20

func volumesPossible(*Env) error { return disks.Possible() }

// mountVolumes gives each node a disk of its own. The first fault that asks has
// them made; they stay until the run is judged.
func mountVolumes(env *Env) (func() error, error) {
	if env.Volumes != nil {
		return nil, nil
	}
	if err := disks.RefuseTmpfs(env.Dir); err != nil {
		return nil, err
	}
	env.Volumes = map[string]*disks.Volume{}
	unmount := func() error {
		var errs []error
		for _, v := range env.Volumes {
			errs = append(errs, keepContent(v))
		}
		return errors.Join(errs...)
	}
	for i := range env.Options.Nodes {
		name := fmt.Sprintf("n%d", i+1)
		v, err := disks.NewVolume(filepath.Join(env.Dir, "nodes", name), volumeBytes)
		if err != nil {
			return nil, errors.Join(err, unmount())
		}
		env.Volumes[name] = v
	}
	return unmount, nil
}

// keepContent ends a volume and leaves what it held in the directory below it,
// for whoever reads a red run.
func keepContent(v *disks.Volume) error {
	kept := v.Dir + ".kept"
	err := disks.CopyDir(kept, v.Dir)
	if err := errors.Join(err, v.Close()); err != nil {
		return err
	}
	return errors.Join(os.Remove(v.Dir), os.Rename(kept, v.Dir))
}
