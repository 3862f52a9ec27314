package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
)

const (
	modesWorkers = 96 // most of them wait, while a bank is away
	// modesAttemptMax bounds one transaction as its initiator sees it; what is open
	// then, the cluster ends.
	modesAttemptMax = 25 * time.Second
	// keyPrefixModes tells the workload's transactions from others'.
	keyPrefixModes = "modes-"
	// modesTimeout is a TCC's: what its initiator leaves behind is cancelled soon.
	modesTimeout      = 5 * time.Second
	modesCheckBack    = time.Second
	modesStepsMax     = 5
	modesReceiversMax = 3
)

// Shares of the transactions that are special.
const (
	refusedShare    = 0.25 // a branch says no
	repeatedShare   = 0.33 // everything is said twice
	otherShare      = 0.10 // and once with other content
	graphShare      = 0.40 // a saga that is no chain
	hurriedShare    = 0.12 // a saga that hardly has time
	askedShare      = 0.10 // a saga that its initiator rolls back
	lateEnlistShare = 0.70 // a branch that enlists after the commit
	leftShare       = 0.10 // a TCC that its initiator leaves
	lateTryShare    = 0.08 // a try that comes after the rollback
	forgotShare     = 0.15 // a message whose sender goes away, at either place
)

// startLoad begins transactions, not more a second than the rate.
func (w *modesWorkload) startLoad(load, all context.Context) {
	tickets := make(chan struct{})
	w.load.Go(func() {
		defer close(tickets)
		for load.Err() == nil {
			pause(load, time.Duration(float64(time.Second)/w.o.ModesRate))
			select {
			case tickets <- struct{}{}:
			case <-load.Done():
			}
		}
	})
	reader := w.env.NewRand()
	w.load.Go(func() { w.read(load, reader) })
	for range modesWorkers {
		r := w.env.NewRand()
		w.load.Go(func() {
			for range tickets {
				w.attempt(all, r)
			}
		})
	}
}

// attempt makes one transaction of a mode drawn at random.
func (w *modesWorkload) attempt(ctx context.Context, r *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, modesAttemptMax)
	defer cancel()
	gid, err := w.client.NewGID(ctx)
	if err != nil {
		w.unknown.Add(1)
		return
	}
	mode := w.o.Modes[r.IntN(len(w.o.Modes))]
	w.mu.Lock()
	w.numbered++
	key := fmt.Sprintf("%s%06d", modeKeys(mode), w.numbered)
	w.mu.Unlock()
	tx := &modesTx{gid: string(gid), key: key, mode: mode}
	switch tx.mode {
	case modeSaga:
		err = w.saga(ctx, tx, r)
	case modeTCC:
		err = w.tcc(ctx, tx, r)
	case modeMessage:
		err = w.message(ctx, tx, r)
	case modeWorkflow:
		err = w.workflow(ctx, tx, r)
	case modeNotify:
		err = w.notify(ctx, tx, r)
	}
	w.heard(tx, err)
}

// plan notes what is about to be asked: from here on effects are expected.
func (w *modesWorkload) plan(tx *modesTx, steps []linearizability.PlannedStep) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tx.steps = steps
	w.begun = append(w.begun, tx)
}

