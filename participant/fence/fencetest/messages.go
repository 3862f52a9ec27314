package fencetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/participant/fence"
)

// sender is the store as one that sends; nil when it does not.
func sender(s Store) Sender {
	m, _ := s.(Sender)
	return m
}

func committed(ctx context.Context, m Sender, gid string, want bool) error {
	got, err := m.Committed(ctx, gid)
	if err == nil && got != want {
		err = fmt.Errorf("the check-back of %s answers %v, want %v", gid, got, want)
	}
	return err
}

func counted(ctx context.Context, s Store, counter string, want int64) error {
	n, err := s.Value(ctx, counter)
	if err == nil && n != want {
		err = fmt.Errorf("counter %q is %d, want %d", counter, n, want)
	}
	return err
}

func sendOnce(ctx context.Context, s Store) error {
	m := sender(s)
	if m == nil {
		return nil
	}
	gid := GID(bornMS)
	w := Work{Counter: gid, N: 1}
	return all(
		expect("send", m.Send(ctx, gid, w), nil), committed(ctx, m, gid, true), committed(ctx, m, gid, true),
		expect("send again", m.Send(ctx, gid, w), fence.ErrDone), counted(ctx, s, gid, 1))
}

func checkBackFirst(ctx context.Context, s Store) error {
	m := sender(s)
	if m == nil {
		return nil
	}
	gid, failed := GID(bornMS), GID(bornMS)
	w := Work{Counter: gid, N: 1}
	broken := Work{Counter: failed, N: 1, End: errBroken}
	return all(
		committed(ctx, m, gid, false), expect("send", m.Send(ctx, gid, w), fence.ErrLate), committed(ctx, m, gid, false),
		counted(ctx, s, gid, 0),
		expect("send", m.Send(ctx, failed, broken), errBroken), committed(ctx, m, failed, false), counted(ctx, s, failed, 0))
}

// checkBackDuring: a check-back meets a local transaction that has not ended. It waits,
// or says that it must be asked again; what it answers in the end must be what happens.
func checkBackDuring(ctx context.Context, s Store) error {
	m := sender(s)
	if m == nil {
		return nil
	}
	gid := GID(bornMS)
	type answer struct {
		committed bool
		err       error
	}
	asked := make(chan answer, 1)
	w := Work{Counter: gid, N: 1, During: func() {
		go func() {
			for {
				got, err := m.Committed(ctx, gid)
				if !errors.Is(err, fence.ErrOngoing) || ctx.Err() != nil {
					asked <- answer{got, err}
					return
				}
				pause()
			}
		}()
		select {
		case a := <-asked:
			asked <- a
		case <-time.After(100 * time.Millisecond): // it waits
		}
	}}
	sent := m.Send(ctx, gid, w)
	a := <-asked
	if a.err != nil {
		return a.err
	}
	if a.committed != (sent == nil) {
		return fmt.Errorf("the check-back answered %v, and the local transaction ended with %v", a.committed, sent) //nolint:errorlint // it is told, and is not the error
	}
	return committed(ctx, m, gid, sent == nil)
}
