package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/quorate/quorate/participant"
	"go.etcd.io/bbolt"
)

// Tx is a transaction on the store: a branch when its context carried a GID,
// local otherwise. It must be ended by Commit or Rollback. It is safe for
// concurrent use.
type Tx struct {
	s      *Store
	ctx    context.Context
	branch *participant.Branch // nil: local
	owner  *owner

	mu     sync.Mutex
	writes map[string]write
	bytes  int
	ended  bool
	doomed bool // rolled back by a delivery while it was being worked on
	// failed is why the latest read or write of t failed, nil when none did: a
	// rollback that follows says so to the cluster.
	failed error
}

// Begin starts a transaction; ctx also bounds its waits for locks. With a GID in
// ctx it is the next branch of the call path, unless [participant.Outside] says
// otherwise.
func (s *Store) Begin(ctx context.Context) (*Tx, error) {
	if err := s.writer.usable(); err != nil {
		return nil, err
	}
	t := &Tx{s: s, ctx: ctx, owner: &owner{}, writes: make(map[string]write)}
	if _, ok := participant.FromContext(ctx); !ok || participant.IsOutside(ctx) {
		return t, nil
	}
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	if client == nil {
		return nil, ErrNotServed
	}
	b, err := client.StartBranch(ctx, s.resource)
	if err != nil {
		return nil, err
	}
	t.branch, t.owner.ref = b, b.Ref()
	s.mu.Lock()
	s.live[b.Ref()] = t
	s.mu.Unlock()
	select {
	case <-b.Decided(): // a rollback may have come before we could be found
		s.doom(b.Ref())
	default:
	}
	return t, nil
}

// Branch is the branch that the transaction is, or nil for a local one.
func (t *Tx) Branch() *participant.Branch { return t.branch }

// Get reads a key and locks it: its own write, or else the committed value; nil
// when there is none.
func (t *Tx) Get(key string) ([]byte, error) {
	if err := t.lock(key); err != nil {
		return nil, t.note(err)
	}
	t.mu.Lock()
	w, mine := t.writes[key]
	t.mu.Unlock()
	if mine {
		return clone(w.value), nil
	}
	return t.s.Get(key)
}

// Put writes a key and locks it.
func (t *Tx) Put(key string, value []byte) error {
	v := clone(value)
	if v == nil {
		v = []byte{}
	}
	return t.write(write{key: key, value: v})
}

// Delete removes a key and locks it; one that is not there is removed too.
func (t *Tx) Delete(key string) error { return t.write(write{key: key, del: true}) }

// Commit ends the transaction. A local one is durable and visible when it
// returns. A branch is prepared, durably, and has voted: the decision ends it.
//
// After an error a branch has voted against the transaction, which rolls back,
// but for *participant.OutcomeUnknownError: there it is prepared, and recovery
// finds out.
func (t *Tx) Commit(ctx context.Context) error {
	writes, err := t.end()
	if err != nil {
		return err
	}
	switch {
	case t.branch == nil:
		defer t.s.locks.release(t.owner)
		if len(writes) == 0 {
			return nil
		}
		return t.s.writer.update(func(tx *bbolt.Tx) error { return apply(tx, writes) })
	case len(writes) == 0:
		defer t.s.forget(t)
		_, err := t.branch.Vote(ctx, participant.Vote{Kind: participant.VoteReadOnly})
		return err
	}
	return t.prepare(ctx, writes)
}

