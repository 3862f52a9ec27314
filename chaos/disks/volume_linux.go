package disks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	// volumeSuffix ends the name of each image, by which Reap knows them.
	volumeSuffix = ".quorate-ext4"
	// ext4Shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32).
	ext4Shutdown = 0x8004587d
	// noLogFlush is EXT4_GOING_FLAGS_NOLOGFLUSH: the journal is not flushed
	// either, so that only what was synced is there afterwards.
	noLogFlush = 2
	// unmountMax is how long the kernel may need to let go of the files of a
	// process that has just been killed.
	unmountMax = 10 * time.Second
)

// Volume is an ext4 file system of its own, in a file. Its methods must be
// called from one goroutine at a time.
type Volume struct {
	// Dir is where it is mounted.
	Dir     string
	image   string
	mounted bool
	shared  bool // Dir is a mount of its own, see share
}

// Possible returns nil where volumes can be made, or why not.
var Possible = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting a volume needs root")
	}
	for _, program := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("mounting a volume needs the program %s", program)
		}
	}
	dir, err := os.MkdirTemp("", "quorate-volume-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	v, err := NewVolume(filepath.Join(dir, "probe"), 16<<20)
	if err != nil {
		return fmt.Errorf("no loop device with ext4: %w", err)
	}
	return errors.Join(v.Cut(), v.Close())
})

// NewVolume makes an empty volume of so many bytes and mounts it at dir, which
// is made. The image lies beside it and takes only the room that is used.
func NewVolume(dir string, bytes int64) (_ *Volume, err error) {
	if _, err := Reap(); err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	v := &Volume{Dir: dir, image: ownedName(dir) + volumeSuffix}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a volume at %s: %w", dir, err), v.Close())
		}
	}()
	image, err := os.OpenFile(v.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(image.Truncate(bytes), image.Close()); err != nil {
		return nil, err
	}
	// The log's directory entries must be safe with the files' own fsync, as on
	// any production disk: ext4's defaults, nothing lazy left for later.
	if err := run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", v.image); err != nil {
		return nil, err
	}
	return v, errors.Join(v.share(), v.Mount(), os.Chmod(v.Dir, 0o700))
}

// share makes the directory a mount that other mount namespaces share, so that the
// volume, which is mounted there, is unmounted in all of them with us. Where the
// root is private, as in containers, each namespace that is made while the volume is
// mounted (`ip netns exec` makes one) would keep it otherwise: shut down, and what is
// mounted again would be the same dead one.
func (v *Volume) share() error {
	if err := syscall.Mount(v.Dir, v.Dir, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", v.Dir, err)
	}
	v.shared = true
	if err := syscall.Mount("none", v.Dir, "", syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share %s: %w", v.Dir, err)
	}
	return nil
}

// Mount mounts the volume; after a Shutdown ext4 replays its journal.
func (v *Volume) Mount() error {
	if v.mounted {
		return nil
	}
	if err := run("mount", "-o", "loop", "-t", "ext4", v.image, v.Dir); err != nil {
		return err
	}
	v.mounted = true
	return nil
}

// Sync puts everything that was written so far on the disk.
func (v *Volume) Sync() error { return run("sync", "-f", v.Dir) }

// Shutdown cuts the power: from now on nothing reaches the disk, not what the
// kernel still holds in memory either. Whoever writes hears of an error.
func (v *Volume) Shutdown() error {
	dir, err := os.Open(v.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("cut the power of %s: %w", v.Dir, errno)
	}
	return nil
}

// Cut is a whole power loss: shutdown, unmount, mount again. Every process that
// uses the volume must have been killed before.
func (v *Volume) Cut() error {
	return errors.Join(v.Shutdown(), v.Unmount(), v.Mount())
}

// Unmount unmounts the volume. It waits a while for killed processes to be gone, and
// for namespaces that share nothing.
func (v *Volume) Unmount() error {
	if !v.mounted {
		return nil
	}
	deadline := time.Now().Add(unmountMax)
	if err := unmount(v.Dir, deadline); err != nil {
		return err
	}
	v.mounted = false
	for attached(v.image) {
		if time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: another mount namespace keeps it mounted", v.Dir)
		}
		time.Sleep(5 * time.Millisecond) // as in unmount
	}
	return nil
}

// attached says whether a loop device has the image: its file system is mounted
// somewhere still.
func attached(image string) bool {
	devices, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		return false // a pattern of ours is none that is malformed
	}
	for _, device := range devices {
		if file, err := backingFile(device); err == nil && file == image {
			return true
		}
	}
	return false
}

// Close unmounts the volume and removes its image: nothing of it is left.
func (v *Volume) Close() error {
	if err := v.Unmount(); err != nil && v.mounted {
		// The last way: out of sight now, freed when the last file is closed.
		if detached := syscall.Unmount(v.Dir, syscall.MNT_DETACH); detached != nil {
			return errors.Join(err, detached)
		}
		v.mounted = false
	}
	if v.shared {
		if err := syscall.Unmount(v.Dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", v.Dir, err)
		}
		v.shared = false
	}
	return os.Remove(v.image)
}

// unmount unmounts dir, and asks again while it is busy.
func unmount(dir string, deadline time.Time) error {
	for {
		err := syscall.Unmount(dir, 0)
		if err == nil || !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			if err != nil {
				return fmt.Errorf("unmount %s: %w", dir, err)
			}
			return nil
		}
		time.Sleep(5 * time.Millisecond) // nothing tells when the kernel has let go
	}
}

// run runs a program and gives its words as the error.
func run(program string, args ...string) error {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
