package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quorate/quorate/internal/bench/floor"
)

// The scenario that leaves gRPC out, too. It runs on the floor's nodes.
const (
	proposeName  = "propose"
	proposeDoc   = "256 bytes proposed within the leader's process: no call, no protocol; takes turns with the first scenario named"
	proposeFloor = "none: it is one"
)

// proposeSlice has the floor's leader propose by itself.
func (r *runner) proposeSlice(ctx context.Context, callers int) (Slice, error) {
	s := r.floor
	if err := s.t.findLeader(ctx); err != nil {
		return Slice{}, err
	}
	ask := func(d time.Duration) (done floor.RawDone, err error) {
		text, err := json.Marshal(floor.Raw{Callers: callers, Bytes: PayloadBytes, Duration: d})
		if err != nil {
			return done, err
		}
		out := new(wrapperspb.BytesValue)
		if err := s.t.leader.Load().conns[0].Invoke(ctx, floor.RawMethod, wrapperspb.Bytes(text), out); err != nil {
			return done, err
		}
		return done, json.Unmarshal(out.GetValue(), &done)
	}
	if _, err := ask(r.o.WarmUp); err != nil {
		return Slice{}, fmt.Errorf("warm-up: %w", err)
	}
	before, err := s.read(ctx)
	if err != nil {
		return Slice{}, err
	}
	own, err := cpuTime(os.Getpid())
	if err != nil {
		return Slice{}, err
	}
	endProfiles, err := r.profile(s)
	if err != nil {
		return Slice{}, err
	}
	done, err := ask(r.o.Duration)
	if err = errors.Join(err, endProfiles()); err != nil {
		return Slice{}, err
	}
	if done.Proposed == 0 || len(done.Latencies) == 0 {
		return Slice{}, errors.New("nothing was proposed")
	}
	ownAfter, err := cpuTime(os.Getpid())
	if err != nil {
		return Slice{}, err
	}
	after, err := s.read(ctx)
	if err != nil {
		return Slice{}, err
	}
	m := measured{latencies: &Histogram{}, done: done.Proposed}
	m.ended = m.began.Add(done.Took)
	for _, d := range done.Latencies {
		m.latencies.Record(d)
	}
	one := newSlice(m, after.minus(before), ownAfter-own)
	return one, one.checkFloor(scenario{floorRecords: 1})
}
