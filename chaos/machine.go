package chaos

import (
	"context"
	"sync"
	"time"
)

// lateness watches how late the machine wakes this process up: it says how much of a
// failover, or of a leadership that did not last, was the machine's.
type lateness struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	all    []time.Duration
}

const latenessEvery = 10 * time.Millisecond

func watchLateness(ctx context.Context) *lateness {
	l := &lateness{}
	ctx, l.cancel = context.WithCancel(ctx)
	l.wait.Go(func() {
		for {
			asked := time.Now()
			pause(ctx, latenessEvery)
			if ctx.Err() != nil {
				return
			}
			l.all = append(l.all, max(0, time.Since(asked)-latenessEvery))
		}
	})
	return l
}

// stop ends the watch and returns how late it was.
func (l *lateness) stop() Spread {
	l.cancel()
	l.wait.Wait()
	return spread(l.all)
}
