// Package fencetest checks a fence: the ones of this module, and any that a user builds
// on a store of their own.
//
// The business of every check is a counter, `n = n + 1`: what runs twice, or in the wrong
// order, shows. Each check fails against a store without a fence; see [Unfenced].
package fencetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
)

// Work is the business of one call.
type Work struct {
	// Counter is added N, in the local transaction of the fence's row.
	Counter string
	N       int64
	// End is what the business returns: nil, or an error, wrapping [fence.ErrRefused] or
	// not, with which nothing must have been added.
	End error
	// During, when set, is called while the local transaction is open, after the adding. A
	// store whose business runs as one atomic step calls it before.
	During func()
}

// Store is a fenced store of counters.
type Store interface {
	// Do runs the work once for the call.
	Do(ctx context.Context, c fence.Call, w Work) error
	// Value reads a counter; one that was never added to is 0.
	Value(ctx context.Context, counter string) (int64, error)
	// Sweep drops what is recorded of the cluster's GIDs born at or below floorMS.
	Sweep(ctx context.Context, cluster string, floorMS uint64) error
}

// Sender is a [Store] that can send two-phase messages.
type Sender interface {
	Store
	// Send is a local transaction marked by Prepare: it does the work and commits.
	Send(ctx context.Context, gid string, w Work) error
	// Committed is the check-back.
	Committed(ctx context.Context, gid string) (bool, error)
}

// Check is one rule. Run answers how it is broken.
type Check struct {
	Name string
	Run  func(ctx context.Context, s Store) error
}

// checkTimeout bounds one check.
const checkTimeout = 60 * time.Second

// Run runs every check, each against a store of its own or against one that they share:
// they use transactions and counters of their own.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, check := range Checks() {
		t.Run(check.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			// A call is no branch of a two-phase transaction, even if its context carries one.
			ctx, err := participant.Join(ctx, participant.Info{GID: participant.GID(GID(bornMS)), Path: "1"})
			if err != nil {
				t.Fatal(err)
			}
			if err := check.Run(ctx, open(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// bornMS is when the transactions of the checks are born, milliseconds: in the middle of
// nowhere, so that the floor of one check does not touch the others'.
const bornMS = 1_900_000_000_000

// GID makes a transaction born at ms.
func GID(ms uint64) string { return ulid.MustNew(ms, rand.Reader).String() }

// branch is a new branch of a new transaction, and its three counters.
type branch struct {
	s   Store
	gid string
	id  string
	// mode and cluster of its calls.
	mode, cluster string
}

func newBranch(s Store, mode string) *branch {
	return &branch{s: s, gid: GID(bornMS), id: "1.2", mode: mode}
}

func (b *branch) call(o fence.Operation, term uint64) fence.Call {
	c := fence.Call{GID: b.gid, Branch: b.id, Operation: o, Mode: b.mode, Cluster: b.cluster, Attempt: 1, ClockMS: bornMS + 1000}
	if term > 0 {
		c.Epoch = fence.Epoch{Incarnation: 1, Term: term}
	}
	return c
}

// kind is which of a branch's counters an operation adds to.
func kind(o fence.Operation) string {
	switch o {
	case fence.Try, fence.Action:
		return "done"
	case fence.Confirm:
		return "confirmed"
	}
	return "undone"
}

func (b *branch) counter(kind string) string { return b.gid + "." + b.id + "." + kind }

// do calls, with business that ends with end.
func (b *branch) do(ctx context.Context, o fence.Operation, term uint64, end error) error {
	return b.s.Do(ctx, b.call(o, term), Work{Counter: b.counter(kind(o)), N: 1, End: end})
}

// is compares the three counters.
func (b *branch) is(ctx context.Context, done, undone, confirmed int64) error {
	for _, want := range []struct {
		kind string
		n    int64
	}{{"done", done}, {"undone", undone}, {"confirmed", confirmed}} {
		n, err := b.s.Value(ctx, b.counter(want.kind))
		if err != nil {
			return err
		}
		if n != want.n {
			return fmt.Errorf("counter %q is %d, want %d", want.kind, n, want.n)
		}
	}
	return nil
}

// expect compares an answer with what is wanted: nil, or an error to be found in it.
func expect(what string, err, want error) error {
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		return fmt.Errorf("%s: the answer is %v, want %v", what, err, want) //nolint:errorlint // it is told, and is not the error
	}
	return nil
}

// all is the first error of several.
func all(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
