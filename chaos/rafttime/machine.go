package rafttime

import (
	"fmt"
	"hash/fnv"
	"io"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// registers is how many there are: they live in the directory of nodes, which the
// real machine keeps small.
const registers = 12

// machine is the real state machine, and tells the judge what it applies. A
// client's write is a PutNode: its id names a register, its name is the value.
type machine struct {
	*fsm.State
	node  string
	judge *judge
}

func (m *machine) ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error) {
	batch, err := fsm.DecodeEntry(entry)
	if before := m.ClockMS(); err == nil && batch.GetClockMs() < before {
		m.judge.breach("the clock of the entry at %d is %d on %s, and one of %d stands before it", index, batch.GetClockMs(), m.node, before)
	}
	results, err := m.State.ApplyEntry(index, term, entry)
	if err != nil {
		return nil, err
	}
	sum := fnv.New64a()
	sum.Write(entry)
	m.judge.applied(m.node, index, seen{term: term, sum: sum.Sum64(), digest: m.Digest().String()}, valuesOf(batch))
	return results, nil
}

func (m *machine) Pin() io.WriterTo { return m.State.Pin() }

func (m *machine) Restore(source io.Reader) error {
	if err := m.State.Restore(source); err != nil {
		return err
	}
	m.judge.restored(m.node, m.Clock().AppliedIndex, m.Digest().String())
	return nil
}

// valuesOf are the values that an entry writes; each is unique.
func valuesOf(batch *logpb.Batch) (values []string) {
	for _, c := range batch.GetCommands() {
		if put := c.GetPutNode(); put != nil {
			values = append(values, put.GetNode().GetName())
		}
	}
	return values
}

func register(k int) string { return fmt.Sprintf("register-%d", k) }

// write is the command that writes a register.
func write(k int, value string) []byte {
	return fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{
		Id: register(k), Name: value, RaftAddress: "a:1", GrpcAddress: "a:2", HttpAddress: "a:3",
	}}}})
}
