package participant_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
)

// databaseBank is a bank in a real database, served by one process at a time.
type databaseBank struct {
	*kvDatabase
	client *participant.Client
}

func openBank(t *testing.T, cl *realcluster.Cluster, open func(testing.TB) *kvDatabase) *databaseBank {
	t.Helper()
	b := &databaseBank{kvDatabase: openKV(open)(t).(*kvDatabase)}
	b.exec(t, "CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)")
	for id := range accounts {
		b.exec(t, fmt.Sprintf("INSERT INTO account VALUES (%d, 100)", id))
	}
	b.start(t, cl)
	return b
}

func (b *databaseBank) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := b.plain.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// start starts a process of the bank.
func (b *databaseBank) start(t *testing.T, cl *realcluster.Cluster) {
	t.Helper()
	b.client = dialReal(t, cl)
	b.Serve(t, b.client)
}

// kill ends the bank's process without a goodbye, and starts another one.
func (b *databaseBank) kill(t *testing.T, cl *realcluster.Cluster) {
	t.Helper()
	b.Crash(t)
	_ = b.client.Close()
	b.start(t, cl)
}

// add changes a balance in a branch; it must not fall below zero.
func (b *databaseBank) add(ctx context.Context, account, amount int) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	res, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE account SET amount = amount + %d WHERE id = %d AND amount + %d >= 0", amount, account, amount))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(errFunds, err)
	}
	return tx.Commit()
}

func (b *databaseBank) total(t *testing.T) (sum int) {
	t.Helper()
	if err := b.plain.QueryRowContext(t.Context(), "SELECT sum(amount) FROM account").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	return sum
}

// evidence is the state of each GID's row.
func (b *databaseBank) evidence(t *testing.T) map[participant.GID]string {
	t.Helper()
	rows, err := b.plain.QueryContext(t.Context(), "SELECT gid, state FROM "+participant.EvidenceTable+" WHERE gid NOT IN ('floor', 'timeline')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[participant.GID]string{}
	for rows.Next() {
		var gid participant.GID
		var state string
		if err := rows.Scan(&gid, &state); err != nil {
			t.Fatal(err)
		}
		found[gid] = state
	}
	return found
}

// TestMoneyOverDatabasesWhileLeadersDie is S14: "the sum of money over Postgres,
// MariaDB, SQLite is constant at quiescence; for each GID all branches that wrote
// left evidence rows saying done, or none did". Leaders change meanwhile, and the
// processes of the two databases that prepare are killed.
func TestMoneyOverDatabasesWhileLeadersDie(t *testing.T) {
	t.Parallel()
	const workers, transfers = 4, 10
	cl := realcluster.New(t)
	initiators := []*participant.Client{dialReal(t, cl), dialReal(t, cl, participant.WithSubmitStream())}
	banks := []*databaseBank{openBank(t, cl, postgresKV), openBank(t, cl, mysqlKV), openBank(t, cl, sqliteKV)}
	var serving sync.RWMutex // a bank's process does not change under a transfer's feet

	var mu sync.Mutex
	decided := map[participant.GID]error{}
	var done atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range transfers {
				from, to := banks[(w+i)%3], banks[(w+i+1)%3]
				var gid participant.GID
				serving.RLock()
				opts := []participant.TxOption{participant.WithTimeout(10 * time.Second)}
				if i%2 == 0 {
					opts = append(opts, participant.OneShot()) // but for the held ones' sake
				}
				if i%4 == 0 {
					opts = append(opts, participant.PrepareBehind())
				}
				err := initiators[w%2].Run(t.Context(), func(ctx context.Context) error {
					info, _ := participant.FromContext(ctx)
					gid = info.GID
					if err := from.add(ctx, (w+i)%accounts, -30); err != nil {
						return err
					}
					return to.add(ctx, (w*3+i*5)%accounts, 30)
				}, opts...)
				serving.RUnlock()
				mu.Lock()
				decided[gid] = err
				mu.Unlock()
				done.Add(1)
			}
		})
	}
	for round := range 3 {
		before := done.Load()
		testkit.Eventually(t, 60*time.Second, func() bool { return done.Load() > before+5 || done.Load() == workers*transfers }, "transfers to go on")
		cl.Down(round)
		cl.Lead((round + 1) % 3)
		cl.Up(round)
		if round < 2 { // committed and not yet told, perhaps
			serving.Lock()
			banks[round].kill(t, cl)
			serving.Unlock()
		}
	}
	wg.Wait()
	testkit.Eventually(t, 60*time.Second, func() bool { return cl.Unfinished() == 0 }, "every transaction to end")

	sum := 0
	for _, b := range banks {
		sum += b.total(t)
	}
	if want := len(banks) * accounts * 100; sum != want {
		t.Errorf("%d in all accounts, want %d", sum, want)
	}
	committed := 0
	rows := []map[participant.GID]string{banks[0].evidence(t), banks[1].evidence(t), banks[2].evidence(t)}
	for gid, err := range decided {
		record := cl.Transaction(string(gid))
		if record == nil && !errors.Is(err, participant.ErrUnknown) && err != nil {
			continue // one-shot, and given up before the cluster heard of it
		}
		commit := record.GetDecision() == fsm.DecisionCommit
		var unknown *participant.OutcomeUnknownError
		if (err == nil) != commit && !errors.As(err, &unknown) {
			t.Errorf("%s: answered %v, decided commit: %v", gid, err, commit)
		}
		n := 0
		for _, found := range rows {
			if found[gid] == "done" {
				n++
			}
		}
		if want := map[bool]int{true: 2, false: 0}[commit]; n != want {
			t.Errorf("%s: done in %d banks, want %d (decided commit: %v): evidence %q, %q, %q of %v",
				gid, n, want, commit, rows[0][gid], rows[1][gid], rows[2][gid], record)
		}
		if commit {
			committed++
		} else if !errors.Is(err, errFunds) {
			t.Logf("%s rolled back: %v", gid, err)
		}
	}
	if committed < workers*transfers/2 {
		t.Errorf("%d of %d committed: the run shows little", committed, workers*transfers)
	}
}
