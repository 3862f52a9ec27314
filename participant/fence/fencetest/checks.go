package fencetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/participant/fence"
)

// Checks lists the rules, each with a name that says it.
func Checks() []Check {
	return []Check{
		{"a repeated action runs once", repeatedAction},
		{"a repeated ending runs once", repeatedEnding},
		{"a repeated confirm runs once", repeatedConfirm},
		{"an empty rollback undoes nothing", emptyRollback},
		{"a late action never runs", lateAction},
		{"an undone action never runs again", actionAfterUndone},
		{"confirm after cancel is impossible", confirmAfterCancel},
		{"cancel after confirm is impossible", cancelAfterConfirm},
		{"confirm without a try is impossible", confirmWithoutTry},
		{"a failed action leaves nothing and may come again", failedAction},
		{"a failed ending leaves nothing and comes again", failedEnding},
		{"a refusal stands", refusalStands},
		{"a message's delivery is never refused for good", deliveryRefused},
		{"an older leader's action never runs", olderEpoch},
		{"an ending of any epoch is obeyed", endingOfOldEpoch},
		{"branches, parts and transactions are apart", apart},
		{"a key is a name like any other", keys},
		{"repeats at the same time run once", together},
		{"an action and its ending at the same time agree", actionAgainstEnding},
		{"what was swept is refused", swept},
		{"random orders follow the rules", func(ctx context.Context, s Store) error { return random(ctx, s, 1, 40) }},
		{"a message is sent once", sendOnce},
		{"a check-back is for ever", checkBackFirst},
		{"a check-back waits for the local transaction", checkBackDuring},
	}
}

var errBroken = errors.New("the business broke")

func refused(why string) error { return fmt.Errorf("%w: %s", fence.ErrRefused, why) }

func repeatedAction(ctx context.Context, s Store) error {
	b := newBranch(s, "saga")
	for range 3 {
		if err := expect("action", b.do(ctx, fence.Action, 2, nil), nil); err != nil {
			return err
		}
	}
	return b.is(ctx, 1, 0, 0)
}

func repeatedEnding(ctx context.Context, s Store) error {
	b := newBranch(s, "saga")
	if err := b.do(ctx, fence.Action, 2, nil); err != nil {
		return err
	}
	for range 3 {
		if err := expect("compensate", b.do(ctx, fence.Compensate, 2, nil), nil); err != nil {
			return err
		}
	}
	return b.is(ctx, 1, 1, 0)
}

func repeatedConfirm(ctx context.Context, s Store) error {
	b := newBranch(s, "tcc")
	if err := b.do(ctx, fence.Try, 0, nil); err != nil { // the initiator has no epoch
		return err
	}
	for term := range uint64(3) {
		if err := expect("confirm", b.do(ctx, fence.Confirm, term+1, nil), nil); err != nil {
			return err
		}
	}
	// A try whose answer was lost is repeated, even after the confirm.
	return all(expect("try", b.do(ctx, fence.Try, 0, nil), nil), b.is(ctx, 1, 0, 1))
}

