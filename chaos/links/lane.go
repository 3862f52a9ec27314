package links

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readBytesMax is the most that one read of a lane takes.
	readBytesMax = 64 << 10
	// readsQueuedMax bounds the reads of a hindered lane that are under way; beyond
	// them it reads no more, and the sender's window closes.
	readsQueuedMax = 64
)

// lane carries the bytes of one connection in one direction. In clear weather
// what is read is written at once; else each read is stamped, and written by a
// goroutine of its own when its time has come.
//
// Not splice(2), by which the kernel would copy: what it has begun to carry passes
// without a look at the weather, and for the small messages of a cluster it is no
// faster.
type lane struct {
	conn     *connection
	path     *path
	src, dst *net.TCPConn

	queue   chan passenger // nil until the first hindered read
	pending atomic.Int64   // reads in the queue or being written from it
	late    sync.WaitGroup // the goroutine that writes them
	broken  atomic.Bool    // it could not write
}

// passenger is one read under way.
type passenger struct {
	bytes []byte
	due   time.Time
}

// run carries until the sender has ended the connection, or either side has
// broken it. An end arrives behind everything that was said before it.
func (l *lane) run() error {
	err := l.carry()
	if l.queue != nil {
		close(l.queue)
		l.late.Wait()
	}
	if !l.arrive(time.Now()) || l.broken.Load() {
		return net.ErrClosed
	}
	if errors.Is(err, io.EOF) {
		return l.dst.CloseWrite()
	}
	return err
}

// carry returns what ended the reading.
func (l *lane) carry() error {
	buffer := make([]byte, readBytesMax)
	free := time.Now() // when the bounded line is free again
	for !l.conn.over() && !l.broken.Load() {
		n, err := l.src.Read(buffer)
		if n > 0 {
			// The look at the weather comes after the read: nothing that is sent
			// after a change passes as before it.
			weather, _ := l.path.now()
			if weather.clear() && l.pending.Load() == 0 {
				if err := l.write(buffer[:n]); err != nil {
					return err
				}
			} else if !l.enqueue(passenger{bytes: append([]byte(nil), buffer[:n]...), due: l.due(weather, n, &free)}) {
				return net.ErrClosed
			}
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return net.ErrClosed
}

// due is when a read arrives.
func (l *lane) due(w Weather, n int, free *time.Time) time.Time {
	now := time.Now()
	due := now.Add(l.path.hinder(w, n))
	if w.BytesPerSecond > 0 {
		if free.Before(now) {
			*free = now
		}
		*free = free.Add(time.Duration(n) * time.Second / time.Duration(w.BytesPerSecond))
		if due.Before(*free) {
			due = *free
		}
	}
	return due
}

func (l *lane) write(bytes []byte) error {
	n, err := l.dst.Write(bytes)
	l.path.bytes.Add(int64(n))
	return err
}

func (l *lane) enqueue(p passenger) bool {
	if l.queue == nil {
		l.queue = make(chan passenger, readsQueuedMax)
		l.late.Go(l.deliver)
	}
	l.pending.Add(1)
	select {
	case l.queue <- p:
		return true
	case <-l.conn.done:
		return false
	}
}

// deliver writes what is queued, each at its time.
func (l *lane) deliver() {
	for p := range l.queue {
		if !l.broken.Load() && (!l.arrive(p.due) || l.write(p.bytes) != nil) {
			l.broken.Store(true)
			l.conn.abort() // wakes the reader, too
		}
		l.pending.Add(-1)
	}
}

// arrive waits until something that is due then may pass: now in clear weather,
// never in a cut. False when the connection is over before.
func (l *lane) arrive(due time.Time) bool {
	for {
		weather, changed := l.path.now()
		wait := time.Until(due)
		if !weather.Cut && (wait <= 0 || weather.clear()) {
			return !l.conn.over()
		}
		var timer <-chan time.Time
		if !weather.Cut {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-changed:
		case <-l.conn.done:
			return false
		}
	}
}
