package rafttime

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// half is one direction of a connection: what was written and not read yet.
type half struct {
	mu       sync.Mutex
	chunks   []chunk
	deadline time.Time // of the reader
	closed   bool      // by the reader
	reset    bool
	ready    chan struct{} // holds one: something has changed
}

// chunk is one write, or the end when data is nil.
type chunk struct {
	data []byte
	at   time.Time // it arrives
}

func newHalf() *half { return &half{ready: make(chan struct{}, 1)} }

func (h *half) wake() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// conn is one end of a connection.
type conn struct {
	net           *network
	local, remote string
	in, out       *half

	mu            sync.Mutex
	writeDeadline time.Time
	once          sync.Once
}

var _ net.Conn = (*conn)(nil)

// Read waits for what has arrived.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err, wait := c.take(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if wait < 0 {
			<-c.in.ready
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.in.ready:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take reads what is there, or says how long there will be nothing unless
// something changes; below zero for ever.
func (c *conn) take(p []byte) (n int, err error, wait time.Duration) { //nolint:revive,staticcheck // the error is not the last thing it says
	cut := c.net.isCut(direction{c.remote, c.local})
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case h.closed:
		return 0, net.ErrClosed, 0
	case h.reset:
		return 0, errReset, 0
	case !h.deadline.IsZero() && !now.Before(h.deadline):
		return 0, os.ErrDeadlineExceeded, 0
	}
	wait = -1
	if !h.deadline.IsZero() {
		wait = h.deadline.Sub(now)
	}
	if cut || len(h.chunks) == 0 {
		return 0, nil, wait
	}
	first := &h.chunks[0]
	if late := first.at.Sub(now); late > 0 {
		if wait < 0 || late < wait {
			wait = late
		}
		return 0, nil, wait
	}
	if first.data == nil {
		return 0, io.EOF, 0
	}
	n = copy(p, first.data)
	if first.data = first.data[n:]; len(first.data) == 0 {
		h.chunks = h.chunks[1:]
	}
	return n, nil, 0
}

// Write sends a copy of p on its way.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.mu.Lock()
	late := !c.writeDeadline.IsZero() && !time.Now().Before(c.writeDeadline)
	c.mu.Unlock()
	if late {
		return 0, os.ErrDeadlineExceeded
	}
	if err := c.usable(); err != nil {
		return 0, err
	}
	if c.net.isCut(direction{c.local, c.remote}) {
		c.net.mu.Lock()
		c.net.held += len(p)
		c.net.mu.Unlock()
	}
	return len(p), c.send(append(make([]byte, 0, len(p)), p...))
}

func (c *conn) usable() error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	switch {
	case c.in.closed:
		return net.ErrClosed
	case c.in.reset:
		return errReset
	}
	return nil
}

// send puts a chunk on its way, behind all that is under way already.
func (c *conn) send(data []byte) error {
	at := time.Now().Add(c.net.lateness(direction{c.local, c.remote}))
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.reset {
		return errReset
	}
	if k := len(h.chunks); k > 0 && h.chunks[k-1].at.After(at) {
		at = h.chunks[k-1].at
	}
	h.chunks = append(h.chunks, chunk{data, at})
	h.wake()
	return nil
}

// Close ends both directions; the other side reads what is under way, then the end.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.net.mu.Lock()
		delete(c.net.conns, c)
		c.net.mu.Unlock()
		c.send(nil) //nolint:errcheck // the other side may have closed before
		c.in.mu.Lock()
		c.in.closed, c.in.chunks = true, nil
		c.in.mu.Unlock()
		c.in.wake()
	})
	return nil
}

// breaks resets the connection on both sides.
func (c *conn) breaks() {
	for _, h := range []*half{c.in, c.out} {
		h.mu.Lock()
		h.reset = true
		h.mu.Unlock()
		h.wake()
	}
}

func (c *conn) LocalAddr() net.Addr  { return address(c.local) }
func (c *conn) RemoteAddr() net.Addr { return address(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t) //nolint:errcheck // it is nil
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	c.in.deadline = t
	c.in.mu.Unlock()
	c.in.wake()
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeDeadline = t
	return nil
}
