package search

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	flagConfig  = flag.String("search.config", "", "search this world: mode=fast,nodes=3,branches=2,... (what is not named is as in the smallest)")
	flagStates  = flag.Int("search.states", 0, "stop after so many distinct states")
	flagMinutes = flag.Float64("search.minutes", 10, "stop after so many minutes")
	flagEnds    = flag.Uint64("search.ends", 1024, "check that everything ends from one in so many states")
	flagFull    = flag.Bool("search.full", false, "TestSmallest: exhaust every mode")
	flagJSON    = flag.String("search.json", "", "write the report to this file, a JSON object a line")
)

// smallest is the smallest world of a mode: two nodes, two branches, one crash,
// one duplicate.
func smallest(mode Mode) Config {
	return Config{Mode: mode, Nodes: 2, Branches: 2, Crashes: 1, Duplicates: 1, Terms: 2, Uncommitted: 1, Clocks: 4, Rollback: true}
}

// run searches and prints; a broken promise is told as a story.
func run(t *testing.T, c Config, b Budget) Report {
	t.Helper()
	r, err := Run(c, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d states, %d transitions, depth %d, exhausted %v, %d machines, ended from %d, %d with a commit, %d with a rollback, %.1f s",
		r.Config, r.States, r.Transitions, r.Depth, r.Exhausted, r.Machines, r.Ended, r.Commits, r.Rollbacks, r.Seconds)
	if r.Violations > 0 {
		t.Logf("%s\n%s", r.Breach, strings.Join(r.Story, "\n"))
	}
	return r
}

// TestSearch searches the world that -search.config names.
func TestSearch(t *testing.T) {
	if *flagConfig == "" {
		t.Log("no -search.config: see TestSmallest")
		return
	}
	c := smallest(Explicit)
	for _, part := range strings.Split(*flagConfig, ",") {
		if err := c.set(part); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, c, Budget{States: *flagStates, Time: time.Duration(*flagMinutes * float64(time.Minute)), EndEvery: *flagEnds})
	save(t, r)
	if r.Violations > 0 {
		t.Fail()
	}
}

func (c *Config) set(part string) error {
	name, value, _ := strings.Cut(part, "=")
	for field, to := range map[string]*int{
		"nodes": &c.Nodes, "branches": &c.Branches, "crashes": &c.Crashes, "duplicates": &c.Duplicates,
		"terms": &c.Terms, "uncommitted": &c.Uncommitted, "clocks": &c.Clocks,
	} {
		if field == name {
			_, err := fmt.Sscan(value, to)
			return err
		}
	}
	switch name {
	case "mode":
		c.Mode = Mode(value)
	case "rollback":
		c.Rollback = value == "true"
	default:
		return fmt.Errorf("-search.config: no %q", name)
	}
	return nil
}

func save(t *testing.T, r Report) {
	t.Helper()
	if *flagJSON == "" {
		return
	}
	line, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(*flagJSON, append(line, '\n'), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestSmallest searches the smallest world in each mode: two nodes, two branches,
// one crash, one duplicate. In fast mode all of it is visited, here; in named mode
// with less time passing, or without faults; in explicit mode without faults, and
// to a bound with them. By
//
//	go test ./chaos/search -run TestSmallest -v -search.full
//
// each mode is exhausted: 22 million states.
func TestSmallest(t *testing.T) {
	less := func(mode Mode, clocks, faults int) Config {
		c := smallest(mode)
		c.Clocks, c.Crashes, c.Duplicates = clocks, faults, faults
		return c
	}
	done := map[Mode]bool{}
	for _, test := range []struct {
		name   string
		config Config
		states int // 0: all
	}{
		{"fast", smallest(Fast), 0},
		{"named, no fault", less(Named, 4, 0), 0},
		{"named, less time", less(Named, 2, 1), 0},
		{"explicit, no fault", less(Explicit, 3, 0), 0},
		{"explicit", smallest(Explicit), 400_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			if raceDetector && test.config.Mode != Fast {
				t.Log("one goroutine: the race detector has nothing to look for")
				return
			}
			if *flagFull {
				test.config, test.states = smallest(test.config.Mode), 0
				if done[test.config.Mode] {
					return
				}
				done[test.config.Mode] = true
			}
			r := run(t, test.config, Budget{States: test.states, EndEvery: 256})
			if r.Violations > 0 {
				t.Fatal("a promise is broken")
			}
			if test.states == 0 && !r.Exhausted {
				t.Error("it was not exhausted")
			}
			if r.Commits < 1000 || r.Rollbacks < 1000 || r.Ended < 100 {
				t.Errorf("the search is vacuous: %+v", r)
			}
		})
	}
}

// TestFlawsAreFound plants bugs in the model, one at a time, and wants each found
// as the promise that it breaks.
func TestFlawsAreFound(t *testing.T) {
	for _, test := range []struct {
		flaw    Flaw
		mode    Mode
		adjust  func(*Config)
		promise string
	}{
		{FlawAnswersEarly, Fast, func(c *Config) { c.Nodes = 3 }, "S1"},
		{FlawVotesUnprepared, Explicit, nil, "S3"},
		{FlawLocalTimeout, Explicit, nil, "S"},
		{FlawPresumesUnseen, Fast, nil, "S"},
		{FlawEndsEarly, Fast, nil, "S4"},
		{FlawRecoveryRollsBack, Explicit, nil, "S"},
	} {
		t.Run(string(test.flaw), func(t *testing.T) {
			c := smallest(test.mode)
			c.Flaw = test.flaw
			if test.adjust != nil {
				test.adjust(&c)
			}
			r := run(t, c, Budget{States: 3_000_000})
			if r.Violations == 0 || !strings.HasPrefix(r.Breach, test.promise) || len(r.Story) < 3 {
				t.Errorf("found %q, want a breach of %s with its story", r.Breach, test.promise)
			}
		})
	}
}
