package bank

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/participant"
)

// ServeInitiator is an initiator's process: it runs until ctx ends, and then
// finishes what it has begun.
func ServeInitiator(ctx context.Context, planPath, seatName string, start int, log *slog.Logger) error {
	plan, err := ReadPlan(planPath)
	if err != nil {
		return err
	}
	number := -1
	for i, s := range plan.Initiators {
		if s.Name == seatName {
			number = i
		}
	}
	if number < 0 {
		return fmt.Errorf("bank: the plan has no initiator %q", seatName)
	}
	ledger, err := OpenJournal(journalPath(plan.Dir, seatName, start))
	if err != nil {
		return err
	}
	defer ledger.Close()
	leaveSpare(plan)
	client, err := dial(ctx, plan, participant.WithName(seatName), participant.WithLogger(log))
	if err != nil {
		return err
	}
	defer client.Close()
	in := &initiator{plan: plan, client: client, ledger: ledger, log: log}
	var wg sync.WaitGroup
	for w := range plan.Workers {
		// Each start of each process draws differently, and all of it from the seed.
		seed := uint64(number)<<40 | uint64(start)<<16 | uint64(w)
		wg.Go(func() { in.work(ctx, w, rand.New(rand.NewPCG(plan.Seed, seed))) })
	}
	wg.Wait()
	in.late.Wait()
	return nil
}

// initiator is the process' state.
type initiator struct {
	plan   *Plan
	client *participant.Client
	ledger *Journal
	log    *slog.Logger
	ops    atomic.Int64
	begun  atomic.Int64
	late   sync.WaitGroup
}

// work makes one transaction after the other.
func (in *initiator) work(ctx context.Context, worker int, rng *rand.Rand) {
	m := &mix{plan: in.plan, rng: rng}
	c := newCaller(in.plan, rng)
	var pace <-chan time.Time
	if in.plan.Rate > 0 {
		tick := time.NewTicker(time.Duration(float64(in.plan.Workers) / in.plan.Rate * float64(time.Second)))
		defer tick.Stop()
		pace = tick.C
	}
	for {
		if pace != nil {
			select {
			case <-ctx.Done():
			case <-pace:
			}
		}
		if ctx.Err() != nil {
			return
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), in.plan.attemptMax())
		a := &attempt{in: in, caller: c, worker: worker, t: m.next(in.begun.Add(1)), over: make(chan struct{})}
		if a.t.shape == ShapeContrary {
			a.contrary(bounded, rng)
		} else {
			a.run(bounded)
		}
		close(a.over)
		cancel()
	}
}

// attempt is one transaction on its way.
type attempt struct {
	in     *initiator
	caller *caller
	worker int
	t      transaction
	over   chan struct{} // closed when all was said of it
}

// errAbandoned is the initiator's own change of mind.
var errAbandoned = errors.New("the initiator gives up")

// run makes the transaction by participant.Client.Run, as users do.
func (a *attempt) run(ctx context.Context) {
	var begin int64
	if !a.t.oneShot { // whose begin comes with its commit
		begin = a.ask(AskBegin, "")
	}
	commit, ran := int64(0), false
	var gid string
	err := a.in.client.Run(ctx, func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		gid, ran = string(info.GID), true
		if !a.t.oneShot {
			a.hear(begin, gid, WordBegun, "", 0)
		}
		err := a.do(ctx)
		if err == nil && a.t.shape == ShapeAbandoned {
			err = errAbandoned
		}
		if err != nil {
			a.ask(AskRollback, gid) // Run asks it, and does not say what it heard
			return err
		}
		commit = a.ask(AskCommit, gid)
		return nil
	}, a.options()...)
	switch {
	case commit != 0:
		word, reason := wordOf(err)
		a.hear(commit, gid, word, reason, 0)
	case ran, a.t.oneShot:
	case a.t.key != "" && knows(err):
		// Another one has the key, and this is what became of its transaction. The
		// ledger has no GID to compare: the key stands for it.
		word, reason := wordOf(err)
		a.hear(begin, "", WordRefused, "KEY", 0)
		a.hear(a.ask(AskOutcome, ""), "", word, reason, 0)
	default:
		word, reason := wordOf(err)
		if word == WordCommit || word == WordRollback {
			word = WordUnknown
		}
		a.hear(begin, "", word, reason, 0)
	}
}

