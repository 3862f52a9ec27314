package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// result is what the tests said of one mutant.
type result struct {
	Name     string   `json:"name"`
	Line     int      `json:"line"`
	Source   string   `json:"source"`   // that line
	Reaching int      `json:"reaching"` // tests that come to its line
	Killer   string   `json:"killer,omitempty"`
	Seconds  float64  `json:"seconds,omitempty"` // until it was red
	Tried    []string `json:"tried,omitempty"`   // what did not notice
	// Judged is a person's word on a survivor: "equivalent: why", or what became of
	// it. It is written into the file by hand and kept.
	Judged string `json:"judged,omitempty"`
}

// results are those of one package, by the names of its mutants.
type results struct {
	path string
	all  []result
}

// resultsOf reads what is kept of a package. Without a directory nothing is.
func resultsOf(dir, pkg string) (*results, error) {
	r := &results{}
	if dir == "" {
		return r, nil
	}
	r.path = filepath.Join(dir, strings.ReplaceAll(pkg, "/", "_")+".json")
	content, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal(content, &r.all)
}

func (r *results) find(name string) *result {
	for i := range r.all {
		if r.all[i].Name == name {
			return &r.all[i]
		}
	}
	return nil
}

// put keeps a result in the place of an earlier one, with what was judged of it
// while it survives.
func (r *results) put(next result) error {
	if before := r.find(next.Name); before != nil {
		if next.Killer == "" || before.Judged != "" && !strings.HasPrefix(before.Judged, "equivalent") {
			next.Judged = before.Judged
		}
		*before = next
	} else {
		r.all = append(r.all, next)
	}
	return r.write()
}

func (r *results) write() error {
	if r.path == "" {
		return nil
	}
	slices.SortStableFunc(r.all, func(a, b result) int { return strings.Compare(a.Name, b.Name) })
	var content bytes.Buffer
	e := json.NewEncoder(&content)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(r.all); err != nil {
		return err
	}
	if err := os.WriteFile(r.path, content.Bytes(), 0o644); err != nil {
		return err
	}
	return page(filepath.Dir(r.path))
}

// forget drops what was said of mutants that the sources no longer hold.
func (r *results) forget(standing []mutant) {
	names := make(map[string]bool, len(standing))
	for _, m := range standing {
		names[m.name()] = true
	}
	r.all = slices.DeleteFunc(r.all, func(one result) bool { return !names[one.Name] })
}

// page writes README.md beside the results: all packages' tables.
func page(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	var p, tables strings.Builder
	p.WriteString(`# Bugs planted by machine

` + "`go run ./internal/tools/mutate -pkg DIR -n N -seed S -results internal/tools/mutate/results`" + ` changes one place of a package at a
time, as a slip would, and runs the tests against it, those first that come to the changed line. A mutant that does not
compile does not count. Killed is what is red twice, and green without the mutant. Seconds are of the run of tests that was red, some on a machine with
ten times as much to do as it has processors. What is said of survivors is said by a reader. This page is written by the tool.

| package | tried | killed | equivalent | found by a test written since | other survivors |
|---|---|---|---|---|---|
`)
	for _, path := range paths {
		pkg := strings.TrimSuffix(filepath.Base(path), ".json")
		r, err := resultsOf(dir, pkg)
		if err != nil {
			return err
		}
		var killed, equivalent, since, left int
		var survivors, dead strings.Builder
		for _, m := range r.all {
			switch {
			case m.Killer != "" && m.Judged != "":
				since++
			case m.Killer != "":
				killed++
			case strings.HasPrefix(m.Judged, "equivalent"):
				equivalent++
			default:
				left++
			}
			where, what, _ := strings.Cut(m.Name, ": ")
			if len(what) < len(m.Source)/2 {
				what += " in " + m.Source
			}
			row := fmt.Sprintf("| %s | %s | ", where, code(what))
			if m.Killer == "" || m.Judged != "" {
				judged := m.Judged
				if m.Killer != "" {
					judged += "; " + m.Killer
				} else if judged == "" {
					judged = "**not judged yet**"
				}
				fmt.Fprintf(&survivors, "%s%d | %s |\n", row, m.Reaching, strings.ReplaceAll(judged, "|", "\\|"))
				continue
			}
			fmt.Fprintf(&dead, "%s%s | %.1f |\n", row, strings.ReplaceAll(m.Killer, "|", "\\|"), m.Seconds)
		}
		fmt.Fprintf(&p, "| %s | %d | %d | %d | %d | %d |\n", pkg, len(r.all), killed, equivalent, since, left)
		fmt.Fprintf(&tables, "\n## %s\n", pkg)
		if survivors.Len() > 0 {
			fmt.Fprintf(&tables, "\nNot noticed at first:\n\n| where | what | tests that reach it | judged |\n|---|---|---|---|\n%s", &survivors)
		}
		if dead.Len() > 0 {
			fmt.Fprintf(&tables, "\nNoticed:\n\n| where | what | by | seconds |\n|---|---|---|---|\n%s", &dead)
		}
	}
	return os.WriteFile(filepath.Join(dir, "README.md"), []byte(p.String()+tables.String()), 0o644)
}

// code is a text as code in a table.
func code(text string) string { return "`` " + strings.ReplaceAll(text, "|", "\\|") + " ``" }
