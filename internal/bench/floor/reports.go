package floor

import (
	"context"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// reports puts into the log what the branches of finished transactions said: a record
// for each transaction, and those that came while an entry was on its way together in
// the next, by one goroutine. *Because* the product needs none for each transaction
// either, and the stack of each new one grows anew.
type reports struct {
	server *Server
	out    *frames.Queue[*work]
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

// reportsTogetherMax bounds the records of one proposal, and is far below what an entry
// takes.
const reportsTogetherMax = 256

func newReports(s *Server) *reports {
	r := &reports{server: s, out: frames.NewQueue[*work](queueMax), ended: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.run()
	return r
}

// close ends the goroutine. What is not in the log then stays open.
func (r *reports) close() {
	r.cancel()
	<-r.ended
}

func (r *reports) run() {
	defer close(r.ended)
	var taken []*work
	for {
		select {
		case <-r.out.Ready():
		case <-r.ctx.Done():
			return
		}
		taken = r.out.Take(taken)
		for rest := taken; len(rest) > 0; {
			together := rest[:min(len(rest), reportsTogetherMax)]
			rest = rest[len(together):]
			r.record(together)
		}
	}
}

// record makes the records, and answers the reports. What cannot be recorded stays open,
// and the comparison at the end of a run finds it.
func (r *reports) record(finished []*work) {
	commands := make([][]byte, len(finished))
	for i, w := range finished {
		command, err := commandOf(messages(w.reports)...)
		if err != nil {
			return
		}
		commands[i] = command
	}
	if r.server.log.Propose(r.ctx, commands...) != nil {
		return
	}
	for _, w := range finished {
		for _, hear := range w.heard {
			hear()
		}
		r.server.open.Delete(w.gid)
	}
}

// reported takes a branch's report; with the last one all of them go into the log. It
// does not wait for that.
func (s *Server) reported(req *quoratev1.ReportRequest, answer func()) {
	found, ok := s.open.Load(req.GetGid())
	if !ok {
		answer()
		return
	}
	w := found.(*work)
	w.mu.Lock()
	w.reports, w.heard = append(w.reports, req), append(w.heard, answer)
	last := len(w.reports) == len(w.branches)
	w.mu.Unlock()
	if last {
		s.reports.out.Put(w)
	}
}
