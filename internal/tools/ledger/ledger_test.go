package main

import (
	"strings"
	"testing"
)

const summaries = `=== RUN   TestCampaign
    search_test.go:88: {"suite":"search","config":"3 nodes {x}","states":1234567,"depth":40,"exhausted":true,"seconds":12.5,"violations":0}
noise { not json } and {"other":1}
{"seed":18446744073709551615,"duration_s":61.2,"operations":900,"acknowledged_commits":300,"unknown":3,"faults":{"kill-leader":4,"pause-leader":2},"anomalies":1,"lost":0,"linearizable":true,"failover_ms":{"p50":1,"p99":2,"max":3},"vacuous":false,"suite":"chaos","acknowledged_rollbacks":25,"counts":{"kills":9,"leader_kills":4,"registers_duplicates":7}}
`

// The page is a fixed point: read back and written again, it is the same, so that
// rows are added and none is lost.
func TestRowsSurviveThePage(t *testing.T) {
	rows, err := readRows("text", strings.NewReader(summaries), stamp{"2026-11-21 09:00", "abc1234"})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows of 2 summaries: %v", len(rows), rows)
	}
	text := page(rows)
	again := parseRows(text)
	if len(again) != 2 || page(again) != text {
		t.Fatalf("read back and written again it is\n%s\nand was\n%s", page(again), text)
	}
	for _, want := range []string{
		"| distinct model states | 1,234,567 | 1,234,567 | 10,000,000 |", "| kill -9 of nodes | 9 | 0 | 1,000 |", "| ... of a leader | 4 | 0 | 300 |",
		"| decisions acknowledged under real faults | 325 | 0 | 200,000 |", "| anomalies | 1 | 0 | 0 |", "| runs | 2 | 1 | |",
		"| 2026-11-21 09:00 | abc1234 | chaos | 18446744073709551615 | 61 | kill-leader 4, pause-leader 2 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "registers_duplicates") {
		t.Error("a workload's own figure is on the page")
	}
	if more := page(append(again, rows...)); !strings.Contains(more, "| kill -9 of nodes | 18 | 0 | 1,000 |") || !strings.Contains(more, "| runs | 4 | 2 | |") {
		t.Errorf("two more rows are not added up:\n%s", more)
	}
}

// What holds no summary is an error: a campaign that counted nothing is none.
func TestNothingIsAnError(t *testing.T) {
	if rows, err := readRows("text", strings.NewReader("{}\n{\"suit\":1}\n"), stamp{}); err == nil {
		t.Errorf("no error, and %v", rows)
	}
}
