package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// leadDeliverMax bounds how long deliveries are counted.
const leadDeliverMax = 30 * time.Second

// holderOf is the i-th participant's instance id.
func holderOf(i int) []byte {
	var random [10]byte
	binary.BigEndian.PutUint64(random[:], uint64(i)+1)
	return fsm.NewGID(1, random).Bytes()
}

// measureLead has a node lead that finds transactions which are decided and whose
// two branches are to be told, by two participants and by a thousand.
func measureLead(ctx context.Context, o *options, out *results) error {
	defer keepHeadroom()()
	live := o.live[len(o.live)-1]
	for _, participants := range []int{2, 1000} {
		if err := leadWith(ctx, o, out, live, participants); err != nil {
			return err
		}
	}
	return nil
}

func leadWith(ctx context.Context, o *options, out *results, live, participants int) (err error) {
	holders := make([][]byte, participants)
	for i := range holders {
		holders[i] = holderOf(i)
	}
	n, err := openNode(ctx, o, func(f *filler) error {
		f.holders = holders
		return f.fillLive(live, true)
	})
	if err != nil {
		return err
	}
	defer func() {
		if closed := n.close(); err == nil {
			err = closed
		}
	}()
	begun := time.Now()
	n.lead()

	var reported, first atomic.Int64
	a := attendant{reported: &reported, first: &first, since: func() int64 { return int64(time.Since(begun)) }}
	var attached time.Duration
	var failed error
	var wait sync.WaitGroup
	wait.Go(func() { attached, failed = n.attendAll(begun, holders, a) })

	// One caller after the other asks for a decision that needs no participant.
	probing, stop := context.WithTimeout(ctx, leadDeliverMax)
	defer stop()
	var served time.Duration
	var probes latencies
	var refused int
	for at := time.Now(); probing.Err() == nil && reported.Load() < int64(2*live); {
		err := n.submit(probing, []string{"nobody-a", "nobody-b"}, logpb.VoteKind_VOTE_KIND_READ_ONLY)
		if probing.Err() != nil {
			break
		}
		if errors.Is(err, coordinator.ErrNoLeader) && served == 0 || errors.Is(err, coordinator.ErrOverload) {
			refused++ // it does not lead yet, or has too much to do: ask again
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			stop()
			wait.Wait()
			return err
		}
		if served == 0 {
			served = time.Since(begun)
		}
		probes = append(probes, time.Since(at))
		at = time.Now()
	}
	took := time.Since(begun)
	wait.Wait()
	if failed != nil {
		return failed
	}
	if reported.Load() == 0 {
		return errors.New("nothing was delivered")
	}
	out.add("lead", fmt.Sprintf("%s live, %s told", thousands(live), thousands(participants)),
		figure{"first_decision_ms", millis(served)}, figure{"first_delivery_ms", millis(time.Duration(first.Load()))},
		figure{"all_attached_ms", millis(attached)},
		figure{"decision_p50_ms", probes.quantile(0.5)}, figure{"decision_p99_ms", probes.quantile(0.99)}, figure{"decision_max_ms", probes.max()}, figure{"refused", float64(refused)},
		figure{"reported", float64(reported.Load())}, figure{"reported_per_second", float64(reported.Load()) / took.Seconds()})
	return nil
}

// attendAll attaches every participant, sixteen at a time, as soon as the node leads.
func (n *node) attendAll(begun time.Time, holders [][]byte, a attendant) (time.Duration, error) {
	resources := [2]string{"scale-a", "scale-b"}
	next := make(chan []byte)
	errs := make(chan error, 16)
	var wait sync.WaitGroup
	for range cap(errs) {
		wait.Go(func() {
			for h := range next {
				if err := n.attend(h, a, resources[0], resources[1]); err != nil {
					errs <- err
					for range next { // the others end by themselves
					}
					return
				}
			}
		})
	}
	for _, h := range holders {
		next <- h
	}
	close(next)
	wait.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return time.Since(begun), nil
	}
}
