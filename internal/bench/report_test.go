package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestJSONHasItsShape: a list of objects with these fields, in this order.
func TestJSONHasItsShape(t *testing.T) {
	r := Report{Rows: rowsOf("decide", 64, []side{{name: sideProduct}, {name: sideFloor}}, [][]Slice{
		{{PerSecond: 300, P50: 2 * time.Millisecond, P99: 4 * time.Millisecond, Cost: &Cost{Records: 3, LeaderUS: 50}}},
		{{PerSecond: 400}},
	})}
	r.Rows = append(r.Rows, rowsOf("submit", 1, []side{{name: sideEtcd}}, [][]Slice{{{PerSecond: 1.5}}})...)
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, out.Bytes()); err != nil {
		t.Fatal(err)
	}
	want := `[{"scenario":"decide","callers":64,"per_second":300,"p50_ms":2,"p99_ms":4,"floor_per_second":400,"ratio":0.75,"records_per_tx":3,"leader_cpu_us_per_tx":50,` +
		`"records_before_answer":null,"floor_leader_cpu_us_per_tx":null,"per_second_spread":[300,300],"ratio_spread":[0.75,0.75],"p50_of_propose":null,"rate_of_etcd":null},` +
		`{"scenario":"etcd-put","callers":1,"per_second":1.5,"p50_ms":0,"p99_ms":0,"floor_per_second":null,"ratio":null,"records_per_tx":null,"leader_cpu_us_per_tx":null,` +
		`"records_before_answer":null,"floor_leader_cpu_us_per_tx":null,"per_second_spread":[1.5,1.5],"ratio_spread":null,"p50_of_propose":null,"rate_of_etcd":null}]`
	if diff := cmp.Diff(want, compact.String()); diff != "" {
		t.Error(diff)
	}
}

func TestMedians(t *testing.T) {
	slice := func(v float64) Slice { return Slice{PerSecond: v} }
	value := func(s Slice) float64 { return s.PerSecond }
	if got := median([]Slice{slice(9), slice(1), slice(5)}, value); got != 5 {
		t.Errorf("of three: %v", got)
	}
	if got := median([]Slice{slice(9), slice(1), slice(5), slice(3)}, value); got != 4 {
		t.Errorf("of four: %v", got)
	}
}

func TestTables(t *testing.T) {
	r := Report{Rows: rowsOf("decide", 64, []side{{name: sideProduct}, {name: sideFloor}, {name: sideEtcd}}, [][]Slice{
		{{PerSecond: 300, Cost: &Cost{Records: 3}}, {PerSecond: 200, Cost: &Cost{Records: 3}}, {PerSecond: 100, Cost: &Cost{Records: 3}}},
		{{PerSecond: 400}}, {{PerSecond: 777}},
	})}
	var out bytes.Buffer
	if err := r.WriteTable(&out, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"decide", "200 (100-300)", "0.50", "etcd-put", "777", "3.00"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

// TestStatIsReadBehindTheName: a program's name may hold what separates the fields.
func TestStatIsReadBehindTheName(t *testing.T) {
	const line = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 6 7 20 0 8 0 1000 1 1"
	if own, ended, err := parseStat(line); err != nil || own != 1680*time.Millisecond || ended != 130*time.Millisecond {
		t.Errorf("%v, %v, %v", own, ended, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1", strings.Replace(line, "123", "x", 1)} {
		if own, ended, err := parseStat(bad); err == nil {
			t.Errorf("%q: %v, %v, and no error", bad, own, ended)
		}
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if now, _ := cpuTime(os.Getpid()); now > before {
			break // a busy process uses the CPU
		}
		if time.Now().After(deadline) {
			t.Fatal("a busy process has used no CPU for ten seconds")
		}
	}
}

func TestSeriesMustBeThere(t *testing.T) {
	const text = "# HELP x y\nquorate_proposals_total{result=\"committed\"} 12\nquorate_raft_applied_index 7\nquorate_log_fsync_duration_seconds_count 5\nquorate_log_bytes_total 900\nprocess_cpu_seconds_total 1.5\nquorate_proposals_pending 3\n"
	series, err := parseSeries(strings.NewReader(text))
	if err != nil || series[seriesRecords] != 12 || series[seriesEntries] != 7 || series[seriesWrites] != 5 || series[seriesBytes] != 900 || series[seriesCPU] != 1.5 || series[seriesPending] != 3 {
		t.Errorf("%v, %v", series, err)
	}
	if _, err := parseSeries(strings.NewReader(strings.Replace(text, "quorate_raft_applied_index", "renamed", 1))); err == nil {
		t.Error("a metric that is missing is no error")
	}
}

// TestTheMeterWaitsForTheCount: what a command did is seen a moment before it is counted.
func TestTheMeterWaitsForTheCount(t *testing.T) {
	asked := 0
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		pending, committed := max(0, 3-asked), 10+asked
		fmt.Fprintf(w, "quorate_proposals_total{result=\"committed\"} %d\nquorate_raft_applied_index 7\nquorate_log_fsync_duration_seconds_count 5\n"+
			"quorate_log_bytes_total 900\nprocess_cpu_seconds_total 1.5\nquorate_proposals_pending %d\n", committed, pending)
	}))
	defer node.Close()
	m, err := settled(t.Context(), node.Client(), node.URL, 0)
	if err != nil || m.records != 13 || m.pending != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
