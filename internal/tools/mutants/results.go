package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// results are what the suites said of all bugs so far.
type results struct {
	// Controls are the suites' times without a bug, in seconds.
	Controls map[string]float64 `json:"controls"`
	Bugs     []result           `json:"bugs"`
}

// result is what the suites said of one bug.
type result struct {
	Name     string   `json:"name"`
	Commit   string   `json:"commit"`
	Date     string   `json:"date"`
	Smoke    []string `json:"smoke"` // what works without faults, with the bug
	Killers  []killer `json:"killers"`
	Survived []string `json:"survived,omitempty"`
}

// killer is a suite that was red, and why.
type killer struct {
	Suite   string  `json:"suite"`
	Sign    string  `json:"sign"`
	Seconds float64 `json:"seconds"`
}

func readResults(root string) (*results, error) {
	r := &results{Controls: make(map[string]float64)}
	content, err := os.ReadFile(resultsPath(root))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("%s: %w", resultsPath(root), err)
	}
	return r, nil
}

// merge puts a result in the place of an earlier one. A suite that was not
// tried this time keeps what it said.
func (r *results) merge(next result) {
	i := slices.IndexFunc(r.Bugs, func(b result) bool { return b.Name == next.Name })
	if i < 0 {
		r.Bugs = append(r.Bugs, next)
		return
	}
	for _, s := range r.Bugs[i].Smoke {
		if !slices.Contains(next.Smoke, s) {
			next.Smoke = append(next.Smoke, s)
		}
	}
	tried := slices.Clone(next.Survived)
	for _, k := range next.Killers {
		tried = append(tried, k.Suite)
	}
	for _, k := range r.Bugs[i].Killers {
		if !slices.Contains(tried, k.Suite) {
			next.Killers = append(next.Killers, k)
		}
	}
	for _, s := range r.Bugs[i].Survived {
		if !slices.Contains(tried, s) {
			next.Survived = append(next.Survived, s)
		}
	}
	r.Bugs[i] = next
}

func (r *results) find(name string) (result, bool) {
	for _, b := range r.Bugs {
		if b.Name == name {
			return b, true
		}
	}
	return result{}, false
}

func (r *results) killed(name string) bool {
	b, _ := r.find(name)
	return len(b.Killers) > 0
}

// write writes the results, and the page made of them.
func (r *results) write(root string, all []bug) error {
	r.Bugs = slices.DeleteFunc(r.Bugs, func(b result) bool {
		return !slices.ContainsFunc(all, func(known bug) bool { return known.Name == b.Name && known.Pending == "" })
	})
	slices.SortFunc(r.Bugs, func(a, b result) int { return strings.Compare(a.Name, b.Name) })
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(resultsPath(root), append(content, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "docs/mutants.md"), []byte(r.page(all)), 0o644)
}

// page is docs/mutants.md.
func (r *results) page(all []bug) string {
	var p strings.Builder
	planted, killed, twice, quick, pending := r.count(all)
	smoked, needless := 0, 0
	for _, b := range all {
		found, _ := r.find(b.Name)
		switch {
		case len(found.Smoke) > 0:
			smoked++
		case !b.Smoke && b.Pending == "":
			needless++
		}
	}
	fmt.Fprintf(&p, `# Planted bugs, and who finds them

A suite counts only once it has been shown to find a bug. Each bug below is a change of a few lines, kept as text in
`+"`internal/tools/mutants/bugs`"+` and compiled in by `+"`-overlay`"+` for the time of a test: the sources hold no switch, so no
release can hold a bug. `+"`make mutants`"+` plants them one at a time (`+"`MUTANT=name`"+` one alone): a run without faults must
be green first, where the bug needs a fault to show, then the suites are tried in turn until two are red. A survivor is red, and so is a suite
that is red without a bug. `+"`make test`"+` checks that every bug still fits the sources and compiles. This page is written by the tool.

%d planted, %d killed, %d by two suites, %d in under a minute; %d wait for a feature. %d were seen to work without faults;
%d show themselves without one, so that nothing would be learned from that. Results are kept by bug, each of the commit that its bug was last tried at. Time: of the suite's run until it was red, in seconds, some on
a machine with twenty times as much to do as it has processors.

| bug | breaks | killed by | seconds |
|---|---|---|---|
`, planted, killed, twice, quick, pending, smoked, needless)
	for _, own := range []bool{false, true} {
		for _, b := range all {
			if b.Pending != "" || b.Listed == own {
				continue
			}
			found, _ := r.find(b.Name)
			var who, times []string
			for _, k := range found.Killers {
				who = append(who, k.Suite+": `"+strings.ReplaceAll(k.Sign, "|", "/")+"`")
				times = append(times, fmt.Sprintf("%.1f", k.Seconds))
			}
			if len(who) == 0 {
				who = []string{"**nobody yet**"}
			}
			fmt.Fprintf(&p, "| %s (`%s`) | %s | %s | %s |\n", b.Title, b.Name, b.Breaks, strings.Join(who, "<br>"), strings.Join(times, "<br>"))
		}
	}
	p.WriteString("\n## Waiting for a feature\n\n| bug | breaks | waits for |\n|---|---|---|\n")
	for _, b := range all {
		if b.Pending != "" {
			fmt.Fprintf(&p, "| %s (`%s`) | %s | %s |\n", b.Title, b.Name, b.Breaks, b.Pending)
		}
	}
	p.WriteString("\n## Suites that did not notice\n\nWhat was tried on a bug and stayed green, so that nobody believes more of a suite than it shows.\n\n| suite | bugs that it missed |\n|---|---|\n")
	missed := make(map[string][]string)
	for _, b := range r.Bugs {
		for _, s := range b.Survived {
			missed[s] = append(missed[s], "`"+b.Name+"`")
		}
	}
	var names []string
	for name := range missed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&p, "| %s | %s |\n", name, strings.Join(missed[name], ", "))
	}
	return p.String()
}

// count is the page's summary.
func (r *results) count(all []bug) (planted, killed, twice, quick, pending int) {
	for _, b := range all {
		if b.Pending != "" {
			pending++
			continue
		}
		planted++
		found, _ := r.find(b.Name)
		if len(found.Killers) > 0 {
			killed++
		}
		if len(found.Killers) > 1 {
			twice++
		}
		if slices.ContainsFunc(found.Killers, func(k killer) bool { return k.Seconds < 60 }) {
			quick++
		}
	}
	return planted, killed, twice, quick, pending
}
