package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// grouped is a number with its thousands apart, and as many digits as it needs.
func grouped(v float64) string {
	digits := 0
	if v < 10 && v != float64(int64(v)) {
		digits = 2
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', digits, 64), ".")
	var groups []string
	for len(whole) > 3 {
		groups = append([]string{whole[len(whole)-3:]}, groups...)
		whole = whole[:len(whole)-3]
	}
	text := strings.Join(append([]string{whole}, groups...), ",")
	if fraction != "" {
		text += "." + fraction
	}
	return text
}

// shown is a figure, or a dash where there is none.
func shown(v *float64, format string) string {
	if v == nil {
		return "-"
	}
	return strings.TrimSuffix(fmt.Sprintf(format, *v), ".00")
}

// sortedUnits are those of a benchmark that have no column of their own.
func sortedUnits(figures map[string]float64) []string {
	units := slices.Sorted(maps.Keys(figures))
	return slices.DeleteFunc(units, func(unit string) bool { return unit == "ns/op" || unit == "B/op" || unit == "allocs/op" })
}

// capital begins a sentence.
func capital(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
