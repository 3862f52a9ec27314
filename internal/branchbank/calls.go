package branchbank

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// calls is a file with a line for each call that was done. It is not synced: it has
// to survive the process, not the machine.
type calls struct{ file *os.File }

// openCalls opens it; an empty path is none.
func openCalls(path string) (*calls, error) {
	if path == "" {
		return &calls{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &calls{f}, err
}

// note writes a line, in one write: several calls note at once. What cannot be written
// is missed by whoever counts.
func (c *calls) note(call Call, key string) {
	if c.file != nil {
		_, _ = fmt.Fprintf(c.file, "%s %s\n", key, call)
	}
}

func (c *calls) close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}

// ReadCalls counts how often each call was done, by the transaction's key: a file
// that is not there holds none, and a last line that was cut is left out.
func ReadCalls(path string) (map[string]map[string]int, error) {
	found := map[string]map[string]int{}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		key, call, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if found[key] == nil {
			found[key] = map[string]int{}
		}
		found[key][call]++
	}
}
