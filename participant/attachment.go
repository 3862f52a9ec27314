package participant

import (
	"context"
	"fmt"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/timebox"
)

// windowMax is how many deliveries the cluster may have outstanding on a session;
// beyond it a delivery is answered busy at once.
const windowMax = frames.SessionWindowMax

// obeyTimeout bounds one try of a manager to end a branch.
const obeyTimeout = 30 * time.Second

// Attachment is a manager at work: deliveries reach it, and what a dead process
// left prepared in its resource is ended.
type Attachment struct {
	c      *Client
	m      Manager
	ctx    context.Context
	cancel context.CancelFunc
	kicked chan struct{} // of capacity 1: recovery is wanted now
	queue  chan told     // of capacity windowMax, which bounds inFlight

	mu       sync.Mutex
	inFlight map[BranchRef]bool // being ended, or queued
	workers  int
	bounded  timebox.Contexts
}

// told is a verdict in the queue.
type told struct {
	ref BranchRef
	word
}

// Attach makes the client serve the manager's resource: it joins the session,
// and its recovery begins. It returns once the leader has heard of it. After an
// error the manager is not attached.
func (c *Client) Attach(ctx context.Context, m Manager) (*Attachment, error) {
	name := m.Resource()
	if name == "" || !printable(name) {
		return nil, &RefusedError{Reason: "INVALID", Detail: fmt.Sprintf("resource %q: want a name of printable characters", name)}
	}
	a := &Attachment{
		c: c, m: m, kicked: make(chan struct{}, 1), queue: make(chan told, windowMax),
		inFlight: make(map[BranchRef]bool),
	}
	a.ctx, a.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		a.cancel()
		return nil, ErrClosed
	}
	if c.attached[name] != nil {
		c.mu.Unlock()
		a.cancel()
		return nil, fmt.Errorf("%w: %q", ErrAttached, name)
	}
	c.attached[name] = a
	c.mu.Unlock()

	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.sess.attach(ctx, name); err != nil {
		a.Detach()
		return nil, fmt.Errorf("attach %q: %w", name, err)
	}
	c.goDo(a.recoverLoop)
	return a, nil
}

// Detach ends the attachment. Its branches stay prepared until somebody else
// serves the resource.
func (a *Attachment) Detach() {
	a.c.mu.Lock()
	if a.c.attached[a.m.Resource()] == a {
		delete(a.c.attached, a.m.Resource())
	}
	a.c.mu.Unlock()
	a.cancel()
	a.c.sess.reattach()
}

// Manager is the manager that was attached.
func (a *Attachment) Manager() Manager { return a.m }

// attachment returns that of a resource, or nil.
func (c *Client) attachment(resource string) *Attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attached[resource]
}

// attachments are those that stand now.
func (c *Client) attachments() []*Attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Attachment, 0, len(c.attached))
	for _, a := range c.attached {
		out = append(out, a)
	}
	return out
}

// live is the live branch of that name, if it is one of this resource.
func (a *Attachment) live(ref BranchRef) *Branch {
	if b := a.c.live.get(ref); b != nil && b.resource == a.m.Resource() {
		return b
	}
	return nil
}

// obey has the manager end a branch and reports what it did, in the background.
// A branch that is being ended already is left to that run.
func (a *Attachment) obey(ref BranchRef, w word) {
	if b := a.live(ref); b != nil {
		b.hear(w.verdict)
	}
	a.mu.Lock()
	switch {
	case a.inFlight[ref]:
		a.mu.Unlock()
		return
	case len(a.inFlight) >= windowMax:
		a.mu.Unlock()
		if r := a.busy(ref, w.attempt, "too many deliveries are waiting"); r != nil {
			a.c.sess.tell(r)
		}
		return
	}
	a.inFlight[ref] = true
	hire := a.workers < min(a.c.cfg.deliveries, len(a.inFlight))
	if hire {
		a.workers++
	}
	a.queue <- told{ref, w}
	a.mu.Unlock()
	if hire {
		a.c.goDo(a.work)
	}
}

// work obeys one verdict after the other. As many do so as there were ever verdicts
// at once, up to the client's bound; they stay.
func (a *Attachment) work() {
	for {
		select {
		case t := <-a.queue:
			a.obeyNow(t.ref, t.word)
			a.done(t.ref)
		case <-a.ctx.Done():
			return
		}
	}
}

func (a *Attachment) done(ref BranchRef) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inFlight, ref)
}

// obeyNow ends the branch and reports. An error is no outcome: the cluster
// delivers again.
func (a *Attachment) obeyNow(ref BranchRef, w word) {
	a.c.sess.reports.begin()
	a.c.sess.reports.end(a.end(ref, w))
}

// end ends the branch, and returns the report on it; nil where nobody is told.
func (a *Attachment) end(ref BranchRef, w word) *quoratev1.SessionRequest {
	ctx := a.bounded.Get(a.ctx, obeyTimeout)
	end := a.m.Rollback
	if w.verdict == VerdictCommit {
		end = a.m.Commit
	}
	a.c.pass(a.moment(StepHeard, ref, w, OutcomeNone))
	outcome, err := end(ctx, ref)
	if err != nil || outcome == OutcomeNone {
		a.c.cfg.logger.Info("branch not ended yet", "resource", a.m.Resource(), "branch", ref, "verdict", w.verdict.String(), "err", err)
		return a.busy(ref, w.attempt, fmt.Sprint(err))
	}
	a.c.pass(a.moment(StepEnded, ref, w, outcome))
	if b := a.live(ref); b != nil {
		b.end(w.verdict, outcome)
	}
	return frameOf(a.c.report(ref, outcome, "", w.attempt))
}

// busy asks for another delivery; nil where there was none.
func (a *Attachment) busy(ref BranchRef, attempt uint32, why string) *quoratev1.SessionRequest {
	if attempt == 0 {
		return nil
	}
	r := a.c.report(ref, OutcomeNone, why, attempt)
	r.Busy = true
	return frameOf(r)
}

func frameOf(r *quoratev1.ReportRequest) *quoratev1.SessionRequest {
	return &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: r}}
}

func (c *Client) report(ref BranchRef, o Outcome, detail string, attempt uint32) *quoratev1.ReportRequest {
	return &quoratev1.ReportRequest{
		Gid: string(ref.GID), Branch: ref.ID, Outcome: quoratev1.Outcome(o), Detail: clip(detail),
		Attempt: attempt, Holder: c.holder,
	}
}
