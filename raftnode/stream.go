package raftnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// The greeting opens each connection between nodes, after TLS: eight bytes that
// name it, the cluster's id, the dialler's id and the id of the node that it
// means to reach, 16 bytes each. One byte answers it.
//
// It is there because Raft itself trusts addresses. Without it a wiped node at
// an old address would answer for the node that it was, and vote and
// acknowledge with the memory of a new one; and a node of another cluster that
// took over an address would be fed this cluster's log.
const (
	greetingMagic = "QRTRAFT1"
	greetingBytes = len(greetingMagic) + 3*16

	greetingWelcome      = 0
	greetingOtherCluster = 1
	greetingOtherNode    = 2
)

// errSaidNothing: the caller only looked whether somebody listens.
var errSaidNothing = errors.New("handshake: the connection ended before a word was said")

// handshakesMax bounds the connections that have not said who they are yet.
const handshakesMax = 64

// stream is the layer below the library's network transport: TCP, TLS when
// configured, and the greeting. Targets have the form ID@HOST:PORT.
type stream struct {
	listener             net.Listener
	serverTLS, clientTLS *tls.Config
	id                   *identity
	dial                 func(ctx context.Context, network, address string) (net.Conn, error)
	handshakeMax         time.Duration
	ended                func(from string) // told when a greeted incoming connection ends
	logger               *slog.Logger

	ready      chan net.Conn
	handshakes chan struct{} // one token for each handshake in progress
	conns      chan struct{} // one token for each incoming connection
	closing    chan struct{}
	wait       sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{} // incoming connections; nil once closed
}

var _ raft.StreamLayer = (*stream)(nil)

func newStream(cfg *Config, id *identity, ended func(from string)) (*stream, error) {
	listener := cfg.Listener
	if listener == nil {
		bind := cfg.Bind
		if bind == "" {
			bind = cfg.Address
		}
		var err error
		if listener, err = net.Listen("tcp", bind); err != nil {
			return nil, fmt.Errorf("listen for other nodes on %s: %w", bind, err)
		}
	}
	s := &stream{
		listener: listener, serverTLS: cfg.ServerTLS, clientTLS: cfg.ClientTLS, id: id,
		dial: cfg.Dial, handshakeMax: cfg.HandshakeMax, logger: cfg.Logger, ended: ended,
		ready:      make(chan net.Conn),
		handshakes: make(chan struct{}, handshakesMax),
		conns:      make(chan struct{}, cfg.ConnectionsMax),
		closing:    make(chan struct{}),
		open:       make(map[net.Conn]struct{}),
	}
	s.wait.Add(1)
	go s.accept()
	return s, nil
}

// Accept returns the next connection that has said who it is.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.ready:
		return conn, nil
	case <-s.closing:
		return nil, net.ErrClosed
	}
}

func (s *stream) Addr() net.Addr { return s.listener.Addr() }

// Close stops listening and closes all incoming connections.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.open == nil {
		s.mu.Unlock()
		return nil
	}
	close(s.closing)
	err := s.listener.Close()
	for conn := range s.open {
		conn.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.wait.Wait()
	return err
}

// accept takes connections and greets each in a goroutine of its own, so that
// a silent one delays no other. Beyond the bounds connections are closed.
func (s *stream) accept() {
	defer s.wait.Done()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.closing:
				return
			case <-time.After(50 * time.Millisecond): // out of descriptors, most likely
				continue
			}
		}
		select {
		case s.handshakes <- struct{}{}:
			s.wait.Add(1)
			go s.receive(conn)
		default:
			conn.Close()
		}
	}
}

// receive greets an incoming connection and hands it to the transport.
func (s *stream) receive(conn net.Conn) {
	defer s.wait.Done()
	defer func() { <-s.handshakes }()
	incoming, err := s.admit(conn)
	if err != nil {
		conn.Close()
		return
	}
	welcome, from, err := s.welcome(incoming)
	if errors.Is(err, errSaidNothing) {
		incoming.Close()
		return
	}
	if err != nil {
		s.logger.Info("refused a connection to the port of the nodes", "from", conn.RemoteAddr().String(), "error", err)
		incoming.Close()
		return
	}
	incoming.from.Store(&from)
	select {
	case s.ready <- welcome:
	case <-s.closing:
		incoming.Close()
	}
}

// admit counts a connection until it is closed.
func (s *stream) admit(conn net.Conn) (*incoming, error) {
	select {
	case s.conns <- struct{}{}:
	default:
		return nil, errors.New("too many connections")
	}
	in := &incoming{Conn: conn, s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		<-s.conns
		return nil, net.ErrClosed
	}
	s.open[in] = struct{}{}
	return in, nil
}

