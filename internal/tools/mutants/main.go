// Mutants asks whether the suites would catch us lying: it plants one known bug
// at a time and runs the suites against it, until two of them are red. A bug
// that none finds is an error of the suites, and ends the run in red; so does
// a suite that is red without a bug.
//
//	go run ./internal/tools/mutants                    # all, minutes each
//	go run ./internal/tools/mutants -only NAME         # one
//	go run ./internal/tools/mutants -check             # do all still fit, and compile?
//
// What was found is written to docs/mutants.md and, for programs, to
// internal/tools/mutants/results.json, from which a part of the bugs may be
// run again without losing the rest.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// config is what the flags say.
type config struct {
	only    string
	seed    uint64
	jobs    int
	kills   int
	check   bool
	render  bool
	verbose bool
	suites  string
	missing bool
	quick   bool

	smokeOnly bool
}

func main() {
	var c config
	flag.StringVar(&c.only, "only", "", "bugs to plant: a name, several with commas, or a regular expression")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of the suites that take one")
	flag.IntVar(&c.jobs, "jobs", 1, "bugs tried at a time")
	flag.IntVar(&c.kills, "kills", 2, "suites that must be red before the next bug is tried")
	flag.BoolVar(&c.check, "check", false, "only check that each bug fits the sources and compiles")
	flag.BoolVar(&c.render, "render", false, "only write the page anew from the results")
	flag.BoolVar(&c.verbose, "v", false, "print what a red suite said")
	flag.StringVar(&c.suites, "suites", "", "try these suites alone, with commas between them; tests: the packages' own")
	flag.BoolVar(&c.quick, "quick", false, "skip the run without faults: for a first look, not for the page")
	flag.BoolVar(&c.missing, "missing", false, "only bugs without a result, or that survived")
	flag.BoolVar(&c.smokeOnly, "smoke", false, "run the bugs without faults, and nothing else")
	flag.Parse()
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	all, err := bugs()
	if err != nil {
		return err
	}
	known, err := readResults(root)
	if err != nil {
		return err
	}
	if c.render {
		return known.write(root, all)
	}
	chosen, err := choose(c, all, known)
	if err != nil {
		return err
	}
	if err := checkAll(root, chosen); err != nil || c.check {
		return err
	}
	h := &hunt{config: c, root: root, all: all, known: known, controls: make(map[string]*control)}
	return h.run(chosen)
}

// choose returns the bugs that the flags ask for and that can be planted.
func choose(c config, all []bug, known *results) ([]bug, error) {
	re, err := regexp.Compile("^(" + strings.ReplaceAll(c.only, ",", "|") + ")$")
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	var chosen []bug
	for _, b := range all {
		if b.Pending != "" || c.only != "" && !re.MatchString(b.Name) {
			continue
		}
		if c.missing && known.killed(b.Name) {
			continue
		}
		chosen = append(chosen, b)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no bug to plant is named so")
	}
	return chosen, nil
}

