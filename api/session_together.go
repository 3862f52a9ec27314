package api

import (
	"sync"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/internal/failpoint"
)

// takeAll handles the frames of one message, and returns false after the last of the
// session. The enlists and votes among them are made together; reports go their own way,
// and nothing else passes those that came before it.
func (s *participantSession) takeAll(batch []*quoratev1.SessionRequest) bool {
	if failpoint.Pauses(failpoint.BeforeEnlist, failpoint.Enlisted, failpoint.BeforeVote, failpoint.Voted, failpoint.AtDecision) {
		// One that stands still at a named place must hold up no other. Nothing else that
		// is armed makes a difference, or what runs under faults would not be what runs.
		for _, frame := range batch {
			if !s.takeFrame(frame) {
				return false
			}
		}
		return true
	}
	var group []*quoratev1.SessionRequest
	for _, frame := range batch {
		switch frame.GetFrame().(type) {
		case *quoratev1.SessionRequest_Enlist, *quoratev1.SessionRequest_Vote:
			select {
			case s.slots <- struct{}{}:
				s.requests.Add(1)
			default: // those that are kept may be what there is no room for
				s.makeTogether(group)
				group = nil
				if !s.admit() {
					return false
				}
			}
			group = append(group, frame)
			continue
		case *quoratev1.SessionRequest_Heartbeat:
		case *quoratev1.SessionRequest_Report:
			if len(s.slots) == cap(s.slots) { // it will wait for a place
				s.makeTogether(group)
				group = nil
			}
		default:
			s.makeTogether(group)
			group = nil
		}
		if !s.takeFrame(frame) {
			s.makeTogether(group) // they have their places, and are to give them back
			return false
		}
	}
	s.makeTogether(group)
	return true
}

// asking holds requests that have their places until a worker takes them. There is no
// timer: what comes alone is made at once; what comes until the worker has its turn, in
// however many messages, is made with it.
type asking struct {
	mu      sync.Mutex
	waiting []*quoratev1.SessionRequest
}

// makeTogether makes requests that have their places, beside the others.
func (s *participantSession) makeTogether(group []*quoratev1.SessionRequest) {
	if len(group) == 0 {
		return
	}
	s.asking.mu.Lock()
	first := len(s.asking.waiting) == 0
	s.asking.waiting = append(s.asking.waiting, group...)
	s.asking.mu.Unlock()
	if first {
		s.workers.run(s.makeWaiting)
	}
}

// makeWaiting makes what waits, as much of it as may go together; another worker takes
// what is left.
func (s *participantSession) makeWaiting() {
	s.asking.mu.Lock()
	group := s.asking.waiting
	s.asking.waiting = nil
	if len(group) > coordinator.TogetherMax {
		group, s.asking.waiting = group[:coordinator.TogetherMax:coordinator.TogetherMax], group[coordinator.TogetherMax:]
	}
	more := len(s.asking.waiting) > 0
	s.asking.mu.Unlock()
	if more {
		s.workers.run(s.makeWaiting)
	}
	s.finishTogether(group)
}

// finishTogether answers requests, and gives their places back.
func (s *participantSession) finishTogether(group []*quoratev1.SessionRequest) {
	defer func() {
		for range group {
			s.release()
		}
	}()
	defer func() {
		if cause := recover(); cause != nil {
			s.end(s.panicked("Session", cause))
		}
	}()
	asked, of := make([]coordinator.Asked, 0, len(group)), make([]uint64, 0, len(group))
	for _, frame := range group {
		one, err := s.readAsked(frame)
		if err != nil {
			s.answer(frame.GetId(), nil, err)
			continue
		}
		asked, of = append(asked, one), append(of, frame.GetId())
	}
	if len(asked) == 0 {
		return
	}
	answers := make([]*quoratev1.SessionResponse, 0, len(asked))
	for i, told := range s.session.Together(s.bounds.Get(s.ctx, s.cfg.CallTimeout), asked) {
		switch {
		case told.Err != nil:
			s.answer(of[i], nil, told.Err)
		case of[i] == 0: // nobody waits for it
		case asked[i].Branch != nil:
			answers = append(answers, enlistAnswer(of[i], told.Status))
		default:
			answers = append(answers, voteAnswer(of[i], told.Status))
		}
	}
	if len(answers) > 0 {
		s.push(answers...)
	}
}

// readAsked reads a frame that enlists or votes.
func (s *participantSession) readAsked(frame *quoratev1.SessionRequest) (a coordinator.Asked, err error) {
	if f, ok := frame.GetFrame().(*quoratev1.SessionRequest_Enlist); ok {
		a.GID, a.Branch, err = readEnlist(s.reader, f.Enlist)
	} else {
		a.GID, a.Ballot, err = readVote(s.endingReader, frame.GetVote())
	}
	return a, err
}

// enlistAnswer is a frame in one piece of memory.
func enlistAnswer(id uint64, status coordinator.Status) *quoratev1.SessionResponse {
	f := &struct {
		frame  quoratev1.SessionResponse
		kind   quoratev1.SessionResponse_Enlist
		answer quoratev1.EnlistResponse
	}{}
	f.answer.Verdict = verdictAnswer(status.Verdict)
	f.kind.Enlist = &f.answer
	f.frame.Id, f.frame.Frame = id, &f.kind
	return &f.frame
}

// voteAnswer is a frame in one piece of memory.
func voteAnswer(id uint64, status coordinator.Status) *quoratev1.SessionResponse {
	f := &struct {
		frame  quoratev1.SessionResponse
		kind   quoratev1.SessionResponse_Vote
		answer quoratev1.VoteResponse
	}{}
	f.answer.Verdict = verdictAnswer(status.Verdict)
	f.kind.Vote = &f.answer
	f.frame.Id, f.frame.Frame = id, &f.kind
	return &f.frame
}
