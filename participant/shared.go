package participant

import (
	"context"
	"sync"
	"time"
)

// sharedFor is how long a shared context is given out.
const sharedFor = time.Second

// shared gives out contexts that are bounded in time without a timer each: those
// asked for within sharedFor are one. It serves one parent and one bound.
type shared struct {
	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc // never called: others use the context; its time ends it
	until  time.Time
}

// within is a context that ends with parent, or after d to d + sharedFor.
func (s *shared) within(parent context.Context, d time.Duration) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.ctx == nil || now.After(s.until) {
		s.ctx, s.cancel = context.WithTimeout(parent, d+sharedFor)
		s.until = now.Add(sharedFor)
	}
	return s.ctx
}
