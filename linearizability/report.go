package linearizability

import (
	"fmt"
	"strings"
	"time"
)

// Violation is one broken promise, or a question that could not be answered.
type Violation struct {
	// Promise is S1 ... S15 (docs/verify.md), or TIMEOUT where a checker ran out of
	// time.
	Promise string `json:"promise"`
	GID     string `json:"gid,omitempty"`
	// Text says what was seen, and why it cannot be.
	Text string `json:"text"`
	// Operations and Lines are where to look.
	Operations []string `json:"operations,omitempty"`
	Lines      []int    `json:"lines,omitempty"`
	// HTML is porcupine's drawing of the failing partition, where one was asked for.
	HTML string `json:"html,omitempty"`
}

// String is the violation on one line, and its operations below.
func (v Violation) String() string {
	var b strings.Builder
	b.WriteString(v.Promise)
	if v.GID != "" {
		fmt.Fprintf(&b, " %s", v.GID)
	}
	b.WriteString(": " + v.Text)
	for _, op := range v.Operations {
		b.WriteString("\n    " + op)
	}
	if v.HTML != "" {
		b.WriteString("\n    drawing: " + v.HTML)
	}
	return b.String()
}

// Stats is what was checked: a report that is clean over nothing proves nothing.
type Stats struct {
	Operations   int `json:"operations"`
	Unknown      int `json:"unknown"`
	Failed       int `json:"failed"`
	Observations int `json:"observations"`
	// GIDs and Keys are partitions checked by porcupine, Reads those of
	// followers, lists and watches compared with a replay.
	GIDs       int `json:"gids"`
	Keys       int `json:"keys"`
	Reads      int `json:"reads"`
	Committed  int `json:"committed"`
	RolledBack int `json:"rolled_back"`
	// Removed are operations of unknown outcome that no log holds.
	Removed int `json:"removed"`
	// Checked counts what each promise's check looked at.
	Checked map[string]int `json:"checked"`
	// Duration of the check.
	Duration time.Duration `json:"duration_ns"`
}

// Report is what Check found.
type Report struct {
	Violations []Violation `json:"violations"`
	// Omitted is how many more there were.
	Omitted int   `json:"omitted,omitempty"`
	Stats   Stats `json:"stats"`
}

// OK tells whether no promise was broken and every check came to its end.
func (r Report) OK() bool { return len(r.Violations) == 0 }

// Broken lists the promises broken, each once, in the order found.
func (r Report) Broken() []string {
	var out []string
	seen := map[string]bool{}
	for _, v := range r.Violations {
		if !seen[v.Promise] {
			seen[v.Promise] = true
			out = append(out, v.Promise)
		}
	}
	return out
}
