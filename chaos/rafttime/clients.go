package rafttime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/raftnode"
)

// weather says how much the clients do. In a storm they do hundreds of things a
// second: where leadership changes hands is where answers go wrong, and it takes
// milliseconds.
type weather struct {
	mu     sync.Mutex
	random *rand.Rand
	until  time.Time
	wakes  chan struct{} // closed when a storm begins
}

func newWeather(seed uint64) weather {
	return weather{random: rand.New(rand.NewPCG(seed, 2)), wakes: make(chan struct{})}
}

// storm begins one, or not.
func (c *cluster) storm(lasts time.Duration) {
	w := &c.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.random.Float64() >= c.cfg.Storms {
		return
	}
	if until := time.Now().Add(lasts); until.After(w.until) {
		w.until = until
	}
	close(w.wakes)
	w.wakes = make(chan struct{})
}

// pause is how long a client does nothing, and what ends it early.
func (c *cluster) pause(random *rand.Rand) (time.Duration, <-chan struct{}) {
	w := &c.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	mean := 2 * time.Second
	if time.Now().Before(w.until) {
		mean = 4 * time.Millisecond
	}
	return time.Duration(random.ExpFloat64() * float64(mean)), w.wakes
}

// patience is how long a client waits for an answer: in a storm not for long, or
// the first node that does not answer would have all of them waiting.
func (c *cluster) patience(random *rand.Rand) time.Duration {
	w := &c.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	most := 3000
	if time.Now().Before(w.until) {
		most = 100
	}
	return time.Duration(20+random.IntN(most)) * time.Millisecond
}

// clients write and read from any node, whatever happens.
type clients struct {
	c       *cluster
	members atomic.Pointer[[]*member] // those that there are
	stop    chan struct{}
	done    chan struct{}
}

// clientCount is how many clients there are.
const clientCount = 4

func (c *cluster) clients() *clients {
	s := &clients{c: c, stop: make(chan struct{}), done: make(chan struct{})}
	s.look()
	ended := make(chan struct{})
	for k := range clientCount {
		go func() {
			s.client(k)
			ended <- struct{}{}
		}()
	}
	go func() {
		for range clientCount {
			<-ended
		}
		close(s.done)
	}()
	return s
}

// look tells the clients which members there are.
func (s *clients) look() {
	members := append([]*member(nil), s.c.members...)
	s.members.Store(&members)
}

func (s *clients) end() {
	close(s.stop)
	<-s.done
}

// client is one client.
func (s *clients) client(k int) {
	random := rand.New(rand.NewPCG(s.c.cfg.Seed, uint64(100+k)))
	sequence := 0
	for {
		pause, wakes := s.c.pause(random)
		select {
		case <-time.After(pause):
		case <-wakes:
		case <-s.stop:
			return
		}
		m, node, machine := s.choose(random)
		switch {
		case node == nil:
		case random.IntN(3) == 0:
			s.read(m, node, machine, random)
		default:
			sequence++
			_ = s.write(node, random.IntN(registers), fmt.Sprintf("%d.%d", k, sequence), random)
		}
	}
}

// choose picks a node: any, or most of the time the one that this one takes for
// the leader.
func (s *clients) choose(random *rand.Rand) (*member, *raftnode.Node, *machine) {
	members := *s.members.Load()
	m := members[random.IntN(len(members))]
	node, machine := m.running()
	if node == nil {
		return m, nil, nil
	}
	if l, ok := node.Leader(); ok && random.IntN(4) > 0 {
		for _, other := range members {
			if n, mc := other.running(); n != nil && other.id == l.ID {
				return other, n, mc
			}
		}
	}
	return m, node, machine
}

// write writes one register once. What comes of it is told to the judge.
func (s *clients) write(node *raftnode.Node, k int, value string, random *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.c.patience(random))
	defer cancel()
	p, err := node.Propose(ctx, write(k, value))
	switch {
	case err == nil:
		s.c.acknowledged(value, p.Index)
	case errors.Is(err, raftnode.ErrUnknown):
		s.c.count(func(r *Report) { r.Unknown++ })
	default:
		s.c.refuse(value)
	}
	return err
}

// read reads behind ReadIndex: what it sees must hold all that was acknowledged
// before it began.
func (s *clients) read(m *member, node *raftnode.Node, machine *machine, random *rand.Rand) {
	floor := s.c.floor()
	ctx, cancel := context.WithTimeout(context.Background(), s.c.patience(random))
	defer cancel()
	index, err := node.ReadIndex(ctx)
	if err != nil {
		return
	}
	var sees uint64
	node.View(func() { sees = machine.Clock().AppliedIndex })
	s.c.count(func(r *Report) { r.Reads++ })
	if sees < floor {
		s.c.breach("a read on %s saw index %d (ReadIndex said %d), and %d was acknowledged before it began", m.name, sees, index, floor)
	}
}