// incoming is an incoming connection that is counted.
type incoming struct {
	net.Conn
	s    *stream
	from atomic.Pointer[string] // id of the node at the other end, once it has greeted
	once sync.Once
}

func (c *incoming) Close() error {
	c.once.Do(func() {
		<-c.s.conns
		go c.forget() // Close of the stream holds the lock while it closes us
		if from := c.from.Load(); from != nil {
			c.s.ended(*from)
		}
	})
	return c.Conn.Close()
}

func (c *incoming) forget() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	delete(c.s.open, c)
}

// welcome makes the server's side of the handshake, all of it under one deadline,
// and returns the id of the node that called.
func (s *stream) welcome(conn net.Conn) (_ net.Conn, from string, err error) {
	if err := conn.SetDeadline(time.Now().Add(s.handshakeMax)); err != nil {
		return nil, "", err
	}
	if s.serverTLS != nil {
		conn = tls.Server(conn, s.serverTLS)
	}
	greeting := make([]byte, greetingBytes)
	if _, err := io.ReadFull(conn, greeting); errors.Is(err, io.EOF) {
		return nil, "", errSaidNothing
	} else if err != nil {
		return nil, "", fmt.Errorf("handshake: %w", err)
	}
	if string(greeting[:len(greetingMagic)]) != greetingMagic {
		return nil, "", errors.New("handshake: it does not speak the protocol of the nodes")
	}
	answer, from, refusal := s.judge(greeting[len(greetingMagic):])
	if _, err := conn.Write([]byte{answer}); err != nil {
		return nil, "", errors.Join(refusal, fmt.Errorf("handshake: %w", err))
	}
	if refusal != nil {
		return nil, "", refusal
	}
	return conn, from, conn.SetDeadline(time.Time{})
}

// judge decides whether a greeting is meant for this node. A node that belongs
// to no cluster yet joins that of the first node that knows its id: ids are
// random, so only a leader it was announced to can know it.
func (s *stream) judge(ids []byte) (answer byte, from string, refusal error) {
	cluster, from, to := fsm.GID(ids[:16]), formatUUID([16]byte(ids[16:32])), formatUUID([16]byte(ids[32:]))
	us, _ := s.id.get()
	if to != us.NodeID {
		return greetingOtherNode, from, fmt.Errorf("node %s looks here for node %s: %w, %s", from, to, ErrOtherNode, us.NodeID)
	}
	if cluster.IsZero() {
		return greetingOtherCluster, from, fmt.Errorf("node %s belongs to no cluster", from)
	}
	if err := s.id.adopt(cluster); err != nil {
		return greetingOtherCluster, from, fmt.Errorf("node %s: %w", from, err)
	}
	return greetingWelcome, from, nil
}

// Dial connects to ID@HOST:PORT.
func (s *stream) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, address, ok := strings.Cut(string(target), "@")
	if !ok {
		return nil, fmt.Errorf("dial %s: no node id", target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	greeted, err := s.greet(conn, id, address, timeout)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to node %s at %s: %w", id, address, err)
	}
	return greeted, nil
}

// greet makes the dialler's side of the handshake.
func (s *stream) greet(conn net.Conn, id, address string, timeout time.Duration) (net.Conn, error) {
	to, err := parseUUID(id)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if s.clientTLS != nil {
		conn = tls.Client(conn, serverNamed(s.clientTLS, address))
	}
	us, _ := s.id.get()
	from, err := parseUUID(us.NodeID)
	if err != nil {
		return nil, err
	}
	greeting := append([]byte(greetingMagic), us.ClusterID[:]...)
	greeting = append(append(greeting, from[:]...), to[:]...)
	if _, err := conn.Write(greeting); err != nil {
		return nil, err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	switch answer[0] {
	case greetingWelcome:
		return conn, conn.SetDeadline(time.Time{})
	case greetingOtherCluster:
		return nil, fmt.Errorf("the node there refused: %w than %s", ErrOtherCluster, us.ClusterID)
	default:
		return nil, fmt.Errorf("the node there refused: it is not %s; was its disk wiped? Remove the old id with: quorate cluster remove %s", id, id)
	}
}

// serverNamed returns the client's configuration with the host to verify.
func serverNamed(cfg *tls.Config, address string) *tls.Config {
	if cfg.ServerName != "" {
		return cfg
	}
	named := cfg.Clone()
	if host, _, err := net.SplitHostPort(address); err == nil {
		named.ServerName = host
	}
	return named
}
