package main

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The clock of filled states: all that they hold was born at one moment.
const fillClockMS = 10_000

// timeoutMS is the longest that a transaction may have: none ends while it is
// measured beside.
const timeoutMS = 600_000

// entryTransactions is how many transactions share an entry, as under load.
const entryTransactions = 16

// filler brings a state to where a log would have brought it, without the log.
type filler struct {
	s     *fsm.State
	index uint64
	made  uint64
	// holders are the participants that branches name; none: nobody is named.
	holders [][]byte
	// resources of the two branches of each transaction.
	resources [2]string
}

// newFiller founds a cluster and raises its limits to what is measured here.
func newFiller(found *logpb.Command) (*filler, error) {
	f := &filler{s: fsm.New(), resources: [2]string{"scale-a", "scale-b"}}
	if found == nil {
		found = &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: fsm.NewGID(1, [10]byte{7}).Bytes()}}}
	}
	return f, f.apply(found, &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{Operator: "scale", Limits: &logpb.Limits{
		ActiveTransactionsMax: 10_000_000, RetainedStubsMax: 100_000_000,
	}}}})
}

func (f *filler) apply(commands ...*logpb.Command) error {
	f.index++
	results, err := f.s.Apply(fsm.Meta{Index: f.index, Term: 1}, f.batch(commands))
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Code != fsm.OK {
			return fmt.Errorf("a command was refused: %v %s", r.Code, r.Detail)
		}
	}
	return nil
}

func (f *filler) batch(commands []*logpb.Command) *logpb.Batch {
	return &logpb.Batch{ClockMs: fillClockMS, WallMs: 1_795_000_000_000, FeatureLevel: fsm.FeatureLevel, Commands: commands}
}

// gid is a new one, spread as random ones are.
func (f *filler) gid() fsm.GID {
	f.made++
	var random [10]byte
	binary.BigEndian.PutUint64(random[:], f.made*0x9E3779B97F4A7C15)
	binary.BigEndian.PutUint16(random[8:], uint16(f.made))
	return fsm.NewGID(fillClockMS, random)
}

// begun is a transaction whose initiator works: it has a deadline.
func (f *filler) begun() *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Begin{Begin: f.beginOf(f.gid())}}
}

func (f *filler) beginOf(gid fsm.GID) *logpb.Begin {
	return &logpb.Begin{
		Gid: gid.Bytes(), Namespace: "default", Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: timeoutMS,
	}
}

// decided is a transaction of two branches that have voted prepared: committed, and
// both are to be told.
func (f *filler) decided() (*logpb.Command, fsm.GID) {
	gid := f.gid()
	submit := &logpb.Submit{Begin: f.beginOf(gid)}
	for i, id := range branchIDs {
		spec := &logpb.BranchSpec{Id: id, Resource: f.resources[i]}
		if n := len(f.holders); n > 0 {
			spec.Holder = f.holders[(int(f.made)*2+i)%n]
		}
		submit.Set = append(submit.Set, spec)
		submit.Votes = append(submit.Votes, &logpb.Ballot{Branch: spec, Kind: logpb.VoteKind_VOTE_KIND_PREPARED})
	}
	return &logpb.Command{Kind: &logpb.Command_Submit{Submit: submit}}, gid
}

var branchIDs = [2]string{"1", "2"}

func reportOf(gid fsm.GID, branch string) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{
		Gid: gid.Bytes(), Branch: branch, Outcome: logpb.Outcome_OUTCOME_COMMITTED, Attempts: 1,
	}}}
}

// fillLive adds live transactions: of each two, one is begun and one is decided and
// not told. With told they are all of the second kind.
func (f *filler) fillLive(n int, told bool) error {
	return f.fill(n, func(i int) ([]*logpb.Command, []*logpb.Command) {
		if told || i%2 == 1 {
			c, _ := f.decided()
			return []*logpb.Command{c}, nil
		}
		return []*logpb.Command{f.begun()}, nil
	})
}

// fillFinished adds transactions of two branches that have both reported.
func (f *filler) fillFinished(n int) error {
	return f.fill(n, func(int) (first, then []*logpb.Command) {
		c, gid := f.decided()
		return []*logpb.Command{c}, []*logpb.Command{reportOf(gid, "1"), reportOf(gid, "2")}
	})
}

// fill makes n transactions, so many to an entry, and what follows them in the next.
func (f *filler) fill(n int, one func(i int) (first, then []*logpb.Command)) error {
	for i := 0; i < n; {
		var first, then []*logpb.Command
		for ; i < n && len(first) < entryTransactions; i++ {
			a, b := one(i)
			first, then = append(first, a...), append(then, b...)
		}
		if err := f.apply(first...); err != nil {
			return err
		}
		if len(then) == 0 {
			continue
		}
		if err := f.apply(then...); err != nil {
			return err
		}
	}
	return nil
}
