package bank

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// Journal appends lines to a file of its own. A line is on the disk when Append
// returns; lines of several goroutines share a sync.
type Journal struct {
	file *os.File

	mu      sync.Mutex
	pending []byte
	batch   *batch // of pending
	writing bool
}

// batch is a number of lines that one sync makes durable.
type batch struct {
	done chan struct{}
	err  error // read only after done is closed
}

// OpenJournal creates the file, which must not exist: a process that died may
// have left a torn line, after which nothing may follow.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bank: open a journal: %w", err)
	}
	return &Journal{file: f, batch: &batch{done: make(chan struct{})}}, nil
}

// Append writes v as one line and returns when it is on the disk.
func (j *Journal) Append(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("bank: write a journal: %w", err)
	}
	j.mu.Lock()
	j.pending = append(append(j.pending, line...), '\n')
	mine := j.batch
	if j.writing { // whoever writes takes it along
		j.mu.Unlock()
		<-mine.done
		return mine.err
	}
	j.writing = true
	for len(j.pending) > 0 {
		now, b := j.pending, j.batch
		j.pending, j.batch = nil, &batch{done: make(chan struct{})}
		j.mu.Unlock()
		if _, b.err = j.file.Write(now); b.err == nil {
			b.err = j.file.Sync()
		}
		close(b.done)
		j.mu.Lock()
	}
	j.writing = false
	j.mu.Unlock()
	return mine.err
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// readLines reads a journal. A torn last line is what a killed process left: it
// was never acted upon, so it is as if it were not there.
func readLines[T any](path string) ([]T, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lines []T
	for n := 1; len(text) > 0; n++ {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole {
			break
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return nil, fmt.Errorf("bank: %s, line %d: %w", path, n, err)
		}
		lines = append(lines, v)
		text = rest
	}
	return lines, nil
}
