package api

import (
	"net"
	"sync"
)

// limited caps the open connections of a listener. Connections beyond the cap
// wait in the kernel's queue, so that a flood of idle ones costs no memory here.
func limited(l net.Listener) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, ConnectionsMax), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	from := &spelledAddr{conn.RemoteAddr(), conn.RemoteAddr().String()}
	return &limitedConn{Conn: conn, from: from, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	from    net.Addr
	release func()
}

// RemoteAddr is spelled out once: every transaction notes where it came from.
func (c *limitedConn) RemoteAddr() net.Addr { return c.from }

// spelledAddr is an address that knows its own text.
type spelledAddr struct {
	net.Addr
	text string
}

func (a *spelledAddr) String() string { return a.text }

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
