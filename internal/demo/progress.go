package demo

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress tells people what goes on, a line an event. It may be used from any
// goroutine.
type Progress struct {
	mu      sync.Mutex
	w       io.Writer
	started time.Time
}

// NewProgress writes to w; nil: nowhere.
func NewProgress(w io.Writer) *Progress {
	if w == nil {
		w = io.Discard
	}
	return &Progress{w: w, started: time.Now()}
}

// Say prints a line: the seconds since the start, what it is about, the words.
func (p *Progress) Say(about, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%6.1fs  %-9s %s\n", time.Since(p.started).Seconds(), about, fmt.Sprintf(format, args...))
}
