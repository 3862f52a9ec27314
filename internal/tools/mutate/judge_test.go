package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// judgedSource has a mutant of each fate.
const judgedSource = `package sample

func Kept(a, b int) bool { return a < b }

func Free(a, b int) bool { return a < b }

func Until(n int) (times int) {
	for i := 0; i != n; {
		i++
		times++
	}
	return times
}
`

const judgedTests = `package sample

import "testing"

func TestKept(t *testing.T) {
	if Kept(1, 1) {
		t.Error("one is not less than one")
	}
}

func TestFree(t *testing.T) { Free(1, 2) }

func TestUntil(t *testing.T) {
	if Until(2) != 2 {
		t.Error("not twice")
	}
}
`

// TestFateOfAMutant: one that a test checks is killed by it, one that a test only
// comes to survives, and one that never ends hangs.
func TestFateOfAMutant(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module sample\n\ngo 1.25\n", "sample.go": judgedSource, "sample_test.go": judgedTests,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		config: config{patience: time.Second, quick: time.Second, whole: true, measure: time.Hour},
		source: s, tmp: t.TempDir(), cache: t.TempDir(), skip: regexp.MustCompile(none), usual: make(map[string]time.Duration), clean: make(map[string]string),
	}
	all, err := b.reaches()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("%d tests run alone, want 3", len(all))
	}
	if again, err := b.reaches(); err != nil || len(again) != 3 {
		t.Fatalf("what was kept: %v %v", again, err)
	}
	fates := map[string]string{
		"sample.go Kept bound: a < b -> a <= b": "TestKept",
		"sample.go Free bound: a < b -> a <= b": "",
		"sample.go Until dropped: i++":          hung + " in TestUntil",
	}
	for _, m := range s.mutants() {
		killer, ok := fates[m.name()]
		if !ok {
			continue
		}
		delete(fates, m.name())
		r, err := b.judge(m, all)
		if err != nil {
			t.Fatal(err)
		}
		if r.Killer != killer || r.Reaching != 1 {
			t.Errorf("%s: killed by %q, and %d come to it; want %q and 1", m.name(), r.Killer, r.Reaching, killer)
		}
	}
	if len(fates) > 0 {
		t.Errorf("not among the mutants: %v", fates)
	}
}
