package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testdb"
)

// databaseFaults hurt the databases under the participants.
var databaseFaults = []Fault{
	{
		Name: "kill-database", Kind: "database", Weight: 3, Possible: needsServer,
		Doc:    "kill -9 every process of a database server, and start it again: some were in the middle of a PREPARE",
		Inject: killDatabase,
	},
	{
		Name: "stop-database", Kind: "database", Weight: 1, Possible: needsServer,
		Doc:    "stop a database server at once (Postgres without a checkpoint), and start it again",
		Inject: stopDatabase,
	},
	{
		Name: "pause-database", Kind: "database", Weight: 2, Possible: needsServer, Hold: Range{time.Second, 8 * time.Second},
		Doc:    "SIGSTOP a database server with its sessions, then SIGCONT",
		Inject: pauseDatabase,
	},
	{
		Name: "slow-database", Kind: "database", Weight: 1, Possible: needsDatabase(false, servers...), Prepare: prepareLinks, Hold: Range{time.Second, 5 * time.Second},
		Doc:    "delay what passes between participants and their database",
		Inject: slowDatabase,
	},
	{
		Name: "cut-database", Kind: "database", Weight: 2, Possible: needsDatabase(false, servers...), Prepare: prepareLinks, Hold: Range{time.Second, 8 * time.Second},
		Doc:    "cut the links between participants and their database; half of the time what was under way never arrives",
		Inject: cutDatabase,
	},
	{
		Name: "reset-database", Kind: "database", Weight: 2, Possible: needsDatabase(false, servers...), Prepare: prepareLinks,
		Doc:    "end every connection between participants and their database by RST, some times over",
		Inject: resetDatabase,
	},
	{
		Name: "end-sessions", Kind: "database", Weight: 1, Possible: needsDatabase(true, servers...),
		Doc:    "an administrator ends every session of the participants",
		Inject: endSessions,
	},
	{
		Name: "lock-accounts", Kind: "database", Weight: 1, Possible: needsDatabase(false, bankstore.Postgres, bankstore.MySQL, bankstore.SQLite), Hold: Range{time.Second, 4 * time.Second},
		Doc:    "a forgotten session locks the accounts: every branch there waits in vain",
		Inject: lockAccounts,
	},
	{
		Name: "prepared-slots", Kind: "database", Weight: 1, Possible: needsDatabase(true, bankstore.Postgres), Hold: Range{500 * time.Millisecond, 3 * time.Second},
		Doc:    "others use up max_prepared_transactions",
		Inject: useUpSlots,
	},
	{
		Name: "operator-rollback", Kind: "database", Weight: 2, Possible: needsDatabase(true, servers...),
		Doc:    "an operator rolls a prepared branch back by hand, mostly one that is decided commit: it must be reported",
		Inject: operatorRollback,
	},
}

// pickDatabase claims a resource; false when none is free.
func pickDatabase(env *Env, own bool, kinds ...bankstore.Kind) (bank.Resource, bool) {
	all := env.bank.resources(own, kinds...)
	for _, i := range env.NewRand().Perm(len(all)) {
		if env.bank.claim(all[i].Name) {
			return all[i], true
		}
	}
	return bank.Resource{}, false
}

// endServer ends a claimed resource's server and starts it again.
func endServer(env *Env, end func(context.Context, *testdb.Server) error, ctx context.Context) (*Injection, error) {
	name, server := pickServer(env)
	if server == nil {
		return nil, nil
	}
	pid := server.Pid()
	err := end(ctx, server)
	return &Injection{
		Target: name,
		Heal: func(ctx context.Context) error {
			defer env.claims.release(name)
			return server.Restart(ctx)
		},
		Evidence: func() (string, error) {
			if server.Pid() == pid || pid == 0 {
				return "", fmt.Errorf("the server of %s is pid %d, as before", name, pid)
			}
			return fmt.Sprintf("pid %d ended, pid %d has taken its data over", pid, server.Pid()), nil
		},
	}, err
}

func killDatabase(ctx context.Context, env *Env) (*Injection, error) {
	return endServer(env, func(_ context.Context, s *testdb.Server) error { return s.Kill() }, ctx)
}

