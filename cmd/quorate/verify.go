package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/linearizability"
)

// newVerifyCommand is `quorate verify`.
func newVerifyCommand() *cobra.Command {
	var output, html string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "verify HISTORY...",
		Short: "Judge recorded histories: could a coordinator that keeps its promises have answered so?",
		Long: `verify reads histories (what clients asked and heard, what participants, databases and logs showed) and checks every
promise that they bear on: linearizability of each transaction and each key, agreement, durability, delivery, atomic
effects and the others of docs/guarantees.md. quorate chaos writes such histories; docs/verify.md says how to write your own.

Exit codes: 0 every promise kept · 1 a history cannot be read, or proves nothing · 3 no such file · 4 a check ran out of
time · 5 a promise was broken`,
		Example: `  quorate verify history.jsonl
  quorate verify --html /tmp/drawings run-*/history.jsonl -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, "HISTORY is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, "-o %s: verify prints table or json", output)
			}
			if timeout <= 0 {
				return usageError(cmd, "--timeout must be greater than zero")
			}
			v := verification{options: linearizability.Options{Timeout: timeout}, html: html, many: len(args) > 1, OK: true, Histories: []verified{}}
			for _, file := range args {
				if err := v.verify(cmd, file); err != nil {
					return err
				}
				if output == "table" {
					if err := v.last().write(cmd.OutOrStdout()); err != nil {
						return err
					}
				}
			}
			if output == "json" {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(v); err != nil {
					return err
				}
			}
			return v.err()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "what is printed: table or json")
	cmd.Flags().StringVar(&html, "html", "", "draw what has no explanation into this directory, a page a transaction")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "bound of the search on one transaction; running out of it is a failure")
	return cmd
}

// verification is what a run of verify found.
type verification struct {
	options linearizability.Options
	html    string
	many    bool

	OK        bool       `json:"ok"`
	Histories []verified `json:"histories"`
}

// verified is the judgement of one history.
type verified struct {
	File string `json:"file"`
	OK   bool   `json:"ok"`
	Note string `json:"note,omitempty"`
	linearizability.Report
}

func (v *verification) last() *verified { return &v.Histories[len(v.Histories)-1] }

func (v *verification) verify(cmd *cobra.Command, file string) error {
	h, err := linearizability.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return withCode(exitNotFound, err)
	case err != nil:
		return err
	case len(h.Operations)+len(h.Observations) == 0:
		return fmt.Errorf("%s holds no operation and no observation, so it proves nothing: record one with quorate chaos, or as docs/verify.md says", file)
	}
	options := v.options
	options.HTML = v.html
	if v.html != "" && v.many {
		options.HTML = filepath.Join(v.html, strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	}
	report := linearizability.Check(cmd.Context(), h, options)
	if report.Violations == nil {
		report.Violations = []linearizability.Violation{}
	}
	v.Histories = append(v.Histories, verified{File: file, OK: report.OK(), Note: h.Header.Note, Report: report})
	v.OK = v.OK && report.OK()
	return nil
}

// err tells by its exit code what the worst history came to.
func (v *verification) err() error {
	broken, late := 0, 0
	for _, h := range v.Histories {
		for _, promise := range h.Broken() {
			if promise == "TIMEOUT" {
				late++
			} else {
				broken++
			}
		}
	}
	switch {
	case broken > 0:
		return withCode(exitUnhealthy, fmt.Errorf("%s broken: each is named above with the lines to look at", plural(broken, "promise", "promises")))
	case late > 0:
		return withCode(exitUnreachable, errors.New("a check ran out of time, and what is not checked is not kept: give --timeout more, or record fewer operations a transaction"))
	}
	return nil
}

// write prints one history's judgement for people.
func (h *verified) write(w io.Writer) error {
	s := h.Stats
	fmt.Fprintf(w, "%s\n", h.File)
	if h.Note != "" {
		fmt.Fprintf(w, "  %s\n", h.Note)
	}
	fmt.Fprintf(w, "  %s, %d unknown, %d failed, %d of the unknown are in no log · %s\n",
		plural(s.Operations, "operation", "operations"), s.Unknown, s.Failed, s.Removed, plural(s.Observations, "observation", "observations"))
	fmt.Fprintf(w, "  %s: %d committed, %d rolled back · %s · %s of any node\n\n",
		plural(s.GIDs, "transaction", "transactions"), s.Committed, s.RolledBack, plural(s.Keys, "key", "keys"), plural(s.Reads, "read", "reads"))
	found := map[string]int{}
	for _, violation := range h.Violations {
		found[violation.Promise]++
	}
	var t table
	t.row("", "PROMISE", "CHECKS", "BROKEN")
	var unchecked []string
	for _, p := range linearizability.Promises {
		checks, broken := s.Checked[p.ID], found[p.ID]
		switch {
		case broken > 0:
			t.row(p.ID, p.Words, fmt.Sprint(checks), fmt.Sprint(broken))
		case checks > 0:
			t.row(p.ID, p.Words, fmt.Sprint(checks), "-")
		case strings.HasPrefix(p.ID, "S"):
			unchecked = append(unchecked, p.ID)
		}
	}
	if err := t.write(w); err != nil {
		return err
	}
	if len(unchecked) > 0 {
		fmt.Fprintf(w, "the history says nothing about %s\n", strings.Join(unchecked, ", "))
	}
	for _, violation := range h.Violations {
		fmt.Fprintf(w, "\n%v\n", violation)
	}
	if h.Omitted > 0 {
		fmt.Fprintf(w, "\n... and %s more\n", plural(h.Omitted, "violation", "violations"))
	}
	word := "every promise kept"
	if !h.OK {
		word = "BROKEN: " + strings.Join(h.Broken(), ", ")
	}
	_, err := fmt.Fprintf(w, "\n%s (%v)\n\n", word, s.Duration.Round(time.Millisecond))
	return err
}
