package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
)

// workloadModes is the workload of the modes whose branches are called.
const workloadModes = "modes"

// Names of modes, as --modes has them.
const (
	modeSaga     = string(branchbank.Saga)
	modeTCC      = string(branchbank.TCC)
	modeMessage  = string(branchbank.Message)
	modeWorkflow = string(branchbank.Workflow)
	modeNotify   = "notify"
)

// ModesAll are all of them.
var ModesAll = []string{modeSaga, modeTCC, modeMessage, modeWorkflow, modeNotify}

// modesWorkload moves money between banks whose branches are called: processes of
// their own, behind the fence, which drop the first answer to each call. Its
// initiators are of every mode; some are refused, some go away in the middle, some
// say everything twice.
type modesWorkload struct {
	o      Options
	env    *Env
	client *participant.Client
	maker  *branchbank.Initiator
	banks  []*branchProcess

	stopLoad, stopAll context.CancelFunc
	load              sync.WaitGroup

	operations, commits, rollbacks, unknown atomic.Int64

	mu       sync.Mutex
	begun    []*modesTx
	ops      []linearizability.Operation
	calls    []linearizability.Observation
	findings []Finding
	counts   map[string]int64
	finals   map[string]linearizability.Observation
	gids     map[string]string // by key
	books    map[string]branchbank.Books
	// unsettled: not everything has ended, so the books are of the middle of something.
	unsettled bool
	numbered  int64
}

// modesTx is one transaction as its initiator knows it.
type modesTx struct {
	gid, key, mode string
	steps          []linearizability.PlannedStep
	// heard is the decision that the initiator was told, or none.
	heard linearizability.Decision
}

func newModesWorkload(o Options) Workload {
	return &modesWorkload{o: o, counts: map[string]int64{}, finals: map[string]linearizability.Observation{}, gids: map[string]string{},
		books: map[string]branchbank.Books{}}
}

// Name is `modes`.
func (w *modesWorkload) Name() string { return workloadModes }

// Start starts the banks and the initiators.
func (w *modesWorkload) Start(ctx context.Context, env *Env) (err error) {
	w.env, env.modes = env, w
	dir := filepath.Join(env.Dir, workloadModes)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	all, stopAll := context.WithCancel(context.WithoutCancel(ctx))
	load, stopLoad := context.WithCancel(all)
	w.stopAll, w.stopLoad = stopAll, stopLoad
	if err := w.startBanks(ctx, dir); err != nil {
		return errors.Join(err, w.close())
	}
	if w.client, err = w.dial(ctx); err != nil {
		return errors.Join(err, w.close())
	}
	if w.maker, err = branchbank.NewInitiator(w.client); err != nil {
		return errors.Join(err, w.close())
	}
	w.maker.Called = w.called
	w.startLoad(load, all)
	w.load.Go(func() { w.collect(load) })
	return nil
}

// lastLookMax bounds the look at what has not ended.
const lastLookMax = 20 * time.Second

// collectEvery is short against the retention: what ends is seen before it is dropped.
const collectEvery = 8 * time.Minute

// collect writes down now and then how transactions have ended.
func (w *modesWorkload) collect(ctx context.Context) {
	for pause(ctx, collectEvery); ctx.Err() == nil; pause(ctx, collectEvery) {
		if _, err := w.look(ctx); err != nil {
			w.env.Log.Warn("modes: could not list", "error", err)
		}
	}
}

// look lists the workload's transactions, keeps how they stand, and returns those that
// have not ended.
func (w *modesWorkload) look(ctx context.Context) (open []string, err error) {
	token := ""
	for {
		page, err := w.client.List(ctx, &quoratev1.ListRequest{
			PageSize: listPageMax, PageToken: token, Filter: &quoratev1.Filter{KeyPrefix: keyPrefixModes, IncludeFinished: true},
		})
		if err != nil {
			return open, err
		}
		w.mu.Lock()
		for _, tx := range page.GetTransactions() {
			w.finals[tx.GetGid()], w.gids[tx.GetKey()] = branchbank.Final(tx), tx.GetGid()
			if !participant.Finished(tx) {
				open = append(open, describeOpen(tx))
			}
		}
		w.mu.Unlock()
		if token = page.GetNextPageToken(); token == "" {
			return open, nil
		}
	}
}

