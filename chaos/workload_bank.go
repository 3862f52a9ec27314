package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/linearizability"
)

// bankWorkload is the workload of participants and initiators in processes of
// their own (package bank), which move money between stores.
type bankWorkload struct {
	o        Options
	env      *Env
	bank     *bank.Bank
	servers  *bank.Servers
	evidence *bank.Evidence
}

const workloadBank = "bank"

func newBankWorkload(o Options) Workload { return &bankWorkload{o: o} }

// Name is `bank`.
func (w *bankWorkload) Name() string { return workloadBank }

// Start starts the databases and every process of the bank.
func (w *bankWorkload) Start(ctx context.Context, env *Env) error {
	w.env, env.bank = env, w
	dir := filepath.Join(env.Dir, workloadBank)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if w.servers, err = env.openDatabases(ctx); err != nil {
		return err
	}
	o := bank.NewOptions()
	o.Binary, o.Dir, o.Seeds, o.Seed, o.Log = w.o.Binary, dir, env.Cluster.Endpoints(), w.o.Seed, env.Log
	o.Databases, o.Opener = w.servers.Databases, drivers.Open
	o.Rate = w.o.BankRate
	o.Network = env.Links
	if w.bank, err = bank.Start(ctx, o); err != nil {
		return err
	}
	for name := range w.servers.Private {
		if err := w.bank.PrepareForeign(ctx, name); err != nil {
			return errors.Join(err, w.bank.Stop())
		}
	}
	for _, p := range w.bank.Participants() {
		env.AddProcess("participant", p)
	}
	for _, p := range w.bank.Initiators() {
		env.AddProcess("initiator", p)
	}
	return nil
}

// Settle ends the load and waits until every branch has ended.
func (w *bankWorkload) Settle(ctx context.Context, env *Env) []Finding {
	evidence, err := w.bank.Settle(ctx)
	if err != nil {
		return []Finding{{Promise: "S5", Text: fmt.Sprintf("the bank did not come to rest: %v", errors.Join(err, w.bank.Stop()))}}
	}
	w.evidence = evidence
	for _, s := range w.bank.Surprises() {
		env.Surprise("%s", s)
	}
	return nil
}

// Judge compares everything that was written down, by the bank's own check and by
// the models that know nothing of banks.
func (w *bankWorkload) Judge(ctx context.Context, env *Env, log *Replay) (Judgement, error) {
	if w.evidence == nil {
		return Judgement{}, nil // Settle has said why
	}
	result := bank.Check(w.evidence)
	j := Judgement{Counts: result.Counts}
	for _, f := range result.Findings {
		j.Findings = append(j.Findings, Finding{Promise: f.Promise, Text: workloadBank + ": " + f.Text, Lost: f.Lost})
	}
	path := filepath.Join(env.Dir, "bank.history.jsonl")
	history := w.evidence.History(w.o.Command(), result.Explained)
	history.Header.ClockSkewed = env.clocks != nil
	if err := writeHistory(path, history); err != nil {
		return j, err
	}
	history.File = path
	j.Histories = []string{path}
	report := linearizability.Check(ctx, history, linearizability.Options{HTML: filepath.Join(env.Dir, "html-bank")})
	for _, v := range report.Violations {
		j.Findings = append(j.Findings, Finding{Promise: v.Promise, Text: workloadBank + ": " + v.String(), Lost: v.Promise == "S6"})
	}
	j.Vacuous = w.doubts(result)
	return j, nil
}

func writeHistory(path string, h *linearizability.History) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(linearizability.Write(f, h), f.Close())
}

// doubts says what the run did not show.
func (w *bankWorkload) doubts(r *bank.Result) []string {
	var doubts []string
	want := []string{"decided_commit", "decided_rollback", "late_refused", "nested_commit", "vote_read_only", "verdicts_heard"}
	for _, resource := range w.bank.Resources() {
		want = append(want, "branches_"+string(resource.Kind))
	}
	for _, name := range slices.Compact(want) {
		if r.Counts[name] == 0 {
			doubts = append(doubts, "bank: none of "+strings.ReplaceAll(name, "_", " "))
		}
	}
	return doubts
}

// Progress counts what the initiators were told.
func (w *bankWorkload) Progress() Progress {
	if w.bank == nil {
		return Progress{}
	}
	p := w.bank.Progress()
	return Progress{Operations: p.Operations, Commits: p.Commits, Rollbacks: p.Rollbacks, Unknown: p.Unknown}
}

// claim reserves a seat or a resource for one fault of a window.
func (w *bankWorkload) claim(name string) bool { return w.env.claims.claim(name) }

func (w *bankWorkload) release(names ...string) { w.env.claims.release(names...) }

// needsBank is the Possible of faults that hurt the bank's processes.
func needsBank(env *Env) error {
	if !slices.Contains(env.Options.Workloads, workloadBank) {
		return fmt.Errorf("it hurts the workload %s, which is not among --workloads", workloadBank)
	}
	return nil
}

// needsDatabase is the Possible of faults that hurt a database of one of the kinds,
// which --databases must name; own says that it must be a server of the run's own.
func needsDatabase(own bool, kinds ...bankstore.Kind) func(*Env) error {
	return func(env *Env) error {
		if err := needsBank(env); err != nil {
			return err
		}
		if env.bank != nil && env.bank.bank != nil {
			if len(env.bank.resources(own, kinds...)) > 0 {
				return nil
			}
		} else if bank.Offers(env.Options.Databases, own, kinds...) {
			return nil
		}
		return fmt.Errorf("no such database is among --databases %s", strings.Join(env.Options.Databases, ","))
	}
}

// resources are those of the kinds; own ones are on a server of the run's own.
func (w *bankWorkload) resources(own bool, kinds ...bankstore.Kind) []bank.Resource {
	return slices.DeleteFunc(w.bank.Resources(), func(r bank.Resource) bool {
		_, private := w.servers.Private[r.Name]
		return !slices.Contains(kinds, r.Kind) || own && !private
	})
}
