package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/quorate/quorate/coordinator"
)

// holdInterval is the time between two looks for a leader while a call is held.
const holdInterval = 20 * time.Millisecond

// hold calls f until it fails with something else than "no leader", for at most
// LeaderWait: an election should look like a slow call. Nothing was appended
// where no leader is known, so calling again is safe.
//
// It fails before the caller's own deadline: who hears nothing must take the
// outcome for unknown, though nothing was done.
func hold[T any](ctx context.Context, s *Server, f func() (T, error)) (T, error) {
	var end <-chan time.Time
	var wait time.Duration
	for {
		answer, err := f()
		if err == nil || !leaderless(err) {
			return answer, err
		}
		if end == nil {
			wait = s.cfg.LeaderWait
			if deadline, ok := ctx.Deadline(); ok {
				wait = min(wait, time.Until(deadline)*9/10)
			}
			timer := time.NewTimer(wait)
			defer timer.Stop()
			end = timer.C
		}
		select {
		case <-time.After(holdInterval):
			continue
		case <-end:
		case <-ctx.Done():
		case <-s.stopping.Done():
		}
		return answer, s.noLeader(wait)
	}
}

// leaderless tells of an error that says: nobody is known to lead, nothing was
// done. A leader's name without an address to go to is none either.
func leaderless(err error) bool {
	if errors.Is(err, coordinator.ErrUnknown) {
		return false // leadership went after something may have been appended
	}
	if errors.Is(err, coordinator.ErrNoLeader) {
		return true
	}
	var elsewhere *coordinator.NotLeaderError
	if errors.As(err, &elsewhere) {
		return elsewhere.Leader.ID == ""
	}
	return errors.Is(err, coordinator.ErrNotLeader)
}

// noLeader says what is known of the last one.
func (s *Server) noLeader(waited time.Duration) *Error {
	status := s.cluster.Brief()
	e := Errorf(ReasonNoLeader, "no leader was found within %v, so nothing was done", waited.Round(time.Millisecond))
	if s.stopping.Err() != nil {
		e.Message = "this node is stopping, and did nothing"
	}
	return e.With("last_known_leader", s.lastLeader()).With("term", strconv.FormatUint(status.Term, 10))
}

// lagging names the true cause where a read waited in vain for min_index.
func (s *Server) lagging(err error, minIndex uint64) error {
	if minIndex == 0 || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	applied := s.coordinator.Header().AppliedIndex
	if applied >= minIndex {
		return err
	}
	return Errorf(ReasonLagging, "this node has applied index %d, and the read asks for %d", applied, minIndex).
		With("applied_index", strconv.FormatUint(applied, 10)).With("min_index", strconv.FormatUint(minIndex, 10))
}