func stopDatabase(ctx context.Context, env *Env) (*Injection, error) {
	return endServer(env, func(ctx context.Context, s *testdb.Server) error {
		return errors.Join(s.Signal(syscall.SIGQUIT), s.Wait(ctx))
	}, ctx)
}

func pauseDatabase(_ context.Context, env *Env) (*Injection, error) {
	name, server := pickServer(env)
	if server == nil {
		return nil, nil
	}
	began, stopped := time.Now(), ""
	var lasted time.Duration
	err := server.Signal(syscall.SIGSTOP)
	return &Injection{
		Target: name,
		Heal: func(context.Context) error {
			defer env.claims.release(name)
			stopped, lasted = processState(server.Pid()), time.Since(began)
			return server.Signal(syscall.SIGCONT)
		},
		Evidence: func() (string, error) {
			if stopped != "T" {
				return "", fmt.Errorf("the server of %s was in state %q, not stopped", name, stopped)
			}
			return fmt.Sprintf("stopped for %v", lasted.Round(time.Millisecond)), nil
		},
	}, err
}

// seatNames are the processes of a resource, as the network knows them.
func seatNames(r bank.Resource) []string {
	names := make([]string, len(r.Seats))
	for i, s := range r.Seats {
		names[i] = s.Name
	}
	return names
}

// counted sums what happened between a resource's processes and its database.
func (e *Env) counted(r bank.Resource) (c links.Counts) {
	for _, seat := range seatNames(r) {
		c = c.Plus(e.Links.Counts(seat, r.Name)).Plus(e.Links.Counts(r.Name, seat))
	}
	return c
}

func slowDatabase(_ context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, false, servers...)
	if !ok {
		return nil, nil
	}
	before := env.counted(r)
	delay := env.Between(Range{20 * time.Millisecond, 300 * time.Millisecond})
	var undo []func()
	for _, seat := range seatNames(r) {
		weather := links.Weather{Delay: delay, Jitter: delay / 2}
		undo = append(undo, env.Links.Hinder(seat, r.Name, weather), env.Links.Hinder(r.Name, seat, weather))
	}
	return &Injection{
		Target: r.Name,
		Heal: func(context.Context) error {
			defer env.bank.release(r.Name)
			for _, f := range undo {
				f()
			}
			return nil
		},
		Evidence: func() (string, error) {
			c := env.counted(r).Minus(before)
			if c.Delayed == 0 {
				return "", errors.New("nothing was delayed")
			}
			return fmt.Sprintf("%d reads delayed by about %v", c.Delayed, delay.Round(time.Millisecond)), nil
		},
	}, nil
}

func cutDatabase(_ context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, false, servers...)
	if !ok {
		return nil, nil
	}
	cut := env.Links.Partition(links.Both(seatNames(r), []string{r.Name}))
	forget := env.Chance(0.5)
	return &Injection{
		Target: r.Name,
		Heal: func(context.Context) error {
			defer env.bank.release(r.Name)
			cut.Heal(forget)
			return nil
		},
		Evidence: cut.Evidence,
	}, nil
}

func resetDatabase(ctx context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, false, servers...)
	if !ok {
		return nil, nil
	}
	ended := 0
	var err error
	for range 3 + env.IntN(5) {
		for _, seat := range seatNames(r) {
			ended += env.Links.Reset(seat, r.Name)
		}
		if err = waitFor(ctx, env.Between(Range{10 * time.Millisecond, 200 * time.Millisecond})); err != nil {
			break
		}
	}
	return &Injection{
		Target: r.Name,
		Heal: func(context.Context) error {
			env.bank.release(r.Name)
			return nil
		},
		Evidence: func() (string, error) {
			if ended == 0 {
				return "", errors.New("there was no connection to end")
			}
			return fmt.Sprintf("%d connections ended by RST", ended), nil
		},
	}, err
}

