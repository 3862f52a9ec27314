package participant

import "time"

// WithStaleAfter replaces ClockStaleMax as the age at which a heard clock is
// refreshed.
func WithStaleAfter(d time.Duration) Option { return func(o *config) { o.staleAfter = d } }

// Live is the number of live branches.
func (c *Client) Live() int { return len(c.live.list()) }

// Kill ends the client as the death of its process would: without a goodbye.
func (c *Client) Kill() {
	c.cancel()
	_ = c.finish()
}
