package demo

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/failpoint"
)

// Phase is the moment in a transaction at which a process is killed; its text
// is the name of a failpoint.
type Phase string

// The moments at which a leader can be killed, and the one for a participant.
const (
	BeforeDecision Phase = failpoint.BeforeDecision
	AtDecision     Phase = failpoint.AtDecision
	AfterDecision  Phase = failpoint.AfterDecision
	// Begun: a workflow is in the log, and its code was not told.
	Begun Phase = failpoint.Begun
	// BeforeAnswer and AfterAnswer: a saga's step has answered, which is not in the log,
	// or in it.
	BeforeAnswer Phase = failpoint.BeforeAnswer
	AfterAnswer  Phase = failpoint.AfterAnswer
	// BeforeReport and AfterReport: the same of a confirm, or of a message's delivery.
	BeforeReport Phase = failpoint.BeforeReport
	AfterReport  Phase = failpoint.AfterReport
	// Random takes the mode's in turn, in a shuffled order.
	Random Phase = "random"
	// Prepared: the branch is durably prepared and its vote not yet sent.
	Prepared Phase = failpoint.Prepared
	// Ended: a called branch has done its work, and not answered.
	Ended Phase = failpoint.Ended
)

// PhasesOf are the choices of --kill-leader in a mode, beside random.
func PhasesOf(m Mode) []Phase {
	switch m {
	case Saga: // its decision is the answer of its last step, or of the one that failed
		return []Phase{BeforeDecision, BeforeAnswer, AfterAnswer, AtDecision}
	case TCC, Message:
		return []Phase{BeforeDecision, AtDecision, AfterDecision, BeforeReport, AfterReport}
	case Workflow: // nothing is delivered: the code does it all
		return []Phase{Begun, BeforeDecision, AtDecision}
	}
	return []Phase{BeforeDecision, AtDecision, AfterDecision}
}

const (
	// candidatesMax is how many transfers may set off one kill. One would do if
	// none ever rolled back for another reason.
	candidatesMax = 5
	// transfersPerKillMin keeps kills apart, so that the cluster is whole again
	// before the next one.
	transfersPerKillMin = 10
)

// Aim is one planned kill: the process that reaches the failpoint first with
// one of the transfers ends itself by SIGKILL.
type Aim struct {
	Phase      Phase
	Candidates []string // keys
	// Mark is the file that the dying process leaves, so that it happens once.
	Mark string
}

// Spec is the aim in the failpoints' grammar.
func (a Aim) Spec() string {
	points := make([]string, len(a.Candidates))
	for i, key := range a.Candidates {
		points[i] = fmt.Sprintf("%s@%s=kill,once=%s", a.Phase, key, a.Mark)
	}
	return strings.Join(points, ";")
}

// Aims are the kills of a run.
type Aims struct {
	Leader      []Aim
	Participant []Aim // none or one, of bank b
}

// AimKills spreads the kills evenly over the plan. Marks are made in dir.
func AimKills(p Plan, mode Mode, phase Phase, kills int, participant bool, dir string, rng *rand.Rand) Aims {
	var aims Aims
	stride := len(p.Transfers) / (kills + 1)
	phases := phasesOf(mode, phase, kills, rng)
	for k := range kills {
		aims.Leader = append(aims.Leader, Aim{
			Phase: phases[k], Candidates: p.fundedFrom((k + 1) * stride),
			Mark: filepath.Join(dir, fmt.Sprintf("kill-%d", k+1)),
		})
	}
	if participant {
		aims.Participant = []Aim{{
			Phase: participantPhase(mode), Candidates: p.fundedFrom(stride / 2), Mark: filepath.Join(dir, "kill-bank-b"),
		}}
	}
	return aims
}

// participantPhase is where --kill-participant strikes: it has done its part, and
// nobody was told.
func participantPhase(m Mode) Phase {
	if m == TwoPhase {
		return Prepared
	}
	return Ended
}

// phasesOf names the phase of each kill.
func phasesOf(mode Mode, phase Phase, kills int, rng *rand.Rand) []Phase {
	phases := slices.Repeat([]Phase{phase}, kills)
	if phase != Random {
		return phases
	}
	round := PhasesOf(mode)
	for k := range phases {
		if k%len(round) == 0 {
			rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		phases[k] = round[k%len(round)]
	}
	return phases
}

// fundedFrom returns the keys of the first funded transfers from index i on.
func (p Plan) fundedFrom(i int) []string {
	var keys []string
	for _, t := range p.Transfers[i:] {
		if t.Funded && len(keys) < candidatesMax {
			keys = append(keys, t.Key())
		}
	}
	return keys
}
