package links

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Weather is what a path does to what passes it. The zero value is clear: all
// passes at once.
type Weather struct {
	// Cut lets nothing pass. What is sent is held, and arrives when the cut ends,
	// as TCP's own repetitions would bring it; no end of a connection is told;
	// new connections wait.
	Cut bool
	// Delay is added to everything that passes, and up to Jitter more, drawn anew
	// for each read. Order within a connection stays, as TCP keeps it.
	Delay, Jitter time.Duration
	// Loss is the share of reads that are lost once: TCP sends them again after
	// RetransmitMin, or twice that when they are lost again, and so on; all that
	// comes behind waits with them.
	Loss float64
	// BytesPerSecond bounds what passes; 0 does not.
	BytesPerSecond int
}

// RetransmitMin is how long TCP waits at least before it sends again (Linux).
const RetransmitMin = 200 * time.Millisecond

// and is the weather where both w and v are at once.
func (w Weather) and(v Weather) Weather {
	w.Cut = w.Cut || v.Cut
	w.Delay += v.Delay
	w.Jitter += v.Jitter
	w.Loss = max(w.Loss, v.Loss)
	if w.BytesPerSecond == 0 || v.BytesPerSecond > 0 && v.BytesPerSecond < w.BytesPerSecond {
		w.BytesPerSecond = v.BytesPerSecond
	}
	return w
}

func (w Weather) clear() bool { return w == Weather{} }

// path is the way of packets from one process to another. Links of both
// directions run over it: those that the first has dialed send requests over
// it, those that the second has dialed send answers.
type path struct {
	from, to string

	mu      sync.Mutex
	weather Weather               // all layers at once
	layers  map[*Weather]struct{} // one a fault
	changed chan struct{}         // closed and renewed at each change
	rand    *rand.Rand
	counts  Counts
	bytes   atomic.Int64 // Counts.Bytes
}

// Counts is what happened on paths: the evidence that a fault was real. Reads
// stand for packets: one holds what the sender's kernel had ready.
type Counts struct {
	// Bytes that passed.
	Bytes int64 `json:"bytes"`
	// Held and HeldBytes are reads that came into a cut.
	Held      int64 `json:"held"`
	HeldBytes int64 `json:"held_bytes"`
	// Waited are connections that were dialed into a cut.
	Waited int64 `json:"waited"`
	// Delayed and Lost are reads that were delayed, and lost at least once.
	Delayed int64 `json:"delayed"`
	Lost    int64 `json:"lost"`
	// Resets are connections that were ended by RST; Refused those that were not
	// let in. HalfOpen are those of which one side alone was told of the end, and
	// Unheard the bytes that the other side went on sending.
	Resets   int64 `json:"resets"`
	Refused  int64 `json:"refused"`
	HalfOpen int64 `json:"half_open"`
	Unheard  int64 `json:"unheard"`
}

// Plus and Minus add and subtract counts.
func (c Counts) Plus(d Counts) Counts { return c.combine(d, 1) }

// Minus is what happened since d was counted.
func (c Counts) Minus(d Counts) Counts { return c.combine(d, -1) }

func (c Counts) combine(d Counts, sign int64) Counts {
	return Counts{
		Bytes: c.Bytes + sign*d.Bytes,
		Held:  c.Held + sign*d.Held, HeldBytes: c.HeldBytes + sign*d.HeldBytes, Waited: c.Waited + sign*d.Waited,
		Delayed: c.Delayed + sign*d.Delayed, Lost: c.Lost + sign*d.Lost,
		Resets: c.Resets + sign*d.Resets, Refused: c.Refused + sign*d.Refused,
		HalfOpen: c.HalfOpen + sign*d.HalfOpen, Unheard: c.Unheard + sign*d.Unheard,
	}
}

func newPath(from, to string, seed uint64) *path {
	return &path{
		from: from, to: to, layers: make(map[*Weather]struct{}), changed: make(chan struct{}),
		rand: rand.New(rand.NewPCG(seed, 0x6c696e6b73)),
	}
}

// now returns the weather, and what is closed when it changes.
func (p *path) now() (Weather, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.weather, p.changed
}

// cover adds a layer of weather, or removes it, and wakes whoever waits for a
// change.
func (p *path) cover(layer *Weather, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if there {
		p.layers[layer] = struct{}{}
	} else {
		delete(p.layers, layer)
	}
	p.renew()
}

// clear removes every layer.
func (p *path) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.layers)
	p.renew()
}

func (p *path) renew() {
	before := p.weather
	p.weather = Weather{}
	for layer := range p.layers {
		p.weather = p.weather.and(*layer)
	}
	if p.weather != before {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *path) count(f func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.counts)
}

// counted returns the counts so far.
func (p *path) counted() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts
	c.Bytes = p.bytes.Load()
	return c
}

// hinder says how long a read of n bytes is under way in this weather, beside
// what waits before it, and counts it.
func (p *path) hinder(w Weather, n int) (delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Cut {
		p.counts.Held++
		p.counts.HeldBytes += int64(n)
	}
	if delay = w.Delay; w.Jitter > 0 {
		delay += time.Duration(p.rand.Int64N(int64(w.Jitter)))
	}
	if delay > 0 {
		p.counts.Delayed++
	}
	if w.Loss > 0 && p.rand.Float64() < w.Loss {
		p.counts.Lost++
		again := RetransmitMin
		for delay += again; p.rand.Float64() < w.Loss && again < 8*RetransmitMin; delay += again {
			again *= 2
		}
	}
	return delay
}
