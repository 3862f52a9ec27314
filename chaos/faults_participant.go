package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/internal/failpoint"
)

// participantFaults hurt the processes that vote, and those that begin.
var participantFaults = []Fault{
	{
		Name: "kill-participant", Kind: "participant", Weight: 3, Possible: needsBank,
		Doc:    "kill -9 one process of a resource, while another one may recover for it, and start it again",
		Inject: killParticipant,
	},
	{
		Name: "kill-participants-all", Kind: "participant", Weight: 2, Possible: needsBank,
		Doc:    "kill -9 every process of one resource, and start them again",
		Inject: killResource,
	},
	{
		Name: "crash-loop-participant", Kind: "participant", Weight: 1, Possible: needsBank,
		Doc:    "kill -9 a participant again and again, as soon as it has started",
		Inject: crashLoopParticipant,
	},
	{
		Name: "kill-participant-prepared", Kind: "participant", Weight: 2, Possible: needsBank,
		Doc:    "kill -9 a participant whose branch is prepared and its vote not sent",
		Inject: func(ctx context.Context, env *Env) (*Injection, error) { return killAt(ctx, env, failpoint.Prepared) },
	},
	{
		Name: "kill-participant-heard", Kind: "participant", Weight: 2, Possible: needsBank,
		Doc:    "kill -9 a participant that was told a decision and has not obeyed",
		Inject: func(ctx context.Context, env *Env) (*Injection, error) { return killAt(ctx, env, failpoint.Heard) },
	},
	{
		Name: "kill-participant-ended", Kind: "participant", Weight: 2, Possible: needsBank,
		Doc:    "kill -9 a participant that has obeyed a decision and not reported",
		Inject: func(ctx context.Context, env *Env) (*Injection, error) { return killAt(ctx, env, failpoint.Ended) },
	},
	{
		Name: "pause-participant", Kind: "participant", Weight: 3, Possible: needsBank, Hold: zombieHold,
		Doc:    "SIGSTOP a participant, mostly beyond its grace and the transactions' timeouts, then SIGCONT: a zombie",
		Inject: pauseParticipant,
	},
	{
		Name: "twin-participant", Kind: "participant", Weight: 2, Possible: needsBank, Hold: zombieHold,
		Doc:    "SIGSTOP a participant and start another one under its name; the first goes on later",
		Inject: twinParticipant,
	},
	{
		Name: "kill-initiator", Kind: "participant", Weight: 2, Possible: needsBank,
		Doc:    "kill -9 an initiator with its transactions under way, some between the commit sent and its answer",
		Inject: killInitiator,
	},
	{
		Name: "pause-initiator", Kind: "participant", Weight: 2, Possible: needsBank, Hold: zombieHold,
		Doc:    "SIGSTOP an initiator, mostly beyond its transactions' timeouts, then SIGCONT: it commits what was rolled back",
		Inject: pauseInitiator,
	},
}

// zombieHold reaches beyond the grace (2 s in the fast profile) and the bank's
// usual timeout (10 s).
var zombieHold = Range{2 * time.Second, 13 * time.Second}

// pick claims one of the processes that runs, drawn at random; nil when none is free.
func (w *bankWorkload) pick(env *Env, from []*bank.Process) *bank.Process {
	for _, i := range env.NewRand().Perm(len(from)) {
		if from[i].Running() && w.claim(from[i].Name()) {
			return from[i]
		}
	}
	return nil
}

func killParticipant(ctx context.Context, env *Env) (*Injection, error) {
	return killProcess(env, env.bank.pick(env, env.bank.bank.Participants()))
}

func killInitiator(ctx context.Context, env *Env) (*Injection, error) {
	return killProcess(env, env.bank.pick(env, env.bank.bank.Initiators()))
}

func killProcess(env *Env, p *bank.Process) (*Injection, error) {
	if p == nil {
		return nil, nil
	}
	return killProcesses(env, []*bank.Process{p})
}

// killProcesses kills claimed processes.
func killProcesses(env *Env, all []*bank.Process) (*Injection, error) {
	var names []string
	var pids []int
	var errs []error
	for _, p := range all {
		names, pids = append(names, p.Name()), append(pids, p.Pid())
		errs = append(errs, p.Kill())
	}
	return &Injection{
		Target: strings.Join(names, ", "),
		Heal: func(ctx context.Context) error {
			defer env.bank.release(names...)
			var errs []error
			for _, p := range all {
				errs = append(errs, p.Restart(ctx))
			}
			return errors.Join(errs...)
		},
		Evidence: func() (string, error) {
			for i, p := range all {
				if p.Pid() == pids[i] {
					return "", fmt.Errorf("%s still runs as pid %d", p.Name(), pids[i])
				}
			}
			return fmt.Sprintf("pid %v gone by SIGKILL", pids), nil
		},
	}, errors.Join(errs...)
}

