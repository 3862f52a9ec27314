package linearizability

// The lines of a history. Each is one JSON object whose field "line" says which
// it is; docs/verify.md shows them.
const (
	lineHeader    = "header"
	lineCall      = "call"
	lineReturn    = "return"
	lineOperation = "operation"
	lineObserve   = "observe"
)

var lineKinds = []string{lineHeader, lineCall, lineReturn, lineOperation, lineObserve}

type headerLine struct {
	Line string `json:"line"`
	Header
}

type callLine struct {
	Line      string `json:"line"`
	ID        int64  `json:"id"`
	Client    int    `json:"client"`
	At        int64  `json:"at"`
	Kind      Kind   `json:"kind"`
	GID       string `json:"gid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Key       string `json:"key,omitempty"`
	Branch    string `json:"branch,omitempty"`
	Input     Input  `json:"input,omitzero"`
}

type returnLine struct {
	Line   string `json:"line"`
	ID     int64  `json:"id"`
	At     int64  `json:"at"`
	Status Status `json:"status"`
	Output Output `json:"output,omitzero"`
	Error  string `json:"error,omitempty"`
	Node   string `json:"node,omitempty"`
}

// operationLine is a whole operation, for histories written afterwards.
type operationLine struct {
	Line string `json:"line"`
	Operation
}

type observeLine struct {
	Line string `json:"line"`
	Observation
}
