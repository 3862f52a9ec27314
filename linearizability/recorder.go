package linearizability

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Recorder writes a history while it happens. It is safe for concurrent use; an
// operation's call is written before Invoke returns, so before it is sent.
type Recorder struct {
	base time.Time

	mu   sync.Mutex
	out  *bufio.Writer
	next int64
	err  error
}

// NewRecorder writes the header and returns a recorder whose base is now. The
// caller owns w and closes it after Close. Each line is handed to w at once: what
// was written survives the recorder's process.
func NewRecorder(w io.Writer, header Header) *Recorder {
	if header.Format == 0 {
		header.Format = Format
	}
	if header.Started == "" {
		header.Started = time.Now().UTC().Format(time.RFC3339)
	}
	r := &Recorder{base: time.Now(), out: bufio.NewWriterSize(w, 1<<16)}
	r.write(headerLine{Line: lineHeader, Header: header})
	return r
}

// Now is the time since the base, at least 1.
func (r *Recorder) Now() int64 { return max(1, int64(time.Since(r.base))) }

// At is a time of this process on the history's scale.
func (r *Recorder) At(t time.Time) int64 { return max(1, int64(t.Sub(r.base))) }

// Invoke writes an operation that is about to be sent. Its Call is set where it
// is 0; Return, Status and Output are ignored.
func (r *Recorder) Invoke(op Operation) *Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	if op.Call == 0 {
		op.Call = r.Now()
	}
	r.write(callLine{
		Line: lineCall, ID: r.next, Client: op.Client, At: op.Call,
		Kind: op.Kind, GID: op.GID, Namespace: op.Namespace, Key: op.Key, Branch: op.Branch, Input: op.Input,
	})
	return &Pending{recorder: r, id: r.next}
}

// Observe writes an observation; its At is set where it is 0.
func (r *Recorder) Observe(o Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.At == 0 {
		o.At = r.Now()
	}
	r.write(observeLine{Line: lineObserve, Observation: o})
}

// Close flushes what is written and returns the first error of any write. Calls
// that are still pending stay unknown.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Flush(); r.err == nil {
		r.err = err
	}
	err := r.err
	r.err = errors.Join(err, errClosed)
	return err
}

var errClosed = errors.New("the recorder is closed")

// write must be called with mu held. After an error nothing more is written: a
// history with a hole would accuse the innocent.
func (r *Recorder) write(line any) {
	if r.err != nil {
		return
	}
	b, err := json.Marshal(line)
	if err == nil {
		_, err = r.out.Write(append(b, '\n'))
	}
	if err == nil {
		err = r.out.Flush()
	}
	if err != nil {
		r.err = fmt.Errorf("record a history: %w", err)
	}
}

// Pending is an operation that was sent. Exactly one of its methods must be
// called, once; later ones do nothing.
type Pending struct {
	recorder *Recorder
	id       int64
	once     sync.Once
}

// Return completes the operation. node is who answered, where known.
func (p *Pending) Return(status Status, output Output) { p.ReturnFrom("", status, output) }

// ReturnFrom is Return that names the node.
func (p *Pending) ReturnFrom(node string, status Status, output Output) {
	p.finish(returnLine{Status: status, Output: output, Node: node})
}

// Failed completes an operation that definitely had no effect.
func (p *Pending) Failed(reason string, err error) {
	p.finish(returnLine{Status: StatusFailed, Output: Output{Refusal: reason}, Error: text(err)})
}

// Unknown completes an operation that may have taken effect, or may yet.
func (p *Pending) Unknown(err error) {
	p.finish(returnLine{Status: StatusUnknown, Error: text(err)})
}

func (p *Pending) finish(line returnLine) {
	p.once.Do(func() {
		r := p.recorder
		at := r.Now() // before the lock: the answer came now, not when we were let in
		r.mu.Lock()
		defer r.mu.Unlock()
		line.Line, line.ID, line.At = lineReturn, p.id, at
		r.write(line)
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
