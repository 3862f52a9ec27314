package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// stamp says when, of what and on what a part was measured.
type stamp struct {
	Date    string `json:"date"`
	Commit  string `json:"commit"`
	Machine string `json:"machine"`
	Go      string `json:"go"`
	Etcd    string `json:"etcd,omitempty"`
	// FsyncUS is the median of an fsync after 4 KiB more, in microseconds, on the disk
	// that the nodes write to.
	FsyncUS int64 `json:"fsync_us"`
	// Load is the load average of the minute before: 0 of a quiet machine, and of one that
	// does not tell.
	Load float64 `json:"load,omitempty"`
}

// whereAndWhen looks at the machine once; the date and the disk are each part's own.
func whereAndWhen() (stamp, error) {
	commit, err := exec.Command("git", "rev-parse", "--short=10", "HEAD").Output()
	if err != nil {
		return stamp{}, fmt.Errorf("git rev-parse: %w", err)
	}
	s := stamp{Commit: strings.TrimSpace(string(commit)), Machine: machine(), Go: runtime.Version(), Etcd: etcdVersion()}
	// The figures' own files may differ: everything else is what was measured.
	if changed, err := exec.Command("git", "status", "--porcelain", "-uno", "--", ":!docs").Output(); err != nil || len(changed) > 0 {
		s.Commit += "+"
	}
	return s, nil
}

// now is the stamp of a part that was begun under such a load.
func (s stamp) now(load float64) stamp {
	s.Load = load
	s.Date = time.Now().UTC().Format("2006-01-02 15:04")
	s.FsyncUS = fsync().Microseconds()
	return s
}

// loadAverage of the last minute; 0 where there is none.
func loadAverage() (load float64) {
	text, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(text), &load)
	return load
}

// machine describes it in a line.
func machine() string {
	model := "CPUs"
	if text, err := os.Open("/proc/cpuinfo"); err == nil {
		defer text.Close()
		for lines := bufio.NewScanner(text); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	disk, _ := exec.Command("stat", "-f", "-c", "%T", os.TempDir()).Output()
	return fmt.Sprintf("%d x %s, %s, Linux %s, %s", runtime.NumCPU(), model, memory(), strings.TrimSpace(string(kernel)), strings.TrimSpace(string(disk)))
}

func memory() string {
	text, _ := os.ReadFile("/proc/meminfo")
	var kib int
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
}

// etcdVersion is empty where there is none.
func etcdVersion() string {
	out, err := exec.Command("etcd", "--version").Output()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(strings.TrimPrefix(first, "etcd Version:"))
}

// fsync measures what every decision waits for; 0 where it cannot.
func fsync() time.Duration {
	f, err := os.CreateTemp("", "quorate-fsync-")
	if err != nil {
		return 0
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	var took []time.Duration
	block := make([]byte, 4096)
	for range 200 {
		begun := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0
		}
		if err := f.Sync(); err != nil {
			return 0
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2]
}
