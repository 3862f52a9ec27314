// Package timebox bounds what many do at once in time, without a timer for each.
package timebox

import (
	"context"
	"sync"
	"time"
)

// slackMax is how much longer than asked a context may last.
const slackMax = time.Second

// Contexts gives out contexts that end with a parent, or in time: those that are asked for
// shortly after each other are one. It serves one bound, and one parent at a time: for another
// one it begins anew. It needs no making.
type Contexts struct {
	mu     sync.Mutex
	parent context.Context
	ctx    context.Context
	cancel context.CancelFunc // never called: others use the context; its time ends it
	until  time.Time
}

// Get is a context that ends with parent, or after d and up to an eighth of it more, but
// for a second at most.
func (c *Contexts) Get(parent context.Context, d time.Duration) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	slack := min(d/8, slackMax)
	if now := time.Now(); c.parent != parent || now.After(c.until) {
		c.parent = parent
		c.ctx, c.cancel = context.WithTimeout(parent, d+slack)
		c.until = now.Add(slack)
	}
	return c.ctx
}
