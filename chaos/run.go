package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
)

const (
	// settleMax is how long the open transactions may grow no fewer once everything is
	// healed (S5). A one-shot transaction whose initiator was killed is not among them: its
	// branches wait for participant.ClockStaleMax and its timeout.
	settleMax = 90 * time.Second
	// operationsFloor a second, and commitsFloor of them: less proves nothing.
	operationsFloor = 20.0
	// afterWindows of a fault without a commit after any of them are no bad luck.
	afterWindows = 3
	// unevidentMax is the greatest share of the injections that may lack evidence.
	unevidentMax = 0.25
	// commitRatioFloor is the least share of decisions that are commits: a cluster
	// that rolls everything back keeps most promises and serves nobody.
	commitRatioFloor = 0.10
)

// run is one run from start to verdict.
type run struct {
	o         Options
	env       *Env
	workloads []Workload
	prober    *prober
	schedule  schedule
	verdict   *Verdict
	temporary bool
	closers   []func() error
	loadFrom  time.Duration
	loadUntil time.Duration
}

// Run makes a run. The verdict is nil only when the run could not begin; an
// error besides a verdict says that it is red or vacuous. Every process has
// ended when it returns.
func Run(ctx context.Context, o Options) (*Verdict, error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &run{o: o, verdict: &Verdict{Suite: "chaos", Seed: o.Seed, Nodes: o.Nodes, Profile: o.Profile, Linear: true}}
	if err := r.open(); err != nil {
		return nil, err
	}
	err := r.run(ctx)
	r.close()
	if err != nil {
		return nil, fmt.Errorf("%w (logs and data are kept in %s)", err, r.o.Dir)
	}
	return r.verdict, r.finish()
}

// open makes the run's directory and chooses faults and workloads.
func (r *run) open() (err error) {
	if r.o.Dir == "" {
		r.temporary = true
		if r.o.Dir, err = os.MkdirTemp("", "quorate-chaos-"); err != nil {
			return err
		}
	}
	if r.o.Dir, err = filepath.Abs(r.o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(r.o.Dir, 0o700); err != nil {
		return err
	}
	if entries, err := os.ReadDir(r.o.Dir); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not empty: a run wants a directory of its own", r.o.Dir))
	}
	if r.o.Log == nil {
		f, err := os.Create(filepath.Join(r.o.Dir, "chaos.log"))
		if err != nil {
			return err
		}
		r.closers = append(r.closers, f.Close)
		r.o.Log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r.verdict.Command = r.o.Command()
	r.env = newEnv(r.o)
	return r.choose()
}

// choose takes the faults that are possible here. A fault that was asked for by
// its own name and is not possible is an error, not a silence.
func (r *run) choose() error {
	faults, err := Select(r.o.Faults)
	if err != nil {
		return err
	}
	for _, f := range faults {
		if err := f.possible(r.env); err != nil {
			if r.verdict.Impossible == nil {
				r.verdict.Impossible = map[string]string{}
			}
			r.verdict.Impossible[f.Name] = err.Error()
			continue
		}
		r.schedule.faults = append(r.schedule.faults, f)
	}
	for _, line := range impossible(r.verdict.Impossible) {
		r.tell("%s", line)
	}
	if len(faults) > 0 && len(r.schedule.faults) == 0 {
		return errors.New("none of the faults that were asked for is possible here")
	}
	r.workloads, err = selectWorkloads(r.o)
	return err
}

func (r *run) tell(format string, args ...any) {
	if r.o.Progress != nil {
		fmt.Fprintf(r.o.Progress, format+"\n", args...)
	}
}

// run starts everything, hurts it, heals it, stops it and judges.
func (r *run) run(ctx context.Context) error {
	if err := r.prepare(); err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Binary: r.o.Binary, Nodes: r.o.Nodes, Dir: filepath.Join(r.o.Dir, "nodes"), Profile: r.o.Profile,
		Args: r.nodeArgs(), Env: r.env.nodeEnv, Prepare: r.env.nodesKnown, OnExit: r.env.nodeExited, Log: r.o.Log,
	})
	if err != nil {
		return err
	}
	r.env.Cluster = c
	defer func() { _ = c.Stop() }()
	defer func() { _ = r.env.closeDatabases() }()
	if r.prober, err = startProber(ctx, r.env); err != nil {
		return err
	}
	defer r.prober.stop()
	for _, w := range r.workloads {
		if err := w.Start(ctx, r.env); err != nil {
			return fmt.Errorf("start workload %s: %w", w.Name(), err)
		}
	}
	r.tell("%d nodes in %s, seed %d", r.o.Nodes, r.o.Dir, r.o.Seed)
	r.hurt(ctx)
	r.settle(ctx)
	if err := r.env.closeDatabases(); err != nil {
		r.env.Surprise("the databases did not end in order: %v", err)
	}
	if ctx.Err() != nil {
		r.interrupted()
		return nil
	}
	committed, digests, at := r.lastLook(ctx)
	if err := c.Stop(); err != nil {
		r.env.Surprise("the nodes did not stop in order: %v", err)
	}
	return r.judge(context.WithoutCancel(ctx), committed, digests, at)
}