// CommitWaits is Commit that also waits for the decision and the branch's end.
// Inside a call that the initiator waits for it is refused, and the transaction
// goes on.
func (t *Tx) CommitWaits(ctx context.Context) error {
	if t.branch == nil {
		return t.Commit(ctx)
	}
	if err := t.branch.CheckWait(); err != nil {
		return err
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	verdict, outcome, err := t.branch.Wait(ctx)
	if err != nil {
		return err
	}
	return t.endedAs(verdict, outcome)
}

// endedAs is the branch's end as an error; nil is committed. A branch that has ended
// otherwise than was decided, by its own record or somebody's hand, is never that.
func (t *Tx) endedAs(verdict participant.Verdict, outcome participant.Outcome) error {
	gid := t.branch.GID()
	switch {
	case outcome == participant.OutcomeCommitted && verdict == participant.VerdictCommit:
		return nil
	case outcome == participant.OutcomeNone && verdict != participant.VerdictRollback: // it only read
		return nil
	case (outcome == participant.OutcomeNone || outcome == participant.OutcomeRolledBack) && verdict == participant.VerdictRollback:
		return &participant.RolledBackError{GID: gid}
	case outcome == participant.OutcomeRolledBack:
		return &participant.RolledBackError{GID: gid, Reason: "HEURISTIC", Detail: "the branch was rolled back on its own"}
	}
	return fmt.Errorf("branch %s of %q: %w: decided %v, the branch %v", t.branch.Ref(), t.s.resource, participant.ErrHeuristic, verdict, outcome)
}

// Rollback drops the transaction; a branch votes against its transaction. After
// Commit or Rollback it is ErrEnded, and changes nothing.
func (t *Tx) Rollback() error {
	if _, err := t.end(); err != nil {
		if t.isDoomed() {
			return nil
		}
		return err
	}
	t.s.forget(t)
	if t.branch == nil {
		return nil
	}
	_, err := t.branch.Vote(t.ctx, participant.Vote{Kind: participant.VoteRefused, Detail: t.whyRolledBack()})
	return err
}

// whyRolledBack is what the cluster is told of a rollback by the service: a lock
// that was not to be had is the answer that people look for.
func (t *Tx) whyRolledBack() string {
	const detail = "the participant rolled back"
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.failed != nil:
		return fmt.Sprintf("%s after this: %v", detail, t.failed)
	case t.ctx.Err() != nil:
		return fmt.Sprintf("%s when its context had ended: %v", detail, context.Cause(t.ctx))
	}
	return detail
}

// prepare makes writes and locks durable, then votes.
func (t *Tx) prepare(ctx context.Context, writes []write) error {
	r := &record{Prepared: t.branch.Prepared(), keys: t.s.locks.keysOf(t.owner), writes: writes}
	slices.Sort(r.keys)
	if err := t.s.prepare(r); err != nil {
		t.s.forget(t)
		_, _ = t.branch.Vote(ctx, participant.Vote{
			Kind: participant.VoteRefused, Detail: err.Error(),
			// A failed write may be on the disk: the branch must be told.
			MaybePrepared: errors.Is(err, ErrBroken),
		})
		return err
	}
	t.s.nowPrepared(t)
	verdict, err := t.branch.Vote(ctx, participant.Vote{Kind: participant.VotePrepared})
	if err == nil && verdict == participant.VerdictRollback {
		return &participant.RolledBackError{GID: t.branch.GID()}
	}
	return err
}

func (t *Tx) write(w write) error {
	if err := t.tryWrite(w); err != nil {
		return t.note(err)
	}
	return nil
}

// note keeps why a read or a write failed.
func (t *Tx) note(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = err
	return err
}

func (t *Tx) tryWrite(w write) error {
	if len(w.key) == 0 || len(w.key) > KeyBytesMax {
		return fmt.Errorf("%w: the key has %d bytes, want 1 to %d", ErrTooLarge, len(w.key), KeyBytesMax)
	}
	if err := t.lock(w.key); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return t.errEnded()
	}
	old := t.writes[w.key]
	size := t.bytes + len(w.key) + len(w.value) - len(old.key) - len(old.value)
	if size > TransactionBytesMax {
		return fmt.Errorf("%w: the transaction would write %d bytes, at most %d may be", ErrTooLarge, size, TransactionBytesMax)
	}
	t.writes[w.key], t.bytes = w, size
	return nil
}

// lock gets the key for t.
func (t *Tx) lock(key string) error {
	t.mu.Lock()
	if t.ended {
		defer t.mu.Unlock()
		return t.errEnded()
	}
	t.mu.Unlock()
	err := t.s.locks.acquire(t.ctx, key, t.owner, t.s.lockTimeout)
	if errors.Is(err, ErrEnded) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.errEnded()
	}
	return err
}

// end takes the writes, in key order, and lets nobody work on t any more.
func (t *Tx) end() ([]write, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, t.errEnded()
	}
	t.ended = true
	return slices.SortedFunc(maps.Values(t.writes), func(a, b write) int { return cmp.Compare(a.key, b.key) }), nil
}

// errEnded says why t takes no more work. t.mu is held.
func (t *Tx) errEnded() error {
	if t.doomed {
		return &participant.RolledBackError{GID: t.branch.GID(), Detail: "it was decided while this branch was being worked on"}
	}
	return ErrEnded
}

func (t *Tx) isDoomed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doomed
}
