// Command failover measures how long a client goes without service when the
// leader is killed: SIGKILL to the leader of a three-node cluster of processes,
// again and again, idle and under load, in both profiles.
//
//	go run ./internal/tools/failover -kills 50
//
// A gap is the time from the kill to the first decision that was asked for
// after it and acknowledged. Idle means one client that asks for one decision
// after the other; loaded means a steady rate of 20 % of what the same cluster
// did in a closed loop just before; full means that closed loop, of 64 callers
// that all wait. Figures are for this machine and this run.
//
//	go run ./internal/tools/failover -loads full -kills 30 -v
//
// says of each kill when the next leader stood, was elected, and served.
//
//	go run ./internal/tools/failover -steady 10m
//
// kills nobody: half of what the cluster can do for so long, and it is red when
// the term changes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/participant"
)

const (
	capacityCallers = 64
	capacityTime    = 5 * time.Second
	loadedShare     = 0.20
	steadyShare     = 0.50
	// serviceMax is how long service may be gone before the run is red.
	serviceMax = 60 * time.Second
)

var verbose = flag.Bool("v", false, "print each gap")

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	kills := flag.Int("kills", 50, "leader kills of each profile and load")
	profiles := flag.String("profiles", "fast,default", "profiles to measure")
	loads := flag.String("loads", "idle,loaded,full", "loads to measure")
	dir := flag.String("dir", "", "directory for data and logs, which stays; empty: a temporary one")
	binary := flag.String("binary", "", "the quorate program; empty: build it")
	output := flag.String("o", "table", "table, or json: a list of {\"part\", \"case\", \"figures\"}")
	steady := flag.Duration("steady", 0, "kill nobody, and see that the term stays for so long at half of the capacity")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "quorate-failover-"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				_ = os.RemoveAll(*dir)
			} else {
				fmt.Fprintln(os.Stderr, "failover: logs and data are kept in", *dir)
			}
		}()
	}
	if *binary == "" {
		*binary = filepath.Join(*dir, "quorate")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", *binary, "./cmd/quorate").CombinedOutput(); err != nil {
			return fmt.Errorf("build quorate: %w\n%s", err, out)
		}
	}
	if *steady > 0 {
		for _, profile := range strings.Split(*profiles, ",") {
			if err := stays(ctx, *binary, filepath.Join(*dir, profile+"-steady"), profile, *steady); err != nil {
				return fmt.Errorf("%s, steady: %w", profile, err)
			}
		}
		return nil
	}
	var rows []row
	if *output == "table" {
		fmt.Println("| profile | load | decisions a second | kills | p50 | p99 | max |")
		fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
	}
	for _, profile := range strings.Split(*profiles, ",") {
		for _, load := range strings.Split(*loads, ",") {
			m := measurement{binary: *binary, dir: filepath.Join(*dir, profile+"-"+load), profile: profile, load: load, kills: *kills}
			if err := m.run(ctx); err != nil {
				return fmt.Errorf("%s, %s: %w", profile, load, err)
			}
			slices.Sort(m.gaps)
			rows = append(rows, m.row())
			if *output == "table" {
				fmt.Printf("| %s | %s | %.0f | %d | %s | %s | %s |\n", profile, load, m.rate, len(m.gaps),
					round(percentile(m.gaps, 0.50)), round(percentile(m.gaps, 0.99)), round(m.gaps[len(m.gaps)-1]))
			}
		}
	}
	if *output == "json" {
		return json.NewEncoder(os.Stdout).Encode(rows)
	}
	return nil
}

// row is what was measured of one profile under one load. The names of figures hold
// their units.
type row struct {
	Part    string             `json:"part"`
	Case    string             `json:"case"`
	Figures map[string]float64 `json:"figures"`
}

// row of gaps that are sorted.
func (m *measurement) row() row {
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) }
	return row{Part: "failover", Case: m.profile + ", " + m.load, Figures: map[string]float64{
		"per_second": m.rate, "kills": float64(len(m.gaps)),
		"p50_ms": ms(percentile(m.gaps, 0.50)), "p99_ms": ms(percentile(m.gaps, 0.99)), "max_ms": ms(m.gaps[len(m.gaps)-1]),
	}}
}

// measurement is one row: a cluster, a load, its kills.
type measurement struct {
	binary, dir, profile string
	load                 string
	kills                int

	rate float64 // decisions a second while it was killed
	gaps []time.Duration
}

// start starts a cluster, and a load that asks for nothing yet.
func start(ctx context.Context, binary, dir, profile string) (*cluster.Cluster, *load, func(), error) {
	cfg := cluster.Config{Binary: binary, Nodes: 3, Dir: dir, Profile: profile, Log: slog.New(slog.DiscardHandler)}
	if *verbose {
		cfg.Args = []string{"--log-level", "debug"} // for tell
	}
	c, err := cluster.Start(ctx, cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	client, err := participant.Dial(ctx, c.Endpoints())
	if err != nil {
		return nil, nil, nil, errors.Join(err, c.Stop())
	}
	l := startLoad(client)
	return c, l, func() {
		l.stop()
		_ = client.Close()
		_ = c.Stop()
	}, nil
}

func (m *measurement) run(ctx context.Context) error {
	c, load, stop, err := start(ctx, m.binary, m.dir, m.profile)
	if err != nil {
		return err
	}
	defer stop()
	switch m.load {
	case "idle":
		load.keepAsking(1)
	case "loaded":
		capacity := load.closedLoop(ctx, capacityCallers, capacityTime)
		load.openLoop(capacity * loadedShare)
	case "full":
		load.keepAsking(capacityCallers)
	default:
		return fmt.Errorf("no load is named %q: there are idle, loaded and full", m.load)
	}
	begun, before := time.Now(), load.acknowledged()
	for range m.kills {
		gap, err := kill(ctx, c, load)
		if err != nil {
			return err
		}
		m.gaps = append(m.gaps, gap)
		if *verbose {
			fmt.Fprintf(os.Stderr, "%s %s: %v without service\n", time.Now().Format("15:04:05.000"), m.profile, round(gap))
		}
	}
	m.rate = float64(load.acknowledged()-before) / time.Since(begun).Seconds()
	return nil
}

// kill kills the leader, waits for service, and makes the cluster whole again.
func kill(ctx context.Context, c *cluster.Cluster, load *load) (time.Duration, error) {
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	killed := time.Now()
	first := load.firstAfter(killed)
	if err := leader.Kill(); err != nil {
		return 0, err
	}
	var gap time.Duration
	select {
	case at := <-first:
		gap = at.Sub(killed)
		if *verbose {
			tell(c, leader, killed)
		}
	case <-time.After(serviceMax):
		return 0, fmt.Errorf("no decision within %v of a leader's death", serviceMax)
	case <-ctx.Done():
		return 0, errors.New("interrupted")
	}
	if err := leader.Restart(ctx); err != nil {
		return 0, err
	}
	return gap, c.WaitWhole(ctx)
}

// percentile is the nearest-rank percentile of sorted durations.
func percentile(sorted []time.Duration, p float64) time.Duration {
	i := int(float64(len(sorted))*p+0.999999) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