// prepare lets the chosen faults make ready what they will need.
func (r *run) prepare() (err error) {
	if r.env.sights, err = newSights(filepath.Join(r.o.Dir, "aim"), r.o.Nodes); err != nil {
		return err
	}
	if len(r.schedule.faults) > 0 {
		r.env.AddNodeEnv(r.env.sights.arm)
	}
	for _, f := range r.schedule.faults {
		if f.Prepare == nil {
			continue
		}
		done, err := f.Prepare(r.env)
		if err != nil {
			return fmt.Errorf("prepare %s: %w", f.Name, err)
		}
		if done != nil {
			r.closers = append(r.closers, done)
		}
	}
	return nil
}

// nodeArgs keep the whole log, so that it can be compared and replayed: snapshots
// are taken often, and nothing behind them is dropped.
func (r *run) nodeArgs() []string {
	return append([]string{"--raft-snapshot-threshold", "4096", "--raft-trailing-logs", "100000000", "--raft-trailing-bytes", "1000000000000", "--endpoint-allow", "127.0.0.1"}, r.o.NodeArgs...)
}

// hurt runs the schedule for the run's duration.
func (r *run) hurt(ctx context.Context) {
	s := &r.schedule
	s.env, s.prober, s.progress, s.tell = r.env, r.prober, r.progress, r.tell
	r.loadFrom = r.env.Now()
	late := watchLateness(ctx)
	s.run(ctx, r.loadFrom+r.o.Duration)
	r.verdict.LateMS = late.stop()
	r.loadUntil = r.env.Now()
}

func (r *run) progress() Progress {
	var sum Progress
	for _, w := range r.workloads {
		sum = sum.plus(w.Progress())
	}
	return sum
}

// settle ends the loads and waits until everything has ended: all workloads at once,
// so that none waits beside another one's load.
func (r *run) settle(ctx context.Context) {
	ctx, cancel := r.env.settling(ctx)
	defer cancel()
	r.prober.stop()
	findings := make([][]Finding, len(r.workloads))
	var wg sync.WaitGroup
	for i, w := range r.workloads {
		wg.Go(func() { findings[i] = w.Settle(ctx, r.env) })
	}
	wg.Wait()
	r.verdict.Findings = append(r.verdict.Findings, slices.Concat(findings...)...)
}

// interrupted makes the verdict of a run that was not judged.
func (r *run) interrupted() {
	r.verdict.Findings = nil // what had not ended had no time to
	r.schedule.findings = nil
	r.fill()
	r.verdict.Vacuous = true
	r.verdict.VacuousBecause = append(r.verdict.VacuousBecause, "it was interrupted, and nothing was judged")
}

// lastLook asks every node where it stands: the index to which the logs must be
// equal, and each node's digest at one index.
func (r *run) lastLook(ctx context.Context) (committed uint64, digests map[string]string, at uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	leader, err := r.env.Cluster.WaitLeader(ctx)
	if err != nil {
		r.env.Surprise("no leader at the end: %v", err)
		return 0, nil, 0
	}
	status, err := leader.Status(ctx)
	if err != nil {
		r.env.Surprise("%s, the leader, does not answer at the end: %v", leader.Name, err)
		return 0, nil, 0
	}
	committed, at = status.GetCommitIndex(), status.GetHeader().GetAppliedIndex()
	digests = map[string]string{}
	for _, n := range r.env.Cluster.Nodes() {
		digest, err := r.digestOf(ctx, n, at, committed)
		if err != nil {
			r.env.Surprise("%s did not catch up to index %d: %v", n.Name, committed, err)
			continue
		}
		digests[n.Name] = digest
	}
	return committed, digests, at
}

