//go:build linux

package disks

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// volume makes a volume, or logs why none can be made here and returns nil.
func volume(t *testing.T, bytes int64) *Volume {
	t.Helper()
	if err := Possible(); err != nil {
		t.Logf("not possible here: %v", err)
		return nil
	}
	v, err := NewVolume(filepath.Join(t.TempDir(), "volume"), bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// A cut loses what was not synced and keeps what was, each time.
func TestACutLosesWhatWasNotSynced(t *testing.T) {
	v := volume(t, 16<<20)
	if v == nil {
		return
	}
	for range 3 {
		canary, err := PlantCanary(v.Dir)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if err := v.Cut(); err != nil {
			t.Fatal(err)
		}
		t.Logf("a cut took %v", time.Since(started).Round(time.Millisecond))
		if err := canary.Check(); err != nil {
			t.Error(err)
		}
	}
}

// A mount namespace that is made while a volume is mounted keeps it from no cut: not
// one that hears of unmounts, as that of `ip netns exec`, nor, once it is gone, one
// that does not.
func TestACutIsWholeBesideOtherNamespaces(t *testing.T) {
	for name, script := range map[string]string{
		"slave":   "mount --make-rslave / && echo ready && exec sleep 60",
		"private": "mount --make-rprivate / && echo ready && exec sleep 1",
	} {
		t.Run(name, func(t *testing.T) {
			v := volume(t, 16<<20)
			if v == nil {
				return
			}
			cmd := exec.Command("sh", "-c", script)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			canary, err := PlantCanary(v.Dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Cut(); err != nil {
				t.Fatal(err)
			}
			if err := canary.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The canary is no decoration: an orderly unmount is seen as no cut, and a disk
// that lost what was synced as no disk.
func TestTheCanaryTellsACutFromNone(t *testing.T) {
	v := volume(t, 16<<20)
	if v == nil {
		return
	}
	canary, err := PlantCanary(v.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Unmount(), v.Mount()); err != nil {
		t.Fatal(err)
	}
	if err := canary.Check(); err == nil || !strings.Contains(err.Error(), "survived") {
		t.Errorf("after an unmount that flushed: %v", err)
	}
	if err := os.Remove(canary.kept); err != nil {
		t.Fatal(err)
	}
	if err := canary.Check(); err == nil || !strings.Contains(err.Error(), "did not survive") {
		t.Errorf("without the synced file: %v", err)
	}
}

// After the shutdown nothing can be written: no process goes on as if it could.
func TestAfterAShutdownNothingIsWritten(t *testing.T) {
	v := volume(t, 16<<20)
	if v == nil {
		return
	}
	if err := v.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Dir, "late"), []byte("x"), 0o600); !errors.Is(err, syscall.EIO) {
		t.Errorf("a write after the power was cut: %v", err)
	}
}

func TestAFullDiskIsFullAndHasRoomAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not possible here: mounting a tmpfs needs root")
		return
	}
	small, err := NewTmpfs(filepath.Join(t.TempDir(), "small"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = small.Close() })
	free, err := Fill(small.Dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(small.Dir, "more")
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk: %v", err)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Errorf("after room was made: %v", err)
	}
	if err := RefuseTmpfs(small.Dir); err == nil {
		t.Error("a tmpfs was taken for a disk")
	}
	if err := RefuseTmpfs("/"); err != nil {
		t.Error(err)
	}
}

// What a killed process leaves is taken away by the next one; what a running
// one uses is not.
func TestReapTakesAwayWhatAKilledProcessLeft(t *testing.T) {
	v := volume(t, 16<<20)
	if v == nil {
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperMounts$", "-test.v")
	cmd.Env = append(os.Environ(), "QUORATE_DISKS_HELPER="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || !mountedAt(t, filepath.Join(dir, "left")) {
		t.Fatalf("the helper was to end with its volume mounted: %v\n%s", err, out)
	}
	// A process reaps once, so ask another.
	cmd = exec.Command(os.Args[0], "-test.run=^TestACutLosesWhatWasNotSynced$")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if mountedAt(t, filepath.Join(dir, "left")) {
		t.Error("the killed process's volume is still mounted")
	}
	if !mountedAt(t, v.Dir) {
		t.Error("the volume of a running process was taken away")
	}
}

func TestHelperMounts(t *testing.T) {
	dir := os.Getenv("QUORATE_DISKS_HELPER")
	if dir == "" {
		return
	}
	if _, err := NewVolume(filepath.Join(dir, "left"), 16<<20); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func mountedAt(t *testing.T, dir string) bool {
	t.Helper()
	mounts, err := mountTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.dir == dir {
			return true
		}
	}
	return false
}
