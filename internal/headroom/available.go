package headroom

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// available is how much memory this process may use: the machine's, or its container's
// where that is less. 0: unknown.
func available() uint64 {
	return least(readMeminfo("/proc/meminfo"), readLimit("/sys/fs/cgroup/memory.max"), readLimit("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
}

// least of those that are known.
func least(sizes ...uint64) (least uint64) {
	for _, size := range sizes {
		if size != 0 && (least == 0 || size < least) {
			least = size
		}
	}
	return least
}

// readMeminfo reads the size of the machine's memory.
func readMeminfo(path string) uint64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// readLimit reads the limit of a container: a number, or `max` for none.
func readLimit(path string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	limit, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return limit
}
