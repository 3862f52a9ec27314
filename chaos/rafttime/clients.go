package rafttime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/raftnode"
)

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

// client is one client: now and then an operation, sometimes many at once.
func (s *clients) client(k int) {
	random := rand.New(rand.NewPCG(s.c.cfg.Seed, uint64(100+k)))
	sequence := 0
	for {
		pause := time.Duration(random.ExpFloat64() * float64(2*time.Second))
		burst := 1
		if random.IntN(20) == 0 {
			burst = 12
		}
		select {
		case <-time.After(pause):
		case <-s.stop:
			return
		}
		for range burst {
			members := *s.members.Load()
			m := members[random.IntN(len(members))]
			node, machine := m.running()
			if node == nil {
				continue
			}
			if l, ok := node.Leader(); ok && random.IntN(4) > 0 {
				for _, other := range members { // as it says; else whoever was asked
					if other.id == l.ID {
						if n, mc := other.running(); n != nil {
							m, node, machine = other, n, mc
						}
					}
				}
			}
			if random.IntN(3) == 0 {
				s.read(m, node, machine)
				continue
			}
			sequence++
			s.write(node, random.IntN(registers), fmt.Sprintf("%d.%d", k, sequence), random)
		}
	}
}

// write writes one register once. What comes of it is told to the judge.
func (s *clients) write(node *raftnode.Node, k int, value string, random *rand.Rand) error {
	patience := time.Duration(50+random.IntN(3000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
func (s *clients) read(m *member, node *raftnode.Node, machine *machine) {
	floor := s.c.floor()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
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
