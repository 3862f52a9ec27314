package raftnode

import (
	"context"
	"sync"
)

// progress is the index up to which the machine has applied, and who waits for it.
type progress struct {
	mu      sync.Mutex
	index   uint64
	changed chan struct{} // closed at the next advance; nil while nobody waits
}

// advance records that everything up to index has been applied. A lower index
// than before changes nothing.
func (p *progress) advance(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index {
		return
	}
	p.index = index
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *progress) applied() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

// wait returns when index has been applied, closed is closed or ctx ends.
func (p *progress) wait(ctx context.Context, closed <-chan struct{}, index uint64) error {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-closed:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
