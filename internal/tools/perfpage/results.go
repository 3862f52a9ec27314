package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/quorate/quorate/internal/bench"
)

// results are what was measured so far, a part each.
type results struct {
	Parts []result `json:"parts"`
}

// result is one part: one of the last four fields is set.
type result struct {
	Name    string `json:"name"`
	Command string `json:"command"`
	Stamp   stamp  `json:"stamp"`

	Bench    *bench.FullReport `json:"bench,omitempty"`
	Go       []goBenchmark     `json:"go,omitempty"`
	Profiles []profileTop      `json:"profiles,omitempty"`
	Cases    []toolCase        `json:"cases,omitempty"`
}

func readResults(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &results{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := new(results)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// put takes the place of an earlier result; the page's order is kept.
func (r *results) put(next result) {
	r.Parts = slices.DeleteFunc(r.Parts, func(p result) bool { return p.Name == next.Name })
	r.Parts = append(r.Parts, next)
	var order []string
	for _, p := range parts() {
		order = append(order, p.name)
	}
	slices.SortStableFunc(r.Parts, func(a, b result) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
}

// find returns a part by its name, nil when it was not measured.
func (r *results) find(name string) *result {
	for i := range r.Parts {
		if r.Parts[i].Name == name {
			return &r.Parts[i]
		}
	}
	return nil
}

// write keeps a row of a part to a line: a diff shows which were renewed.
func (r *results) write(path string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for _, at := range []string{`{"name":`, `{"scenario":`, `{"package":`, `{"side":`, `{"case":`} {
		text = bytes.ReplaceAll(text, []byte(at), []byte("\n"+at))
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
