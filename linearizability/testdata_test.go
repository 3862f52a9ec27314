package linearizability

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGood: known histories that keep every promise.
func TestGood(t *testing.T) {
	for name, h := range testdata(t, "good") {
		t.Run(name, func(t *testing.T) {
			for _, v := range Check(context.Background(), h, Options{}).Violations {
				t.Error(v)
			}
		})
	}
}

// TestBad: known histories, each of which breaks one promise. Exactly that one is
// reported, with the lines to look at.
func TestBad(t *testing.T) {
	breaks := map[string]int{}
	for name, h := range testdata(t, "bad") {
		t.Run(name, func(t *testing.T) {
			want := h.Header.Breaks
			breaks[want]++
			report := Check(context.Background(), h, Options{})
			if got := report.Broken(); !slices.Equal(got, []string{want}) {
				t.Errorf("it breaks %s (%s); reported are %v", want, h.Header.Note, report.Violations)
			}
			for _, v := range report.Violations {
				if len(v.Lines) == 0 && want != promiseNonTrivial {
					t.Errorf("no line is named: %v", v)
				}
			}
			if !strings.HasPrefix(name, want+"-") {
				t.Errorf("the file breaks %s and is called %s", want, name)
			}
		})
	}
	for _, p := range Promises {
		if p.ID != promiseTimeout && breaks[p.ID] == 0 {
			t.Errorf("no bad history breaks %s, %s", p.ID, p.Words)
		}
	}
}

// testdata reads a directory's histories.
func testdata(t *testing.T, dir string) map[string]*History {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories in testdata/%s: %v", dir, err)
	}
	all := map[string]*History{}
	for _, file := range files {
		h, err := ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".jsonl")] = h
	}
	return all
}
