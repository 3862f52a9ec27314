package linearizability_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/linearizability"
)

// A client writes down what it is about to ask, then what it heard; afterwards the
// history is judged. Here a node forgets a commit.
func Example() {
	var file bytes.Buffer
	recorder := linearizability.NewRecorder(&file, linearizability.Header{Note: "an example"})
	ask := func(kind linearizability.Kind, output linearizability.Output) {
		recorder.Invoke(linearizability.Operation{Client: 1, Kind: kind, GID: "T1"}).Return(linearizability.StatusOK, output)
	}
	ask(linearizability.KindBegin, linearizability.Output{Created: true, State: linearizability.StateActive})
	lost := recorder.Invoke(linearizability.Operation{Client: 2, Kind: linearizability.KindRollback, GID: "T1"})
	lost.Unknown(errors.New("connection reset")) // it may take effect, or not
	ask(linearizability.KindCommit, linearizability.Output{Decision: linearizability.DecisionCommit, State: linearizability.StateCommitted})
	ask(linearizability.KindGet, linearizability.Output{State: linearizability.StateActive})
	if err := recorder.Close(); err != nil {
		fmt.Println(err)
	}

	history, err := linearizability.Read(&file)
	if err != nil {
		fmt.Println(err)
	}
	report := linearizability.Check(context.Background(), history, linearizability.Options{})
	for _, v := range report.Violations {
		fmt.Println(v.Promise, v.GID, "lines", v.Lines)
	}
	// Output: S7 T1 lines [2 4 6 8]
}
