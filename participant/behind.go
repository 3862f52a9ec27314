package participant

import "sync"

// PrepareBehind has the branches of the initiator's own process prepare while its
// function goes on: Commit of a local transaction returns at once, and the commit of the
// whole waits for all of them. A transaction over two databases then takes one flush less
// of the time that its initiator waits.
//
// The price: what Commit of a local transaction would have answered, the commit of the
// whole does ([Client.Run] with the error that it would have been, and it rolls back). And
// the local transaction's connection leaves its pool until it is prepared: more of them
// may be open than sql.DB.SetMaxOpenConns admits.
//
// It is heeded in one-shot transactions only; not for held branches, with [CommitWaits],
// or while prepared statements of the local transaction are open.
func PrepareBehind() TxOption { return func(o *txOptions) { o.behind = true } }

// behind are the prepares that a scope's code does not wait for.
type behind struct {
	mu     sync.Mutex
	wanted bool
	joined bool // no more begin
	err    error
	work   sync.WaitGroup
}

// begin makes room for one; nil where it must be waited for. What it returns must be
// called once, and runs the function it is given.
func (b *behind) begin() (run func(prepare func() error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wanted || b.joined {
		return nil
	}
	b.work.Add(1)
	return func(prepare func() error) {
		go func() {
			defer b.work.Done()
			if err := prepare(); err != nil {
				b.mu.Lock()
				defer b.mu.Unlock()
				if b.err == nil {
					b.err = err
				}
			}
		}()
	}
}

// join waits for all of them, each of which is bounded by commandTimeout, and returns the
// first error. From now on none begins.
func (b *behind) join() error {
	b.mu.Lock()
	b.joined = true
	b.mu.Unlock()
	b.work.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
