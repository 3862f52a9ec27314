package disks

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Canary is a pair of files that show whether a power loss was one: without the
// loss of the first it proves nothing about the log, without the survival of
// the second the disk lies and nothing can be proved on it.
type Canary struct {
	lost, kept string // paths
	content    []byte
}

// PlantCanary writes both files into dir: one with fsync, then one without. It
// must be called just before the cut, since the kernel writes by itself what
// has waited for some seconds.
func PlantCanary(dir string) (*Canary, error) {
	content := []byte(rand.Text() + "\n")
	c := &Canary{lost: filepath.Join(dir, ".canary-lost"), kept: filepath.Join(dir, ".canary-kept"), content: content}
	// Both are new files: to overwrite one would be another promise of ext4's.
	if err := c.remove(); err != nil {
		return nil, err
	}
	if err := c.plantKept(dir); err != nil {
		return nil, fmt.Errorf("plant the canary: %w", err)
	}
	if err := os.WriteFile(c.lost, content, 0o600); err != nil {
		return nil, fmt.Errorf("plant the canary: %w", err)
	}
	return c, nil
}

func (c *Canary) plantKept(dir string) error {
	f, err := os.OpenFile(c.kept, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(c.content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Check looks for both files after the cut and removes them. It fails when the
// cut has lost nothing, or too much.
func (c *Canary) Check() error {
	kept, err := os.ReadFile(c.kept)
	if err != nil || !bytes.Equal(kept, c.content) {
		return errors.Join(fmt.Errorf("the fsynced canary %s did not survive: this disk cannot be trusted with anything", c.kept), err)
	}
	if lost, err := os.ReadFile(c.lost); err == nil && bytes.Equal(lost, c.content) {
		return fmt.Errorf("the unsynced canary %s survived: no power was lost, and the run proves nothing", c.lost)
	}
	return c.remove()
}

func (c *Canary) remove() error {
	for _, path := range []string{c.lost, c.kept} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
