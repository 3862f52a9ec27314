// Package demo is the main job of `quorate demo`: money moves between two banks
// while leaders are killed at the worst moment, and afterwards every decision is
// compared with what the banks hold.
//
// A run has a cluster of `quorate serve` processes and two banks, participant
// processes of their own (Serve); the initiator is the calling process. What a
// run will do, and where each kill is aimed, is planned before it starts (Plan,
// AimKills). At the end all processes are killed and started again, the log and
// the books are read over fresh connections, and Verify compares them GID by
// GID. It is strict: a run that proved nothing is red.
package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/participant"
)

// Options say what to run. NewOptions has the defaults.
type Options struct {
	// Binary is the quorate program; empty: the running one.
	Binary string
	// Mode is how money is moved.
	Mode Mode
	// Nodes of the cluster: 3 or 5.
	Nodes int
	// Profile of the nodes: fast or default.
	Profile string
	// Transfers to make, and how many at once at most.
	Transfers, Concurrency int
	// KillLeader is the phase, Kills how many leaders are killed there.
	KillLeader Phase
	Kills      int
	// KillParticipant kills bank b after a prepare and before its vote, once.
	KillParticipant bool
	// Stores of bank a and bank b.
	Stores [2]StoreSpec
	// Opener makes the database driver's connectors; needed for stores that are
	// not embedded.
	Opener Opener
	// Dir is where everything is kept. Empty: a temporary directory, removed
	// after a green run and kept after a red one.
	Dir string
	// Seed of the random choices; 0: a new one.
	Seed uint64
	// Progress hears what goes on.
	Progress *Progress
	// Tamper, when set, is called after the processes were started again and
	// before the books are read; tests falsify books with it.
	Tamper func(books *[2]Books)
}

// NewOptions returns the defaults: the run of `quorate demo` without flags.
func NewOptions() Options {
	return Options{Mode: TwoPhase, Nodes: 3, Profile: "fast", Transfers: 200, Concurrency: 16, KillLeader: AtDecision, Kills: 1}
}

// Bounds of a run.
const (
	TransfersMax = 1_000_000
	// settleTimeout bounds how long everything may take to end by itself once the
	// processes are up.
	settleTimeout = 90 * time.Second
)

// Validate says what is wrong with the options; the error is one of usage.
func (o Options) Validate() error {
	switch {
	case !slices.Contains(Modes, o.Mode):
		return fmt.Errorf("demo: no mode is named %q: choose one of %v", o.Mode, Modes)
	case o.Nodes != 3 && o.Nodes != 5:
		return fmt.Errorf("demo: %d nodes: a cluster that survives a kill has 3 or 5", o.Nodes)
	case o.Profile != "fast" && o.Profile != "default":
		return fmt.Errorf("demo: no profile is named %q: choose fast or default", o.Profile)
	case o.Transfers < 1 || o.Transfers > TransfersMax:
		return fmt.Errorf("demo: %d transfers: want 1 to %d", o.Transfers, TransfersMax)
	case o.Concurrency < 1:
		return fmt.Errorf("demo: %d transfers at once: want at least 1", o.Concurrency)
	case o.Kills < 0:
		return fmt.Errorf("demo: %d kills: want 0 or more", o.Kills)
	case o.Transfers < transfersPerKillMin*(o.Kills+1):
		return fmt.Errorf("demo: %d kills need at least %d transfers, %d were asked for: give --transfers %d", o.Kills, transfersPerKillMin*(o.Kills+1), o.Transfers, transfersPerKillMin*(o.Kills+1))
	}
	if phases := PhasesOf(o.Mode); o.KillLeader != Random && !slices.Contains(phases, o.KillLeader) {
		return fmt.Errorf("demo: %s has no phase named %q: choose one of %v", o.Mode, o.KillLeader, append(phases, Random))
	}
	return nil
}

// concurrency is what is asked for, less where kills lie close together: the
// transfers in flight must not reach from one kill to the next. It also stays
// small against the run: what a killed bank takes with it is at most as many.
func (o Options) concurrency() int {
	stride := o.Transfers / (o.Kills + 1)
	return max(1, min(o.Concurrency, stride-candidatesMax-1, max(2, o.Transfers/25)))
}

// RedError is a run that ended and did not keep its promise.
type RedError struct {
	Failures []string
	// Dir holds the data directories and logs of all processes.
	Dir string
}

func (e *RedError) Error() string {
	text := "the run is red:"
	for _, f := range e.Failures {
		text += "\n  - " + f
	}
	return text + "\nall data and logs are kept in " + e.Dir
}

// Run runs the demo. The error is *RedError when the run came to its end and
// something was wrong; the result is there then, too.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r, err := newRun(ctx, o)
	if err != nil {
		return nil, err
	}
	result, err := r.run(ctx)
	stopErr := r.stop()
	switch {
	case err != nil && ctx.Err() != nil:
		r.remove() // interrupted by the user: nothing to look into
		return nil, fmt.Errorf("demo: interrupted: %w", context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("demo: %w\nall data and logs are kept in %s", err, r.dir)
	case stopErr != nil:
		result.Surprises = append(result.Surprises, stopErr.Error())
	}
	if failures := result.Failures(); len(failures) > 0 {
		for _, d := range result.Details {
			r.progress.Say("mismatch", "%s", d)
		}
		return result, &RedError{Failures: failures, Dir: r.dir}
	}
	r.remove()
	return result, nil
}

// run is one run of the demo.
type run struct {
	o        Options
	dir      string
	plan     Plan
	aims     Aims
	progress *Progress

	cluster *cluster.Cluster
	banks   [2]*bankProcess
	reaper  *reaper
	client  *participant.Client
	// branches makes the transfers of the modes whose branches are called.
	branches *branchbank.Initiator
}

