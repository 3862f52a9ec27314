package participant

import (
	"fmt"
	"time"
)

// carried reports that the branch's vote goes back with the answer to the call, and
// not to the cluster: in a one-shot transaction, but for held branches.
func (b *Branch) carried() bool { return b.scope.oneShot && !b.held }

// carry gives the vote to the scope. Whether it gets to the initiator, and from there
// to the cluster, nobody here is told: what may be prepared is asked for until its
// verdict is known.
func (b *Branch) carry(v Vote) (Verdict, error) {
	taken := b.scope.carry(b.ballot(v))
	if v.Kind == VotePrepared || v.MaybePrepared {
		b.mu.Lock()
		b.asking.since = time.Now()
		b.mu.Unlock()
	}
	switch v.Kind {
	case VoteReadOnly:
		b.end(VerdictNone, OutcomeNone)
	case VoteRefused:
		b.afterRefusal(v)
		return VerdictRollback, nil
	}
	if !taken {
		return VerdictWait, fmt.Errorf("branch %s of %q: its vote came after the answer, and the verdict is asked for: %w", b.ref, b.resource, ErrAnswered)
	}
	if b.Verdict() == VerdictRollback {
		return VerdictRollback, nil
	}
	return VerdictWait, nil
}

// asking is when a carried vote was given, and when its verdict was last asked for.
type asking struct{ since, last time.Time }

// askAgainMax is the longest pause between two questions about one carried vote.
const askAgainMax = 30 * time.Second

// overdue reports that no verdict has come for a carried vote, and notes that it is
// asked for now: first after a pause, and then after as long again as it is waited for.
func (b *Branch) overdue(now time.Time, pause time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking.since.IsZero() || b.verdict.Final() {
		return false
	}
	if !b.asking.last.IsZero() {
		pause = min(b.asking.last.Sub(b.asking.since), askAgainMax)
		if now.Sub(b.asking.last) < pause {
			return false
		}
	} else if now.Sub(b.asking.since) < pause {
		return false
	}
	b.asking.last = now
	return true
}
