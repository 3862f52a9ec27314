package main

import (
	"fmt"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// none stands in a table's cell that has nothing to say.
const none = "-"

// word turns an enum's name into what people read: STATE_ROLLING_BACK becomes
// `rolling-back`; the unspecified value becomes none.
func word(name, prefix string) string {
	name = strings.TrimPrefix(name, prefix)
	if name == "UNSPECIFIED" {
		return none
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

func stateWord(s quoratev1.State) string       { return word(s.String(), "STATE_") }
func decisionWord(d quoratev1.Decision) string { return word(d.String(), "DECISION_") }
func voteWord(v quoratev1.Vote) string         { return word(v.String(), "VOTE_") }
func outcomeWord(o quoratev1.Outcome) string   { return word(o.String(), "OUTCOME_") }
func heuristicWord(h quoratev1.Heuristic) string {
	return word(h.String(), "HEURISTIC_")
}
func reasonWord(r quoratev1.RollbackReason) string { return word(r.String(), "ROLLBACK_REASON_") }
func roleWord(r quoratev1.Role) string             { return word(r.String(), "ROLE_") }

// modeWord of the unspecified mode is two-phase, which it stands for.
func modeWord(m quoratev1.Mode) string {
	if m == quoratev1.Mode_MODE_UNSPECIFIED {
		m = quoratev1.Mode_MODE_TWO_PHASE
	}
	return word(m.String(), "MODE_")
}

// parseWord finds the enum value that a word names; values is the enum's
// generated map.
func parseWord(text, prefix string, values map[string]int32) (int32, bool) {
	name := prefix + strings.ToUpper(strings.ReplaceAll(text, "-", "_"))
	value, ok := values[name]
	return value, ok && value != 0
}

// wordsOf lists the words of an enum, for errors and completion.
func wordsOf(prefix string, names map[int32]string) []string {
	var words []string
	for value := int32(1); ; value++ {
		name, ok := names[value]
		if !ok {
			return words
		}
		words = append(words, word(name, prefix))
	}
}

// age is a duration as short as people say it: 850ms, 3s, 14m, 2h, 5d.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// plural is `1 branch` or `3 branches`.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