// checkAll says which bugs fit no more.
func checkAll(root string, chosen []bug) error {
	c, err := newCompiler(root)
	if err != nil {
		return err
	}
	var failed error
	for i := range chosen {
		failed = errors.Join(failed, c.check(&chosen[i]))
	}
	return failed
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// hunt runs the suites against the chosen bugs.
type hunt struct {
	config
	root  string
	all   []bug
	known *results

	mu       sync.Mutex // held while known, controls or the page change
	controls map[string]*control
}

// control is a suite's run without a bug.
type control struct {
	once sync.Once
	v    verdict
	err  error
}

func (h *hunt) run(chosen []bug) error {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed error
		next   int
	)
	for range h.jobs {
		group.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(chosen) {
					return
				}
				if err := h.plant(&chosen[i]); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return failed
}

// plant tries the suites on one bug and keeps what they said.
func (h *hunt) plant(b *bug) error {
	dir, err := temporary("", "mutant-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := b.overlay(h.root, dir)
	if err != nil {
		return err
	}
	planted := &bench{root: h.root, dir: dir, overlay: overlay, seed: h.seed, built: make(map[string]string)}
	r := result{Name: b.Name, Commit: commit(h.root), Date: time.Now().UTC().Format(time.DateOnly)}
	for _, s := range suitesOf(b) {
		if len(r.Killers) >= h.kills {
			break
		}
		if !s.built(h.root) || !h.wants(s) {
			continue
		}
		if err := h.smoke(planted, b, s, &r); err != nil {
			return err
		}
		if h.smokeOnly {
			continue
		}
		v, err := h.try(planted, s, b.First)
		if err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
		if v.Red {
			r.Killers = append(r.Killers, killer{Suite: s.name, Sign: v.Sign, Seconds: v.Took.Seconds()})
		} else {
			r.Survived = append(r.Survived, s.name)
		}
		fmt.Printf("%-34s %-28s %-8s %6.1fs  %s\n", b.Name, s.name, word(v.Red), v.Took.Seconds(), v.Sign)
		if h.verbose && v.Red {
			fmt.Printf("%s\n", tail(v.out))
		}
	}
	if err := h.keep(r); err != nil {
		return err
	}
	if len(r.Killers) == 0 && !h.smokeOnly {
		return fmt.Errorf("%s SURVIVED %s", b.Name, strings.Join(r.Survived, ", "))
	}
	return nil
}

// smoke runs what works without faults, with the bug, once for each program. A
// bug that fails there does not work at all: a suite that is red proves nothing.
func (h *hunt) smoke(planted *bench, b *bug, s suite, r *result) error {
	smoke, ok := smokeOf(s)
	if !ok || !b.Smoke || h.quick || slices.Contains(r.Smoke, smoke.name) {
		return nil
	}
	v, err := h.judge(planted, smoke)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	if v.Red {
		return fmt.Errorf("%s: it does not work even without a fault (%s: %s), so no suite proves anything by being red\n%s", b.Name, smoke.name, v.Sign, tail(v.out))
	}
	r.Smoke = append(r.Smoke, smoke.name)
	return nil
}

// try runs a suite: of a package's tests those that are named first, and all of
// them where these stay green. What is run is run without the bug, too.
func (h *hunt) try(planted *bench, s suite, first string) (verdict, error) {
	if first != "" && s.tests() {
		if v, err := h.judge(planted, s.only(first)); err != nil || v.Red {
			return v, err
		}
	}
	return h.judge(planted, s)
}

// judge runs a suite with the bug, and without it the first time.
func (h *hunt) judge(planted *bench, s suite) (verdict, error) {
	if err := h.control(s); err != nil {
		return verdict{}, err
	}
	return planted.run(s)
}

// wants says that the flags ask for the suite.
func (h *hunt) wants(s suite) bool {
	if h.suites == "" {
		return true
	}
	names := strings.Split(h.suites, ",")
	return slices.Contains(names, s.name) || s.tests() && slices.Contains(names, "tests")
}

func word(red bool) string {
	if red {
		return "KILLED"
	}
	return "survived"
}

// control runs a suite without a bug, once: what is red then proves nothing.
func (h *hunt) control(s suite) error {
	h.mu.Lock()
	what := s.name + " " + strings.Join(s.args, " ")
	c, ok := h.controls[what]
	if !ok {
		c = new(control)
		h.controls[what] = c
	}
	h.mu.Unlock()
	c.once.Do(func() {
		dir, err := temporary("", "control-")
		if err != nil {
			c.err = err
			return
		}
		defer os.RemoveAll(dir)
		plain := &bench{root: h.root, dir: dir, seed: h.seed, built: make(map[string]string)}
		if c.v, c.err = plain.run(s); c.err != nil {
			return
		}
		fmt.Printf("%-34s %-28s %-8s %6.1fs  %s\n", "(no bug: the control)", strings.TrimSpace(what), map[bool]string{true: "RED", false: "green"}[c.v.Red], c.v.Took.Seconds(), c.v.Sign)
		if c.v.Red {
			c.err = fmt.Errorf("%s is red without a bug (%s), so it proves nothing\n%s", s.name, c.v.Sign, tail(c.v.out))
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.known.Controls[strings.TrimSpace(what)] = c.v.Took.Seconds()
	})
	return c.err
}

func (h *hunt) keep(r result) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known.merge(r)
	return h.known.write(h.root, h.all)
}

// tail is the end of a suite's output, enough to see what it says.
func tail(out []byte) []byte { return out[max(0, len(out)-4000):] }

func commit(root string) string {
	cmd := exec.Command("git", "rev-parse", "--short", "HEAD")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func resultsPath(root string) string {
	return filepath.Join(root, "internal/tools/mutants/results.json")
}
