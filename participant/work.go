package participant

import (
	"context"
	"time"
)

// goDo runs f in a goroutine that Close waits for; not at all once it waits.
func (c *Client) goDo(f func()) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.work.Add(1)
	c.mu.Unlock()
	go func() {
		defer c.work.Done()
		f()
	}()
}

// background runs f with a context of its own: until the client is closed, at
// most for d.
func (c *Client) background(d time.Duration, f func(context.Context)) {
	c.goDo(func() {
		ctx, cancel := context.WithTimeout(c.ctx, max(d, time.Second))
		defer cancel()
		f(ctx)
	})
}

// Done is closed when the client is.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }
