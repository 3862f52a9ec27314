package branchbank

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant/fence"
)

// CallOf is a call in linearizability's words, as it arrived.
func CallOf(call Call, resource string) linearizability.Observation {
	return linearizability.Observation{
		Sight: linearizability.SightCall, At: now(), GID: call.GID, Branch: call.Branch, Resource: resource,
		Operation: linearizability.Effect(strings.ReplaceAll(string(call.Operation), "-", "_")),
		Epoch:     linearizability.Epoch{Incarnation: call.Epoch.Incarnation, Term: call.Epoch.Term},
	}
}

// arrived appends a call to the file. One write a line: a process that is killed leaves
// whole lines.
func (b *Bank) arrived(call Call) error {
	if b.arrivals == nil || call.Operation == fence.Resume {
		return nil
	}
	line, err := json.Marshal(CallOf(call, b.store.config.Resource))
	if err == nil {
		_, err = b.arrivals.Write(append(line, '\n'))
	}
	return err
}

// ReadArrivals reads what banks have written to a file; one that there is not holds none.
func ReadArrivals(path string) ([]linearizability.Observation, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []linearizability.Observation
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var o linearizability.Observation
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return all, fmt.Errorf("line %d of %s: %w", len(all)+1, path, err)
		}
		all = append(all, o)
	}
	return all, lines.Err()
}
