package sim

import (
	"encoding/json"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Campaign runs many seeds, one worker a processor. Each run stays in one
// goroutine, so what a seed comes to does not depend on the others.
type Campaign struct {
	From, Seeds uint64 // Seeds 0: until Until
	Until       time.Time
	Options     Options
	// HistoryEvery so many seeds one's history is judged as well; 0 for none.
	HistoryEvery uint64
	// FailuresMax ends it after so many seeds that fail; 0 stands for 1.
	FailuresMax int
	// Each, when set, hears every result, from any worker, one at a time.
	Each func(*Result)
}

// Totals is what a campaign came to.
type Totals struct {
	Seeds     int            `json:"seeds"`
	Counted   int            `json:"counted"`
	Events    int            `json:"events"`
	Delivered int            `json:"delivered"`
	Faults    map[string]int `json:"faults"`
	Decisions int            `json:"decisions"`
	Commits   int            `json:"commits"`
	Acked     int            `json:"acknowledged"`
	Histories int            `json:"histories"`
	LostWrite int            `json:"writes_lost"`
	TornWrite int            `json:"writes_torn"`
	Violation int            `json:"violations"`
	Modes     bool           `json:"modes,omitempty"` // every mode is among them
	Seconds   float64        `json:"seconds"`
	// First is the first seed, Next the one to go on from.
	First uint64 `json:"first_seed"`
	Next  uint64 `json:"-"`

	Coverage *Coverage      `json:"-"`
	Reached  map[string]int `json:"-"` // by how many seeds, by the names of reachable.txt
	Failed   []*Result      `json:"-"`
}

// Run runs the campaign.
func (c *Campaign) Run() *Totals {
	t := &Totals{Modes: c.Options.Modes, Faults: make(map[string]int), Coverage: NewCoverage(), Reached: make(map[string]int)}
	began := time.Now()
	var next atomic.Uint64
	var mu sync.Mutex
	var stop atomic.Bool
	var wg sync.WaitGroup
	next.Store(c.From)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() && (c.Until.IsZero() || time.Now().Before(c.Until)) {
				seed := next.Add(1) - 1
				if c.Seeds != 0 && seed >= c.From+c.Seeds {
					return
				}
				r := Run(NewPlan(seed, c.Options), How{Bug: c.Options.Bug, History: c.HistoryEvery != 0 && seed%c.HistoryEvery == 0})
				mu.Lock()
				t.add(r)
				if len(t.Failed) >= max(c.FailuresMax, 1) {
					stop.Store(true)
				}
				if c.Each != nil {
					c.Each(r)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Seconds = time.Since(began).Seconds()
	t.First, t.Next = c.From, c.From+uint64(t.Seeds)
	return t
}

func (t *Totals) add(r *Result) {
	t.Seeds++
	if r.Counts() {
		t.Counted++
	}
	t.Events += r.Steps
	t.Delivered += r.Delivered
	for name, n := range r.Faults {
		t.Faults[name] += n
	}
	t.Commits += r.Commits
	t.Decisions += r.Commits + r.Rollbacks
	t.Acked += r.Acked
	t.Histories += r.Histories
	t.LostWrite += r.Lost
	t.TornWrite += r.Torn
	t.Violation += len(r.Violations)
	t.Coverage.Add(r.Coverage)
	for _, thing := range r.Coverage.things() {
		t.Reached[thing]++
	}
	if len(r.Violations) > 0 {
		t.Failed = append(t.Failed, r)
	}
}

// WriteJSON writes the line for the ledger.
func (t *Totals) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(struct {
		Suite string `json:"suite"`
		*Totals
	}{"sim", t})
}