// heard notes what the initiator was told in the end.
func (w *modesWorkload) heard(tx *modesTx, err error) {
	w.operations.Add(1)
	var rolledBack *participant.RolledBackError
	var decision linearizability.Decision
	switch {
	case err == nil:
		decision = linearizability.DecisionCommit
		w.commits.Add(1)
	case errors.As(err, &rolledBack):
		decision = linearizability.DecisionRollback
		w.rollbacks.Add(1)
	default:
		w.unknown.Add(1)
		w.env.Log.Debug("modes: unknown", "key", tx.key, "mode", tx.mode, "error", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	tx.heard = decision
}

// shares are the moves of n branches on random banks that are nothing in all: each
// pays one, and the last one gets it.
func (w *modesWorkload) shares(key string, n int, r *rand.Rand) (banks []string, moves []branchbank.Move) {
	account := r.IntN(branchAccounts)
	for k := range n {
		m := branchbank.Move{Key: key, Account: account, Delta: -1}
		if k == n-1 {
			m.Delta = int64(n - 1)
		}
		banks, moves = append(banks, w.banks[r.IntN(len(w.banks))].url()), append(moves, m)
	}
	return banks, moves
}

func payload(m branchbank.Move) []byte {
	return []byte(fmt.Sprintf(`{"key":%q,"account":%d,"delta":%d,"refuse":%t}`, m.Key, m.Account, m.Delta, m.Refuse))
}

// quick is a plan's retry: a bank that is away is asked often.
func quick() *quoratev1.Plan {
	return &quoratev1.Plan{Retry: &quoratev1.Retry{
		Interval: durationpb.New(50 * time.Millisecond), IntervalMax: durationpb.New(time.Second), CallTimeout: durationpb.New(3 * time.Second),
	}}
}

// saga submits a chain or a graph of steps.
func (w *modesWorkload) saga(ctx context.Context, tx *modesTx, r *rand.Rand) error {
	n := 2 + r.IntN(modesStepsMax-1)
	banks, moves := w.shares(tx.key, n, r)
	if r.Float64() < refusedShare {
		moves[r.IntN(n)].Refuse = true
	}
	graph := r.Float64() < graphShare
	req := &quoratev1.SubmitRequest{Wait: quoratev1.Wait_WAIT_NONE, Begin: &quoratev1.BeginRequest{
		Gid: tx.gid, Key: tx.key, Mode: quoratev1.Mode_MODE_SAGA, Plan: quick(),
	}}
	if r.Float64() < hurriedShare {
		req.Begin.Timeout = durationpb.New(time.Duration(50+r.IntN(400)) * time.Millisecond)
	}
	var steps []linearizability.PlannedStep
	for k := range n {
		s := linearizability.PlannedStep{ID: fmt.Sprintf("%02d", k+1)}
		switch {
		case k == 0:
		case !graph:
			s.After = []string{steps[k-1].ID}
		default:
			for _, earlier := range steps {
				if r.IntN(2) == 0 {
					s.After = append(s.After, earlier.ID)
				}
			}
		}
		steps = append(steps, s)
		req.Set = append(req.Set, &quoratev1.BranchSpec{
			Id: s.ID, Endpoint: banks[k] + branchbank.PathAction, Undo: banks[k] + branchbank.PathCompensate, Payload: payload(moves[k]), After: s.After,
		})
	}
	w.plan(tx, steps)
	if _, err := w.service().Submit(ctx, req); err != nil {
		return participant.Decided(participant.GID(tx.gid), err)
	}
	if r.Float64() < askedShare {
		pause(ctx, time.Duration(r.IntN(150))*time.Millisecond)
		_, _ = w.service().Rollback(ctx, &quoratev1.RollbackRequest{Transaction: tx.gid, Wait: quoratev1.Wait_WAIT_NONE})
	}
	w.sayAgain(ctx, tx, req, r)
	return w.client.AwaitFinish(ctx, participant.GID(tx.gid))
}

// sayAgain is S9: a repeated Submit is the same transaction, and one with other
// content is none.
func (w *modesWorkload) sayAgain(ctx context.Context, tx *modesTx, req *quoratev1.SubmitRequest, r *rand.Rand) {
	if r.Float64() < repeatedShare {
		pause(ctx, time.Duration(r.IntN(400))*time.Millisecond)
		got, err := w.service().Submit(ctx, req)
		reason := refusedFor(err)
		switch {
		case err == nil && (got.GetCreated() || got.GetGid() != tx.gid):
			w.found("S9", "%s (%s): a repeated Submit made %s, created %t", tx.key, tx.gid, got.GetGid(), got.GetCreated())
		case err == nil:
			w.count("repeats_" + tx.mode)
		case reason != "" && reason != "ALREADY_DECIDED":
			w.found("S9", "%s (%s): a repeated Submit was refused: %v", tx.key, tx.gid, err)
		}
	}
	if r.Float64() < otherShare {
		other := proto.Clone(req).(*quoratev1.SubmitRequest)
		other.Set[0].Payload = append(other.Set[0].Payload, ' ')
		got, err := w.service().Submit(ctx, other)
		switch {
		case err == nil:
			w.found("S9", "%s (%s): a Submit with another payload was taken: %v", tx.key, tx.gid, got.GetState())
		case refusedFor(err) != "":
			w.count("conflicts_refused")
		}
	}
}

// tcc tries branches one after the other and commits, or leaves.
func (w *modesWorkload) tcc(ctx context.Context, tx *modesTx, r *rand.Rand) error {
	n := 2 + r.IntN(3)
	banks, moves := w.shares(tx.key, n, r)
	if r.Float64() < refusedShare {
		moves[r.IntN(n)].Refuse = true
	}
	gid := participant.GID(tx.gid)
	var steps []linearizability.PlannedStep
	for k := range n {
		steps = append(steps, linearizability.PlannedStep{ID: fmt.Sprint(k + 1)})
	}
	service := w.service()
	begin := &quoratev1.BeginRequest{
		Gid: tx.gid, Key: tx.key, Mode: quoratev1.Mode_MODE_TCC, Entry: quoratev1.Entry_ENTRY_EXPLICIT, Timeout: durationpb.New(modesTimeout), Plan: quick(),
	}
	if _, err := service.Begin(ctx, begin); err != nil {
		return participant.Decided(gid, err)
	}
	tried := 0
	var failed error
	for k := range n {
		w.plan2(tx, steps[:k+1])
		got, err := service.Enlist(ctx, w.branchOf(steps[k].ID, tx.gid, banks[k], moves[k]))
		if err != nil {
			return participant.Decided(gid, err)
		}
		if r.Float64() < lateTryShare {
			return w.lateTry(ctx, tx, banks[k], steps[k].ID, moves[k])
		}
		call := fence.Call{GID: tx.gid, Key: tx.key, Branch: steps[k].ID, Operation: fence.Try, Mode: modeTCC, FloorMS: got.GetHeader().GetFloorMs()}
		if failed = w.maker.CallBranch(ctx, banks[k]+branchbank.PathTry, call, moves[k]); failed != nil {
			break
		}
		tried++
	}
	switch {
	case r.Float64() < leftShare:
		return w.client.AwaitFinish(ctx, gid) // nobody commits: time is up soon
	case failed != nil:
		_, err := service.Rollback(ctx, &quoratev1.RollbackRequest{Transaction: tx.gid, Wait: quoratev1.Wait_WAIT_FINISH})
		if err != nil {
			return participant.Decided(gid, err)
		}
		return w.client.AwaitFinish(ctx, gid)
	}
	return w.commitTCC(ctx, tx, banks[0], r)
}

// plan2 is plan for a transaction whose branches come one by one.
func (w *modesWorkload) plan2(tx *modesTx, steps []linearizability.PlannedStep) {
	if len(tx.steps) == 0 {
		w.plan(tx, steps)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	tx.steps = steps
}

func (w *modesWorkload) branchOf(id, gid, bank string, m branchbank.Move) *quoratev1.EnlistRequest {
	return &quoratev1.EnlistRequest{Gid: gid, Branch: &quoratev1.BranchSpec{
		Id: id, Endpoint: bank + branchbank.PathConfirm, Undo: bank + branchbank.PathCancel, Payload: payload(m),
	}}
}

// lateTry rolls back first and tries then: if the try finds the cancel there, it must
// not do anything.
func (w *modesWorkload) lateTry(ctx context.Context, tx *modesTx, bank, branch string, m branchbank.Move) error {
	_, err := w.service().Rollback(ctx, &quoratev1.RollbackRequest{Transaction: tx.gid, Wait: quoratev1.Wait_WAIT_FINISH})
	if err == nil {
		call := fence.Call{GID: tx.gid, Key: tx.key, Branch: branch, Operation: fence.Try, Mode: modeTCC}
		if err := w.maker.CallBranch(ctx, bank+branchbank.PathTry, call, m); err == nil {
			w.found("S12", "%s (%s): a try of branch %s was taken after its cancel", tx.key, tx.gid, branch)
		} else if errors.Is(err, participant.ErrRefused) {
			w.count("late_tries_refused")
		}
	}
	return w.client.AwaitFinish(ctx, participant.GID(tx.gid))
}

// commitTCC commits, says it twice, and then enlists what comes too late (S10).
func (w *modesWorkload) commitTCC(ctx context.Context, tx *modesTx, bank string, r *rand.Rand) error {
	gid := participant.GID(tx.gid)
	commit := &quoratev1.CommitRequest{Transaction: tx.gid, Wait: quoratev1.Wait_WAIT_DECISION}
	if _, err := w.service().Commit(ctx, commit); err != nil {
		return participant.Decided(gid, err)
	}
	if r.Float64() < repeatedShare {
		got, err := w.service().Commit(ctx, commit)
		switch err = participant.Decided(gid, err); {
		case err == nil && got.GetDecision() == quoratev1.Decision_DECISION_COMMIT:
			w.count("repeats_tcc")
		case err == nil || lookedAt(err):
			w.found("S9", "%s (%s): committed, and the repeated Commit heard %v, %v", tx.key, tx.gid, got.GetDecision(), err)
		}
	}
	if r.Float64() < lateEnlistShare {
		got, err := w.service().Enlist(ctx, w.branchOf("99", tx.gid, bank, branchbank.Move{Key: tx.key}))
		switch {
		case refusedFor(err) != "" || err == nil && got.GetVerdict() == quoratev1.Verdict_VERDICT_ROLLBACK:
			w.count("late_enlists_refused")
		case err == nil:
			w.found("S10", "%s (%s): a branch was enlisted after the commit: %v", tx.key, tx.gid, got.GetVerdict())
		}
	}
	return w.client.AwaitFinish(ctx, gid)
}

// message has a bank send one; its sender may go away at either place.
func (w *modesWorkload) message(ctx context.Context, tx *modesTx, r *rand.Rand) error {
	from := w.banks[r.IntN(len(w.banks))].url()
	n := 1 + r.IntN(modesReceiversMax)
	s := branchbank.Sending{GID: tx.gid, Key: tx.key, Account: r.IntN(branchAccounts), Amount: int64(n), CallBack: from + branchbank.PathCheckBack, After: modesCheckBack}
	steps := []linearizability.PlannedStep{{ID: branchbank.BranchLocal, Local: true}}
	for k := range n {
		s.To = append(s.To, branchbank.Receiver{URL: w.banks[r.IntN(len(w.banks))].url() + branchbank.PathAction, Account: s.Account, Amount: 1})
		steps = append(steps, linearizability.PlannedStep{ID: fmt.Sprintf("%02d", k+1), After: []string{branchbank.BranchLocal}})
	}
	switch p := r.Float64(); {
	case p < forgotShare:
		s.Forget = branchbank.ForgetBegun
	case p < 2*forgotShare:
		s.Forget = branchbank.ForgetDone
	}
	w.plan(tx, steps)
	err := w.maker.SendFrom(ctx, from, s)
	if s.Forget != branchbank.ForgetNothing {
		w.count("forgotten_" + string(s.Forget))
		return w.client.AwaitFinish(ctx, participant.GID(tx.gid))
	}
	return err
}

// workflow runs a transfer by code of this process.
func (w *modesWorkload) workflow(ctx context.Context, tx *modesTx, r *rand.Rand) error {
	tx.gid = "" // the engine makes its own; the key tells it
	w.plan(tx, branchbank.PlanOf(branchbank.Workflow))
	err := w.maker.Make(ctx, branchbank.Workflow, branchbank.Transfer{
		Key: tx.key, From: w.banks[r.IntN(len(w.banks))].url(), To: w.banks[r.IntN(len(w.banks))].url(),
		Account: r.IntN(branchAccounts), Amount: 1, DepositFirst: r.IntN(2) == 0, Refuse: r.Float64() < refusedShare,
	})
	if r.Float64() < repeatedShare {
		w.recordOther(ctx, tx)
	}
	return err
}

// recordOther says of a step, again, what its code did not: the first word stands.
func (w *modesWorkload) recordOther(ctx context.Context, tx *modesTx) {
	got, err := w.service().Get(ctx, &quoratev1.GetRequest{Transaction: "key:" + tx.key})
	if err != nil {
		return
	}
	for _, b := range got.GetTransaction().GetBranches() {
		_, err := w.service().Record(ctx, &quoratev1.RecordRequest{
			Gid: got.GetTransaction().GetGid(), Branch: b.GetSpec().GetId(), Operation: b.GetRecorded(), Result: []byte("other"),
		})
		switch {
		case err == nil:
			w.found("S9", "%s (%s): another result of step %s was taken", tx.key, got.GetTransaction().GetGid(), b.GetSpec().GetId())
		case refusedFor(err) != "":
			w.count("records_refused")
		}
	}
}

// notify has one branch called, a few times at the most.
func (w *modesWorkload) notify(ctx context.Context, tx *modesTx, r *rand.Rand) error {
	p := quick()
	p.Retry.AttemptsMax = 8
	bank := w.banks[r.IntN(len(w.banks))].url()
	w.plan(tx, []linearizability.PlannedStep{{ID: "01"}})
	req := &quoratev1.SubmitRequest{
		Begin: &quoratev1.BeginRequest{Gid: tx.gid, Key: tx.key, Mode: quoratev1.Mode_MODE_NOTIFY, Plan: p},
		Set: []*quoratev1.BranchSpec{{
			Id: "01", Endpoint: bank + branchbank.PathAction, Payload: payload(branchbank.Move{Key: tx.key, Account: r.IntN(branchAccounts)}),
		}},
	}
	if _, err := w.service().Submit(ctx, req); err != nil {
		return participant.Decided(participant.GID(tx.gid), err)
	}
	w.sayAgain(ctx, tx, req, r)
	return w.client.AwaitFinish(ctx, participant.GID(tx.gid))
}

// modesInitiator is the process of the initiators, as the network of links knows it.
const modesInitiator = "modes-initiator"

// dial makes the initiators' client, by links that faults may hurt where there are any.
func (w *modesWorkload) dial(ctx context.Context) (*participant.Client, error) {
	options := []participant.Option{participant.WithName("chaos-modes"), participant.WithDialOptions(grpc.WithChainUnaryInterceptor(w.recorder))}
	if w.env.Links != nil {
		w.env.DialEnv(modesInitiator) // one of those that can be cut off
		options = append(options, participant.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, meant string) (net.Conn, error) {
			for _, n := range w.env.Cluster.Nodes() {
				if n.GRPC == meant {
					meant = w.env.Address(modesInitiator, n)
					break
				}
			}
			return new(net.Dialer).DialContext(ctx, "tcp", meant)
		})))
	}
	return participant.Dial(ctx, w.env.Cluster.Endpoints(), options...)
}
