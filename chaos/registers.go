package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/linearizability"
)

// registers is the workload of raw gRPC clients: no SDK repeats, follows or
// remembers anything for them, so that each call is one operation of the history.
//
// Its clients play initiators and participants. A transaction is a story: begun,
// branches enlisted, votes cast, a commit asked; in at least a quarter of them
// four or more clients want opposite decisions at once. A third of all calls that
// change something are made twice, some of them late, some through other nodes.
type registers struct {
	o        Options
	env      *Env
	hosts    []*host
	parties  []*party
	heard    heard
	recorder *linearizability.Recorder
	branches *branches
	file     *os.File
	ledger   *Ledger

	clients                              atomic.Int64 // the next client's id
	operations, commits, rollbacks       atomic.Int64
	unknown, duplicates, mutating        atomic.Int64
	begun, contended, acknowledged, late atomic.Int64

	stopLoad context.CancelFunc // no new transactions, no new reads
	stopAll  context.CancelFunc // nothing at all
	load     sync.WaitGroup     // conductors and readers
	echoes   sync.WaitGroup     // duplicates under way
	sessions sync.WaitGroup
	mine     sync.Map // gids of this workload: others use the cluster, too
	decided  sync.Map // gids whose decision was acknowledged
	recentMu sync.Mutex
	recent   []*plan // of the last transactions, for those who read
	settling atomic.Bool
}

// How the workload is shaped.
const (
	hostCount        = 4
	partyCount       = 5
	resourceCount    = 4
	contendedShare   = 0.32
	duplicatedShare  = 0.36
	lateShare        = 0.25 // of the duplicates
	recentMax        = 64
	readersPerClient = 0.25
)

// Name is `registers`.
func (w *registers) Name() string { return "registers" }

// Start opens history and ledger and begins the load.
func (w *registers) Start(ctx context.Context, env *Env) (err error) {
	w.env = env
	if w.file, err = os.Create(filepath.Join(env.Dir, "registers.history.jsonl")); err != nil {
		return fmt.Errorf("make the history: %w", err)
	}
	w.recorder = linearizability.NewRecorder(w.file, linearizability.Header{
		Seed: w.o.Seed, Started: time.Now().UTC().Format(time.RFC3339), Note: w.o.Command(),
		FaultFree: slices.Equal(w.o.Faults, []string{noFaults}), CommitRatioMin: commitRatioFloor,
		ClockSkewed: env.clocks != nil, // a fast leader times out early
	})
	w.branches = newBranches(w.recorder)
	if w.ledger, err = NewLedger(filepath.Join(env.Dir, "registers.ledger.jsonl")); err != nil {
		return err
	}
	for i := range hostCount {
		h, err := newHost(env, fmt.Sprintf("host%d", i+1))
		if err != nil {
			return err
		}
		w.hosts = append(w.hosts, h)
	}
	all, stopAll := context.WithCancel(context.WithoutCancel(ctx))
	load, stopLoad := context.WithCancel(all)
	w.stopAll, w.stopLoad = stopAll, stopLoad
	w.startParties(all)
	if err := w.hear(ctx); err != nil {
		return err
	}
	w.startConductors(load, all)
	for range max(1, int(float64(w.o.Clients)*readersPerClient)) {
		w.load.Go(func() { w.readForEver(load) })
	}
	w.load.Go(func() { w.watchForEver(load) })
	return nil
}

// startConductors begins transactions: as many at once as there are clients, and
// not more a second than the rate.
func (w *registers) startConductors(load, all context.Context) {
	tickets := make(chan struct{})
	w.load.Go(func() {
		defer close(tickets)
		start, given := time.Now(), 0
		for load.Err() == nil {
			if w.o.Rate > 0 {
				due := start.Add(time.Duration(float64(given) / w.o.Rate * float64(time.Second)))
				if behind := time.Since(due); behind > time.Second {
					start = start.Add(behind) // an outage is not made up for
				}
				pause(load, time.Until(due))
			}
			given++
			select {
			case tickets <- struct{}{}:
			case <-load.Done():
				return
			}
		}
	})
	for i := range w.o.Clients {
		r := w.env.NewRand()
		h := w.hosts[i%len(w.hosts)]
		w.load.Go(func() {
			for range tickets {
				w.conduct(all, h, r)
			}
		})
	}
}

// hear asks for the cluster's clock: without it no GID can be made.
func (w *registers) hear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	leader, err := w.env.Cluster.WaitLeader(ctx)
	if err != nil {
		return err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return err
	}
	w.heard.header(status.GetHeader())
	return nil
}

// Progress counts what was done so far.
func (w *registers) Progress() Progress {
	return Progress{Operations: w.operations.Load(), Commits: w.commits.Load(), Rollbacks: w.rollbacks.Load(), Unknown: w.unknown.Load()}
}

// acknowledge writes what a client was told into the ledger. A decision is
// counted once a transaction, when it is synced.
func (w *registers) acknowledge(a Acknowledgement) {
	a.AtNS = w.recorder.Now()
	w.ledger.Acknowledge(a, func() {
		w.acknowledged.Add(1)
		if a.Decision == "" {
			return
		}
		if _, again := w.decided.LoadOrStore(a.GID, a.Decision); again {
			return
		}
		if a.Decision == string(linearizability.DecisionCommit) {
			w.commits.Add(1)
		} else {
			w.rollbacks.Add(1)
		}
	})
}

// isMine says whether a GID is of this workload: what is recorded of others
// would lack what their own clients asked.
func (w *registers) isMine(gid string) bool {
	_, ok := w.mine.Load(gid)
	return ok
}

// remember keeps a transaction for the readers.
func (w *registers) remember(p *plan) {
	w.recentMu.Lock()
	defer w.recentMu.Unlock()
	if len(w.recent) < recentMax {
		w.recent = append(w.recent, p)
		return
	}
	w.recent[w.begun.Load()%recentMax] = p
}
