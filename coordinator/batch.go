package coordinator

import (
	"context"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The batcher's bounds: commands a proposal, and proposals under way at once.
const (
	batchCommandsMax = 128
	batchesMax       = 4
)

// batcher gathers commands that nobody's answer waits for on its own (reports,
// the driver's decisions and ticks) into shared proposals. A proposal goes off
// at once while few are under way; meanwhile the next one fills. No timer.
type batcher struct {
	log Log
	ctx context.Context

	mu      sync.Mutex
	pending []batched
	running int
	stopped bool
	wg      sync.WaitGroup
}

type batched struct {
	command *logpb.Command
	done    func(result)
}

// result is what a command came to.
type result struct {
	result fsm.Result
	err    error
}

// add queues a command. done runs in a goroutine of the batcher's.
func (b *batcher) add(command *logpb.Command, done func(result)) {
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		done(result{err: ErrClosed})
		return
	}
	defer b.mu.Unlock()
	b.pending = append(b.pending, batched{command, done})
	if b.running < batchesMax {
		b.running++
		b.wg.Go(b.drain)
	}
}

// drain proposes what is pending until nothing is.
func (b *batcher) drain() {
	for {
		batch := b.take()
		if batch == nil {
			return
		}
		commands := make([]*logpb.Command, len(batch))
		for i := range batch {
			commands[i] = batch[i].command
		}
		results, _, err := b.log.Propose(b.ctx, commands...)
		for i := range batch {
			r := result{err: err}
			if err == nil {
				r.result = results[i]
			}
			batch[i].done(r)
		}
	}
}

func (b *batcher) take() []batched {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.pending), batchCommandsMax)
	if n == 0 {
		b.running--
		return nil
	}
	batch := b.pending[:n:n]
	b.pending = b.pending[n:]
	return batch
}

// close refuses what comes, and joins the goroutines; the context must have ended.
func (b *batcher) close() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.wg.Wait()
}