// digestOf waits until a node has everything that was committed and returns its
// digest at an index.
func (r *run) digestOf(ctx context.Context, n *cluster.Node, at, committed uint64) (string, error) {
	for {
		status, err := n.StatusAt(ctx, at)
		if err == nil && status.GetDigest() != "" && status.GetDigestAt() == at && status.GetLastLogIndex() >= committed {
			return status.GetDigest(), nil
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(context.Cause(ctx), err, fmt.Errorf("last seen: %v", short(status)))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func short(s *quoratev1.StatusResponse) string {
	return fmt.Sprintf("commit index %d, log to %d, digest %q at %d", s.GetCommitIndex(), s.GetLastLogIndex(), s.GetDigest(), s.GetDigestAt())
}

// judge reads the stopped nodes' logs and lets every workload compare.
func (r *run) judge(ctx context.Context, committed uint64, digests map[string]string, at uint64) error {
	v := r.verdict
	replay, err := replayLogs(r.env.Cluster.Nodes(), committed, digests)
	if err != nil {
		return err
	}
	v.Replay = replay.summary(digests, at)
	v.Counts = maps.Clone(r.schedule.sums)
	if v.Counts == nil {
		v.Counts = map[string]int64{}
	}
	v.Counts["probes"] = int64(r.prober.count())
	for _, w := range r.workloads {
		judgement, err := w.Judge(ctx, r.env, replay)
		if err != nil {
			return fmt.Errorf("judge %s: %w", w.Name(), err)
		}
		v.Findings = append(v.Findings, judgement.Findings...)
		v.VacuousBecause = append(v.VacuousBecause, judgement.Vacuous...)
		if judgement.Modes != nil {
			v.Modes = judgement.Modes
		}
		for name, count := range judgement.Counts {
			v.Counts[w.Name()+"_"+name] += count
		}
	}
	v.Findings = append(v.Findings, replay.Findings...)
	v.Findings = append(v.Findings, r.schedule.findings...)
	for _, text := range r.env.takeSurprises() {
		v.Findings = append(v.Findings, Finding{Text: text})
	}
	r.fill()
	r.suspect()
	return nil
}

// fill puts the figures into the verdict.
func (r *run) fill() {
	v, s := r.verdict, &r.schedule
	p := r.progress()
	v.DurationS = (r.loadUntil - r.loadFrom).Seconds()
	v.Operations, v.Commits, v.Rollbacks, v.Unknown = p.Operations, p.Commits, p.Rollbacks, p.Unknown
	if decided := p.Commits + p.Rollbacks; decided > 0 {
		v.CommitRatio = float64(p.Commits) / float64(decided)
	}
	v.OpsPerSecond = float64(p.Operations) / max(0.001, v.DurationS)
	v.Faults, v.Phases, v.Windows = s.counts, s.phases, s.windows
	v.Failpoints = r.env.sights.passed()
	v.FailoverMS, v.IsolatedMS, v.CombinedMS, v.ProbeMS = spread(s.single), spread(s.isolated), spread(s.combined), spread(s.probes)
	v.ByFault = byFault(s.windows)
	for _, w := range s.windows {
		v.CommitsDuring += w.During
		v.CommitsAfter += w.After
	}
	for _, f := range v.Findings {
		v.Anomalies++
		if f.Lost {
			v.Lost++
		}
		if f.Promise == "S7" {
			v.Linear = false
		}
	}
}

// suspect asks whether the run proves anything.
func (r *run) suspect() {
	v := r.verdict
	doubt := func(format string, args ...any) {
		v.VacuousBecause = append(v.VacuousBecause, fmt.Sprintf(format, args...))
	}
	// A fault that met nothing (a connection that nobody used) does not count;
	// many of them are a schedule that only pretends.
	if s := &r.schedule; float64(len(s.evidence)) > unevidentMax*float64(s.evident+len(s.evidence)) {
		for _, text := range s.evidence {
			doubt("no evidence for %s", text)
		}
	}
	v.WithoutEvidence = len(r.schedule.evidence)
	if len(r.schedule.faults) > 0 {
		if len(v.Windows) == 0 {
			doubt("no fault was made")
		}
		if v.CommitsDuring == 0 {
			doubt("no commit was acknowledged while a fault lasted")
		}
		if v.CommitsAfter == 0 {
			doubt("no commit was acknowledged after a heal")
		}
	}
	for _, name := range sortedNames(v.ByFault) {
		if s := v.ByFault[name]; s.Windows >= afterWindows && s.After == 0 {
			doubt("no commit was acknowledged after any of %d windows with %s", s.Windows, name)
		}
	}
	if v.OpsPerSecond < operationsFloor {
		doubt("%.1f operations a second, fewer than %g", v.OpsPerSecond, operationsFloor)
	}
	if v.CommitRatio < commitRatioFloor {
		doubt("%.0f %% of the decisions were commits, fewer than %.0f %%", 100*v.CommitRatio, 100*commitRatioFloor)
	}
	v.Vacuous = len(v.VacuousBecause) > 0
}

// close ends what open made.
func (r *run) close() {
	for _, f := range slices.Backward(r.closers) {
		if err := f(); err != nil {
			r.env.Log.Warn("could not tidy up", "error", err)
		}
	}
}

// finish keeps the directory of a red run, or removes it, and says whether the
// run is green.
func (r *run) finish() error {
	v := r.verdict
	if v.Green() {
		if r.temporary && !r.o.Keep {
			return os.RemoveAll(r.o.Dir)
		}
		v.Dir = r.o.Dir
		return nil
	}
	v.Dir = r.o.Dir
	if text, err := json.MarshalIndent(v, "", "  "); err == nil {
		_ = os.WriteFile(filepath.Join(v.Dir, "verdict.json"), append(text, '\n'), 0o600)
	}
	var words []string
	if v.Anomalies > 0 {
		words = append(words, fmt.Sprintf("%d anomalies", v.Anomalies))
	}
	if v.Vacuous {
		words = append(words, "vacuous")
	}
	return fmt.Errorf("the run is red: %s; everything is kept in %s; once more: %s", strings.Join(words, ", "), v.Dir, v.Command)
}
