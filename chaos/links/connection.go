package links

import (
	"io"
	"net"
	"sync"
	"time"
)

// connection is a connection through a link: from the dialler to the proxy, and
// from there to the target.
type connection struct {
	link     *link
	dialler  *net.TCPConn
	target   *net.TCPConn
	done     chan struct{} // closed when it must end at once
	closeOne sync.Once

	mu   sync.Mutex
	kept *net.TCPConn // half-open: the side that was not told of the end
}

// run carries both ways until both have ended or one was broken.
func (c *connection) run() {
	there := &lane{conn: c, path: c.link.there, src: c.dialler, dst: c.target}
	back := &lane{conn: c, path: c.link.back, src: c.target, dst: c.dialler}
	var wait sync.WaitGroup
	for _, l := range []*lane{there, back} {
		wait.Go(func() {
			if err := l.run(); err != nil {
				c.abort() // as a machine answers what belongs to no connection
			}
			if l == back {
				c.link.target.suspect() // its process may be gone
			}
		})
	}
	wait.Wait()
	switch c.halfOpen() {
	case c.dialler:
		c.ignore(c.dialler, c.link.there)
	case c.target:
		c.ignore(c.target, c.link.back)
	}
	c.dialler.Close()
	c.target.Close()
}

// over says that it must end at once.
func (c *connection) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// abort ends it by RST to both sides; but to a half-open one's only to who was
// told before.
func (c *connection) abort() {
	c.closeOne.Do(func() { close(c.done) })
	for _, side := range []*net.TCPConn{c.dialler, c.target} {
		if side != c.halfOpen() {
			reset(side)
		}
	}
}

// halve breaks it for one side alone: the other one hears nothing, and what it
// says is lost, until mend answers it with RST. Nil when it had ended.
func (c *connection) halve(tellDialler bool) (mend func()) {
	told, kept, path := c.dialler, c.target, c.link.back
	if !tellDialler {
		told, kept, path = c.target, c.dialler, c.link.there
	}
	c.mu.Lock()
	if c.kept != nil || c.over() {
		c.mu.Unlock()
		return nil
	}
	c.kept = kept
	c.mu.Unlock()
	path.count(func(n *Counts) { n.HalfOpen++ })
	c.closeOne.Do(func() { close(c.done) })
	reset(told)
	_ = kept.SetReadDeadline(time.Unix(1, 0)) // the lane that reads it ends, and run goes on
	return func() { reset(kept) }
}

// ignore takes what a half-open side goes on saying, until it is reset or ends.
func (c *connection) ignore(kept *net.TCPConn, path *path) {
	_ = kept.SetReadDeadline(time.Time{})
	n, _ := io.Copy(io.Discard, kept)
	path.count(func(c *Counts) { c.Unheard += n })
}

func (c *connection) halfOpen() *net.TCPConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// reset closes a connection by RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