// contrary asks commit and rollback at once, when all have voted.
func (a *attempt) contrary(ctx context.Context, rng *rand.Rand) {
	begin := a.ask(AskBegin, "")
	tx, err := a.in.client.Begin(ctx, a.options()...)
	if err != nil {
		_, reason := wordOf(err)
		word := WordRefused
		var unknown *participant.OutcomeUnknownError
		if errors.As(err, &unknown) {
			word = WordUnknown
		}
		a.hear(begin, "", word, reason, 0)
		return
	}
	gid := string(tx.GID())
	a.hear(begin, gid, WordBegun, "", 0)
	worked := a.do(tx.Context(ctx))
	delay := time.Duration(rng.IntN(8)) * time.Millisecond
	var wg sync.WaitGroup
	if worked == nil {
		wg.Go(func() {
			op := a.ask(AskCommit, gid)
			err := tx.Commit(ctx)
			_, index := tx.Decision()
			word, reason := wordOf(err)
			if word != WordCommit && word != WordRollback {
				index = 0
			}
			a.hear(op, gid, word, reason, index)
		})
	}
	wg.Go(func() {
		if worked == nil && sleep(ctx, delay) != nil {
			return
		}
		op := a.ask(AskRollback, gid)
		err := tx.Rollback(ctx, "somebody else wants it gone")
		word, reason := wordOf(err)
		if err == nil {
			word = WordRollback
		}
		a.hear(op, gid, word, reason, 0)
	})
	wg.Wait()
}

func (a *attempt) options() []participant.TxOption {
	labels := map[string]string{"shape": string(a.t.shape)}
	if a.t.oneShot {
		labels["entry"] = "one-shot"
	}
	opts := []participant.TxOption{participant.WithTimeout(a.t.timeout), participant.WithLabels(labels)}
	if a.t.named {
		opts = append(opts, participant.WithEntry(participant.EntryNamed))
	}
	if a.t.oneShot {
		opts = append(opts, participant.OneShot())
	}
	if a.t.key != "" {
		opts = append(opts, participant.WithKey(a.t.key))
	}
	return opts
}

// do makes the transaction's calls.
func (a *attempt) do(ctx context.Context) error {
	for i, call := range a.t.calls {
		if i == len(a.t.calls)-1 && a.t.late != nil {
			a.callLate(ctx)
		}
		if err := a.caller.call(ctx, call); err != nil {
			return fmt.Errorf("%s: %w", call.Resource, err)
		}
	}
	return nil
}

// callLate makes the call that nobody waits for: now, near the seal, or when all is
// over. A call is the transaction's from when it is numbered, which is now.
func (a *attempt) callLate(ctx context.Context) {
	late := newCaller(a.in.plan, rand.New(rand.NewPCG(a.caller.rng.Uint64(), 0)))
	ctx, err := participant.Call(context.WithoutCancel(ctx))
	if err != nil {
		return
	}
	a.in.late.Go(func() {
		if a.t.tardy {
			<-a.over
		}
		_ = late.send(ctx, *a.t.late)
	})
}

// ask writes down what is about to be asked, and returns its number.
func (a *attempt) ask(what Ask, gid string) int64 {
	op := a.in.ops.Add(1)
	e := Entry{At: now(), Op: op, Client: a.worker, Ask: what, GID: gid, Key: a.t.key, Shape: a.t.shape}
	if what == AskBegin {
		e.Named, e.TimeoutMS = a.t.named, a.t.timeout.Milliseconds()
	}
	a.in.write(e)
	return op
}

// hear writes down what was answered. From here on it counts.
func (a *attempt) hear(op int64, gid string, word Word, reason string, index uint64) {
	a.in.write(Entry{At: now(), Op: op, GID: gid, Word: word, Reason: reason, Index: index})
}

func (in *initiator) write(e Entry) {
	if err := in.ledger.Append(e); err != nil {
		in.log.Error("the ledger cannot be written", "err", err)
		os.Exit(1)
	}
}

// wordOf is what the SDK's error of a commit, or a rollback, means.
func wordOf(err error) (Word, string) {
	var rolledBack *participant.RolledBackError
	var committed *participant.CommittedError
	var unknown *participant.OutcomeUnknownError
	var unavailable *participant.UnavailableError
	var refused *participant.RefusedError
	switch {
	case err == nil:
		return WordCommit, ""
	case errors.As(err, &rolledBack):
		return WordRollback, rolledBack.Reason
	case errors.As(err, &committed):
		return WordCommit, ""
	case errors.As(err, &unknown):
		return WordUnknown, clip(err.Error())
	case errors.As(err, &unavailable):
		return WordRefused, "UNAVAILABLE"
	case errors.As(err, &refused):
		return WordRefused, refused.Reason
	case errors.Is(err, participant.ErrIncomplete):
		return WordRefused, "INCOMPLETE"
	}
	return WordUnknown, clip(err.Error())
}

// knows says that err, of an Outcome, is a decision.
func knows(err error) bool {
	word, _ := wordOf(err)
	return word == WordCommit || word == WordRollback
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most]
	}
	return s
}
