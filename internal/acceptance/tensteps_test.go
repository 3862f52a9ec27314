package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/message"
	"github.com/quorate/quorate/participant/saga"
	"github.com/quorate/quorate/participant/tcc"
)

// steps of each transaction; each moves a coin on an account of its own.
const steps = 10

// story is one transaction of ten branches whose leader is killed at a place of each
// branch, in turn.
type story struct {
	key  string
	mode branchbank.Mode
	// place of each branch at which the leader dies, as the failpoint and the branch.
	kills []string
	// begin hands the transaction to the cluster; errors are of no account: what stands
	// in the log and in the store is judged.
	begin func(ctx context.Context, c *participant.Client, b *bank) error
	// plan is what effects are held against; decision is how it must end.
	plan     []linearizability.PlannedStep
	decision quoratev1.Decision
	// effects that there must be, by operation.
	effects map[string]int
}

// coin is the move of the n-th step, counted from 1.
func coin(key string, n int) branchbank.Move {
	return branchbank.Move{Key: key, Account: n, Delta: 1}
}

// chain is a plan of n steps, each after the one before it, from the first on.
func chain(n int, first ...linearizability.PlannedStep) []linearizability.PlannedStep {
	plan := first
	for k := 1; k <= n; k++ {
		s := linearizability.PlannedStep{ID: fmt.Sprintf("%02d", k)}
		if len(plan) > 0 {
			s.After = []string{plan[len(plan)-1].ID}
		}
		plan = append(plan, s)
	}
	return plan
}

// places are a failpoint of branches 1 to n, named by a format.
func places(point, format string, n int) []string {
	var all []string
	for k := 1; k <= n; k++ {
		all = append(all, point+" "+fmt.Sprintf(format, k))
	}
	return all
}

// stories are a saga that succeeds and one whose last step refuses, a TCC that is
// confirmed and one that is cancelled, a message that is submitted and one that is
// checked back.
func stories() []story {
	tries := func(key string, n int, refused bool) func(context.Context, *participant.Client, *bank) error {
		return func(ctx context.Context, c *participant.Client, b *bank) error {
			return tcc.Run(ctx, c, func(ctx context.Context, tx *tcc.Transaction) error {
				branch := tcc.Branch{Try: b.url + branchbank.PathTry, Confirm: b.url + branchbank.PathConfirm, Cancel: b.url + branchbank.PathCancel}
				for k := 1; k <= n; k++ {
					if _, err := tx.Call(ctx, branch, coin(key, k)); err != nil {
						return err
					}
				}
				if refused {
					return errors.New("the initiator has thought better of it")
				}
				return nil
			}, tcc.Key(key))
		}
	}
	branches := func(n int) (plan []linearizability.PlannedStep) {
		for k := 1; k <= n; k++ {
			plan = append(plan, linearizability.PlannedStep{ID: fmt.Sprint(k)})
		}
		return plan
	}
	stepped := func(key string, refusedAt int) func(context.Context, *participant.Client, *bank) error {
		return func(ctx context.Context, c *participant.Client, b *bank) error {
			s := saga.New(c, saga.Key(key))
			for k := 1; k <= steps; k++ {
				m := coin(key, k)
				m.Refuse = k == refusedAt
				s.Step(b.url+branchbank.PathAction, b.url+branchbank.PathCompensate, m)
			}
			return s.Run(ctx)
		}
	}
	sent := func(key string, forget branchbank.Forgetting) func(context.Context, *participant.Client, *bank) error {
		return func(ctx context.Context, c *participant.Client, b *bank) error {
			m := message.New(c, b.url+branchbank.PathCheckBack, message.Key(key), message.CheckBackAfter(time.Second))
			for k := 1; k <= steps; k++ {
				var after []message.ReceiverOption
				if k > 1 {
					after = append(after, message.After(fmt.Sprintf("%02d", k-1)))
				}
				m.Add(b.url+branchbank.PathAction, coin(key, k), after...)
			}
			return b.Send(ctx, m, branchbank.Move{Key: key, Account: 0, Delta: -1}, forget)
		}
	}
	local := linearizability.PlannedStep{ID: branchbank.BranchLocal, Local: true}
	commit, rollback := quoratev1.Decision_DECISION_COMMIT, quoratev1.Decision_DECISION_ROLLBACK
	return []story{
		{"saga-forward", branchbank.Saga, places(failpoint.BeforeAnswer, "%02d", steps), stepped("saga-forward", 0),
			chain(steps), commit, map[string]int{"action": steps}},
		{"saga-back", branchbank.Saga, append([]string{failpoint.BeforeAnswer + " 10"}, places(failpoint.BeforeReport, "%02d", steps-1)...), stepped("saga-back", steps),
			chain(steps), rollback, map[string]int{"action": steps - 1, "compensate": steps - 1}},
		{"tcc-confirmed", branchbank.TCC, places(failpoint.BeforeReport, "%d", steps), tries("tcc-confirmed", steps, false),
			branches(steps), commit, map[string]int{"try": steps, "confirm": steps}},
		{"tcc-cancelled", branchbank.TCC, places(failpoint.BeforeReport, "%d", steps), tries("tcc-cancelled", steps, true),
			branches(steps), rollback, map[string]int{"try": steps, "cancel": steps}},
		{"message-submitted", branchbank.Message, places(failpoint.BeforeReport, "%02d", steps), sent("message-submitted", branchbank.ForgetNothing),
			chain(steps, local), commit, map[string]int{"local": 1, "action": steps}},
		{"message-checked-back", branchbank.Message, []string{failpoint.BeforeDecision + " "}, sent("message-checked-back", branchbank.ForgetDone),
			chain(steps, local), commit, map[string]int{"local": 1, "action": steps}},
	}
}

