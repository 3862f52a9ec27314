package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
)

// Settle ends the load, waits for the late duplicates, and then until nothing is
// open: what was begun ends, at the latest by its deadline, and every branch is
// told and reports (S5).
func (w *registers) Settle(ctx context.Context, env *Env) []Finding {
	w.stopLoad()
	if ctx.Err() != nil {
		w.stopAll()
	}
	w.load.Wait()
	w.settling.Store(true)
	w.echoes.Wait()
	env.Log.Info("registers: the load has ended", "at", env.Now())
	open, err := w.waitClosed(ctx, env)
	var findings []Finding
	if err != nil {
		findings = append(findings, Finding{Promise: "S5", Text: fmt.Sprintf("not everything has ended: %v; open: %s", err, strings.Join(open, ", "))})
	}
	w.recoverBranches(ctx)
	env.Log.Info("registers: nothing is open", "at", env.Now(), "err", err)
	w.recorder.Observe(linearizability.Observation{Sight: linearizability.SightQuiescent})
	if err := w.finals(ctx, env); err != nil {
		findings = append(findings, Finding{Text: fmt.Sprintf("read what stands in the end: %v", err)})
	}
	w.stopAll()
	w.sessions.Wait()
	w.echoes.Wait()
	for _, h := range w.hosts {
		h.close()
	}
	return findings
}

// waitClosed waits until the leader lists nothing that is open.
func (w *registers) waitClosed(ctx context.Context, env *Env) ([]string, error) {
	var open []string
	for {
		var err error
		if open, err = w.listOpen(ctx, env); err == nil && len(open) == 0 {
			return nil, nil
		}
		env.Log.Debug("registers: waiting for the end", "open", len(open), "err", err, "first", first(open))
		select {
		case <-ctx.Done():
			return open, errors.Join(context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w *registers) listOpen(ctx context.Context, env *Env) ([]string, error) {
	var open []string
	err := w.list(ctx, env, false, func(t *quoratev1.Transaction) {
		if !w.isMine(t.GetGid()) {
			return
		}
		text := fmt.Sprintf("%s %v", t.GetGid(), t.GetState())
		for _, b := range t.GetBranches() {
			if !b.GetTerminal() {
				text += fmt.Sprintf(" branch %s of %s (%v, tried %d times)", b.GetSpec().GetId(), b.GetSpec().GetResource(), b.GetVote(), b.GetDelivery().GetAttempts())
			}
		}
		open = append(open, text)
	})
	return open, err
}

// finals writes down every transaction as it stands in the end.
func (w *registers) finals(ctx context.Context, env *Env) error {
	var all []*quoratev1.Transaction
	for {
		all = all[:0]
		err := w.list(ctx, env, true, func(t *quoratev1.Transaction) { all = append(all, t) })
		if err == nil {
			break
		}
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil {
			return err
		}
		// Another node leads by now, as may happen on a machine that has much to do.
		env.Log.Info("registers: the list of the end is read again", "err", err)
	}
	for _, t := range all {
		if !w.isMine(t.GetGid()) {
			continue
		}
		out := transactionOutput(t)
		w.recorder.Observe(linearizability.Observation{
			Sight: linearizability.SightFinal, GID: out.GID, State: out.State, Decision: out.Decision, Branches: out.Branches,
		})
	}
	return nil
}

// list reads all pages from the leader.
func (w *registers) list(ctx context.Context, env *Env, finished bool, each func(*quoratev1.Transaction)) error {
	leader, err := env.Cluster.WaitLeader(ctx)
	if err != nil {
		return err
	}
	h := w.hosts[0]
	for i, n := range h.nodes {
		if n != leader {
			continue
		}
		token := ""
		for {
			r, err := quoratev1.NewTransactionServiceClient(h.conns[i]).List(ctx, &quoratev1.ListRequest{
				PageSize: listPageMax, PageToken: token, Filter: &quoratev1.Filter{IncludeFinished: finished},
			})
			if err != nil {
				return err
			}
			for _, t := range r.GetTransactions() {
				each(t)
			}
			if token = r.GetNextPageToken(); token == "" {
				return nil
			}
		}
	}
	return errors.New("the leader is no node of this cluster")
}

// Judge adds what the ledger and the logs hold to the history, and checks it.
func (w *registers) Judge(ctx context.Context, env *Env, log *Replay) (Judgement, error) {
	if err := w.ledger.Close(); err != nil {
		return Judgement{}, err
	}
	lines, err := ReadLedger(filepath.Join(env.Dir, "registers.ledger.jsonl"))
	if err != nil {
		return Judgement{}, err
	}
	for _, a := range lines {
		w.recorder.Observe(linearizability.Observation{
			Sight: linearizability.SightLedger, At: a.AtNS, GID: a.GID, Kind: linearizability.Kind(a.Kind), Branch: a.Branch,
			Vote: linearizability.Vote(a.Vote), Decision: linearizability.Decision(a.Decision),
		})
	}
	log.Observe(w.recorder, w.isMine)
	if err := errors.Join(w.recorder.Close(), w.file.Close()); err != nil {
		return Judgement{}, err
	}
	return w.check(ctx, env)
}

// check lets the models judge the history as it stands in the file.
func (w *registers) check(ctx context.Context, env *Env) (Judgement, error) {
	path := w.file.Name()
	f, err := os.Open(path)
	if err != nil {
		return Judgement{}, err
	}
	defer f.Close()
	history, err := linearizability.Read(f)
	if err != nil {
		return Judgement{}, fmt.Errorf("read %s: %w", path, err)
	}
	history.File = path
	report := linearizability.Check(ctx, history, linearizability.Options{HTML: filepath.Join(env.Dir, "html")})
	j := Judgement{Histories: []string{path}, Counts: map[string]int64{
		"transactions": w.begun.Load(), "contended": w.contended.Load(), "duplicates": w.duplicates.Load(), "late_duplicates": w.late.Load(),
		"mutating": w.mutating.Load(), "ledger_lines": w.acknowledged.Load(), "gids_checked": int64(report.Stats.GIDs), "keys_checked": int64(report.Stats.Keys),
		"follower_reads_checked": int64(report.Stats.Reads), "operations_recorded": int64(report.Stats.Operations),
		"unknown_removed_by_log": int64(report.Stats.Removed),
	}}
	for _, v := range report.Violations {
		j.Findings = append(j.Findings, Finding{Promise: v.Promise, Text: v.String(), Lost: v.Promise == "S6"})
	}
	if share(w.contended.Load(), w.begun.Load()) < 0.25 {
		j.Vacuous = append(j.Vacuous, fmt.Sprintf("registers: %d of %d transactions were contended, fewer than a quarter", w.contended.Load(), w.begun.Load()))
	}
	if share(w.duplicates.Load(), w.mutating.Load()) < 0.30 {
		j.Vacuous = append(j.Vacuous, fmt.Sprintf("registers: %d of %d mutating calls were duplicated, fewer than 30 %%", w.duplicates.Load(), w.mutating.Load()))
	}
	if report.Stats.GIDs == 0 {
		j.Vacuous = append(j.Vacuous, "registers: the models have checked no transaction")
	}
	return j, nil
}

func share(part, whole int64) float64 { return float64(part) / float64(max(1, whole)) }

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}
