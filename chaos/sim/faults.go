package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/internal/failpoint"
)

// phase is a place in the protocol that a fault can be aimed at.
type phase string

const (
	phaseAppended phase = "appended" // an entry is on its leader's disk only
	phaseElected  phase = "elected"
	phaseServes   phase = "serves"
	phaseSnapshot phase = "snapshot"
	phasePrepared phase = "prepared" // a participant's branch is durable, its vote not said
	phaseObeyed   phase = "obeyed"   // a branch has ended, its report not said
)

var nodePhases = []phase{
	phaseAppended, phaseAppended, phaseElected, phaseServes, phaseSnapshot,
	failpoint.BeforeDecision, failpoint.AtDecision, failpoint.AtDecision, failpoint.AfterDecision, failpoint.AfterDecision,
	failpoint.PartlyDone, failpoint.AllReported,
}

var processPhases = []phase{phasePrepared, phaseObeyed}

// family groups faults, for the table of what was reached.
type family string

const (
	famNone      family = "none"
	famCrash     family = "crash"
	famPause     family = "pause"
	famPartition family = "partition"
	famLink      family = "link"
	famClock     family = "clock"
	famDisk      family = "disk"
	famCorrupt   family = "corrupt"
	famTransfer  family = "transfer"
	famProcess   family = "participant"
	famInitiator family = "initiator"
	famDatabase  family = "database"
	famOverload  family = "overload"
)

var families = []family{
	famNone, famCrash, famPause, famPartition, famLink, famClock, famDisk, famCorrupt, famTransfer, famProcess, famInitiator, famDatabase, famOverload,
}

// fault is a small named value: what it does, and how it is healed.
type fault struct {
	name   string
	family family
	weight int
	most   time.Duration // that it lasts
	// target of an aimed fault: a node or a process.
	node, proc bool
	// inject does it; heal, which may be nil, takes it back. It returns false
	// where there is nothing to do it to.
	inject func(w *World, at *actor, f faultPlan) (heal func(), ok bool)
}

// table is every fault there is.
func table() []fault {
	return []fault{
		{"crash-leader", famCrash, 5, 6 * time.Second, true, false, onLeader(crashNode)},
		{"crash-node", famCrash, 4, 8 * time.Second, true, false, onNode(crashNode)},
		{"crash-all", famCrash, 2, 3 * time.Second, false, false, crashAll},
		{"pause-leader", famPause, 4, 12 * time.Second, true, false, onLeader(pauseActor)},
		{"pause-node", famPause, 2, 12 * time.Second, true, false, onNode(pauseActor)},
		{"partition-leader", famPartition, 4, 8 * time.Second, true, false, onLeader(isolate)},
		{"partition-halves", famPartition, 2, 8 * time.Second, false, false, halves},
		{"partition-one-way", famPartition, 3, 6 * time.Second, false, false, oneWay},
		{"partition-bridge", famPartition, 2, 6 * time.Second, false, false, bridge},
		{"partition-edge", famPartition, 3, 8 * time.Second, false, false, edge},
		{"flapping", famPartition, 2, 6 * time.Second, false, false, flapping},
		{"loss", famLink, 3, 8 * time.Second, false, false, linkFault(func(l *link, by float64) { l.loss += by * 0.3 })},
		{"duplicates", famLink, 4, 15 * time.Second, false, false, linkFault(func(l *link, by float64) { l.dup += by * 0.4 })},
		{"delay", famLink, 3, 10 * time.Second, false, false, linkFault(func(l *link, by float64) { l.slow += time.Duration(by * float64(800*time.Millisecond)) })},
		{"clock-jump", famClock, 3, 0, false, false, clockJump},
		{"clock-drift", famClock, 3, 15 * time.Second, false, false, clockDrift},
		{"slow-disk", famDisk, 3, 8 * time.Second, false, false, slowDisk},
		{"disk-error", famDisk, 2, 5 * time.Second, false, false, onNode(diskError)},
		{"flipped-bit", famCorrupt, 3, 3 * time.Second, false, false, flippedBit},
		{"transfer", famTransfer, 2, 0, false, false, transfer},
		{"crash-participant", famProcess, 5, 6 * time.Second, false, true, onProcess(crashProcess)},
		{"pause-participant", famProcess, 4, 15 * time.Second, false, true, onProcess(pauseActor)},
		{"crash-participants", famProcess, 1, 4 * time.Second, false, false, crashProcesses},
		{"crash-initiator", famInitiator, 2, 4 * time.Second, false, false, crashClient},
		{"pause-initiator", famInitiator, 3, 15 * time.Second, false, false, pauseClient},
		{"crash-database", famDatabase, 3, 0, false, false, crashDatabase},
		{"overload", famOverload, 2, 8 * time.Second, false, false, onLeader(overload)},
		{"lost-participant", famProcess, 1, 0, false, false, lostProcess},
		{"end-by-hand", famDatabase, 1, 0, false, false, endByHand},
	}
}