func endSessions(ctx context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, true, servers...)
	if !ok {
		return nil, nil
	}
	ended, err := env.bank.bank.EndSessions(ctx, r.Name)
	return &Injection{
		Target: r.Name,
		Heal: func(context.Context) error {
			env.bank.release(r.Name)
			return nil
		},
		Evidence: func() (string, error) {
			if ended == 0 {
				return "", errors.New("there was no session to end")
			}
			return fmt.Sprintf("%d sessions ended", ended), nil
		},
	}, err
}

func lockAccounts(ctx context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, false, bankstore.Postgres, bankstore.MySQL, bankstore.SQLite)
	if !ok {
		return nil, nil
	}
	release, err := env.bank.bank.Hold(ctx, r.Name)
	if err != nil { // others have the locks: that is no fault
		env.bank.release(r.Name)
		env.Log.Info("the accounts could not be locked", "resource", r.Name, "err", err)
		return nil, nil
	}
	began := time.Now()
	var lasted time.Duration
	return &Injection{
		Target: r.Name,
		Heal: func(context.Context) error {
			defer env.bank.release(r.Name)
			lasted = time.Since(began)
			return release()
		},
		Evidence: func() (string, error) { return fmt.Sprintf("locked for %v", lasted.Round(time.Millisecond)), nil },
	}, nil
}

func useUpSlots(ctx context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, true, bankstore.Postgres)
	if !ok {
		return nil, nil
	}
	used, release, err := env.bank.bank.UseUpSlots(ctx, r.Name)
	if err != nil {
		env.bank.release(r.Name)
		return nil, err
	}
	return &Injection{
		Target: r.Name,
		Heal: func(ctx context.Context) error {
			defer env.bank.release(r.Name)
			return release(ctx)
		},
		Evidence: func() (string, error) {
			if used == 0 {
				return "", errors.New("no slot was free to be used up")
			}
			return fmt.Sprintf("%d slots used up by others", used), nil
		},
	}, nil
}

// operatorRollback stops every process of a resource but one, has that one die with
// a decision in its ears, and rolls back by hand what is prepared there.
func operatorRollback(ctx context.Context, env *Env) (*Injection, error) {
	r, ok := pickDatabase(env, true, servers...)
	if !ok {
		return nil, nil
	}
	var seats []*bank.Process
	for _, p := range env.bank.bank.Of(r.Name) {
		if p.Running() && env.bank.claim(p.Name()) {
			seats = append(seats, p)
		}
	}
	names := func() []string {
		var out []string
		for _, p := range seats {
			out = append(out, p.Name())
		}
		return append(out, r.Name)
	}()
	if len(seats) < 2 {
		env.bank.release(names...)
		return nil, nil
	}
	acts, err := rollBackAt(ctx, env, r, seats)
	return &Injection{
		Target: r.Name, Phase: failpoint.Heard,
		Heal: func(ctx context.Context) error {
			defer env.bank.release(names...)
			var errs []error
			for _, p := range seats {
				errs = append(errs, p.Resume(), p.Restart(ctx))
			}
			return errors.Join(errs...)
		},
		Evidence: func() (string, error) {
			if len(acts) == 0 {
				return "", errors.New("nothing was prepared there")
			}
			return fmt.Sprintf("%d branches rolled back by hand, %s/%s among them", len(acts), acts[0].GID, acts[0].Branch), nil
		},
	}, err
}

func rollBackAt(ctx context.Context, env *Env, r bank.Resource, seats []*bank.Process) ([]bank.Act, error) {
	for _, p := range seats[1:] {
		if err := p.Pause(); err != nil {
			return nil, err
		}
	}
	aimed, cancel := context.WithTimeout(ctx, aimParticipantMax)
	defer cancel()
	_, missed := seats[0].KillAt(aimed, failpoint.Heard)
	if missed != nil { // it had nothing to do; what it has prepared may be left all the same
		if err := seats[0].Kill(); err != nil {
			return nil, err
		}
	}
	var acts []bank.Act
	for range 3 {
		act, err := env.bank.bank.RollBackByHand(ctx, r.Name)
		if err != nil || act == nil {
			return acts, err
		}
		if !slices.Contains(acts, *act) {
			acts = append(acts, *act)
		}
	}
	return acts, nil
}