func emptyRollback(ctx context.Context, s Store) error {
	for mode, o := range map[string]fence.Operation{"saga": fence.Compensate, "tcc": fence.Cancel} {
		b := newBranch(s, mode)
		for range 2 {
			if err := expect(string(o), b.do(ctx, o, 1, nil), nil); err != nil {
				return err
			}
		}
		if err := b.is(ctx, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func lateAction(ctx context.Context, s Store) error {
	for _, term := range []uint64{0, 1, 2, 3} { // an epoch does not help it
		b := newBranch(s, "tcc")
		if err := b.do(ctx, fence.Cancel, 2, nil); err != nil {
			return err
		}
		for range 2 {
			if err := expect("try", b.do(ctx, fence.Try, term, nil), fence.ErrLate); err != nil {
				return err
			}
		}
		if err := b.is(ctx, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func actionAfterUndone(ctx context.Context, s Store) error {
	b := newBranch(s, "saga")
	return all(
		b.do(ctx, fence.Action, 2, nil), b.do(ctx, fence.Compensate, 2, nil),
		expect("action", b.do(ctx, fence.Action, 2, nil), fence.ErrLate),
		expect("action", b.do(ctx, fence.Action, 3, nil), fence.ErrLate),
		expect("compensate", b.do(ctx, fence.Compensate, 3, nil), nil),
		b.is(ctx, 1, 1, 0))
}

func confirmAfterCancel(ctx context.Context, s Store) error {
	tried, empty := newBranch(s, "tcc"), newBranch(s, "tcc")
	return all(
		tried.do(ctx, fence.Try, 0, nil), tried.do(ctx, fence.Cancel, 1, nil),
		expect("confirm", tried.do(ctx, fence.Confirm, 1, nil), fence.ErrOrder), tried.is(ctx, 1, 1, 0),
		empty.do(ctx, fence.Cancel, 1, nil),
		expect("confirm", empty.do(ctx, fence.Confirm, 1, nil), fence.ErrOrder), empty.is(ctx, 0, 0, 0))
}

func cancelAfterConfirm(ctx context.Context, s Store) error {
	b := newBranch(s, "tcc")
	return all(
		b.do(ctx, fence.Try, 0, nil), b.do(ctx, fence.Confirm, 1, nil),
		expect("cancel", b.do(ctx, fence.Cancel, 1, nil), fence.ErrOrder), b.is(ctx, 1, 0, 1))
}

func confirmWithoutTry(ctx context.Context, s Store) error {
	b := newBranch(s, "tcc")
	return all(
		expect("confirm", b.do(ctx, fence.Confirm, 1, nil), fence.ErrOrder),
		expect("try", b.do(ctx, fence.Try, 0, nil), nil), // it left nothing behind
		expect("confirm", b.do(ctx, fence.Confirm, 1, nil), nil), b.is(ctx, 1, 0, 1))
}

func failedAction(ctx context.Context, s Store) error {
	b := newBranch(s, "saga")
	for range 2 {
		if err := expect("action", b.do(ctx, fence.Action, 1, errBroken), errBroken); err != nil {
			return err
		}
	}
	empty := newBranch(s, "saga")
	return all(
		b.is(ctx, 0, 0, 0), b.do(ctx, fence.Action, 1, nil), b.do(ctx, fence.Action, 1, errBroken), b.is(ctx, 1, 0, 0),
		expect("action", empty.do(ctx, fence.Action, 1, errBroken), errBroken),
		empty.do(ctx, fence.Compensate, 1, nil), empty.is(ctx, 0, 0, 0))
}

func failedEnding(ctx context.Context, s Store) error {
	b, c := newBranch(s, "saga"), newBranch(s, "tcc")
	return all(
		b.do(ctx, fence.Action, 1, nil),
		expect("compensate", b.do(ctx, fence.Compensate, 1, errBroken), errBroken), b.is(ctx, 1, 0, 0),
		expect("compensate", b.do(ctx, fence.Compensate, 1, refused("no")), fence.ErrRefused), b.is(ctx, 1, 0, 0),
		b.do(ctx, fence.Compensate, 1, nil), b.do(ctx, fence.Compensate, 1, errBroken), b.is(ctx, 1, 1, 0),
		c.do(ctx, fence.Try, 0, nil),
		expect("confirm", c.do(ctx, fence.Confirm, 1, errBroken), errBroken), c.is(ctx, 1, 0, 0),
		c.do(ctx, fence.Confirm, 1, nil), c.is(ctx, 1, 0, 1))
}

// refusalStands: the coordinator takes a refused step for one that did nothing. An
// earlier attempt that is still on its way must not do it after all.
// refusalStands in whatever words: they may quote what came in.
func refusalStands(ctx context.Context, s Store) error {
	bare := newBranch(s, "tcc") // whose initiator names no epoch
	if err := all(
		expect("try", bare.do(ctx, fence.Try, 0, refused("poor")), fence.ErrRefused),
		expect("the repeated try", bare.do(ctx, fence.Try, 0, nil), fence.ErrRefused), bare.is(ctx, 0, 0, 0)); err != nil {
		return err
	}
	for _, why := range []string{"sold out", "no item \x00\xff", strings.Repeat("é", 200)} {
		b := newBranch(s, "saga")
		if err := all(
			expect("action", b.do(ctx, fence.Action, 1, refused(why)), fence.ErrRefused),
			expect("the repeated action", b.do(ctx, fence.Action, 1, nil), fence.ErrRefused),
			expect("the repeated action", b.do(ctx, fence.Action, 2, nil), fence.ErrRefused), b.is(ctx, 0, 0, 0),
			b.do(ctx, fence.Compensate, 2, nil), b.is(ctx, 0, 0, 0),
			expect("action", b.do(ctx, fence.Action, 2, nil), fence.ErrLate)); err != nil {
			return fmt.Errorf("refused by %.20q: %w", why, err)
		}
	}
	return nil
}

func deliveryRefused(ctx context.Context, s Store) error {
	for _, mode := range []string{"message", "notify"} {
		b := newBranch(s, mode)
		if err := all(
			expect("delivery", b.do(ctx, fence.Action, 1, refused("not now")), fence.ErrRefused),
			expect("the repeated delivery", b.do(ctx, fence.Action, 1, nil), nil),
			b.do(ctx, fence.Action, 1, refused("not now")), b.is(ctx, 1, 0, 0)); err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
	}
	return nil
}

// olderEpoch: the newest leader's attempt was heard of, whether it did the work or not;
// a leader that was paused meanwhile has nothing to say any more.
func olderEpoch(ctx context.Context, s Store) error {
	failed, done, delivery := newBranch(s, "saga"), newBranch(s, "saga"), newBranch(s, "message")
	return all(
		expect("delivery of term 7", delivery.do(ctx, fence.Action, 7, refused("not now")), fence.ErrRefused),
		expect("delivery of term 6", delivery.do(ctx, fence.Action, 6, nil), fence.ErrStale), delivery.is(ctx, 0, 0, 0),
		expect("action of term 7", failed.do(ctx, fence.Action, 7, errBroken), errBroken),
		expect("action of term 6", failed.do(ctx, fence.Action, 6, nil), fence.ErrStale), failed.is(ctx, 0, 0, 0),
		expect("action of term 8", failed.do(ctx, fence.Action, 8, nil), nil), failed.is(ctx, 1, 0, 0),
		done.do(ctx, fence.Action, 6, nil),
		expect("the repeated action of term 7", done.do(ctx, fence.Action, 7, nil), nil),
		expect("the repeated action of term 6", done.do(ctx, fence.Action, 6, nil), fence.ErrStale), done.is(ctx, 1, 0, 0))
}

func endingOfOldEpoch(ctx context.Context, s Store) error {
	b, c := newBranch(s, "saga"), newBranch(s, "tcc")
	return all(
		b.do(ctx, fence.Action, 7, nil), expect("compensate", b.do(ctx, fence.Compensate, 6, nil), nil), b.is(ctx, 1, 1, 0),
		expect("compensate", b.do(ctx, fence.Compensate, 5, nil), nil), b.is(ctx, 1, 1, 0),
		c.do(ctx, fence.Try, 7, nil), expect("confirm", c.do(ctx, fence.Confirm, 6, nil), nil), c.is(ctx, 1, 0, 1))
}

func apart(ctx context.Context, s Store) error {
	b := newBranch(s, "saga")
	other, parted := *b, *b
	other.id = "1.20"
	counter := parted.counter("parted")
	part := b.call(fence.Action, 1).For("stock")
	if err := all(b.do(ctx, fence.Action, 1, nil), other.do(ctx, fence.Action, 1, nil), b.is(ctx, 1, 0, 0), other.is(ctx, 1, 0, 0)); err != nil {
		return err
	}
	for range 2 {
		if err := s.Do(ctx, part, Work{Counter: counter, N: 1}); err != nil {
			return err
		}
	}
	switch n, err := s.Value(ctx, counter); {
	case err != nil:
		return err
	case n != 1:
		return fmt.Errorf("the part's counter is %d, want 1", n)
	}
	// Names that hold what may stand between names.
	for _, name := range []struct{ branch, part string }{{"a/b", "c"}, {"a", "b/c"}, {"a/b/c", ""}, {"a%2Fb", "c"}, {"a", "b%2Fc"}, {"a:b", "c"}} {
		c, own := b.call(fence.Action, 1), parted.counter(name.branch+"|"+name.part)
		c.Branch, c.Part = name.branch, name.part
		if err := s.Do(ctx, c, Work{Counter: own, N: 1}); err != nil {
			return err
		}
		if n, err := s.Value(ctx, own); err != nil || n != 1 {
			return fmt.Errorf("branch %q, part %q: the counter is %d, want 1: %w", name.branch, name.part, n, err)
		}
	}
	return all(b.do(ctx, fence.Compensate, 1, nil), b.is(ctx, 1, 1, 0), other.is(ctx, 1, 0, 0))
}

// keys: DTM's gids are its callers' own words.
func keys(ctx context.Context, s Store) error {
	for _, gid := range []string{"order-1-", "order-10-", "it's; DROP TABLE quorate_fence --", "100%_\\", "注文 ", "a:b", "a"} {
		b := newBranch(s, "saga")
		gid += b.gid // of this run alone
		if len(gid) > fence.GIDBytesMax {
			return fmt.Errorf("gid %q is too long", gid)
		}
		do := func(o fence.Operation) error {
			c := fence.Call{GID: gid, Branch: "01", Operation: o, Mode: "saga", Dialect: fence.DTM}
			return s.Do(ctx, c, Work{Counter: b.counter(kind(o)), N: 1})
		}
		err := all(do(fence.Action), do(fence.Action), b.is(ctx, 1, 0, 0), do(fence.Compensate), do(fence.Compensate),
			expect("action", do(fence.Action), fence.ErrLate), b.is(ctx, 1, 1, 0))
		if err != nil {
			return fmt.Errorf("gid %q: %w", gid, err)
		}
	}
	return nil
}

// swept has clusters of its own: a new cluster's clock begins anew, and what is long ago to
// one is the future of another.
func swept(ctx context.Context, s Store) error {
	old, young, never, foreign := newBranch(s, "saga"), newBranch(s, "saga"), newBranch(s, "saga"), newBranch(s, "saga")
	old.gid, young.gid, never.gid, foreign.gid = GID(1000), GID(1002), GID(1001), GID(1000)
	cluster := GID(bornMS)
	old.cluster, young.cluster, never.cluster, foreign.cluster = cluster, cluster, cluster, GID(bornMS)
	return all(
		old.do(ctx, fence.Action, 1, nil), young.do(ctx, fence.Action, 1, nil), foreign.do(ctx, fence.Action, 1, nil),
		s.Sweep(ctx, cluster, 1001),
		expect("a swept action", old.do(ctx, fence.Action, 1, nil), fence.ErrSwept),
		expect("a swept compensation", old.do(ctx, fence.Compensate, 1, nil), fence.ErrSwept),
		expect("an action never heard of", never.do(ctx, fence.Action, 1, nil), fence.ErrSwept),
		expect("a refused action never heard of", never.do(ctx, fence.Action, 1, refused("no")), fence.ErrSwept),
		s.Sweep(ctx, cluster, 1000), // the floor never falls
		expect("an action never heard of", never.do(ctx, fence.Action, 1, nil), fence.ErrSwept),
		expect("a swept action", old.do(ctx, fence.Action, 1, nil), fence.ErrSwept),
		young.do(ctx, fence.Action, 1, nil), young.is(ctx, 1, 0, 0), old.is(ctx, 1, 0, 0), never.is(ctx, 0, 0, 0),
		expect("another cluster's", foreign.do(ctx, fence.Action, 1, nil), nil),
		foreign.is(ctx, 1, 0, 0))
}
