package coordinator

import (
	"context"
	"fmt"
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
	// proposed hears what came of the commands that have a token.
	proposed func([]ProposeResult)

	mu      sync.Mutex
	pending []batched
	held    int // commands, pending ones and those under way
	running int
	stopped bool
	wg      sync.WaitGroup
}

// batched is a command, and who hears of it beside the core.
type batched struct {
	Propose
	done func(result) // or nil
	// doubtful: it was proposed before, and may have been appended then.
	doubtful bool
}

// failed is what the failure of a try is for who waits: nobody may hear that nothing was
// done because the last of several tries did nothing.
func (b *batched) failed(err error) error {
	if err == nil || !b.doubtful {
		return err
	}
	return fmt.Errorf("%w: it may have been appended; the last try: %v", ErrUnknown, err) //nolint:errorlint // the last error's kind is not what happened
}

// result is what a command came to.
type result struct {
	result fsm.Result
	err    error
}

func (b *batched) tell(r fsm.Result, err error) {
	err = b.failed(err)
	b.Tell(r, err)
	if b.done != nil {
		b.done(result{r, err})
	}
}

// add queues commands. They are told of in a goroutine of the batcher's.
func (b *batcher) add(commands ...batched) {
	if len(commands) == 0 {
		return
	}
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		for i := range commands {
			commands[i].tell(fsm.Result{}, ErrClosed)
		}
		return
	}
	defer b.mu.Unlock()
	b.pending = append(b.pending, commands...)
	b.held += len(commands)
	for n := 0; n < len(commands) && b.running < batchesMax; n += batchCommandsMax {
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
			commands[i] = batch[i].Command
		}
		results, _, err := b.log.Propose(b.ctx, commands...)
		told := tellAll(batch, results, err)
		b.done(len(batch))
		if told != nil {
			b.proposed(told)
		}
	}
}

// tellAll tells who waits for the commands what came of them, and returns what the core
// is to hear.
func tellAll(batch []batched, results []fsm.Result, err error) (told []ProposeResult) {
	for i := range batch {
		var r fsm.Result
		if err == nil {
			r = results[i]
		}
		batch[i].tell(r, err)
		if batch[i].Token != 0 {
			told = append(told, ProposeResult{batch[i].Token, r, batch[i].failed(err)})
		}
	}
	return told
}

func (b *batcher) done(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
}

// inHand counts the commands that were added and are not answered.
func (b *batcher) inHand() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
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