func killResource(ctx context.Context, env *Env) (*Injection, error) {
	resources := env.bank.bank.Resources()
	resource := resources[env.IntN(len(resources))]
	var all []*bank.Process
	for _, p := range env.bank.bank.Of(resource.Name) {
		if p.Running() && env.bank.claim(p.Name()) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	injection, err := killProcesses(env, all)
	injection.Target = "all of " + resource.Name
	return injection, err
}

// crashLoopParticipant kills a participant some times over, each time soon after its start.
func crashLoopParticipant(ctx context.Context, env *Env) (*Injection, error) {
	p := env.bank.pick(env, env.bank.bank.Participants())
	if p == nil {
		return nil, nil
	}
	rounds := 3 + env.IntN(3)
	var pids []int
	for range rounds {
		pids = append(pids, p.Pid())
		if err := p.Kill(); err != nil {
			return healOnly(env, p), err
		}
		if err := p.Start(); err != nil {
			return healOnly(env, p), err
		}
		if err := waitFor(ctx, env.Between(Range{50 * time.Millisecond, 900 * time.Millisecond})); err != nil {
			return healOnly(env, p), err
		}
	}
	injection := healOnly(env, p)
	injection.Evidence = Evident("%d processes gone by SIGKILL: pids %v", rounds, pids)
	return injection, nil
}

// healOnly restarts a claimed process.
func healOnly(env *Env, p *bank.Process) *Injection {
	return &Injection{
		Target: p.Name(),
		Heal: func(ctx context.Context) error {
			defer env.bank.release(p.Name())
			return p.Restart(ctx)
		},
		Evidence: func() (string, error) { return "", errors.New("it was not made to the end") },
	}
}

func waitFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// aimParticipantMax bounds the wait for a participant to pass the place where it dies.
const aimParticipantMax = 2 * time.Second

// killAt has a participant die at a failpoint. One that serves a file and waits
// for it passes no place: another one is tried. While another fault holds up the
// load nobody may pass in time: there was nothing to hurt.
func killAt(ctx context.Context, env *Env, place string) (*Injection, error) {
	all := env.bank.bank.Participants()
	for _, i := range env.NewRand().Perm(len(all)) {
		p := all[i]
		if !p.Running() || !env.bank.claim(p.Name()) {
			continue
		}
		aimed, cancel := context.WithTimeout(ctx, aimParticipantMax)
		mark, err := p.KillAt(aimed, place)
		cancel()
		injection := healOnly(env, p)
		if err == nil {
			injection.Phase, injection.Evidence = place, Evident("%s", mark)
			return injection, nil
		}
		if !p.Running() {
			return injection, err
		}
		env.bank.release(p.Name())
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil
}

func pauseParticipant(ctx context.Context, env *Env) (*Injection, error) {
	return pauseProcess(env, env.bank.pick(env, env.bank.bank.Participants()))
}

func pauseInitiator(ctx context.Context, env *Env) (*Injection, error) {
	return pauseProcess(env, env.bank.pick(env, env.bank.bank.Initiators()))
}

func pauseProcess(env *Env, p *bank.Process) (*Injection, error) {
	if p == nil {
		return nil, nil
	}
	if err := p.Pause(); err != nil {
		env.bank.release(p.Name())
		return nil, err
	}
	began, stopped := time.Now(), ""
	var lasted time.Duration
	return &Injection{
		Target: p.Name(),
		Heal: func(ctx context.Context) error {
			defer env.bank.release(p.Name())
			stopped, lasted = processState(p.Pid()), time.Since(began)
			return errors.Join(p.Resume(), p.Restart(ctx))
		},
		Evidence: func() (string, error) {
			if stopped != "T" {
				return "", fmt.Errorf("%s was in state %q, not stopped", p.Name(), stopped)
			}
			return fmt.Sprintf("stopped for %v", lasted.Round(time.Millisecond)), nil
		},
	}, nil
}

// twinParticipant starts a second process under the name of one that only sleeps.
func twinParticipant(ctx context.Context, env *Env) (*Injection, error) {
	b := env.bank.bank
	for _, i := range env.NewRand().Perm(len(b.Resources())) {
		seats := b.Of(b.Resources()[i].Name)
		first, spare := seats[0], seats[len(seats)-1]
		if !first.Running() || b.Resources()[i].Exclusive() || !env.bank.claim(first.Name()) {
			continue
		}
		if !env.bank.claim(spare.Name()) {
			env.bank.release(first.Name())
			continue
		}
		injection, err := pauseProcess(env, first)
		if err != nil {
			env.bank.release(spare.Name())
			return nil, err
		}
		// Not waited for: other faults of the window may keep it from its database.
		err = spare.Start()
		awake, evidence := injection.Heal, injection.Evidence
		twin := spare.Pid()
		injection.Target = first.Name() + " and its twin"
		injection.Heal = func(ctx context.Context) error {
			defer env.bank.release(spare.Name())
			// Both live for a moment under one name, then the second one dies.
			err := awake(ctx)
			return errors.Join(err, waitFor(ctx, env.Between(Range{0, 2 * time.Second})), spare.Kill())
		}
		injection.Evidence = func() (string, error) {
			text, err := evidence()
			return fmt.Sprintf("%s; pid %d beside it", text, twin), err
		}
		return injection, err
	}
	return nil, nil
}
