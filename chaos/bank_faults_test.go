package chaos

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
)

// A campaign of these tests is a run with flags, such as
//
//	quorate chaos --workloads bank --databases installed --duration 1h
//
// Here each fault is made, one after the other, so that none is left to a draw.

// bankRun is a cluster with a bank on it, and every fault of the given ones made once.
type bankRun struct {
	*testing.T
	env  *Env
	load *bankWorkload
}

// startBank starts the cluster, its links where a fault wants them, and the bank.
func startBank(t *testing.T, faults []Fault, databases ...string) *bankRun {
	t.Helper()
	dir, err := os.MkdirTemp("", "quorate-chaos-bank-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("everything is kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	o := NewOptions()
	o.Seed, o.Dir, o.Workloads, o.Databases = *bankSeed, filepath.Join(dir, "run"), []string{workloadBank}, databases
	o.Binary, o.BankRate = binary, 100
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "chaos.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	r := &bankRun{T: t, env: newEnv(o), load: newBankWorkload(o).(*bankWorkload)}
	for _, f := range faults {
		if f.Prepare == nil {
			continue
		}
		done, err := f.Prepare(r.env)
		if err != nil {
			t.Fatal(err)
		}
		if done != nil {
			t.Cleanup(func() { _ = done() })
		}
	}
	c, err := cluster.Start(t.Context(), cluster.Config{
		Binary: o.Binary, Nodes: 3, Dir: filepath.Join(o.Dir, "nodes"), Env: r.env.nodeEnv, Prepare: r.env.nodesKnown, OnExit: r.env.nodeExited,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	r.env.Cluster = c
	if err := r.load.Start(t.Context(), r.env); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.load.bank.Stop(); _ = r.load.servers.Close() })
	return r
}

var bankSeed = flag.Uint64("bank-seed", 1, "seed of the tests of the workload bank")

// commits waits until that many more were acknowledged.
func (r *bankRun) commits(more int64) {
	r.Helper()
	until, from := time.Now().Add(20*time.Second), r.load.Progress().Commits
	for r.load.Progress().Commits < from+more {
		if time.Now().After(until) {
			r.Fatalf("%d commits were acknowledged in 20 s, want %d", r.load.Progress().Commits-from, more)
		}
		if err := waitFor(r.Context(), 10*time.Millisecond); err != nil {
			r.Fatal(err)
		}
	}
}

// make makes a fault, keeps it for a while, heals it, and wants evidence of it.
func (r *bankRun) make(f Fault, hold time.Duration) {
	r.Helper()
	if err := f.possible(r.env); err != nil {
		r.Errorf("%s is not possible: %v", f.Name, err)
		return
	}
	before := r.load.Progress().Commits
	var injection *Injection
	for range 3 { // nobody to hurt just now is no fault
		ctx, cancel := context.WithTimeout(r.Context(), injectMax)
		var err error
		injection, err = f.Inject(ctx, r.env)
		cancel()
		if err != nil {
			r.Errorf("%s could not be made: %v", f.Name, err)
		}
		if injection != nil {
			break
		}
	}
	if injection == nil {
		r.Errorf("%s found nothing to hurt", f.Name)
		return
	}
	if err := waitFor(r.Context(), hold); err != nil {
		r.Fatal(err)
	}
	during := r.load.Progress().Commits - before
	ctx, cancel := context.WithTimeout(r.Context(), wholeMax)
	defer cancel()
	if err := injection.Heal(ctx); err != nil {
		r.Errorf("%s of %s could not be healed: %v", f.Name, injection.Target, err)
	}
	text, err := injection.Evidence()
	if err != nil || text == "" {
		r.Errorf("nothing shows %s of %s: %v", f.Name, injection.Target, err)
	}
	r.Logf("%s of %s: %s; %d commits meanwhile", f.Name, injection.Target, text, during)
	r.commits(5)
}

// judge settles and wants no finding; it returns what was counted.
func (r *bankRun) judge() map[string]int64 {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), settleMax)
	defer cancel()
	for _, f := range r.load.Settle(ctx, r.env) {
		r.Error(f)
	}
	j, err := r.load.Judge(r.Context(), r.env, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i, f := range j.Findings {
		if i == 20 {
			r.Errorf("... and %d more", len(j.Findings)-i)
			break
		}
		r.Error(f)
	}
	for _, s := range append(r.env.takeSurprises(), j.Vacuous...) {
		r.Error(s)
	}
	r.Logf("%+v, %v", r.load.Progress(), j.Counts)
	return j.Counts
}

// zombie is long enough for a participant to be given up: the grace of the fast
// profile is 2 s.
const zombie = 2500 * time.Millisecond

// TestMoneyWhileProcessesDie makes each fault of participants and initiators once,
// on the embedded stores and on SQLite.
func TestMoneyWhileProcessesDie(t *testing.T) {
	r := startBank(t, participantFaults, "sqlite")
	for _, f := range participantFaults {
		hold := 200 * time.Millisecond
		if f.Hold == zombieHold {
			hold = zombie
		}
		r.make(f, hold)
	}
	// Nobody passes in no time: there is nothing to hurt, which is no finding.
	late, cancel := context.WithCancel(r.Context())
	cancel()
	if injection, err := killAt(late, r.env, failpoint.Ended); injection != nil || err != nil {
		t.Errorf("aimed without any time: %v, %v", injection, err)
	}
	counts := r.judge()
	if counts["verdicts_asked_for"] == 0 {
		t.Error("no participant has asked for a verdict: nothing was recovered")
	}
}

// TestMoneyWhileDatabasesFail makes each fault of the databases once, with some of
// the participants in between.
func TestMoneyWhileDatabasesFail(t *testing.T) {
	if err := bank.CheckDatabases([]string{"postgres", "mariadb", "sqlite"}); err != nil {
		t.Fatal(err)
	}
	r := startBank(t, databaseFaults, "postgres", "mariadb", "sqlite")
	for i, f := range databaseFaults {
		r.make(f, 800*time.Millisecond)
		if i%3 == 0 {
			r.make(participantFaults[i%len(participantFaults)], 200*time.Millisecond)
		}
	}
	counts := r.judge()
	for _, name := range []string{"foreign_xids", "vote_maybe_prepared", "refused_slots", "deliveries_repeated"} {
		t.Logf("%s: %d", name, counts[name])
	}
	if counts["foreign_xids"] != 6 {
		t.Errorf("%d xids of others were looked for, want 6", counts["foreign_xids"])
	}
}
