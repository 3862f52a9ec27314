package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is one way to hurt a cluster: a small named value of the fault table.
type Fault struct {
	// Name is what reports call it, such as `kill-leader`.
	Name string
	// Doc says in one sentence what it does.
	Doc string
	// Kind is its family, by which --faults may name it: kill, pause, partition,
	// link, disk, power, corrupt, member, clock, duplicate, participant, branch, step, database.
	Kind string
	// Weight is how often it is chosen within its family; 0 counts as 1.
	Weight int
	// Alone faults share a window with no other: they take the quorum away or
	// change who is a member.
	Alone bool
	// Hold is how long the fault stays, about; 0: the schedule's default.
	Hold Range
	// Possible says why the fault cannot be made here, nil when it can. It is
	// asked before the run, when Env has no cluster yet, too.
	Possible func(*Env) error
	// Prepare, when set, is called once before the cluster starts, where the fault
	// was chosen and is possible: to mount the nodes' disks, or to add environment
	// to their starts. What it returns is called after the nodes have stopped and
	// were judged.
	Prepare func(*Env) (done func() error, err error)
	// Inject does it and returns once it is done. The injection must be healable
	// even when the context ends. Nil without an error: there was nothing to
	// hurt just now (no leader, say), and nothing is counted.
	Inject func(context.Context, *Env) (*Injection, error)
}

// Injection is a fault that was made.
type Injection struct {
	// Target is what was hurt, for people: `n2 (leader)`.
	Target string
	// Times is how often it struck, for faults that strike again and again; 0
	// counts as 1.
	Times int
	// Phase is the failpoint at which it happened, empty when it was not aimed.
	Phase string
	// At is when it took effect, by Env.Now; 0: when Inject was called.
	At time.Duration
	// Leader says that the cluster lost its leader's service by it: the time
	// until the next acknowledged decision is a failover.
	Leader bool
	// Unavailable says that no decision is promised while it lasts: a quorum, or
	// every participant, is away.
	Unavailable bool
	// Heal undoes it, and waits until it is undone. It is called exactly once, and
	// also when the run is interrupted.
	Heal func(context.Context) error
	// Evidence says what shows that the fault was real: packets that were dropped,
	// a process that died by a signal. It is asked after Heal. An error or an empty
	// text means that nothing shows it: the run is vacuous.
	Evidence func() (string, error)
}

// Evident is the Evidence of what was seen when it was made.
func Evident(format string, args ...any) func() (string, error) {
	text := fmt.Sprintf(format, args...)
	return func() (string, error) { return text, nil }
}

// Table is every fault that there is, a family after the other.
var Table = slices.Concat(
	killFaults,
	pauseFaults,
	partitionFaults,
	linkFaults,
	duplicateFaults,
	clockFaults,
	participantFaults,
	branchFaults,
	stepFaults,
	databaseFaults,
	diskFaults,
	powerFaults,
	corruptFaults,
	memberFaults,
)

// Kinds returns the families of the table in its order.
func Kinds() []string {
	var kinds []string
	for _, f := range Table {
		if !slices.Contains(kinds, f.Kind) {
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

// noFaults is the word for none of them.
const noFaults = "none"

// Select returns the faults that a list of families and names stands for, in
// the table's order; an empty list stands for all, `none` for none.
func Select(list []string) ([]Fault, error) {
	if slices.Equal(list, []string{noFaults}) {
		return nil, nil
	}
	if len(list) == 0 {
		return slices.Clone(Table), nil
	}
	var chosen []Fault
	for _, f := range Table {
		if slices.Contains(list, f.Name) || slices.Contains(list, f.Kind) {
			chosen = append(chosen, f)
		}
	}
	for _, word := range list {
		if !slices.ContainsFunc(chosen, func(f Fault) bool { return f.Name == word || f.Kind == word }) {
			return nil, fmt.Errorf("no fault and no family of faults is named %q; families: %s (all faults: quorate chaos --list)", word, strings.Join(Kinds(), ", "))
		}
	}
	return chosen, nil
}

// possible is f.Possible that may be nil.
func (f Fault) possible(env *Env) error {
	if f.Possible == nil {
		return nil
	}
	return f.Possible(env)
}

func (f Fault) weight() int { return max(1, f.Weight) }