func describeOpen(tx *quoratev1.Transaction) string {
	text := fmt.Sprintf("%s %v %v", tx.GetKey(), tx.GetMode(), tx.GetState())
	for _, b := range tx.GetBranches() {
		if !b.GetTerminal() {
			text += fmt.Sprintf(", branch %s (%v, tried %d times: %s)", b.GetSpec().GetId(), b.GetOperation(), b.GetDelivery().GetAttempts(), b.GetDelivery().GetLastError())
		}
	}
	return text
}

// Settle ends the load, waits until everything has ended, and reads the books.
func (w *modesWorkload) Settle(ctx context.Context, env *Env) []Finding {
	w.stopLoad()
	if ctx.Err() != nil {
		w.stopAll()
	}
	done := make(chan struct{})
	go func() { w.load.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		w.stopAll()
		<-done
	}
	var findings []Finding
	if open, err := w.waitEnded(ctx); err != nil {
		w.unsettled = true
		findings = append(findings, Finding{Promise: "S5", Text: fmt.Sprintf("modes: not everything has ended: %v; %d open: %s", err, len(open), strings.Join(open[:min(5, len(open))], "; "))})
	}
	w.stopAll()
	for _, b := range w.banks {
		if err := b.stop(); err != nil {
			env.Surprise("%s did not end in order: %v", b.Name(), err)
		}
	}
	for _, b := range w.banks {
		books, err := branchbank.ReadBooks(context.WithoutCancel(ctx), b.config.Config)
		if err != nil {
			findings = append(findings, Finding{Text: fmt.Sprintf("modes: read the books of %s: %v", b.Name(), err)})
		}
		w.books[b.Name()] = books
		calls, err := branchbank.ReadArrivals(b.config.ArrivalsPath)
		if err != nil {
			findings = append(findings, Finding{Text: fmt.Sprintf("modes: read the calls to %s: %v", b.Name(), err)})
		}
		w.calls = append(w.calls, calls...)
	}
	if err := w.close(); err != nil {
		env.Surprise("modes: %v", err)
	}
	return findings
}

func (w *modesWorkload) waitEnded(ctx context.Context) (open []string, err error) {
	for {
		if open, err = w.look(ctx); err == nil && len(open) == 0 {
			return nil, nil
		}
		if pause(ctx, 250*time.Millisecond); ctx.Err() != nil {
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLookMax)
			defer cancel()
			open, lateErr := w.look(late) // what has been decided is known at least
			return open, errors.Join(context.Cause(ctx), err, lateErr)
		}
	}
}

// close ends what is left; it may be called again.
func (w *modesWorkload) close() error {
	var errs []error
	if w.maker != nil {
		errs = append(errs, w.maker.Close())
	}
	if w.client != nil {
		errs = append(errs, w.client.Close())
	}
	for _, b := range w.banks {
		errs = append(errs, b.stop())
	}
	w.maker, w.client = nil, nil
	return errors.Join(errs...)
}

// Judge holds the banks' books against what was asked and decided (S15), and what
// initiators were told (S1, S6).
func (w *modesWorkload) Judge(ctx context.Context, env *Env, log *Replay) (Judgement, error) {
	h := w.history(log)
	w.counts["operations_recorded"] = int64(len(w.ops))
	reports, err := w.report()
	if err != nil {
		return Judgement{}, err
	}
	j := Judgement{Findings: w.findings, Counts: maps.Clone(w.counts), Modes: reports}
	path := filepath.Join(env.Dir, "modes.history.jsonl")
	if err := writeHistory(path, h); err != nil {
		return j, err
	}
	h.File, j.Histories = path, []string{path}
	report := linearizability.Check(ctx, h, linearizability.Options{HTML: filepath.Join(env.Dir, "html-modes")})
	j.Counts["gids_checked"], j.Counts["keys_checked"] = int64(report.Stats.GIDs), int64(report.Stats.Keys)
	j.Counts["calls_checked"] = int64(len(w.calls))
	for _, v := range report.Violations {
		j.Findings = append(j.Findings, Finding{Promise: v.Promise, Text: workloadModes + ": " + v.String(), Lost: v.Promise == "S6"})
	}
	for _, b := range w.banks {
		if w.unsettled {
			break
		}
		for _, m := range w.books[b.Name()].Mistakes(b.Name(), b.config.Config) {
			j.Findings = append(j.Findings, Finding{Promise: "S14", Text: workloadModes + ": " + m})
		}
	}
	j.Vacuous = slices.Concat(w.doubts(j.Counts), w.bankDoubts(j.Counts), w.stepDoubts(j.Counts))
	return j, nil
}

