package disks

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Reap takes away what processes that have ended left mounted, with their
// images, and returns how many there were. It is called before the first mount
// of a process; volumes of running processes are not touched.
var Reap = sync.OnceValues(func() (int, error) {
	if os.Geteuid() != 0 {
		return 0, nil
	}
	mounts, err := mountTable()
	if err != nil {
		return 0, err
	}
	reaped := 0
	for _, m := range mounts {
		name := m.source
		if strings.HasPrefix(name, "/dev/loop") {
			if name, err = backingFile(name); err != nil {
				continue // it was freed in between
			}
		}
		if !isOurs(name) || ownerLives(name) {
			continue
		}
		if err := syscall.Unmount(m.dir, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return reaped, fmt.Errorf("take away %s, left mounted by a process that ended: %w", m.dir, err)
		}
		for _, below := range mounts { // what a volume shares its directory by
			if below.dir == m.dir && below != m {
				_ = syscall.Unmount(m.dir, syscall.MNT_DETACH)
			}
		}
		if filepath.IsAbs(name) {
			_ = os.Remove(name) // it may be gone already
		}
		reaped++
	}
	return reaped, nil
})

// mount is a line of the table of mounts.
type mount struct{ source, dir string }

func mountTable() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var mounts []mount
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			mounts = append(mounts, mount{unescape(fields[0]), unescape(fields[1])})
		}
	}
	return mounts, nil
}

// unescape undoes the octal escapes of the table of mounts.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// backingFile returns the file behind a loop device.
func backingFile(device string) (string, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
	return strings.TrimSuffix(strings.TrimSpace(string(text)), " (deleted)"), err
}

// ownedName returns a new name that begins with prefix and says which process
// it belongs to: its id and when it was started, since ids are used again.
func ownedName(prefix string) string {
	return fmt.Sprintf("%s.%s-%d-%s", prefix, rand.Text()[:6], os.Getpid(), startTime(os.Getpid()))
}

// isOurs says whether an image or a tmpfs has a name that ownedName made.
func isOurs(name string) bool {
	return strings.HasSuffix(name, volumeSuffix) || strings.HasSuffix(name, tmpfsSuffix)
}

// ownerLives says whether the process that a name belongs to still runs.
func ownerLives(name string) bool {
	name = strings.TrimSuffix(strings.TrimSuffix(name, volumeSuffix), tmpfsSuffix)
	parts := strings.Split(name, "-")
	if len(parts) < 3 {
		return true // not for us to judge
	}
	pid, err := strconv.Atoi(parts[len(parts)-2])
	if err != nil {
		return true
	}
	return startTime(pid) == parts[len(parts)-1]
}

// startTime tells when a process was started, "" when there is none. It is the
// 22nd field of its stat; the second, its name, may hold blanks.
func startTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}
