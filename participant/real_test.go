package participant_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
)

// dialReal makes a client of the real state machine, driver and API.
func dialReal(t testing.TB, cl *realcluster.Cluster, opts ...participant.Option) *participant.Client {
	t.Helper()
	opts = append([]participant.Option{
		participant.WithAttemptTimeout(500 * time.Millisecond),
		participant.WithScanInterval(300*time.Millisecond, 150*time.Millisecond),
	}, opts...)
	client, err := participant.Dial(t.Context(), cl.Addresses(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

const accounts = 8

// open gives every account of a bank 100.
func openAccounts(t testing.TB, s *embedded.Store) {
	t.Helper()
	for i := range accounts {
		if err := put(t.Context(), s, fmt.Sprint("account/", i), "100"); err != nil {
			t.Fatal(err)
		}
	}
}

// add changes a balance in a branch; it must not fall below zero.
func add(ctx context.Context, s *embedded.Store, account string, amount int) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	v, err := tx.Get(account)
	if err != nil {
		return err
	}
	balance, err := strconv.Atoi(string(v))
	if err != nil {
		return err
	}
	if balance += amount; balance < 0 {
		return errFunds
	}
	if err := tx.Put(account, []byte(strconv.Itoa(balance))); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

var errFunds = errors.New("not enough money")

// total is the sum of a bank's balances.
func total(t testing.TB, s *embedded.Store) (sum int) {
	t.Helper()
	err := s.Range("account/", func(_ string, v []byte) error {
		n, err := strconv.Atoi(string(v))
		sum += n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// S14 in small: money moves between two banks, each served by a process of its
// own, while leaders die and come back; the sum stays, and evidence, decision and
// answer agree for each GID.
func TestMoneyMovesWhileLeadersDie(t *testing.T) {
	const workers, transfers = 4, 12
	cl := realcluster.New(t)
	initiator := dialReal(t, cl)
	clientA, clientB := dialReal(t, cl), dialReal(t, cl)
	a, b := bank(t, clientA, "bank-a"), bank(t, clientB, "bank-b")
	openAccounts(t, a)
	openAccounts(t, b)

	type answer struct {
		gid participant.GID
		err error
	}
	var mu sync.Mutex
	var answers []answer
	var done atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range transfers {
				var gid participant.GID
				from, to := fmt.Sprint("account/", (w+i)%accounts), fmt.Sprint("account/", (w*3+i*5)%accounts)
				var opts []participant.TxOption
				if i%2 == 0 {
					opts = append(opts, participant.OneShot())
				}
				err := initiator.Run(t.Context(), func(ctx context.Context) error {
					info, _ := participant.FromContext(ctx)
					gid = info.GID
					if err := add(ctx, a, from, -30); err != nil {
						return err
					}
					return add(ctx, b, to, 30)
				}, opts...)
				mu.Lock()
				answers = append(answers, answer{gid, err})
				mu.Unlock()
				done.Add(1)
			}
		})
	}
	for kill := range 4 {
		before := done.Load()
		testkit.Eventually(t, 30*time.Second, func() bool { return done.Load() > before+5 || done.Load() == workers*transfers }, "transfers to go on")
		victim := kill % 3
		cl.Down(victim)
		cl.Lead((victim + 1) % 3)
		cl.Up(victim)
	}
	wg.Wait()
	cl.Settled()

	if sum := total(t, a) + total(t, b); sum != 2*accounts*100 {
		t.Errorf("%d in all accounts, want %d", sum, 2*accounts*100)
	}
	evidence := map[participant.GID][]embedded.EvidenceState{}
	for _, s := range []*embedded.Store{a, b} {
		rows, err := s.Evidence()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			evidence[row.GID] = append(evidence[row.GID], row.State)
		}
	}
	committed := 0
	for _, got := range answers {
		decided := cl.Transaction(string(got.gid)).GetDecision() == fsm.DecisionCommit
		var unknown *participant.OutcomeUnknownError
		if (got.err == nil) != decided && !errors.As(got.err, &unknown) {
			t.Errorf("%s: answered %v, decided commit: %v", got.gid, got.err, decided)
		}
		if got.err != nil && !errors.Is(got.err, errFunds) {
			t.Logf("%s: %v", got.gid, got.err)
		}
		for _, state := range evidence[got.gid] {
			if (state == embedded.EvidenceCommitted) != decided {
				t.Errorf("%s: a bank's evidence says %v, decided commit: %v", got.gid, state, decided)
			}
		}
		if decided {
			committed++
			if len(evidence[got.gid]) != 2 {
				t.Errorf("%s: committed, with evidence in %d of 2 banks", got.gid, len(evidence[got.gid]))
			}
		}
	}
	if committed < workers*transfers/2 {
		t.Errorf("%d of %d committed: the run shows little", committed, workers*transfers)
	}
}

// A participant is killed with a prepared branch, and the leader with it; both come
// back, and the commit is applied.
func TestParticipantAndLeaderDieTogether(t *testing.T) {
	cl := realcluster.New(t)
	initiator, victim := dialReal(t, cl), dialReal(t, cl)
	path := filepath.Join(t.TempDir(), "bank.db")
	store, err := embedded.Open(path, "bank")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Serve(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, initiator)
	if err := put(tx.Context(t.Context()), store, "k", "1"); err != nil {
		t.Fatal(err)
	}
	victim.Kill()
	_ = store.Close()
	cl.Down(0)
	cl.Lead(1)
	if err := tx.Commit(t.Context()); err != nil { // its vote is in the log
		t.Fatal(err)
	}
	successor := dialReal(t, cl)
	eventually(t, bankAt(t, successor, "bank", path), "k", "1")
	cl.Settled()
}

// Session loss before the vote: rolled back after the grace, long before the
// deadline; another process of the resource hears of it.
func TestRealLossOfAParticipant(t *testing.T) {
	cl := realcluster.New(t)
	initiator, victim := dialReal(t, cl), dialReal(t, cl)
	serve(t, victim, "r")
	tx := begin(t, initiator)
	start(t, victim, tx, "r")
	victim.Kill()
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "PARTICIPANT_LOST" {
		t.Errorf("commit without its participant: %v", err)
	}
	f := serve(t, dialReal(t, cl), "r") // the branch never voted, so whoever serves the resource must fence it
	cl.Settled()
	if h := f.heard(); len(h) == 0 || h[0] != (told{participant.BranchRef{GID: tx.GID(), ID: "1"}, participant.VerdictRollback}) {
		t.Errorf("the next process was told %v", h)
	}
}

// Held branches are vouched for again under each leader.
func TestRealHeldBranchAcrossALeaderChange(t *testing.T) {
	cl := realcluster.New(t)
	client := dialReal(t, cl)
	f := serve(t, client, "r")
	for i := range 3 {
		tx := begin(t, client)
		b := start(t, client, tx, "r", participant.Held())
		votes(t, b, participant.VotePrepared)
		if i > 0 {
			cl.Lead(i)
		}
		if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
			t.Fatal(err)
		}
	}
	if h := f.heard(); len(h) != 3 {
		t.Errorf("the manager was told %v", h)
	}
	cl.Settled()
}

// A key runs once, also when asked through another client.
func TestRealKey(t *testing.T) {
	cl := realcluster.New(t)
	one, two := dialReal(t, cl), dialReal(t, cl)
	runs := 0
	for _, client := range []*participant.Client{one, two, one} {
		err := client.Run(t.Context(), func(context.Context) error { runs++; return nil }, participant.WithKey("order-1"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if runs != 1 {
		t.Errorf("the function ran %d times", runs)
	}
}

// What the real API refuses, the client tells in its own types.
func TestRealRefusals(t *testing.T) {
	cl := realcluster.New(t)
	client := dialReal(t, cl)
	serve(t, client, "r")
	tx := begin(t, client)
	if err := tx.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || rolledBack.Reason != "REQUESTED" {
		t.Errorf("commit after rollback: %v", err)
	}
	if _, err := client.StartBranch(tx.Context(t.Context()), "r"); !errors.As(err, &rolledBack) {
		t.Errorf("a branch after rollback: %v", err)
	}
	tx = begin(t, client)
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	var committed *participant.CommittedError
	if err := tx.Rollback(t.Context(), "late"); !errors.As(err, &committed) {
		t.Errorf("rollback after commit: %v", err)
	}
	var refused *participant.RefusedError
	if _, err := client.Get(t.Context(), "key:nobody"); !errors.As(err, &refused) || refused.Reason != "NOT_FOUND" {
		t.Errorf("get of a key nobody knows: %v", err)
	}
	if _, err := client.Begin(t.Context(), participant.WithKey("a\nb")); !errors.As(err, &refused) || refused.Reason != "INVALID" {
		t.Errorf("a key with a control character: %v", err)
	}
	// A vote after the rollback, for a branch that was a member.
	tx = begin(t, client)
	b := start(t, client, tx, "r")
	if err := tx.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	if v, err := b.Vote(t.Context(), participant.Vote{Kind: participant.VotePrepared}); err == nil && v != participant.VerdictRollback {
		t.Errorf("a vote after the rollback: %v", v)
	}
	cl.Settled()
}

// An unseen prepared branch is ended by its inquiry, once its time is over.
func TestRealUnseenBranch(t *testing.T) {
	cl := realcluster.New(t)
	cl.Advance(time.Second)
	client := dialReal(t, cl)
	clock := client.ClockMS()
	cl.Advance(participant.ClockStaleMax + 5*time.Second)
	old := participant.BranchRef{GID: participant.GID(fsm.NewGID(clock, [10]byte{1}).String()), ID: "1"}
	young := participant.BranchRef{GID: participant.GID(fsm.NewGID(clock, [10]byte{2}).String()), ID: "1"}
	f := &fake{name: "r", prepared: []participant.Prepared{
		{BranchRef: old, Cluster: client.ClusterID(), Timeout: time.Second},
		{BranchRef: young, Cluster: client.ClusterID(), Timeout: time.Hour},
	}}
	if _, err := client.Attach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool { return len(f.heard()) >= 2 }, "the old one to be ended")
	for _, h := range f.heard() {
		if h != (told{old, participant.VerdictRollback}) {
			t.Errorf("the manager was told %v", h)
		}
	}
}
