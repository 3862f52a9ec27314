package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/raftnode"
)

// forgetful is a machine that misses the Begin of one key: a memory fault.
type forgetful struct {
	raftnode.Machine
	state *fsm.State
	key   string
}

func (f forgetful) ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error) {
	batch, err := fsm.DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	for _, c := range batch.GetCommands() {
		if begin := c.GetBegin(); begin.GetKey() == f.key {
			begin.Key = "bit-flipped"
		}
	}
	return f.state.Apply(fsm.Meta{Index: index, Term: term}, batch)
}

// inProcess is a node of this process, so that a fault can be put into it.
type inProcess struct {
	*servingNode
	fatal chan error // what the process would have ended for
}

func startInProcess(t *testing.T, name string, forget string, flags func(*config.Config)) *inProcess {
	t.Helper()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Raft.Profile = name, filepath.Join(t.TempDir(), "data"), "fast"
	for _, address := range []*string{&cfg.Listen.HTTP, &cfg.Listen.GRPC, &cfg.Listen.Raft} {
		free, err := cluster.FreeAddress("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		*address = free
	}
	flags(&cfg)
	p := &inProcess{fatal: make(chan error, 2)}
	s := defaultSeams()
	s.fatal = func(err error) { p.fatal <- err }
	s.settings = func(cfg *config.Config) coordinator.Settings {
		settings := driverSettings(cfg)
		settings.AuditInterval = 50 * time.Millisecond
		return settings
	}
	if forget != "" {
		s.machine = func(state *fsm.State) raftnode.Machine { return forgetful{raftnode.State(state), state, forget} }
	}
	var err error
	if p.servingNode, err = openNode(&cfg, slog.New(slog.DiscardHandler), s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = p.run(ctx)
		_ = p.close()
	}()
	t.Cleanup(func() {
		cancel()
		<-closed
	})
	return p
}

// threeInProcess starts three nodes of which the one at the place forgets; the
// first one leads.
func threeInProcess(t *testing.T, forgets int) []*inProcess {
	t.Helper()
	var nodes []*inProcess
	for i, name := range []string{"n1", "n2", "n3"} {
		forget := ""
		if i == forgets {
			forget = "order-4711"
		}
		nodes = append(nodes, startInProcess(t, name, forget, func(c *config.Config) {
			if i == 0 {
				c.Cluster.Bootstrap = true
			} else {
				c.Cluster.Join = []string{nodes[0].cfg.Listen.GRPC}
			}
		}))
	}
	testkit.Eventually(t, 30*time.Second, func() bool {
		s := nodes[0].raft.Status()
		voters := 0
		for _, server := range s.Servers {
			if server.Voter {
				voters++
			}
		}
		return voters == 3 && s.Leader.ID == s.Identity.NodeID
	}, "three voters")
	return nodes
}

func begunBy(t *testing.T, n *inProcess, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := n.coordinator.Begin(ctx, &logpb.Begin{Namespace: "default", Key: key, Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_EXPLICIT, TimeoutMs: 30_000}); err != nil {
		t.Fatal(err)
	}
}

// S17: a node that differs from the majority stops, loudly, and the others go on.
func TestS17_AFollowerThatDiffersStops(t *testing.T) {
	nodes := threeInProcess(t, 2)
	begunBy(t, nodes[0], "order-1")
	begunBy(t, nodes[0], "order-4711")
	select {
	case err := <-nodes[2].fatal:
		if !errors.Is(err, fsm.ErrDigest) {
			t.Errorf("stopped for %v, want its digest", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the node that differs goes on")
	}
	begunBy(t, nodes[0], "order-2")
	for _, n := range nodes[:2] {
		select {
		case err := <-n.fatal:
			t.Errorf("a healthy node stopped: %v", err)
		default:
		}
	}
}

// S17, and PROTOCOL.md section 6: a leader that differs from the majority stops
// itself, and takes no healthy follower with it.
func TestS17_ALeaderThatDiffersStopsItself(t *testing.T) {
	nodes := threeInProcess(t, 0)
	begunBy(t, nodes[0], "order-4711")
	select {
	case err := <-nodes[0].fatal:
		if !errors.Is(err, coordinator.ErrMinority) {
			t.Errorf("stopped for %v, want its being the odd one", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the leader that differs goes on")
	}
	for _, n := range nodes[1:] {
		select {
		case err := <-n.fatal:
			t.Errorf("a healthy follower stopped: %v", err)
		default:
		}
	}
}
