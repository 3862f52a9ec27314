package participanttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
)

// Harness makes the manager under test work. Its resource holds text under keys,
// as a table `kv` with a primary key would.
type Harness struct {
	// Open opens a fresh, empty resource for one test, to be removed when the test
	// ends. It is not served yet.
	Open func(t testing.TB) Resource
	// Held says that the manager keeps local transactions open instead of preparing
	// them: what asks for a durable vote is then asked the other way round.
	Held bool
	// OneWriter says that the resource admits one writing transaction at a time, as
	// SQLite does: what needs more is not asked.
	OneWriter bool
	// WaitMax is by when a transaction that waits for another one's lock must have
	// given up; 0 means 10 s.
	WaitMax time.Duration
}

// Resource is a resource, and what serves it at the moment.
type Resource interface {
	// Serve attaches a manager of the resource to the client, in what stands for a
	// process of its own. The name of the resource is the same each time.
	Serve(t testing.TB, client *participant.Client) participant.Manager
	// Crash ends that process as a kill does: its connections break, and what it knew
	// is gone. The client may be in use. Serve will be called again.
	Crash(t testing.TB)
	// Begin starts a local transaction with the context: a branch, when it carries a GID.
	Begin(ctx context.Context) (Work, error)
	// Read returns the committed text of a key, "" for none, whatever is locked.
	Read(ctx context.Context, key string) (string, error)
}

// Work is a local transaction.
type Work interface {
	Get(key string) (string, error)
	Put(key, value string) error
	// Commit commits; a branch prepares and votes.
	Commit(ctx context.Context) error
	Rollback() error
}

// Run runs every check of the suite against the harness' manager.
func Run(t *testing.T, h Harness) {
	for _, ch := range checks {
		if !ch.asked(h) {
			continue
		}
		t.Run(ch.name, func(t *testing.T) { ch.run(t, h) })
	}
}

// check is one rule.
type check struct {
	name string
	// durable rules hold only where a vote is durable.
	durable bool
	// held rules hold only where it is not.
	held bool
	// writers rules need several writing transactions at once.
	writers bool
	run     func(t testing.TB, h Harness)
}

// asked reports that the rule is for such a manager.
func (c check) asked(h Harness) bool {
	return !(c.durable && h.Held) && !(c.held && !h.Held) && !(c.writers && h.OneWriter)
}

// bench is what one check works with: a cluster, a client and a served resource.
type bench struct {
	testing.TB
	h       Harness
	cluster *Cluster
	client  *participant.Client
	res     Resource
	m       participant.Manager
}

// patience bounds each wait of the suite.
const patience = 15 * time.Second

func newBench(t testing.TB, h Harness) *bench {
	t.Helper()
	b := &bench{TB: t, h: h, cluster: NewCluster(t, 1)}
	b.cluster.HoldDeliveries(true) // each check delivers by its own hand, unless it says otherwise
	b.res = h.Open(t)
	b.serve()
	return b
}

// serve starts a process: a client of its own, and the manager.
func (b *bench) serve() {
	b.Helper()
	client, err := participant.Dial(b.Context(), b.cluster.Addresses(),
		participant.WithScanInterval(200*time.Millisecond, 100*time.Millisecond),
		participant.WithAttemptTimeout(time.Second), participant.WithCallTimeout(patience))
	if err != nil {
		b.Fatalf("dial: %v", err)
	}
	b.client = client
	b.Cleanup(func() { _ = client.Close() })
	b.m = b.res.Serve(b, client)
}

// crash kills the process and starts another one.
func (b *bench) crash() {
	b.Helper()
	b.res.Crash(b)
	_ = b.client.Close()
	b.serve()
}

// begin begins a transaction.
func (b *bench) begin() *participant.Transaction {
	b.Helper()
	tx, err := b.client.Begin(b.Context(), participant.WithTimeout(41500*time.Millisecond))
	if err != nil {
		b.Fatalf("begin: %v", err)
	}
	return tx
}

// write does a branch's work up to its commit: key becomes value.
func (b *bench) write(ctx context.Context, key, value string) Work {
	b.Helper()
	w, err := b.res.Begin(ctx)
	if err != nil {
		b.Fatalf("begin a branch: %v", err)
	}
	if err := w.Put(key, value); err != nil {
		b.Fatalf("put %s: %v", key, err)
	}
	return w
}

// prepared makes a transaction with one prepared branch, `1`, that sets key to value.
func (b *bench) prepared(key, value string) (*participant.Transaction, participant.BranchRef) {
	b.Helper()
	tx := b.begin()
	b.preparedIn(tx, key, value)
	return tx, participant.BranchRef{GID: tx.GID(), ID: "1"}
}

