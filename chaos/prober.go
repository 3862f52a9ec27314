package chaos

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate/participant"
)

const (
	// probeInterval is how often a small transaction is asked for.
	probeInterval = 20 * time.Millisecond
	// probesMax bounds the probes that were not answered yet.
	probesMax = 512
)

// prober asks for a small decision every 20 ms, as an application does that
// uses the SDK: what it waits for is what users wait for.
type prober struct {
	env    *Env
	client *participant.Client
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu      sync.Mutex
	answers []probe
	waits   []firstAnswer
}

// probe is one acknowledged decision; times count from the run's start.
type probe struct{ asked, answered time.Duration }

// firstAnswer is somebody's wish to hear of the first acknowledgement of a probe
// that was asked for after a moment.
type firstAnswer struct {
	after time.Duration
	heard chan time.Duration
}

// startProber starts it. It ends with stop.
func startProber(ctx context.Context, env *Env) (*prober, error) {
	client, err := participant.Dial(ctx, env.Cluster.Endpoints())
	if err != nil {
		return nil, err
	}
	p := &prober{env: env, client: client}
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.ended.Go(func() { p.ask(ctx) })
	return p, nil
}

func (p *prober) ask(ctx context.Context) {
	slots := make(chan struct{}, probesMax)
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
			probes.Go(func() {
				p.probe(ctx)
				<-slots
			})
		default: // all wait: one more would tell nothing new
		}
	}
}

func (p *prober) probe(ctx context.Context) {
	asked := p.env.Now()
	if err := p.client.Run(ctx, func(context.Context) error { return nil }); err != nil {
		return
	}
	answered := p.env.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, probe{asked, answered})
	kept := p.waits[:0]
	for _, w := range p.waits {
		if asked > w.after {
			w.heard <- answered
			continue
		}
		kept = append(kept, w)
	}
	p.waits = kept
}

// firstAfter answers when the first decision asked for after the moment is
// acknowledged.
func (p *prober) firstAfter(after time.Duration) <-chan time.Duration {
	heard := make(chan time.Duration, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits = append(p.waits, firstAnswer{after, heard})
	return heard
}

// took returns how long the probes took that were asked in the span.
func (p *prober) took(from, to time.Duration) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []time.Duration
	for _, a := range p.answers {
		if a.asked >= from && a.asked < to {
			all = append(all, a.answered-a.asked)
		}
	}
	return all
}

// count returns how many probes were acknowledged.
func (p *prober) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.answers)
}

func (p *prober) stop() {
	p.cancel()
	p.ended.Wait()
	_ = p.client.Close()
}
