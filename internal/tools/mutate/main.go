// Mutate asks whether the tests would notice a bug: it plants one at a time, of
// the kinds that a reader of a change might pass over, and runs the tests
// against it: first those that come to the changed line, then the package's
// others, then other packages' suites. The source is never touched: `go test
// -overlay` reads the mutant from a temporary file. The same seed plants the
// same bugs.
//
//	go run ./internal/tools/mutate -pkg ./fsm -n 50 -seed 1 -min 45 -testflags -rapid.nofailfile
//	go run ./internal/tools/mutate -pkg ./coordinator -n 40 -results internal/tools/mutate/results \
//		-also './api; ./chaos/sim -test.run=TestSeeds$ -sim.seeds=400'
//
// Tests that keep what failed beside the source must be told not to, as above:
// one mutant's failure would be replayed against the next.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	pkg      string
	n        int
	seed     uint64
	min      int
	only     string
	kinds    string
	patience time.Duration
	quick    time.Duration
	also     []suite
	whole    bool
	measure  time.Duration
	again    bool
	holdFile string
	results  string
	list     bool
}

// none is a regular expression that fits nothing.
const none = `^$`

func main() {
	var c config
	var flags, skip, also string
	flag.StringVar(&c.pkg, "pkg", "./fsm", "directory of the package to mutate")
	flag.IntVar(&c.n, "n", 50, "mutants that build to try")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of the sample")
	flag.IntVar(&c.min, "min", 0, "mutants that must be killed")
	flag.StringVar(&c.only, "only", "", "only mutants whose name this regular expression fits")
	flag.StringVar(&c.kinds, "kinds", "", "only these kinds, separated by commas (all: "+strings.Join(kindNames(), ",")+")")
	flag.DurationVar(&c.patience, "patience", 30*time.Second, "beyond three times its usual time, after which a run of tests hangs")
	flag.DurationVar(&c.quick, "quick", 10*time.Second, "tests that reach the mutant run in two groups, the first of those that take so long in all")
	flag.StringVar(&flags, "testflags", "", "flags for the package's tests, separated by spaces")
	flag.StringVar(&skip, "skip", none, "tests of the package that do not count: a regular expression")
	flag.StringVar(&also, "also", "", "suites for what survives, separated by semicolons: a directory, then flags of its test binary")
	flag.BoolVar(&c.whole, "whole", true, "run the package's tests that do not come to the mutant's line too")
	flag.DurationVar(&c.measure, "measure", time.Hour, "time for finding out which tests reach which lines; it is kept, and gone on with by the next run")
	flag.BoolVar(&c.again, "again", false, "try again what is kept as a survivor, and nothing else; what was judged equivalent is not tried")
	flag.StringVar(&c.holdFile, "hold", "", "wait while this file exists: the machine is wanted for a measurement")
	flag.StringVar(&c.results, "results", "", "directory where results are kept; what is there is not tried again")
	flag.BoolVar(&c.list, "list", false, "list all mutants and stop")
	flag.Parse()
	c.also = parseSuites(also)
	skipped, err := regexp.Compile(skip)
	if err == nil {
		err = run(&bench{config: c, skip: skipped, flags: strings.Fields(flags), usual: make(map[string]time.Duration), clean: make(map[string]string)})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func kindNames() []string {
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func run(b *bench) (err error) {
	if b.source, err = load(b.pkg); err != nil {
		return err
	}
	standing := b.source.mutants()
	kept, err := resultsOf(b.results, filepath.ToSlash(b.source.dir))
	if err != nil {
		return err
	}
	kept.forget(standing)
	mutants, err := b.wanted(standing, kept)
	if err != nil {
		return err
	}
	if b.list {
		for _, m := range mutants {
			fmt.Printf("%d %s\n", m.line, m.name())
		}
		return nil
	}
	if len(mutants) == 0 {
		return fmt.Errorf("nothing to mutate in %s", b.pkg)
	}
	if b.tmp, err = os.MkdirTemp("", "mutate-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.tmp) }()
	b.interruptible()
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	b.cache = filepath.Join(cache, "quorate-mutate")
	if err := os.Chmod(b.tmp, 0o755); err != nil { // databases run as users of their own
		return err
	}
	killed, tried, err := b.try(mutants, kept)
	fmt.Printf("\n%d of %d mutants killed (seed %d, %d possible)\n", killed, tried, b.seed, len(mutants))
	if err == nil && killed < b.min {
		err = fmt.Errorf("%d mutants killed, at least %d must be", killed, b.min)
	}
	return err
}

// wanted are the mutants to try, in the sample's order.
func (b *bench) wanted(standing []mutant, kept *results) ([]mutant, error) {
	fits, err := regexp.Compile(b.only)
	if err != nil {
		return nil, err
	}
	of := strings.Split(b.kinds, ",")
	return slices.DeleteFunc(sample(standing, b.seed), func(m mutant) bool {
		if !fits.MatchString(m.name()) || b.kinds != "" && !slices.Contains(of, m.kind) {
			return true
		}
		before := kept.find(m.name())
		if b.again {
			return before == nil || before.Killer != "" || strings.HasPrefix(before.Judged, "equivalent")
		}
		return before != nil
	}), nil
}

// try plants mutants until n have built, and reports each.
func (b *bench) try(mutants []mutant, kept *results) (killed, tried int, err error) {
	all, err := b.reaches()
	if err != nil {
		return 0, 0, err
	}
	for _, m := range mutants {
		if tried == b.n {
			break
		}
		if !b.source.builds(m) {
			continue
		}
		r, err := b.judge(m, all)
		if unbuildable(err) {
			continue // vet for the tests, or a test file that needs what was left out
		}
		if err != nil {
			return killed, tried, err
		}
		tried++
		if r.Killer != "" {
			killed++
			fmt.Printf("killed    %s (line %d) by %s in %.1f s\n", m.name(), m.line, r.Killer, r.Seconds)
		} else {
			fmt.Printf("SURVIVED  %s (line %d): %s\n", m.name(), m.line, strings.Join(r.Tried, "; "))
		}
		if err := kept.put(r); err != nil {
			return killed, tried, err
		}
	}
	return killed, tried, nil
}
