// Command perfpage measures, and writes the figures of docs/performance.md.
//
//	make bench                        everything: two hours
//	make bench ONLY=decide,saga/wal   these parts alone; the others' figures stay
//	go run ./internal/tools/perfpage -render   the page again, from what was measured
//
// What was measured is kept in docs/performance.json, a part at a time, each with its
// date, commit, machine and command; the page is computed from it, between its markers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	var s settings
	var only string
	render := flag.Bool("render", false, "measure nothing, write the page from the results")
	flag.StringVar(&only, "only", "", "parts to measure, with commas: decide, decide/wal, go, profile, scale/apply, failover, ... (default: all)")
	flag.StringVar(&s.results, "results", "docs/performance.json", "what was measured")
	flag.StringVar(&s.page, "page", "docs/performance.md", "the page")
	flag.StringVar(&s.binary, "binary", "bin/quorate", "the program")
	flag.DurationVar(&s.duration, "duration", 3*time.Second, "length of one slice")
	flag.IntVar(&s.runs, "runs", 5, "slices of each side")
	flag.Parse()
	if only != "" {
		s.only = strings.Split(only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, *render); err != nil {
		fmt.Fprintln(os.Stderr, "perfpage:", err)
		os.Exit(1)
	}
}

// settings are the command line's.
type settings struct {
	only                  []string
	results, page, binary string
	duration              time.Duration
	runs                  int
}

// run measures the parts that are wanted. Each is kept as soon as it is there; one that
// fails does not keep the others from being measured.
func run(ctx context.Context, s settings, render bool) error {
	kept, err := readResults(s.results)
	if err != nil {
		return err
	}
	if render {
		return writePage(s.page, kept)
	}
	wanted, err := choose(s.only)
	if err != nil {
		return err
	}
	here, err := whereAndWhen()
	if err != nil {
		return err
	}
	var failed []error
	for i, p := range wanted {
		fmt.Fprintf(os.Stderr, "\n=== %s (%d of %d), %s\n", p.name, i+1, len(wanted), time.Now().Format(time.TimeOnly))
		load := loadAverage()
		got, err := p.measure(ctx, s, p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
			continue
		}
		got.Name, got.Stamp = p.name, here.now(load)
		kept.put(got)
		if err := errors.Join(kept.write(s.results), writePage(s.page, kept)); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}
