package linearizability

// Format is the version of the history format that this package writes.
const Format = 1

// Header opens a history.
type Header struct {
	Format  int    `json:"format"`
	Seed    uint64 `json:"seed,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	// Started is a wall time, for people.
	Started string `json:"started,omitempty"`
	Note    string `json:"note,omitempty"`

	// Partial: only some of what happened to each GID is recorded (an SDK's
	// participants enlist and vote unseen). The whole model is then replaced by
	// one of decisions alone.
	Partial bool `json:"partial,omitempty"`
	// DeliveriesUnseen: branches are told, and report, without it being recorded,
	// so that committing and committed cannot be told apart beforehand.
	DeliveriesUnseen bool `json:"deliveries_unseen,omitempty"`
	// BegunUnseen: some transactions were begun by clients that record nothing. Of
	// those without a recorded begin or submit only decisions are followed.
	BegunUnseen bool `json:"begun_unseen,omitempty"`
	// FaultFree: no fault was injected, so that whatever could commit must have.
	FaultFree bool `json:"fault_free,omitempty"`
	// CommitRatioMin is the least share of transactions, of those whose commit
	// was asked and acknowledged as decided, that must have committed; 0 for no
	// floor.
	CommitRatioMin float64 `json:"commit_ratio_min,omitempty"`
	// TimeoutDefaultMS of a transaction that names none, and RetentionMS; 0 for
	// the product's defaults.
	TimeoutDefaultMS uint64 `json:"timeout_default_ms,omitempty"`
	RetentionMS      uint64 `json:"retention_ms,omitempty"`
	// ClockSkewed: the cluster clock may run faster than the recorder's, so that
	// timeouts may strike at any time.
	ClockSkewed bool `json:"clock_skewed,omitempty"`
	// Breaks names the promise that the history is known to break: for the
	// checker's own test data. It changes no verdict.
	Breaks string `json:"breaks,omitempty"`
}

// History is a recorded run.
type History struct {
	Header       Header
	Operations   []Operation
	Observations []Observation
	// File that it was read from, for people.
	File string
}
