package coordinator

import (
	"bytes"
	"slices"
	"time"
)

// session is a participant's process that is attached.
type session struct {
	id        SessionID
	h         *holder
	resources []*resource
	heardAt   time.Time
	silence   timer
	overdue   timer // of the longest in flight, or earlier
	window    int
	held      int        // words of its branches that wait to be appended
	ready     list       // deliveries that wait for room in the window
	inflight  list       // deliveries sent and not answered, in the order of that
	outbox    []Delivery // of the step under way
	sentLast  int        // how many the last one held

	answersLate func() // made once: it is set for many times a second
}

func (s *session) load() int { return s.ready.length + s.inflight.length }

// Attach opens a session; the runner chose its id, newer ones being larger. An
// older session of the same holder ends, and so does the older instance of the
// process that it names. The request must be valid and its slices not reused.
func (c *Core) Attach(now time.Time, id SessionID, r AttachRequest) {
	if !c.leading {
		c.ask(CloseSession{Session: id, Cause: ErrNotLeader})
		return
	}
	c.begin(now)
	c.pull()
	if c.now.Before(c.graceEnd) {
		c.extendGrace()
	}
	h := c.holder(holderID(r.Holder))
	if old := h.session; old != nil {
		c.endSession(old, ErrSuperseded)
	}
	s := &session{id: id, h: h, window: c.window(r.Window), heardAt: c.now}
	s.answersLate = func() { c.answersOverdue(s) }
	c.sessions[id] = s
	c.found(h, s)
	c.watchSilence(s)
	c.replaceProcess(h, r.Process)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.Resources))) {
		res := c.resource(name, name)
		s.resources = append(s.resources, res)
		res.sessions = append(res.sessions, s)
	}
	c.vouchOnAttach(s, r.Live)
	for _, res := range s.resources {
		c.reroute(res)
		c.hurry(res)
	}
	c.waited(h)
	c.end()
}

// crowded reports that an attach would leave more than most sessions. Those that it ends
// are not counted: whoever comes back must not be kept out by what it has left.
func (c *Core) crowded(r AttachRequest, most int) bool {
	stay := len(c.sessions)
	if h := c.holders[holderID(r.Holder)]; h != nil && h.session != nil {
		stay--
	}
	if older, ok := c.processes[r.Process]; ok && r.Process != "" && bytes.Compare(older[:], r.Holder) < 0 {
		if h := c.holders[older]; h != nil && h.session != nil {
			stay--
		}
	}
	return stay >= most
}

func (c *Core) window(asked int) int {
	if asked <= 0 || asked > c.cfg.SessionWindowMax {
		return c.cfg.SessionWindowMax
	}
	return asked
}

// extendGrace lets nobody be lost while participants are still finding the new
// leader: their back-off is below a third of the grace, so whoever is alive
// follows within that. Three graces are the end, or one flapping participant
// could hold up the loss of all others.
func (c *Core) extendGrace() {
	end := c.now.Add(c.cfg.SessionGrace / 3)
	if limit := c.since.Add(3 * c.cfg.SessionGrace); end.After(limit) {
		end = limit
	}
	if end.After(c.graceEnd) {
		c.graceEnd = end
	}
}

// replaceProcess notes which holder is the newest instance of a process that
// has a name. ULIDs tell who is newer, so a zombie that attaches late proves
// nothing about its successor.
func (c *Core) replaceProcess(h *holder, process string) {
	h.process = process
	if process == "" {
		return
	}
	older, ok := c.processes[process]
	if ok && bytes.Compare(older[:], h.id[:]) > 0 {
		return
	}
	c.processes[process] = h.id
	if !ok || older == h.id {
		return
	}
	dead := c.holders[older]
	if dead == nil {
		return
	}
	if dead.session != nil {
		c.endSession(dead.session, ErrSuperseded)
	}
	c.lose(dead, "was replaced by "+h.id.String()+", a newer instance of "+process)
}

func (c *Core) vouchOnAttach(s *session, live []LiveBranch) {
	var held []BranchRef
	for _, l := range live {
		if l.Held {
			held = append(held, l.BranchRef)
		}
	}
	c.noteVouchers(s, held)
	for _, g := range s.h.guards {
		c.open = append(c.open, g.t) // it is asked for what the list did not name
	}
}

// Alive says that a session was heard of.
func (c *Core) Alive(now time.Time, id SessionID) {
	if s := c.sessions[id]; s != nil {
		c.begin(now)
		c.heard(s)
	}
}

func (c *Core) heard(s *session) { s.heardAt = c.now }

// watchSilence ends the session once it is silent for the grace. The timer is
// not moved at each frame: it looks, when it fires, how much silence there was.
func (c *Core) watchSilence(s *session) {
	c.timers.arm(&s.silence, s.heardAt.Add(c.cfg.SessionGrace), func() {
		if c.now.Sub(s.heardAt) < c.cfg.SessionGrace {
			c.watchSilence(s)
			return
		}
		h := s.h
		c.endSession(s, ErrSilent)
		if c.now.Before(c.graceEnd) {
			c.startGrace(h)
			return
		}
		c.lose(h, "was silent for longer than the grace of "+c.cfg.SessionGrace.String())
	})
}

// Detach ends a session at its participant's word (goodbye: what it holds is
// given up at once), or because its stream ended (its grace begins).
func (c *Core) Detach(now time.Time, id SessionID, goodbye bool, cause error) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	c.begin(now)
	c.pull()
	h := s.h
	c.endSession(s, cause)
	if goodbye {
		c.lose(h, "said goodbye")
	} else {
		c.startGrace(h)
	}
	c.end()
}

// endSession takes a session away. What was in flight on it is told to whoever
// is next; the holder's grace is the caller's to start.
func (c *Core) endSession(s *session, cause error) {
	c.timers.stop(&s.silence)
	c.timers.stop(&s.overdue)
	delete(c.sessions, s.id)
	s.h.session = nil
	c.idle = append(c.idle, s.h)
	c.ask(CloseSession{Session: s.id, Cause: cause})
	for _, r := range s.resources {
		r.sessions = slices.DeleteFunc(r.sessions, func(other *session) bool { return other == s })
	}
	for _, d := range s.inflight.all() {
		c.noteFailure(d, ResultLost, "the session ended before an answer: "+cause.Error())
		d.failures = 0 // no fault of the branch: the next one is told at once
		c.route(d)
	}
	for _, d := range s.ready.all() {
		c.route(d)
	}
	for _, r := range s.resources {
		c.tidy(r)
	}
}
