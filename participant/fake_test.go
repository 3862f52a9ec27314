package participant_test

import (
	"context"
	"sync"
	"testing"

	"github.com/quorate/quorate/participant"
)

// fake is a manager of nothing: it notes what it is told, and answers what the
// test wants.
type fake struct {
	name string

	mu       sync.Mutex
	prepared []participant.Prepared
	told     []told
	answer   func(told) (participant.Outcome, error) // nil: as told
}

type told struct {
	ref     participant.BranchRef
	verdict participant.Verdict
}

func (f *fake) Resource() string { return f.name }

func (f *fake) Commit(_ context.Context, b participant.BranchRef) (participant.Outcome, error) {
	return f.tell(told{b, participant.VerdictCommit}, participant.OutcomeCommitted)
}

func (f *fake) Rollback(_ context.Context, b participant.BranchRef) (participant.Outcome, error) {
	return f.tell(told{b, participant.VerdictRollback}, participant.OutcomeRolledBack)
}

func (f *fake) tell(what told, o participant.Outcome) (participant.Outcome, error) {
	f.mu.Lock()
	f.told = append(f.told, what)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		return answer(what)
	}
	return o, nil
}

func (f *fake) Recover(context.Context) ([]participant.Prepared, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.prepared, nil
}

// heard is what the manager was told, so far.
func (f *fake) heard() []told {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]told(nil), f.told...)
}

// serve attaches a fake manager.
func serve(t testing.TB, client *participant.Client, name string) *fake {
	t.Helper()
	f := &fake{name: name}
	if _, err := client.Attach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts a branch of tx.
func start(t testing.TB, client *participant.Client, tx *participant.Transaction, resource string, opts ...participant.BranchOption) *participant.Branch {
	t.Helper()
	b, err := client.StartBranch(tx.Context(t.Context()), resource, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// begin begins a transaction.
func begin(t testing.TB, client *participant.Client, opts ...participant.TxOption) *participant.Transaction {
	t.Helper()
	tx, err := client.Begin(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// votes votes, and fails the test unless the verdict is wait.
func votes(t testing.TB, b *participant.Branch, kind participant.VoteKind) {
	t.Helper()
	if v, err := b.Vote(t.Context(), participant.Vote{Kind: kind}); err != nil || v != participant.VerdictWait {
		t.Fatalf("vote %v: %v, %v", kind, v, err)
	}
}
