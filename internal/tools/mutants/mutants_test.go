package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEveryBugFits: each planted bug applies to the sources as they stand, its
// text being there exactly once, and compiles.
func TestEveryBugFits(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := bugs()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCompiler(root)
	if err != nil {
		t.Fatal(err)
	}
	planted := 0
	for i := range all {
		if all[i].Pending != "" {
			continue
		}
		planted++
		if err := c.check(&all[i]); err != nil {
			t.Error(err)
		}
	}
	if planted == 0 {
		t.Error("no bug is planted at all")
	}
}

const example = `title: last writer wins
breaks: S1
tests: ./a
-- a/a.go
<<<<
one
====
two
>>>>
`

func TestABugAppliesExactlyOnce(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := parse("example", example)
	if err != nil {
		t.Fatal(err)
	}
	for source, fits := range map[string]bool{"nothing": false, "just one here": true, "one and one": false} {
		if err := os.WriteFile(filepath.Join(root, "a/a.go"), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		changed, err := b.apply(root)
		if (err == nil) != fits {
			t.Errorf("%q: %v", source, err)
		}
		if fits && string(changed["a/a.go"]) != "just two here" {
			t.Errorf("%q became %q", source, changed["a/a.go"])
		}
	}
}

func TestACheckFindsWhatDoesNotCompile(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example\n\ngo 1.26\n")
	write("a/a.go", "package a\n\nimport \"strings\"\n\nfunc F() string { return strings.ToLower(\"one\") }\n")
	c, err := newCompiler(root)
	if err != nil {
		t.Fatal(err)
	}
	for change, compiles := range map[string]bool{
		`strings.ToUpper("two")`: true,
		`"two"`:                  false, // the import is not used
		`strings.ToUpper(2)`:     false,
	} {
		b := bug{Name: "x", Edits: []edit{{File: "a/a.go", Old: `strings.ToLower("one")`, New: change}}}
		if err := c.check(&b); (err == nil) != compiles {
			t.Errorf("%s: %v", change, err)
		}
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"without a title":       strings.Replace(example, "title: last writer wins\n", "", 1),
		"without a promise":     strings.Replace(example, "breaks: S1\n", "", 1),
		"without an edit":       "title: a\nbreaks: S1\ntests: ./a\n",
		"edit without an end":   strings.Replace(example, ">>>>\n", "", 1),
		"edit without a file":   strings.Replace(example, "-- a/a.go\n", "", 1),
		"key that is none":      "colour: red\n" + example,
		"suite that is none":    "suites: hope\n" + example,
		"pending, and planted":  "pending: identity\n" + example,
		"without package tests": strings.Replace(example, "tests: ./a\n", "", 1),
	} {
		if _, err := parse("x", text); err == nil {
			t.Errorf("a bug %s was taken", name)
		}
	}
}

// TestExecuteTellsRedFromGreen: the runner must not take a hang, a crash or a
// red suite for a green one.
func TestExecuteTellsRedFromGreen(t *testing.T) {
	for script, want := range map[string]verdict{
		"exit 0":                                  {},
		"echo '--- FAIL: TestX (0.1s)'; exit 1":   {Red: true, Sign: "TestX"},
		"echo 'panic: no more'; exit 2":           {Red: true, Sign: "no more"},
		"sleep 30 & sleep 30":                     {Red: true, Sign: "hung"},
		"kill -9 $$":                              {Red: true},
		"echo red: money appears; exit 1; exit 0": {Red: true, Sign: "money appears"},
	} {
		v, err := execute("/bin/sh", []string{"-c", script}, t.TempDir(), t.TempDir(), 2*time.Second)
		if err != nil || v.Red != want.Red || v.Sign != want.Sign {
			t.Errorf("%s: red %v, sign %q, %v; want %v, %q", script, v.Red, v.Sign, err, want.Red, want.Sign)
		}
		if v.Took > 20*time.Second {
			t.Errorf("%s: took %v", script, v.Took)
		}
	}
}

func TestResultsMerge(t *testing.T) {
	r := &results{}
	r.merge(result{Name: "a", Killers: []killer{{Suite: "fsm tests"}}, Survived: []string{"demo"}})
	r.merge(result{Name: "a", Killers: []killer{{Suite: "demo"}}})
	got, _ := r.find("a")
	if len(got.Killers) != 2 || len(got.Survived) != 0 || !r.killed("a") || r.killed("b") {
		t.Errorf("%+v", got)
	}
}

func TestAVacuousRunHasNoticedNothing(t *testing.T) {
	for out, want := range map[string]verdict{
		`{"seed":1,"anomalies":0,"lost":0,"linearizable":true,"vacuous":false}`:                                                       {Sign: "0 anomalies, 0 lost"},
		`{"seed":1,"anomalies":0,"lost":0,"linearizable":true,"vacuous":true}`:                                                        {Sign: "vacuous"},
		`{"seed":1,"anomalies":0,"lost":2,"linearizable":true,"vacuous":true}`:                                                        {Red: true, Sign: "0 anomalies, 2 lost"},
		`{"seed":1,"anomalies":1,"lost":0,"linearizable":false,"vacuous":false,"findings":[{"promise":"S1","text":"two decisions"}]}`: {Red: true, Sign: "S1: two decisions"},
		"panic: the program does not start":                                                                                           {Red: true, Sign: "no verdict: panic: the program does not start"},
	} {
		if red, sign := judgeChaos([]byte("a line before\n" + out + "\n")); red != want.Red || sign != want.Sign {
			t.Errorf("%s: red %v, %q", out, red, sign)
		}
	}
}
