package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Workload uses the cluster while it is hurt, writes down what it was told, and
// judges it in the end.
type Workload interface {
	// Name is what --workloads calls it.
	Name() string
	// Start begins the load in the background. It ends with Settle.
	Start(ctx context.Context, env *Env) error
	// Settle is called once every fault is healed and the cluster is whole: end
	// the load, and wait until everything that was begun has ended (S5). What does
	// not end within the context is a finding, not an error. When the run was
	// interrupted the context has ended already: end at once.
	Settle(ctx context.Context, env *Env) []Finding
	// Judge compares what was heard with the nodes' logs; the nodes are stopped.
	Judge(ctx context.Context, env *Env, log *Replay) (Judgement, error)
	// Progress counts what was done so far; it may be called at any time.
	Progress() Progress
}

// Progress is what a workload has done.
type Progress struct {
	// Operations that were answered, one way or another.
	Operations int64 `json:"operations"`
	// Commits and Rollbacks are decisions that a client was told of: acknowledged,
	// and in the ledger.
	Commits   int64 `json:"acknowledged_commits"`
	Rollbacks int64 `json:"acknowledged_rollbacks"`
	// Unknown are operations whose outcome their client cannot tell.
	Unknown int64 `json:"unknown"`
}

func (p Progress) plus(q Progress) Progress {
	return Progress{p.Operations + q.Operations, p.Commits + q.Commits, p.Rollbacks + q.Rollbacks, p.Unknown + q.Unknown}
}

func (p Progress) minus(q Progress) Progress {
	return Progress{p.Operations - q.Operations, p.Commits - q.Commits, p.Rollbacks - q.Rollbacks, p.Unknown - q.Unknown}
}

// Finding is a promise that was broken, or a run that proves nothing.
type Finding struct {
	// Promise of GUARANTEES, such as S6; empty where none is named.
	Promise string `json:"promise,omitempty"`
	// Text says what was seen.
	Text string `json:"text"`
	// Lost says that an acknowledgement was lost.
	Lost bool `json:"lost,omitempty"`
}

func (f Finding) String() string {
	if f.Promise == "" {
		return f.Text
	}
	return f.Promise + ": " + f.Text
}

// Judgement is what a workload found.
type Judgement struct {
	// Findings are anomalies: each makes the run red.
	Findings []Finding
	// Vacuous says why the workload proves nothing, in words; empty: it does.
	Vacuous []string
	// Histories are the files that were checked.
	Histories []string
	// Counts are more figures for the report, by name.
	Counts map[string]int64
	// Modes is what each mode showed, of the workload that has any.
	Modes map[string]ModeReport
}

// workloadKind makes a workload for one run.
type workloadKind struct {
	name string
	make func(Options) Workload
}

// workloadKinds are what --workloads names.
var workloadKinds = []workloadKind{
	{"registers", func(o Options) Workload { return &registers{o: o} }},
	{workloadBank, newBankWorkload},
	{workloadModes, newModesWorkload},
}

// selectWorkloads makes the named workloads.
func selectWorkloads(o Options) ([]Workload, error) {
	var chosen []Workload
	var known []string
	for _, kind := range workloadKinds {
		known = append(known, kind.name)
		if slices.Contains(o.Workloads, kind.name) {
			chosen = append(chosen, kind.make(o))
		}
	}
	for _, name := range o.Workloads {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no workload is named %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
