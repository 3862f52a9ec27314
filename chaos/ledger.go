package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// ledgerInterval is how long acknowledgements are gathered for one fsync.
const ledgerInterval = 25 * time.Millisecond

// Acknowledgement is one line of the ledger: a client was told, and may act on it.
type Acknowledgement struct {
	AtNS     int64  `json:"at_ns"`
	GID      string `json:"gid"`
	Kind     string `json:"kind"`
	Branch   string `json:"branch,omitempty"`
	Vote     string `json:"vote,omitempty"`
	Decision string `json:"decision,omitempty"`
}

// Ledger is a file of acknowledgements on the client's side. An acknowledgement
// counts only once it is synced there: what the file holds must stand for ever.
type Ledger struct {
	file *os.File

	mu      sync.Mutex
	pending []byte
	counted []func()
	err     error

	stop chan struct{}
	done chan struct{}
}

// NewLedger makes a new ledger. It ends with Close.
func NewLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the ledger: %w", err)
	}
	l := &Ledger{file: f, stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l, nil
}

// Acknowledge writes a line. synced, which may be nil, is called from the
// ledger's goroutine once the line is on the disk.
func (l *Ledger) Acknowledge(a Acknowledgement, synced func()) {
	line, err := json.Marshal(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, err)
	l.pending = append(append(l.pending, line...), '\n')
	if synced != nil {
		l.counted = append(l.counted, synced)
	}
}

// run syncs what was gathered, again and again.
func (l *Ledger) run() {
	defer close(l.done)
	tick := time.NewTicker(ledgerInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.sync()
		case <-l.stop:
			l.sync()
			return
		}
	}
}

func (l *Ledger) sync() {
	l.mu.Lock()
	pending, counted := l.pending, l.counted
	l.pending, l.counted = nil, nil
	l.mu.Unlock()
	if len(pending) == 0 {
		return
	}
	_, err := l.file.Write(pending)
	if err = errors.Join(err, l.file.Sync()); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = errors.Join(l.err, err)
		return // what is not synced does not count
	}
	for _, f := range counted {
		f()
	}
}

// Close syncs the rest and returns the first error of the ledger's life.
func (l *Ledger) Close() error {
	close(l.stop)
	<-l.done
	return errors.Join(l.err, l.file.Close())
}

// ReadLedger reads a ledger back. A last line that was cut is left out: it was
// never counted.
func ReadLedger(path string) ([]Acknowledgement, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	defer f.Close()
	var all []Acknowledgement
	lines := bufio.NewReader(f)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		var a Acknowledgement
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("read the ledger: line %d: %w", number, err)
		}
		all = append(all, a)
	}
}
