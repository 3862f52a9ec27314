package links

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// dialMax bounds a dial to a target, which is on this machine.
	dialMax = time.Second
	// listenAgainEvery is the time between two tries to take back a port.
	listenAgainEvery = 10 * time.Millisecond
)

// link is the proxy through which one process dials one port of another. A
// process that is dead refuses connections, and so does the link: its listener is
// closed while its target does not listen, unless a cut would hide that.
type link struct {
	from, to, port string
	address        string // where the dialler finds it
	target         *target
	there, back    *path // of requests, of answers
	log            func(format string, args ...any)

	mu       sync.Mutex
	refusals int // how many faults refuse connections
	closed   bool
	listener net.Listener // nil while connections are refused
	conns    map[*connection]struct{}
	parked   map[*net.TCPConn]struct{} // dialed into a cut, or not connected yet
	wait     sync.WaitGroup
}

// adjust opens or closes the listener as the target and the weather have it.
func (l *link) adjust() {
	there, _ := l.there.now()
	back, _ := l.back.now()
	cut := there.Cut || back.Cut
	dead := l.target.dead()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := !l.closed && (cut || l.refusals == 0 && !dead)
	switch {
	case want && l.listener == nil:
		listener, err := net.Listen("tcp", l.address)
		if err != nil {
			l.log("link %s to %s %s: listen again on %s: %v", l.from, l.to, l.port, l.address, err)
			time.AfterFunc(listenAgainEvery, l.adjust)
			return
		}
		l.listener = listener
		l.wait.Go(func() { l.accept(listener) })
	case !want && l.listener != nil:
		l.listener.Close()
		l.listener = nil
	}
}

func (l *link) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(listenAgainEvery) // out of descriptors, most likely
			continue
		}
		l.wait.Go(func() { l.serve(conn.(*net.TCPConn)) })
	}
}

// serve connects a dialler with the target, after the cut if there is one: the
// connection exists on the dialler's side by then, and nothing answers on it.
func (l *link) serve(dialler *net.TCPConn) {
	if !l.park(dialler) {
		reset(dialler)
		return
	}
	c := l.connect(dialler)
	if !l.unpark(dialler, c) {
		reset(dialler)
		if c != nil {
			reset(c.target)
		}
		return
	}
	c.run()
	l.forget(c)
}

// connect dials the target once nothing is cut. Nil: the target refused.
func (l *link) connect(dialler *net.TCPConn) *connection {
	waited := false
	for _, p := range []*path{l.there, l.back, l.there} {
		for {
			weather, changed := p.now()
			if !weather.Cut {
				break
			}
			if !waited {
				waited = true
				p.count(func(c *Counts) { c.Waited++ })
			}
			<-changed
		}
	}
	l.mu.Lock()
	refused := l.refusals > 0 || l.closed
	l.mu.Unlock()
	if refused {
		l.there.count(func(c *Counts) { c.Refused++ })
		return nil
	}
	conn, err := l.target.dial()
	if err != nil {
		l.there.count(func(c *Counts) { c.Refused++ })
		return nil
	}
	return &connection{link: l, dialler: dialler, target: conn, done: make(chan struct{})}
}

func (l *link) park(dialler *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.parked[dialler] = struct{}{}
	return true
}

// unpark makes a connection known; false when there is none, or must be none.
func (l *link) unpark(dialler *net.TCPConn, c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parked, dialler)
	if c == nil || l.closed {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) forget(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// open returns the connections through the link.
func (l *link) open() []*connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*connection, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

// reset ends every connection by RST, to both sides.
func (l *link) reset() int {
	all := l.open()
	for _, c := range all {
		c.abort()
	}
	l.there.count(func(c *Counts) { c.Resets += int64(len(all)) })
	return len(all)
}

func (l *link) refuse(by int) {
	l.mu.Lock()
	l.refusals += by
	l.mu.Unlock()
	l.adjust()
}

// close ends the link; the paths' cuts must have ended.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	for conn := range l.parked {
		reset(conn)
	}
	l.mu.Unlock()
	l.adjust()
	for _, c := range l.open() {
		c.abort()
		if kept := c.halfOpen(); kept != nil {
			reset(kept)
		}
	}
	l.wait.Wait()
}

// target is a port that some process listens on, or will.
type target struct {
	address string // the process's own, which says whether it lives
	via     string // what is dialed: the same, or an interceptor before it
	changed func() // told when it died or came back
	closing <-chan struct{}
	wait    *sync.WaitGroup

	mu       sync.Mutex
	gone     bool
	watching bool
}

func (t *target) dead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone
}

// dial connects to the target, and notes when nobody listens there.
func (t *target) dial() (*net.TCPConn, error) {
	if t.via != t.address && !t.listens() {
		t.died()
		return nil, syscall.ECONNREFUSED
	}
	conn, err := net.DialTimeout("tcp", t.via, dialMax)
	if errors.Is(err, syscall.ECONNREFUSED) {
		t.died()
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// suspect looks whether the process is gone, when something of it has ended.
func (t *target) suspect() {
	if !t.dead() && !t.listens() {
		t.died()
	}
}

// listens asks the kernel whether somebody listens, by a connection that says
// nothing.
func (t *target) listens() bool {
	conn, err := net.DialTimeout("tcp", t.address, dialMax)
	if err == nil {
		conn.Close()
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}

// died closes the links to it and watches for its return.
func (t *target) died() {
	t.mu.Lock()
	watch := !t.watching
	t.gone, t.watching = true, true
	t.mu.Unlock()
	if !watch {
		return
	}
	t.changed()
	t.wait.Go(func() {
		tick := time.NewTicker(listenAgainEvery)
		defer tick.Stop()
		for !t.listens() {
			select {
			case <-tick.C:
			case <-t.closing:
				return
			}
		}
		t.mu.Lock()
		t.gone, t.watching = false, false
		t.mu.Unlock()
		t.changed()
	})
}
