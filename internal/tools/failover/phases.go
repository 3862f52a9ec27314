package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/cluster"
)

// phases are what the nodes' logs say about one change of leader.
var phases = []struct{ name, text string }{
	{"an election begins", "starting an election"},
	{"elected", `msg="entering leader state`},
	{"serves", "msg=leader "},
	{"delivers", "deliveries go on where the log says they stood"},
}

// tell prints when each phase was first reached after the kill, by the logs of the
// nodes that live.
func tell(c *cluster.Cluster, killed *cluster.Node, at time.Time) {
	first := make([]time.Time, len(phases))
	for _, n := range c.Nodes() {
		if n == killed {
			continue
		}
		file, err := os.Open(n.LogPath)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			when, ok := timeOf(lines.Text())
			if !ok || when.Before(at) {
				continue
			}
			for i, p := range phases {
				if strings.Contains(lines.Text(), p.text) && (first[i].IsZero() || when.Before(first[i])) {
					first[i] = when
				}
			}
		}
		_ = file.Close()
	}
	for i, p := range phases {
		if !first[i].IsZero() {
			fmt.Fprintf(os.Stderr, "  %s after %v", p.name, round(first[i].Sub(at)))
		}
	}
	fmt.Fprintln(os.Stderr)
}

// timeOf reads the time= of a log line.
func timeOf(line string) (time.Time, bool) {
	text, ok := strings.CutPrefix(line, "time=")
	if !ok {
		return time.Time{}, false
	}
	text, _, _ = strings.Cut(text, " ")
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}
