// Command scale measures what does not show with few: a million live
// transactions, ten million finished ones, participants by the thousand, more
// nodes, a slow one, and a leader that finds all of it at its election.
//
//	go run ./internal/tools/scale                       # every part, some fifteen minutes
//	go run ./internal/tools/scale -parts finished -finished 10000000
//	go run ./internal/tools/scale -parts lead -live 1000000 -o json
//
// Each part prints its figures as it goes; -o json prints a list of
// {"part", "case", "figures"} at the end. Figures are for this machine and this
// run. The parts in one process ask for memory: 10,000,000 finished transactions
// and their snapshot's restore take about 12 GB, less with a smaller -finished.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	live         []int
	finished     int
	participants []int
	duration     time.Duration
	rounds       int
	callers      int
	logStore     string
	binary       string
	dir          string
}

// part is one measurement that may be run alone.
type part struct {
	name, doc string
	run       func(ctx context.Context, o *options, out *results) error
}

var parts = []part{
	{"apply", "cost of applying a transaction beside 1,000 to 1,000,000 live ones", measureApply},
	{"decide", "cost of deciding one through a node's disk and driver, beside as many", measureDecide},
	{"lead", "a leader that finds as many at its election: when it serves, when it delivers", measureLead},
	{"finished", "bytes of a finished transaction in retention; snapshot, restore, and Apply meanwhile", measureFinished},
	{"participants", "what attached participants cost a leader that has nothing to say to them", measureParticipants},
	{"nodes", "five nodes beside three", measureNodes},
	{"slow", "a follower whose fsync takes 500 ms longer", measureSlow},
}

func run() error {
	o := &options{}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	chosen := flag.String("parts", strings.Join(names, ","), "parts to measure")
	live := flag.String("live", "1000,10000,100000,1000000", "live transactions (apply, decide; lead: the last)")
	flag.IntVar(&o.finished, "finished", 10_000_000, "finished transactions in retention")
	participants := flag.String("participants", "2,1000,4000", "participants attached to one leader")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "of each measurement under load")
	flag.IntVar(&o.rounds, "rounds", 3, "turns that sides take")
	flag.IntVar(&o.callers, "callers", 64, "callers of a load")
	flag.StringVar(&o.logStore, "log-store", "wal", "log store of the nodes: boltdb or wal")
	flag.StringVar(&o.binary, "binary", "", "the quorate program; empty: build it where a part needs it")
	flag.StringVar(&o.dir, "dir", "", "directory for data and logs, which stays; empty: a temporary one")
	output := flag.String("o", "table", "table or json")
	flag.Parse()
	var err error
	if o.live, err = numbers(*live); err != nil {
		return err
	}
	if o.participants, err = numbers(*participants); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "quorate-scale-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	}
	out := &results{progress: os.Stderr}
	if *output == "table" {
		out.progress = os.Stdout
	}
	for _, name := range strings.Split(*chosen, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return fmt.Errorf("no part is named %q: there are %s", name, strings.Join(names, ", "))
		}
		begun := time.Now()
		fmt.Fprintf(out.progress, "# %s: %s\n", parts[i].name, parts[i].doc)
		if err := parts[i].run(ctx, o, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(out.progress, "  (%v)\n", time.Since(begun).Round(time.Second))
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	if *output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(out.rows)
	}
	return nil
}

// program is the quorate binary, built at its first use.
func (o *options) program(ctx context.Context) (string, error) {
	if o.binary != "" {
		return o.binary, nil
	}
	path := filepath.Join(o.dir, "quorate")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/quorate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build quorate: %w\n%s", err, text)
	}
	o.binary = path
	return path, nil
}

// scratch is a new directory for one measurement.
func (o *options) scratch() (string, error) { return os.MkdirTemp(o.dir, "") }

func numbers(text string) ([]int, error) {
	var list []int
	for _, field := range strings.Split(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no list of positive numbers", text)
		}
		list = append(list, n)
	}
	return list, nil
}

// results are what was measured, in order.
type results struct {
	rows     []row
	progress io.Writer
}

// row is one case of a part. The names of figures hold their units.
type row struct {
	Part    string             `json:"part"`
	Case    string             `json:"case"`
	Figures map[string]float64 `json:"figures"`
}

// figure is one value of a row, in the order in which it is printed.
type figure struct {
	name  string
	value float64
}

func (r *results) add(part, name string, figures ...figure) {
	one := row{Part: part, Case: name, Figures: map[string]float64{}}
	var text []string
	for _, f := range figures {
		one.Figures[f.name] = f.value
		text = append(text, f.name+"="+strconv.FormatFloat(f.value, 'f', decimals(f.value), 64))
	}
	r.rows = append(r.rows, one)
	fmt.Fprintf(r.progress, "%-13s %-24s %s\n", part, name, strings.Join(text, "  "))
}

func decimals(v float64) int {
	switch {
	case v == float64(int64(v)) || v >= 1000:
		return 0
	case v >= 10:
		return 1
	default:
		return 2
	}
}