// bank serves the branches of every story, each answer to the coordinator dropped once.
type bank struct {
	*branchbank.Bank
	config branchbank.Config
	url    string
}

func newBank(t *testing.T, client *participant.Client, unfenced bool) *bank {
	t.Helper()
	b := &bank{config: branchbank.Config{
		Resource: "bank", Spec: bankstore.Spec{Kind: bankstore.SQLite, DSN: branchbank.SQLiteDSN(filepath.Join(t.TempDir(), "bank.sqlite"))},
		Accounts: steps + 1, Opening: 1000, Opener: drivers.Open, DropAnswers: true, Unfenced: unfenced,
	}}
	var err error
	if b.Bank, err = branchbank.Open(t.Context(), b.config, client); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.Handler())
	t.Cleanup(func() {
		server.Close()
		_ = b.Close()
	})
	b.url = server.URL
	return b
}

// doomed is a cluster whose leader dies at each place of each story, once.
type doomed struct {
	*cluster.Cluster
	marks map[string][]string // by story: the files that the dying leave
}

func startDoomed(t *testing.T, all []story) *doomed {
	t.Helper()
	d := &doomed{marks: map[string][]string{}}
	dir := t.TempDir()
	var points []string
	for _, s := range all {
		for n, place := range s.kills {
			point, branch, _ := strings.Cut(place, " ")
			mark := filepath.Join(dir, fmt.Sprintf("%s-%02d", s.key, n))
			d.marks[s.key] = append(d.marks[s.key], mark)
			points = append(points, fmt.Sprintf("%s@%s=kill,once=%s", point, failpoint.BranchKey(s.key, branch), mark))
		}
	}
	var err error
	d.Cluster, err = cluster.Start(t.Context(), cluster.Config{
		Binary: binary, Nodes: 3, Dir: t.TempDir(), Args: []string{"--endpoint-allow", "127.0.0.1"},
		Env: func(string, int) []string { return []string{failpoint.Variable + "=" + strings.Join(points, ";")} },
		OnExit: func(n *cluster.Node, _ error) {
			if t.Context().Err() == nil {
				_ = n.Restart(t.Context())
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop() })
	return d
}

// died checks that a leader was killed at each place of a story: another process each
// time, where the branches come one after the other.
func (d *doomed) died(t *testing.T, s story) {
	t.Helper()
	pids := map[string]bool{}
	for n, mark := range d.marks[s.key] {
		text, err := os.ReadFile(mark)
		if err != nil {
			t.Errorf("the leader was not killed at %s: %v", s.kills[n], err)
			continue
		}
		pids[strings.Fields(string(text))[1]] = true // "place pid=... at=... key=..."
	}
	if want := len(s.kills); s.mode != branchbank.TCC && len(pids) != want || len(pids) == 0 {
		t.Errorf("%d leaders died at %d places", len(pids), want)
	}
	t.Logf("%d places, %d leaders killed", len(s.kills), len(pids))
}

// S15: "tries = confirms or tries = cancels; compensations are the exact reverse of
// what was done; each effect once." The leader is killed before each report, in turn;
// each step's report is dropped once on its way; the effects are n = n + 1.
func TestS15_LeaderKilledBeforeEachReport(t *testing.T) {
	all := stories()
	nodes := startDoomed(t, all)
	client, err := participant.Dial(t.Context(), nodes.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	b := newBank(t, client, false)
	for _, s := range all {
		t.Run(s.key, func(t *testing.T) {
			began := time.Now()
			tx := tell(t, client, b, s)
			nodes.died(t, s)
			for _, v := range judgeStory(t, b, s, tx) {
				t.Error(v)
			}
			t.Logf("%v", time.Since(began).Round(time.Millisecond))
		})
	}
}

// The control: without the fence, the same stories break S15, and the judge says so.
func TestS15_WithoutTheFenceItBreaks(t *testing.T) {
	all := stories()
	for i := range all {
		all[i].kills = all[i].kills[:1]
	}
	nodes := startDoomed(t, all)
	client, err := participant.Dial(t.Context(), nodes.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	b := newBank(t, client, true)
	for _, s := range all {
		t.Run(s.key, func(t *testing.T) {
			tx := tell(t, client, b, s)
			found := judgeStory(t, b, s, tx)
			if len(found) == 0 {
				t.Error("nothing was found, though every call came twice and there was no fence")
			}
			for _, v := range found {
				if !strings.Contains(v, "took effect 2 times") && !strings.Contains(v, "took effect 3 times") {
					t.Errorf("found for another reason: %s", v)
				}
			}
		})
	}
}

// tell runs a story and waits until it has ended.
func tell(t *testing.T, client *participant.Client, b *bank, s story) *quoratev1.Transaction {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*within)
	defer cancel()
	if err := s.begin(ctx, client, b); err != nil {
		t.Logf("the initiator heard: %v", err)
	}
	var tx *quoratev1.Transaction
	testkit.EventuallyNoError(t, within, func() error {
		var err error
		if tx, err = client.Get(ctx, "key:"+s.key); err != nil {
			return err
		}
		if !participant.Finished(tx) {
			return fmt.Errorf("%s is %v", s.key, tx.GetState())
		}
		return nil
	})
	if tx.GetDecision() != s.decision {
		t.Errorf("%s: %v (%v %s), want %v", s.key, tx.GetDecision(), tx.GetReason(), tx.GetDetail(), s.decision)
	}
	return tx
}

// judgeStory holds the store's effects of one story against its plan.
func judgeStory(t *testing.T, b *bank, s story, tx *quoratev1.Transaction) (found []string) {
	t.Helper()
	books, err := branchbank.ReadBooks(t.Context(), b.config)
	if err != nil {
		t.Fatal(err)
	}
	h := &linearizability.History{Header: linearizability.Header{Format: linearizability.Format, Partial: true, DeliveriesUnseen: true}}
	h.Observations = append(h.Observations, branchbank.Final(tx), linearizability.Observation{
		Sight: linearizability.SightPlan, GID: tx.GetGid(), Mode: string(s.mode), Steps: s.plan,
	})
	had := map[string]int{}
	for _, o := range books.Observations("bank") {
		if o.GID == tx.GetGid() {
			h.Observations = append(h.Observations, o)
			had[string(o.Operation)]++
		}
	}
	h.Observations = append(h.Observations, linearizability.Observation{Sight: linearizability.SightQuiescent})
	for _, v := range linearizability.Check(t.Context(), h, linearizability.Options{}).Violations {
		found = append(found, v.String())
	}
	if fmt.Sprint(had) != fmt.Sprint(s.effects) {
		t.Errorf("%s: effects %v, want %v", s.key, had, s.effects)
	}
	return found
}
