package chaos

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/chaos/bank"
)

// Options say what a run does.
type Options struct {
	// Binary is the quorate program under test; empty: the running one.
	Binary string
	// Duration is how long workloads run and faults are made; healing, settling
	// and checking come on top.
	Duration time.Duration
	// Seed of every random choice. The processes' timing is their own, so a seed
	// repeats the schedule, not each step of the run.
	Seed uint64
	// Nodes of the cluster: 3 or 5.
	Nodes int
	// Faults are families or names of the table; empty: all that are possible
	// here; `none`: none.
	Faults []string
	// Workloads by name.
	Workloads []string
	// Clients of each workload.
	Clients int
	// Rate is how many transactions a second the clients begin in all, at most; 0:
	// as many as they can.
	Rate float64
	// Databases that the workload bank keeps money in, besides embedded stores:
	// sqlite, postgres, mariadb (private servers), installed (what there is), none,
	// postgres=DSN, mysql=DSN.
	Databases []string
	// BankRate is how many transactions a second the workload bank begins, at most.
	BankRate float64
	// Modes of the workload modes, and ModesRate is how many transactions a second it
	// begins, at most.
	Modes     []string
	ModesRate float64
	// unfenced leaves the banks' fence out: a test of what it is for.
	unfenced bool
	// Profile of the nodes, `fast` or `default`.
	Profile string
	// Dir keeps everything; empty: a temporary directory, removed after a green run.
	Dir string
	// Keep keeps the directory of a green run, too.
	Keep bool
	// NodeArgs are more flags for every node.
	NodeArgs []string
	// Progress receives one line a fault; nil: nothing is said.
	Progress io.Writer
	// Log receives what faults and workloads do; nil: the run's directory.
	Log *slog.Logger
}

// NewOptions returns the defaults.
func NewOptions() Options {
	return Options{Duration: time.Minute, Nodes: 3, Clients: 12, Rate: 60, Profile: "fast", Databases: []string{"sqlite"}, BankRate: 30, Modes: slices.Clone(ModesAll), ModesRate: 30, Workloads: []string{"registers", "bank"}}
}

// Validate says what is wrong with options.
func (o Options) Validate() error {
	if o.Nodes != 3 && o.Nodes != 5 {
		return fmt.Errorf("--nodes %d: a run wants 3 or 5", o.Nodes)
	}
	if o.Duration < time.Second {
		return fmt.Errorf("--duration %v: at least 1s", o.Duration)
	}
	if o.Clients < 4 {
		return fmt.Errorf("--clients %d: at least 4, so that some want opposite decisions", o.Clients)
	}
	if o.Rate < 0 {
		return fmt.Errorf("--rate %g: not negative", o.Rate)
	}
	if o.Profile != "fast" && o.Profile != "default" {
		return fmt.Errorf("--profile %s: fast or default", o.Profile)
	}
	if err := bank.CheckDatabases(o.Databases); err != nil {
		return fmt.Errorf("--databases: %w", err)
	}
	if o.BankRate <= 0 {
		return fmt.Errorf("--bank-rate %g: more than 0", o.BankRate)
	}
	for _, m := range o.Modes {
		if !slices.Contains(ModesAll, m) {
			return fmt.Errorf("--modes %s: no such mode; there are: all, %s", m, strings.Join(ModesAll, ", "))
		}
	}
	if o.ModesRate <= 0 {
		return fmt.Errorf("--modes-rate %g: more than 0", o.ModesRate)
	}
	if _, err := Select(o.Faults); err != nil {
		return fmt.Errorf("--faults %s: %w", strings.Join(o.Faults, ","), err)
	}
	if _, err := selectWorkloads(o); err != nil {
		return fmt.Errorf("--workloads %s: %w", strings.Join(o.Workloads, ","), err)
	}
	return nil
}

// Command is the command line that repeats the run.
func (o Options) Command() string {
	words := []string{"quorate", "chaos", "--duration", o.Duration.String(), "--seed", fmt.Sprint(o.Seed), "--nodes", fmt.Sprint(o.Nodes),
		"--clients", fmt.Sprint(o.Clients), "--rate", fmt.Sprint(o.Rate), "--profile", o.Profile}
	if len(o.Faults) > 0 {
		words = append(words, "--faults", strings.Join(o.Faults, ","))
	}
	if len(o.Workloads) > 0 {
		words = append(words, "--workloads", strings.Join(o.Workloads, ","))
	}
	if slices.Contains(o.Workloads, workloadModes) {
		words = append(words, "--modes", strings.Join(o.Modes, ","), "--modes-rate", fmt.Sprint(o.ModesRate))
	}
	if slices.Contains(o.Workloads, workloadBank) || slices.Contains(o.Workloads, workloadModes) {
		words = append(words, "--bank-rate", fmt.Sprint(o.BankRate))
		for _, d := range o.Databases { // a DSN may hold a password
			if kind, _, given := strings.Cut(d, "="); given {
				d = kind + "=DSN"
			}
			words = append(words, "--databases", d)
		}
	}
	return strings.Join(words, " ")
}

// UseModes adds the workload of modes, of the named ones; `all` are all.
func (o *Options) UseModes(modes []string) {
	if slices.Contains(modes, "all") {
		modes = slices.Clone(ModesAll)
	}
	o.Modes = modes
	if !slices.Contains(o.Workloads, workloadModes) {
		o.Workloads = append(slices.Clone(o.Workloads), workloadModes)
	}
}
