package coordinator

import (
	"github.com/quorate/quorate/fsm"
)

// A survey looks at every transaction that has not ended, and at every one noted
// here: at a new leadership, and when events were missed. A page of it is a step
// like any other, and callers' and participants' steps go on in between: a leader
// that finds a million transactions serves and delivers from the first page on.
//
// What changes while it is under way is pulled as ever. So a transaction may be
// looked at twice, which changes nothing, or be asked for before its page has
// come, which known sees to.
type survey struct {
	timer timer
	// round counts surveys: a transaction that was looked at in this one says so.
	round uint64
	under bool
	// after is how far the list was read; listed says that it was read to its end.
	after  fsm.Cursor
	listed bool
	// noted are those that stood here when it began. What the list did not bring,
	// because it has ended meanwhile, is looked up at the end.
	noted []fsm.GID
}

// nothingNew: what a look finds happened before, as far as anybody can tell.
const nothingNew = ^uint64(0)

// resync begins a survey, in the place of one that is under way.
func (c *Core) resync() {
	s := &c.survey
	s.round++
	s.under, s.listed, s.after, s.noted = true, false, fsm.Cursor{}, c.noted()
	c.view(c.readClock)
	c.surveyPage()
}

// surveyPage looks at one page, and has itself woken at once for the next.
func (c *Core) surveyPage() {
	s := &c.survey
	c.view(c.nextPage)
	for i := range c.seen {
		c.compare(&c.seen[i], nothingNew)
	}
	c.forgetLooks()
	if s.under = !s.listed || len(s.noted) > 0; s.under {
		c.timers.arm(&s.timer, c.now, c.surveyPage)
	} else {
		c.timers.stop(&s.timer)
	}
	c.pull()
}

// nextPage reads what the survey looks at next.
func (c *Core) nextPage(state *fsm.State) {
	s := &c.survey
	if !s.listed {
		var more bool
		c.touched, s.after, more = state.Unfiled(s.after, c.cfg.SurveyPage, c.touched[:0])
		s.listed = !more
		for _, gid := range c.touched {
			c.lookUp(state, gid, c.txns[gid])
		}
	}
	for left := c.cfg.SurveyPage - len(c.seen); s.listed && len(s.noted) > 0 && left > 0; left-- {
		gid := s.noted[0]
		s.noted = s.noted[1:]
		if t := c.txns[gid]; t != nil && t.surveyed != s.round {
			c.lookUp(state, gid, t)
		}
	}
}

// known is what was noted of a transaction that has not ended, nil where there is
// none. One that a survey has not come to is looked at now.
func (c *Core) known(gid fsm.GID) *txn {
	if t := c.txns[gid]; t != nil || !c.survey.under {
		return t
	}
	c.view(func(s *fsm.State) { c.lookUp(s, gid, nil) })
	for i := range c.seen {
		c.compare(&c.seen[i], nothingNew)
	}
	c.forgetLooks()
	return c.txns[gid]
}
