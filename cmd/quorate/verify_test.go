package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

const histories = "../../linearizability/testdata"

func TestVerify(t *testing.T) {
	good, bad := filepath.Join(histories, "good", "commit.jsonl"), filepath.Join(histories, "bad", "S7-stale-read.jsonl")
	quorate(t, "verify", good).want(t, exitOK, "every promise kept", "1 committed", "S7", "the history says nothing about")
	dir := t.TempDir()
	quorate(t, "verify", good, bad, "--html", dir).want(t, exitUnhealthy, "BROKEN: S7", "line 5", "1 promise broken", "drawing: ")
	if _, err := os.Stat(filepath.Join(dir, "S7-stale-read", "T1.html")); err != nil {
		t.Error(err)
	}
	var answer struct {
		OK        bool
		Histories []struct {
			OK         bool
			Violations []struct {
				Promise string
				Lines   []int
			}
		}
	}
	out := quorate(t, "verify", good, bad, "-o", "json").want(t, exitUnhealthy)
	if err := json.Unmarshal([]byte(out.stdout), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.OK || !answer.Histories[0].OK || answer.Histories[1].OK || answer.Histories[1].Violations[0].Promise != "S7" {
		t.Fatalf("answered %s", out.stdout)
	}
	if answer.Histories[0].Violations == nil {
		t.Fatal("a script finds null where it expects a list")
	}
}

func TestVerifyRefuses(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "history.jsonl")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const head = `{"line":"header","format":1}` + "\n"
	quorate(t, "verify").want(t, exitUsage, "HISTORY is missing")
	quorate(t, "verify", "x", "-o", "xml").want(t, exitUsage, "verify prints table or json")
	quorate(t, "verify", "x", "--timeout", "0s").want(t, exitUsage, "--timeout must be greater than zero")
	quorate(t, "verify", "/none").want(t, exitNotFound, "/none")
	quorate(t, "verify", write(head)).want(t, exitError, "it proves nothing")
	quorate(t, "verify", write("hello\n")).want(t, exitError, "history.jsonl:1: no JSON object", "each line is one JSON object")
	quorate(t, "verify", write(head+`{"line":"call","id":1,"client":1,"at":5,"kind":"beginn","gid":"g"}`+"\n")).
		want(t, exitError, "history.jsonl:2", `kind is "beginn"`, "known are begin")
}