func newRun(ctx context.Context, o Options) (*run, error) {
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("demo: find this program: %w", err)
		}
	}
	for o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Progress == nil {
		o.Progress = NewProgress(nil)
	}
	if o.Mode != TwoPhase {
		for side := range o.Stores { // no store of ours has a fence for calls but the databases'
			if o.Stores[side].Kind == Embedded {
				o.Stores[side] = bankstore.Spec{Kind: bankstore.SQLite, DSN: branchbank.SQLiteDSN(filepath.Join(dir, Side(side).String()+".sqlite"))}
			}
		}
	}
	r := &run{o: o, dir: dir, plan: NewPlan(o.Transfers), progress: o.Progress}
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	r.aims = AimKills(r.plan, o.Mode, o.KillLeader, o.Kills, o.KillParticipant, dir, rng)
	r.reaper = newReaper(ctx, r)
	return r, nil
}

// makeDir makes the directory of a run. A given one must be new or empty: the
// demo opens its accounts anew.
func makeDir(dir string) (string, error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "quorate-demo-")
		if err != nil {
			return "", fmt.Errorf("demo: %w", err)
		}
		return dir, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", fmt.Errorf("demo: %s is not empty: give a new directory, or none for a temporary one", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	return dir, nil
}

// run is the story, from the first process to the verdict.
func (r *run) run(ctx context.Context) (*Result, error) {
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	before, err := r.readBooks(ctx)
	if err != nil {
		return nil, err
	}
	attempts, err := r.transfer(ctx)
	if err != nil {
		return nil, err
	}
	r.reaper.finish()
	if err := r.settle(ctx, attempts); err != nil {
		return nil, err
	}
	if err := r.restartAll(ctx); err != nil {
		return nil, err
	}
	log, inDoubt, err := r.waitEnded(ctx)
	if err != nil {
		return nil, err
	}
	after, err := r.readBooks(ctx)
	if err != nil {
		return nil, err
	}
	if r.o.Tamper != nil {
		r.o.Tamper(&after)
	}
	return r.judge(attempts, before, after, log, inDoubt), nil
}

// start starts the cluster, the banks and the initiator's client.
func (r *run) start(ctx context.Context) error {
	r.progress.Say("start", "%s, %d nodes (profile %s), bank-a on %s, bank-b on %s, seed %d, data in %s",
		r.o.Mode, r.o.Nodes, r.o.Profile, r.o.Stores[BankA], r.o.Stores[BankB], r.o.Seed, r.dir)
	c, err := cluster.Start(ctx, cluster.Config{
		Binary: r.o.Binary, Nodes: r.o.Nodes, Dir: filepath.Join(r.dir, "cluster"), Profile: r.o.Profile,
		Args: []string{"--endpoint-allow", "127.0.0.1"}, Env: r.reaper.nodeEnv, OnExit: r.reaper.nodeExited,
	})
	if err != nil {
		return err
	}
	r.cluster = c
	for _, side := range []Side{BankA, BankB} {
		if r.banks[side], err = newBankProcess(r, side); err != nil {
			return err
		}
		if err := r.banks[side].start(ctx); err != nil {
			return err
		}
	}
	r.client, err = participant.Dial(ctx, c.Endpoints(), participant.WithName("demo"))
	if err != nil {
		return err
	}
	if r.branches, err = branchbank.NewInitiator(r.client); err != nil {
		return err
	}
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return err
	}
	r.reaper.watch()
	r.progress.Say("ready", "%s leads; both banks are attached", leader.Name)
	return nil
}

// restartAll kills every process and starts it again: what is read afterwards
// is what the disks hold.
func (r *run) restartAll(ctx context.Context) error {
	r.progress.Say("restart", "kill -9 of all %d nodes and both banks, and start them again", r.o.Nodes)
	var errs []error
	for _, n := range r.cluster.Nodes() {
		errs = append(errs, n.Kill())
	}
	for _, b := range r.banks {
		errs = append(errs, b.kill())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := inParallel(r.cluster.Nodes(), func(n *cluster.Node) error { return n.Restart(ctx) }); err != nil {
		return err
	}
	return inParallel(r.banks[:], func(b *bankProcess) error { return b.start(ctx) })
}

// readBooks reads both banks' books over fresh connections.
func (r *run) readBooks(ctx context.Context) ([2]Books, error) {
	var books [2]Books
	for side, b := range r.banks {
		var err error
		if books[side], err = b.books(ctx); err != nil {
			return books, fmt.Errorf("read the books of %s: %w", Side(side), err)
		}
	}
	return books, nil
}

// stop ends every process of the run.
func (r *run) stop() error {
	r.reaper.finish()
	var errs []error
	if r.branches != nil {
		errs = append(errs, r.branches.Close())
	}
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	for _, b := range r.banks {
		if b != nil {
			errs = append(errs, b.stop())
		}
	}
	if r.cluster != nil {
		errs = append(errs, r.cluster.Stop())
	}
	return errors.Join(errs...)
}

// remove deletes what the run made, unless the user chose the directory.
func (r *run) remove() {
	for _, b := range r.banks {
		if b != nil {
			b.clean()
		}
	}
	if r.o.Dir == "" {
		_ = os.RemoveAll(r.dir)
	}
}

// inParallel calls f for all items at once and waits for all.
func inParallel[T any](items []T, f func(T) error) error {
	errs := make(chan error)
	for _, item := range items {
		go func() { errs <- f(item) }()
	}
	var joined error
	for range items {
		joined = errors.Join(joined, <-errs)
	}
	return joined
}
