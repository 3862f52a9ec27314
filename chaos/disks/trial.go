package disks

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Trial is one corruption of a stopped node's data directory: what was done,
// whether it changed anything that the node relies on, and the way back.
type Trial struct {
	Corruption
	// Changed says in what the content differs now; empty: the damage is harmless,
	// in room for later for one, and the node may start as if nothing had been.
	Changed string
	dir     string
	saved   string
}

// Try damages a directory and keeps a copy of it, as it was, in saved.
func Try(random *rand.Rand, dir, older, saved string, damage Damage, part Part) (*Trial, error) {
	t := &Trial{dir: dir, saved: saved}
	if err := os.RemoveAll(saved); err != nil {
		return nil, err
	}
	if err := CopyDir(saved, dir); err != nil {
		return nil, err
	}
	before, err := ReadContent(dir)
	if err != nil {
		return nil, fmt.Errorf("before anything was damaged: %w", err)
	}
	if t.Corruption, err = Corrupt(random, dir, older, damage, part); err != nil {
		return nil, err
	}
	switch after, err := ReadContent(dir); {
	case err != nil:
		t.Changed = "it cannot be read: " + err.Error()
	default:
		t.Changed = before.Difference(after)
	}
	return t, nil
}

// Undo puts the directory back as it was before the damage. The node must be
// stopped; since then it must have refused to start, or be like a node whose
// directory was set back.
func (t *Trial) Undo() error {
	if err := emptyDir(t.dir); err != nil {
		return err
	}
	// As durable as the node had it: the next fault may cut the power.
	return errors.Join(CopyDir(t.dir, t.saved), syncTree(t.dir))
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// Refusal judges the last words of a node that ended at its start: it must have
// said on which of its files it stumbled, and not have fallen over it.
func (t *Trial) Refusal(said string) error {
	for _, bad := range []string{"panic:", "fatal error:", "SIGBUS", "SIGSEGV", "goroutine "} {
		if strings.Contains(said, bad) {
			return fmt.Errorf("%v: the node did not refuse, it crashed: %s", t.Corruption, said)
		}
	}
	if !strings.Contains(said, t.dir) {
		return fmt.Errorf("%v: the node ended without naming its data: %s", t.Corruption, said)
	}
	return nil
}