// preparedIn adds a prepared branch to tx.
func (b *bench) preparedIn(tx *participant.Transaction, key, value string) {
	b.Helper()
	if err := b.write(tx.Context(b.Context()), key, value).Commit(b.Context()); err != nil {
		b.Fatalf("prepare: %v", err)
	}
}

// decideCommit has the cluster decide; nothing is delivered.
func (b *bench) decideCommit(tx *participant.Transaction) {
	b.Helper()
	if err := tx.Commit(b.Context()); err != nil {
		b.Fatalf("commit of the transaction: %v", err)
	}
}

// end calls the manager until it is not busy any more, and returns the outcome.
func (b *bench) end(verdict participant.Verdict, ref participant.BranchRef) participant.Outcome {
	b.Helper()
	call := b.m.Rollback
	if verdict == participant.VerdictCommit {
		call = b.m.Commit
	}
	deadline := time.Now().Add(patience)
	for {
		outcome, err := call(b.Context(), ref)
		if err == nil {
			return outcome
		}
		if time.Now().After(deadline) {
			b.Fatalf("%v of %v is still refused after %v: %v", verdict, ref, patience, err)
		}
		pause()
	}
}

func (b *bench) commit(ref participant.BranchRef) participant.Outcome {
	b.Helper()
	return b.end(participant.VerdictCommit, ref)
}

func (b *bench) rollback(ref participant.BranchRef) participant.Outcome {
	b.Helper()
	return b.end(participant.VerdictRollback, ref)
}

// reads fails unless the committed text of key is want.
func (b *bench) reads(key, want, when string) {
	b.Helper()
	got, err := b.res.Read(b.Context(), key)
	if err != nil {
		b.Fatalf("read %s %s: %v", key, when, err)
	}
	if got != want {
		b.Fatalf("%s is %q %s, want %q", key, got, when, want)
	}
}

// was fails unless the outcome is want.
func (b *bench) was(got, want participant.Outcome, what string) {
	b.Helper()
	if got != want {
		b.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// listed tells whether recovery lists the branch, and as what.
func (b *bench) listed(ref participant.BranchRef) (participant.Prepared, bool) {
	b.Helper()
	found, err := b.m.Recover(b.Context())
	if err != nil {
		b.Fatalf("recover: %v", err)
	}
	for _, p := range found {
		if p.BranchRef == ref {
			return p, true
		}
	}
	return participant.Prepared{}, false
}

// recovered is what recovery lists of this check's cluster: a server that is shared may
// hold what other tests have prepared.
func (b *bench) recovered() ([]participant.Prepared, error) {
	found, err := b.m.Recover(b.Context())
	return slices.DeleteFunc(found, func(p participant.Prepared) bool { return p.Cluster != b.client.ClusterID() }), err
}

// until waits for cond to be nil.
func (b *bench) until(what string, cond func() error) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		pause()
	}
}

// branch is the cluster's record of a branch.
func (b *bench) branch(ref participant.BranchRef) (*quoratev1.Branch, error) {
	x := b.cluster.Transaction(string(ref.GID))
	for _, br := range x.GetBranches() {
		if br.GetSpec().GetId() == ref.ID {
			return br, nil
		}
	}
	return nil, fmt.Errorf("the cluster has not heard of branch %v", ref)
}

// reported waits until the cluster has the branch's outcome.
func (b *bench) reported(ref participant.BranchRef, want participant.Outcome) {
	b.Helper()
	b.until("the branch's report", func() error {
		br, err := b.branch(ref)
		if err == nil && participant.Outcome(br.GetOutcome()) != want {
			err = fmt.Errorf("branch %v has reported %v, want %v", ref, br.GetOutcome(), want)
		}
		return err
	})
}

// blocked runs a local write of key that must not succeed while another
// transaction has the key, and returns how it failed.
func (b *bench) blocked(key string) error {
	b.Helper()
	limit := b.h.WaitMax
	if limit == 0 {
		limit = 10 * time.Second
	}
	done := make(chan error, 1)
	go func() { done <- b.local(b.Context(), key, "thief") }()
	select {
	case err := <-done:
		if err == nil {
			b.Fatalf("a local transaction wrote %s while a branch has it", key)
		}
		return err
	case <-time.After(limit):
		b.Fatalf("a local write of a locked key still waits after %v", limit)
	}
	return nil
}

// local writes key in a local transaction.
func (b *bench) local(ctx context.Context, key, value string) error {
	w, err := b.res.Begin(ctx)
	if err != nil {
		return err
	}
	if err := w.Put(key, value); err != nil {
		return errors.Join(err, w.Rollback())
	}
	return w.Commit(ctx)
}

// pause is between two looks at a condition.
func pause() { time.Sleep(5 * time.Millisecond) }
