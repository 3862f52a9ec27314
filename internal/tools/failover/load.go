package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/participant"
)

// inFlightMax bounds the decisions asked for and not answered: an open loop
// that outruns the cluster must not grow without end.
const inFlightMax = 4096

// load asks for decisions: each is a transaction of no branches, begun and
// committed, so that nothing but the coordinator is measured.
type load struct {
	client *participant.Client
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup
	acks   atomic.Int64

	mu    sync.Mutex
	waits []wait
}

// wait is somebody's wish to hear of the first acknowledged decision that was
// asked for after a moment.
type wait struct {
	after time.Time
	heard chan time.Time
}

func startLoad(client *participant.Client) *load {
	ctx, cancel := context.WithCancel(context.Background())
	return &load{client: client, ctx: ctx, cancel: cancel}
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

func (l *load) acknowledged() int64 { return l.acks.Load() }

// decide asks for one decision and notes its acknowledgement.
func (l *load) decide(ctx context.Context) {
	asked := time.Now()
	if err := l.client.Run(ctx, func(context.Context) error { return nil }); err != nil {
		return
	}
	at := time.Now()
	l.acks.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.waits[:0]
	for _, w := range l.waits {
		if asked.After(w.after) {
			w.heard <- at
			continue
		}
		kept = append(kept, w)
	}
	l.waits = kept
}

// firstAfter answers with the time of the first acknowledgement of a decision
// that was asked for after the given moment.
func (l *load) firstAfter(after time.Time) <-chan time.Time {
	heard := make(chan time.Time, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits = append(l.waits, wait{after: after, heard: heard})
	return heard
}

// closedLoop runs callers for a while and returns decisions a second.
func (l *load) closedLoop(ctx context.Context, callers int, d time.Duration) float64 {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	before, start := l.acks.Load(), time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				l.decide(ctx)
			}
		})
	}
	wg.Wait()
	return float64(l.acks.Load()-before) / time.Since(start).Seconds()
}

// keepAsking has callers ask for one decision after the other until stop.
func (l *load) keepAsking(callers int) {
	for range callers {
		l.wg.Go(func() {
			for l.ctx.Err() == nil {
				l.decide(l.ctx)
			}
		})
	}
}

// openLoop asks for decisions at a steady rate until stop, whatever becomes of
// them.
func (l *load) openLoop(rate float64) {
	l.wg.Go(func() {
		slots := make(chan struct{}, inFlightMax)
		start, sent := time.Now(), 0
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-l.ctx.Done():
				return
			case <-tick.C:
			}
			for due := int(time.Since(start).Seconds() * rate); sent < due; sent++ {
				select {
				case slots <- struct{}{}:
				default:
					continue // outrun: what is not sent is not measured
				}
				l.wg.Go(func() {
					defer func() { <-slots }()
					l.decide(l.ctx)
				})
			}
		}
	})
}