// history is everything that was seen, in the judge's words.
func (w *modesWorkload) history(log *Replay) *linearizability.History {
	h := &linearizability.History{Header: linearizability.Header{
		Format: linearizability.Format, Seed: w.o.Seed, Note: w.o.Command(), ClockSkewed: w.env.clocks != nil,
	}}
	h.Operations = w.ops
	h.Observations = append(h.Observations, w.calls...)
	if mine := w.mine(); log != nil && log.Whole {
		h.Observations = append(h.Observations, log.observations(func(gid string) bool { return mine[gid] })...)
	} else {
		h.Header.DeliveriesUnseen, h.Header.BegunUnseen = true, true
	}
	observe := func(o linearizability.Observation) { h.Observations = append(h.Observations, o) }
	decided := map[string]linearizability.Decision{}
	for _, gid := range slices.Sorted(maps.Keys(w.finals)) {
		observe(w.finals[gid])
		decided[gid] = w.finals[gid].Decision
	}
	for _, tx := range w.begun {
		if tx.gid == "" {
			if tx.gid = w.gids[tx.key]; tx.gid == "" {
				continue // it never began, and an effect of it is nobody's plan
			}
		}
		observe(linearizability.Observation{Sight: linearizability.SightPlan, GID: tx.gid, Mode: tx.mode, Steps: tx.steps})
		if tx.heard != linearizability.DecisionNone {
			observe(linearizability.Observation{Sight: linearizability.SightLedger, GID: tx.gid, Kind: linearizability.KindCommit, Decision: tx.heard})
		}
		w.counts["decided_"+tx.mode+"_"+string(decided[tx.gid])]++
	}
	var sum, want int64
	for _, b := range w.banks {
		books := w.books[b.Name()]
		for _, o := range books.Observations(b.Name()) {
			observe(o)
			w.counts["effects_"+string(o.Operation)]++
		}
		w.counts["effects_at_"+b.Name()] += int64(len(books.Effects))
		sum, want = sum+books.Total(), want+b.config.Total()
	}
	if w.unsettled {
		return h
	}
	observe(linearizability.Observation{Sight: linearizability.SightSum, Resource: "all banks", Value: sum, Want: want})
	observe(linearizability.Observation{Sight: linearizability.SightQuiescent})
	return h
}

// mine are the transactions that the workload has begun, or asked for.
func (w *modesWorkload) mine() map[string]bool {
	mine := map[string]bool{}
	for gid := range w.finals {
		mine[gid] = true
	}
	for _, tx := range w.begun {
		mine[tx.gid] = true
	}
	for i := range w.ops {
		mine[w.ops[i].GID], mine[w.ops[i].Output.GID] = true, true
	}
	delete(mine, "")
	return mine
}

// doubts says what the run did not show, mode by mode.
func (w *modesWorkload) doubts(counts map[string]int64) (doubts []string) {
	want := map[string][]string{
		modeSaga:     {"decided_saga_commit", "decided_saga_rollback", "effects_action", "effects_compensate", "repeats_saga", "conflicts_refused"},
		modeTCC:      {"decided_tcc_commit", "decided_tcc_rollback", "effects_try", "effects_confirm", "effects_cancel", "repeats_tcc", "late_enlists_refused"},
		modeMessage:  {"decided_message_commit", "decided_message_rollback", "effects_local", "forgotten_begun", "forgotten_done"},
		modeWorkflow: {"decided_workflow_commit", "decided_workflow_rollback", "records_refused"},
		modeNotify:   {"decided_notify_commit"},
	}
	for _, mode := range w.o.Modes {
		for _, name := range append(want[mode], "called_again_"+mode) {
			if counts[name] == 0 {
				doubts = append(doubts, "modes: none of "+strings.ReplaceAll(name, "_", " "))
			}
		}
	}
	return doubts
}

// Progress counts what the initiators were told.
func (w *modesWorkload) Progress() Progress {
	return Progress{Operations: w.operations.Load(), Commits: w.commits.Load(), Rollbacks: w.rollbacks.Load(), Unknown: w.unknown.Load()}
}

func (w *modesWorkload) count(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name]++
}

func (w *modesWorkload) found(promise, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings = append(w.findings, Finding{Promise: promise, Text: workloadModes + ": " + fmt.Sprintf(format, args...)})
}
