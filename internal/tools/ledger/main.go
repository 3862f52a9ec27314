// Command ledger keeps docs/chaos-ledger.md: what the suites have done, over all
// commits, a row a run, and totals computed from the rows.
//
//	quorate chaos --duration 10m -o json | go run ./internal/tools/ledger
//	go test ./chaos/search -v -run Campaign | go run ./internal/tools/ledger
//	go run ./internal/tools/ledger summary1.json summary2.json
//
// It looks for JSON objects that name their suite, `{"suite": ...}`, in what it
// reads, whatever stands around them on their line, and adds a row for each. A
// file that is given and holds none is an error: nothing was counted. Without
// anything to read (`-totals`), only the totals are computed anew.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	path := flag.String("o", "docs/chaos-ledger.md", "the ledger")
	only := flag.Bool("totals", false, "add nothing, compute the totals anew")
	flag.Parse()
	if err := run(*path, *only, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(path string, only bool, files []string) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	rows := parseRows(string(text))
	if !only {
		added, err := readAll(files)
		if err != nil {
			return err
		}
		rows = append(rows, added...)
		fmt.Fprintf(os.Stderr, "%s: %d rows added\n", path, len(added))
	}
	return os.WriteFile(path, []byte(page(rows)), 0o644)
}

// readAll reads the summaries of the files, or of standard input.
func readAll(files []string) ([]row, error) {
	stamp, err := now()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return readRows("standard input", os.Stdin, stamp)
	}
	var all []row
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		rows, err := readRows(name, f, stamp)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// stamp is what a row gets that its summary does not tell.
type stamp struct{ date, commit string }

// now asks git for the commit; changes that are in no commit are told by a plus.
func now() (stamp, error) {
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return stamp{}, fmt.Errorf("ask git for the commit: %w", err)
	}
	s := stamp{time.Now().UTC().Format("2006-01-02 15:04"), strings.TrimSpace(string(commit))}
	changed, err := exec.Command("git", "status", "--porcelain", "-uno", "--", "*.go").Output()
	if err != nil {
		return stamp{}, fmt.Errorf("ask git for changes: %w", err)
	}
	if len(bytes.TrimSpace(changed)) > 0 {
		s.commit += "+"
	}
	return s, nil
}

// readRows finds the summaries in a text.
func readRows(name string, r io.Reader, s stamp) ([]row, error) {
	var rows []row
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		for at := strings.IndexByte(line, '{'); at >= 0; {
			var summary map[string]any
			decoder := json.NewDecoder(strings.NewReader(line[at:]))
			decoder.UseNumber()
			if decoder.Decode(&summary) == nil && summary["suite"] != nil {
				rows = append(rows, rowOf(summary, s))
				break
			}
			next := strings.IndexByte(line[at+1:], '{')
			if next < 0 {
				break
			}
			at += 1 + next
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s holds no summary of a suite", name)
	}
	return rows, nil
}
