package bench

import "sync/atomic"

// gate holds up, while it is shut, the participants and branches of a transaction: what
// is in the log when its caller is answered was needed for the answer.
type gate struct{ opened atomic.Pointer[chan struct{}] }

func (g *gate) shut() {
	opened := make(chan struct{})
	g.opened.Store(&opened)
}

func (g *gate) open() {
	if opened := g.opened.Swap(nil); opened != nil {
		close(*opened)
	}
}

// wait is closed when the gate opens; nil: it is open.
func (g *gate) wait() <-chan struct{} {
	if opened := g.opened.Load(); opened != nil {
		return *opened
	}
	return nil
}