// makeFaults draws the faults of a plan: each seed has its own mixture, several
// at once, many of them aimed.
func (p *Plan) makeFaults(r *rand.Rand, active time.Duration) {
	total, table := 0, table()
	weights := make([]int, len(table))
	for i, f := range table {
		if chance(r, 0.6) {
			weights[i] = f.weight
		}
		total += weights[i]
	}
	if total == 0 {
		weights[0], total = 1, 1
	}
	for range 2 + r.IntN(9) {
		k := r.IntN(total)
		i := 0
		for k >= weights[i] {
			k -= weights[i]
			i++
		}
		f := table[i]
		plan := faultPlan{Name: f.name, At: between(r, time.Second, active), For: between(r, f.most/20, f.most), A: r.Uint64(), B: r.Uint64(), Count: 1 + r.IntN(4)}
		switch {
		case f.node && chance(r, 0.5):
			plan.Aimed = nodePhases[r.IntN(len(nodePhases))]
		case f.proc && chance(r, 0.5):
			plan.Aimed = processPhases[r.IntN(len(processPhases))]
		}
		p.Faults = append(p.Faults, plan)
	}
}

func faultNamed(name string) fault {
	for _, f := range table() {
		if f.name == name {
			return f
		}
	}
	panic("sim: no fault " + name)
}

// injector does the plan's faults to the world.
type injector struct {
	w       *World
	rng     *rand.Rand
	armed   []faultPlan // aimed, and waiting for their phase
	heals   []func()
	active  map[family]int
	done    map[string]int // by name: how often it was injected
	lost    int            // participants that are away for long
	damaged *node          // at most one is damaged and not yet whole
	ended   bool
}

func (j *injector) open(w *World) {
	j.w, j.rng = w, w.source(5)
	j.active, j.done = make(map[family]int), make(map[string]int)
	for _, f := range w.plan.Faults {
		w.after(f.At, func() {
			if f.Aimed != "" {
				j.armed = append(j.armed, f)
				return
			}
			j.do(f, nil)
		})
	}
}

// phase says that an actor is at a phase: what was aimed there happens now.
func (j *injector) phase(p phase, a *actor) {
	for i := range j.armed {
		f := &j.armed[i]
		if f.Aimed != p {
			continue
		}
		if f.Count--; f.Count > 0 {
			continue
		}
		f.Count = 1
		plan := *f
		j.armed = append(j.armed[:i], j.armed[i+1:]...)
		j.w.cover.meet("aimed at " + string(p))
		j.do(plan, a)
		return
	}
}

// lingers is how long a fault is near after it was healed, for the table.
const lingers = time.Second

func (j *injector) do(plan faultPlan, at *actor) {
	if j.ended {
		return
	}
	f := faultNamed(plan.Name)
	heal, ok := f.inject(j.w, at, plan)
	if !ok {
		return
	}
	j.done[plan.Name]++
	j.active[f.family]++
	j.w.say("fault", "%s for %v", plan.Name, plan.For)
	once := false
	end := func() {
		if once {
			return
		}
		once = true
		if heal != nil {
			heal()
			j.w.say("fault", "%s is healed", plan.Name)
		}
		j.w.after(lingers, func() { j.active[f.family]-- })
	}
	j.heals = append(j.heals, end)
	j.w.after(plan.For, end)
}

// heal ends every fault for good.
func (j *injector) heal() {
	j.ended = true
	j.armed = nil
	for _, h := range j.heals {
		h()
	}
}
