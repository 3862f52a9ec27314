// Package acceptance holds tests of the whole: real `quorate serve` processes,
// real participants, and promises of docs/guarantees.md that no single package
// can keep.
package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "quorate-acceptance-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "quorate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	return m.Run(), nil
}

const (
	// within bounds each thing that is waited for, on a busy machine.
	within = 60 * time.Second

	accounts = 8
	opening  = 1000
	workers  = 8
	// rounds of killing every node; acksPerRound commits are acknowledged before each.
	rounds       = 3
	acksPerRound = 40
)

// S5 and S6: "an acknowledged begin, enlist, vote or decision survives kill -9 of
// all nodes", and "once faults heal every transaction ends on every branch,
// untouched by hands". All three nodes die at once while transfers run, three
// times; money, evidence rows, answers and log must agree, transaction by
// transaction.
func TestAllNodesDieAtOnceWhileTransfersRun(t *testing.T) {
	nodes, err := cluster.Start(t.Context(), cluster.Config{Binary: binary, Nodes: 3, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Stop() })
	client, err := participant.Dial(t.Context(), nodes.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	b := banks{openBank(t, client, "bank-a"), openBank(t, client, "bank-b")}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var book ledger
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				gid, err := b.transfer(t.Context(), client, (w+i)%accounts, (w*3+i*5)%accounts)
				book.note(gid, err)
			}
		})
	}
	for range rounds {
		before := book.acknowledged()
		testkit.Eventually(t, within, func() bool { return book.acknowledged() >= before+acksPerRound }, "transfers to be acknowledged")
		killAll(t, nodes)
		for _, n := range nodes.Nodes() {
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if err := nodes.WaitWhole(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := book.acknowledged()
	testkit.Eventually(t, within, func() bool { return book.acknowledged() >= before+acksPerRound }, "transfers after the last restart")
	stop()
	wg.Wait()

	testkit.EventuallyNoError(t, within, func() error { return ended(t.Context(), client) })
	if sum := b.total(t); sum != 2*accounts*opening {
		t.Errorf("%d in all accounts, want %d", sum, 2*accounts*opening)
	}
	book.compare(t, client, b.evidence(t))
}

// killAll kills every node, as nearly at one moment as signals go.
func killAll(t *testing.T, nodes *cluster.Cluster) {
	t.Helper()
	var wg sync.WaitGroup
	for _, n := range nodes.Nodes() {
		wg.Go(func() {
			if err := n.Kill(); err != nil {
				t.Errorf("kill %s: %v", n.Name, err)
			}
		})
	}
	wg.Wait()
}

// ended fails while a transaction has not ended.
func ended(ctx context.Context, client *participant.Client) error {
	page, err := client.List(ctx, &quoratev1.ListRequest{PageSize: 100})
	if err != nil {
		return err
	}
	if n := len(page.GetTransactions()); n > 0 {
		return fmt.Errorf("%d transactions have not ended, among them %s", n, page.GetTransactions()[0].GetGid())
	}
	return nil
}

// ledger is what callers were answered, as a client would have written it down.
type ledger struct {
	mu      sync.Mutex
	answers []answer
	acks    int
}

type answer struct {
	gid participant.GID
	err error
}

func (l *ledger) note(gid participant.GID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, answer{gid, err})
	if err == nil {
		l.acks++
	}
}

func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

// compare holds each answer against the log and against what the banks did.
func (l *ledger) compare(t *testing.T, client *participant.Client, evidence map[participant.GID]int) {
	t.Helper()
	for _, a := range l.answers {
		if a.gid == "" {
			continue // it never began
		}
		tx, err := client.Get(t.Context(), string(a.gid))
		var refused *participant.RefusedError
		if errors.As(err, &refused) && refused.Reason == "NOT_FOUND" && a.err != nil {
			continue // its Begin never reached the log
		}
		if err != nil {
			t.Errorf("%s, answered %v: %v", a.gid, a.err, err)
			continue
		}
		committed := tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT
		var unknown *participant.OutcomeUnknownError
		if !errors.As(a.err, &unknown) && committed != (a.err == nil) {
			t.Errorf("%s: the caller was answered %v, the log says %v", a.gid, a.err, tx.GetDecision())
		}
		want := 0
		if committed {
			want = len(banks{})
		}
		if evidence[a.gid] != want {
			t.Errorf("%s: %v, and %d of %d banks have committed it", a.gid, tx.GetDecision(), evidence[a.gid], len(banks{}))
		}
	}
	t.Logf("%d transfers, %d acknowledged as committed", len(l.answers), l.acks)
}

// banks are the two sides of every transfer.
type banks [2]*embedded.Store

func openBank(t *testing.T, client *participant.Client, name string) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(filepath.Join(t.TempDir(), name+".db"), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for i := range accounts {
		tx, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(tx.Put(account(i), []byte(strconv.Itoa(opening))), tx.Commit(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Serve(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return s
}

func account(i int) string { return fmt.Sprint("account/", i) }

// transfer moves one from an account of the first bank to one of the second.
func (b banks) transfer(ctx context.Context, client *participant.Client, from, to int) (gid participant.GID, err error) {
	err = client.Run(ctx, func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		gid = info.GID
		if err := add(ctx, b[0], account(from), -1); err != nil {
			return err
		}
		return add(ctx, b[1], account(to), 1)
	})
	return gid, err
}

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
	if err := tx.Put(account, []byte(strconv.Itoa(balance+amount))); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (b banks) total(t *testing.T) (sum int) {
	t.Helper()
	for _, s := range b {
		err := s.Range("account/", func(_ string, v []byte) error {
			n, err := strconv.Atoi(string(v))
			sum += n
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// evidence counts the banks that committed each transaction.
func (b banks) evidence(t *testing.T) map[participant.GID]int {
	t.Helper()
	committed := map[participant.GID]int{}
	for _, s := range b {
		rows, err := s.Evidence()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.State == embedded.EvidenceCommitted {
				committed[row.GID]++
			}
		}
	}
	return committed
}
