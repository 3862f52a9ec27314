package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/bench"
)

// aim is what is wanted of a figure, at some numbers of callers.
type aim struct {
	what    string
	part    string // whose rows hold it
	row     string // the row's scenario; "" is the part's own
	callers []int
	bound   string // as it is written
	least   float64
	most    float64 // 0: none
	of      func(bench.FullRow) *float64
	// twoOfPropose: the most is twice the p50 of propose on that log store.
	twoOfPropose bool
}

// aims are the marks that the project has set itself.
var aims = []aim{
	{what: "`propose`, a second", part: "decide", row: "propose", callers: []int{256}, bound: "100,000 and more on wal", least: 100_000, of: rate},
	{what: "the floor of `decide`, a second", part: "decide", callers: []int{256}, bound: "25,000 and more on wal", least: 25_000, of: func(r bench.FullRow) *float64 { return r.Floor }},
	{what: "`decide`, of its floor", part: "decide", callers: callers, bound: "0.8 and more", least: 0.8, of: ratio},
	{what: "`decide`, of etcd's puts a second", part: "decide", callers: []int{256}, bound: "1.6 and more", least: 1.6, of: func(r bench.FullRow) *float64 { return r.OfEtcd }},
	{what: "p50 of `decide` alone, of that of `propose`", part: "decide", callers: []int{1}, bound: "1.3 at the most", most: 1.3, of: func(r bench.FullRow) *float64 { return r.OfPropose }},
	{what: "the leader's CPU of `decide`, of the floor's", part: "decide", callers: callers, bound: "1.25 at the most", most: 1.25, of: func(r bench.FullRow) *float64 { return r.OfFloorCPU() }},
	{what: "records of `decide` before the answer", part: "decide", callers: callers, bound: "1", most: 1, of: func(r bench.FullRow) *float64 { return r.Before }},
	{what: "records of `decide` in all", part: "decide", callers: callers, bound: "2, rounded to tenths", most: 2.05, of: func(r bench.FullRow) *float64 { return r.Records }},
	{what: "`saga`, of its floor", part: "saga", callers: []int{64, 256}, bound: "0.75 and more", least: 0.75, of: ratio},
	{what: "`managed`, a second", part: "managed", callers: []int{256}, bound: "6,000 and more", least: 6_000, of: rate},
	{what: "`transfer` between databases, of the loop without a coordinator", part: "transfer-databases", callers: []int{64}, bound: "0.6 and more", least: 0.6, of: ratio},
	{what: "p50 of such a `transfer` alone, beyond the loop's, in ms", part: "transfer-databases", callers: []int{1}, bound: "two of `propose`", of: beyondFloor, twoOfPropose: true},
}

// proposeP50 is one Raft round.
var proposeP50 = aim{part: "decide", row: "propose", of: func(r bench.FullRow) *float64 { return &r.P50MS }}

func rate(r bench.FullRow) *float64  { return &r.PerSecond }
func ratio(r bench.FullRow) *float64 { return r.Ratio }

// beyondFloor is by how many milliseconds the product's p50 is above the floor's.
func beyondFloor(r bench.FullRow) *float64 {
	floor := r.Slices["floor"]
	if len(floor) == 0 {
		return nil
	}
	p50s := make([]time.Duration, len(floor))
	for i, s := range floor {
		p50s[i] = s.P50
	}
	slices.Sort(p50s)
	ms := r.P50MS - float64(p50s[len(p50s)/2])/float64(time.Millisecond)
	return &ms
}

// writeAims is what is wanted, beside what was measured.
func writeAims(b *strings.Builder, r *results) {
	b.WriteString("\n### Aims\n\nWhat we want of these figures, and what the tables below say of it. **Bold** is what reaches it.\n\n")
	b.WriteString("| figure | wanted | callers | wal | boltdb |\n|---|---|---|---|---|\n")
	for _, a := range aims {
		for _, n := range a.callers {
			fmt.Fprintf(b, "| %s | %s | %d |", a.what, a.bound, n)
			for _, store := range logStores {
				fmt.Fprintf(b, " %s |", a.met(r, store, n))
			}
			b.WriteString("\n")
		}
	}
}

// met is the figure, emphasised where it reaches the aim; a dash where there is none.
func (a aim) met(r *results, store string, n int) string {
	v := a.figure(r, store, n)
	if v == nil {
		return "-"
	}
	text := fmt.Sprintf("%.2f", *v)
	if *v >= 100 {
		text = grouped(*v)
	}
	most := a.most
	if a.twoOfPropose {
		one := proposeP50.figure(r, store, n)
		if one == nil {
			return text
		}
		most = 2 * *one
	}
	if *v >= a.least && (most == 0 || *v <= most) {
		return "**" + text + "**"
	}
	return text
}

func (a aim) figure(r *results, store string, n int) *float64 {
	got := r.find(a.part + "/" + store)
	if got == nil || got.Bench == nil {
		return nil
	}
	for _, row := range got.Bench.Rows {
		if row.Callers == n && (row.Scenario == a.row || a.row == "" && row.Scenario == strings.TrimSuffix(a.part, "-databases")) {
			return a.of(row)
		}
	}
	return nil
}
