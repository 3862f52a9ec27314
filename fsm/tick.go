package fsm

import "github.com/quorate/quorate/fsm/logpb"

// tick is where time acts: it raises the horizon, then drops what lies at or
// below it, then rolls back what has passed its deadline. Each part has a
// bounded number of steps and a total order; what is left waits for the next
// Tick. A deadline that has passed changes nothing before its Tick.
func (s *State) tick() Result {
	if retention := s.limits.GetRetentionMs(); s.clockMS > retention {
		s.horizonMS = max(s.horizonMS, s.clockMS-retention)
		s.aged = true
	}
	s.dropOld()
	s.expire()
	return Result{Code: OK}
}

// dropOld drops filed records in the order of their filing. A record that may
// not go is quarantined, which keeps it.
func (s *State) dropOld() {
	for range s.limits.GetDropsPerTickMax() {
		gid, ok := s.stubs.oldest()
		if !ok || s.stubs.headMS > s.horizonMS {
			return
		}
		t := s.find(gid)
		if breach := s.checkDrop(t); breach != "" {
			next := t.clone()
			next.require(false, "%s", breach)
			s.put(t, next)
			continue
		}
		s.drop(t)
	}
}

// expire rolls back what has passed its deadline: (deadline, then begin index).
func (s *State) expire() {
	for range s.limits.GetExpiriesPerTickMax() {
		k, ok := s.deadlines.first()
		if !ok || k.timeMS > s.clockMS {
			return
		}
		t := s.live[k.order.GID]
		next := t.clone()
		s.toRollingBack(next, logpb.Reason_REASON_TIMEOUT)
		s.put(t, next)
	}
}
