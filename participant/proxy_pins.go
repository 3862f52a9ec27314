package participant

import (
	"context"
	"database/sql/driver"
	"fmt"
	"sync"
	"time"
)

// pins are a proxy's branches, and the connections that they keep.
type pins struct {
	slots chan struct{} // one for each branch that may pin

	mu sync.Mutex
	// live are the branches that this process works on or has prepared, until they end.
	live map[BranchRef]*branchTx
	// free are connections that ended branches gave back, oldest first.
	free   []freeConn
	closed bool
}

// freeConn is a connection with what is known of its session.
type freeConn struct {
	raw   driver.Conn
	state *sessionState
}

func newPins(limit int) pins {
	return pins{slots: make(chan struct{}, limit), live: make(map[BranchRef]*branchTx)}
}

// reserve takes a slot, waiting for one at most wait.
func (p *pins) reserve(ctx context.Context, wait time.Duration, resource string) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", p.full(resource, wait), context.Cause(ctx))
	case <-timer.C:
		return p.full(resource, wait)
	}
}

func (p *pins) full(resource string, wait time.Duration) error {
	return fmt.Errorf("%w: %d branches of %q are being worked on or wait for their decision, and none ended within %v; see them with `quorate tx ls`, or raise participant.PinnedMax",
		ErrPinned, cap(p.slots), resource, wait)
}

func (p *pins) release() { <-p.slots }

func (p *pins) add(t *branchTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[t.ref] = t
}

func (p *pins) remove(t *branchTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live[t.ref] == t {
		delete(p.live, t.ref)
	}
}

func (p *pins) get(ref BranchRef) *branchTx {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live[ref]
}

// list is every live branch.
func (p *pins) list() []*branchTx {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*branchTx, 0, len(p.live))
	for _, t := range p.live {
		out = append(out, t)
	}
	return out
}

// sibling is another live branch of the same transaction, or nil.
func (p *pins) sibling(ref BranchRef) *branchTx {
	for _, t := range p.list() {
		if t.ref.GID == ref.GID && t.ref.ID != ref.ID {
			return t
		}
	}
	return nil
}

// give keeps a connection for reuse, or closes it: as many are kept as may be pinned,
// for as many come back when their decisions do.
func (p *pins) give(raw driver.Conn, state *sessionState) {
	p.mu.Lock()
	if !p.closed && len(p.free) < cap(p.slots) {
		p.free = append(p.free, freeConn{raw, state})
		raw = nil
	}
	p.mu.Unlock()
	if raw != nil {
		_ = raw.Close()
	}
}

// reuse returns a connection that still works, or nil.
func (p *pins) reuse(ctx context.Context) (driver.Conn, *sessionState) {
	for {
		p.mu.Lock()
		n := len(p.free)
		if n == 0 {
			p.mu.Unlock()
			return nil, nil
		}
		raw, state := p.free[n-1].raw, p.free[n-1].state
		p.free = p.free[:n-1]
		p.mu.Unlock()
		valid := true
		if v, ok := raw.(driver.Validator); ok {
			valid = v.IsValid()
		}
		if r, ok := raw.(driver.SessionResetter); valid && ok {
			valid = r.ResetSession(ctx) == nil
		}
		if valid {
			return raw, state
		}
		_ = raw.Close()
	}
}

// close closes the connections that are kept. What was prepared stays prepared
// in the database; what was held rolls back.
func (p *pins) close() {
	p.mu.Lock()
	p.closed = true
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, f := range free {
		_ = f.raw.Close()
	}
	for _, t := range p.list() {
		t.drop()
	}
}
