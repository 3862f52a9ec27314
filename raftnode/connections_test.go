package raftnode

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// failing is a listener that is out of descriptors for a while.
type failing struct {
	net.Listener
	times int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.times > 0 {
		f.times--
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

// A node whose port could not accept for a while does so again; connections outlive the
// time that their greeting may take, and are forgotten when they end.
func TestStream_Connections(t *testing.T) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	cfg.Listener = &failing{listenOn(t, cfg.Address), 2}
	cfg.HandshakeMax = 100 * time.Millisecond
	id, err := openIdentity(cfg.DataDir, "")
	must(t, err)
	must(t, id.adopt(testCluster))
	layer, err := newStream(&cfg, id, func(string) {})
	must(t, err)
	defer func() { must(t, layer.Close()) }()
	us, _ := id.get()
	for range 3 {
		conn, err := layer.Dial(raft.ServerAddress(us.NodeID+"@"+cfg.Address), within)
		must(t, err)
		defer conn.Close()
		in, err := layer.Accept()
		must(t, err)
		ended := make(chan error, 1)
		go func() { _, err := in.Read(make([]byte, 1)); ended <- err }()
		select {
		case err := <-ended:
			t.Errorf("the connection ended by itself: %v", err)
		case <-time.After(2 * cfg.HandshakeMax):
			_, err := conn.Write([]byte("x"))
			must(t, err)
			must(t, <-ended)
		}
		must(t, in.Close())
		_ = in.Close() // the library may, twice
	}
	testkit.Eventually(t, within, func() bool {
		layer.mu.Lock()
		defer layer.mu.Unlock()
		return len(layer.open) == 0 && len(layer.conns) == 0 && len(layer.handshakes) == 0
	}, "all is forgotten")
}

// Whoever connects and goes again before a whole greeting keeps no place, whatever was
// said: probes of the port would use up what nodes need.
func TestStream_WhoGoesBeforeGreeting(t *testing.T) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	cfg.Listener = listenOn(t, cfg.Address)
	cfg.HandshakeMax = within // only the other end ends it
	id, err := openIdentity(cfg.DataDir, "")
	must(t, err)
	must(t, id.adopt(testCluster))
	layer, err := newStream(&cfg, id, func(string) {})
	must(t, err)
	defer func() { must(t, layer.Close()) }()
	us, _ := id.get()
	held := func() (open, places, handshakes int) {
		layer.mu.Lock()
		defer layer.mu.Unlock()
		return len(layer.open), len(layer.conns), len(layer.handshakes)
	}
	for _, said := range []string{"", "q", "no greeting at all, and rather long for one"} {
		conn, err := net.Dial("tcp", cfg.Address)
		must(t, err)
		if said == "" {
			testkit.Eventually(t, within, func() bool { _, places, _ := held(); return places == 1 }, "it has a place")
		}
		_, err = conn.Write([]byte(said))
		must(t, err)
		must(t, conn.Close())
		other, err := layer.Dial(raft.ServerAddress(us.NodeID+"@"+cfg.Address), within)
		must(t, err)
		in, err := layer.Accept() // by now the one before it has been accepted, too
		must(t, err)
		must(t, other.Close())
		must(t, in.Close())
		testkit.Eventually(t, within, func() bool {
			open, places, handshakes := held()
			return open == 0 && places == 0 && handshakes == 0
		}, "%q leaves nothing behind", said)
	}
}
