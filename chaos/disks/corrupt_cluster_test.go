package disks_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/cluster"
)

var corruptions = flag.Int("corruptions", 0, "corruptions of the campaign; 0: a few")

// Outcomes of a corruption.
const (
	detected = "detected" // the node refused to start or stopped itself, naming its data
	repaired = "repaired" // it has again what it lacked, from the others
	harmless = "harmless" // nothing that it relies on had changed
	wrong    = "wrong"    // anything else
)

// corruptionSummary is the campaign's result.
type corruptionSummary struct {
	Suite        string                    `json:"suite"`
	Seed         uint64                    `json:"seed"`
	Store        string                    `json:"log_store"`
	Cases        int                       `json:"cases"`
	Detected     int                       `json:"detected"`
	Repaired     int                       `json:"repaired"`
	Harmless     int                       `json:"harmless"`
	Wrong        int                       `json:"wrong"`
	Lost         int                       `json:"lost"`
	Led          int                       `json:"led_after"` // damaged nodes that were made the leader and answered
	Acknowledged int                       `json:"acknowledged_commits"`
	ByKind       map[string]map[string]int `json:"by_kind"`
	Seconds      float64                   `json:"seconds"`
}

// S18: "a flipped bit or truncated file on one node is detected: the node stops
// or repairs from the others; never a wrong answer, never an election won with a
// damaged log." A node is killed, a part of its data is damaged, and it is
// started again while the others go on. It must refuse, naming the file; or run
// and, made the leader, answer with every acknowledged decision.
func TestCorruptionOfAStoppedNode(t *testing.T) {
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 18))
	started := time.Now()
	r := newRig(t, cluster.Config{
		Nodes: 3, Args: []string{"--log-store", *storeFlag, "--raft-snapshot-threshold", "300", "--raft-snapshot-interval", "300ms", "--raft-trailing-logs", "100"},
	})
	c := &corrupter{rig: r, random: random, copies: t.TempDir(), sum: corruptionSummary{
		Suite: "corruption", Seed: seed, Store: *storeFlag, ByKind: map[string]map[string]int{},
	}}
	c.warmUp()
	cases := pairs()
	total := *corruptions
	if total == 0 {
		total = 5
		random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	}
	for i := 0; c.sum.Cases < total; i++ {
		c.once(cases[i%len(cases)])
		if t.Failed() && c.sum.Wrong > 3 {
			break
		}
	}
	r.stopLoad()
	c.sum.Lost = r.lost(0)
	c.sum.Acknowledged, c.sum.Seconds = r.acknowledged(), time.Since(started).Seconds()
	summarise(t, "corruption-"+*storeFlag, c.sum)
	if c.sum.Wrong > 0 || c.sum.Lost > 0 {
		t.Errorf("%d wrong, %d lost", c.sum.Wrong, c.sum.Lost)
	}
	if c.sum.Detected == 0 {
		t.Error("vacuous: no damage was detected")
	}
}

// pair is a way to damage a part.
type pair struct {
	damage disks.Damage
	part   disks.Part
}

func pairs() (all []pair) {
	for _, part := range disks.Parts {
		for _, damage := range disks.Damages {
			all = append(all, pair{damage, part})
		}
	}
	return append(all, pair{disks.StaleCopy, disks.PartDirectory})
}

type corrupter struct {
	*rig
	random *rand.Rand
	copies string
	sum    corruptionSummary
}

func (c *corrupter) older(n *cluster.Node) string { return filepath.Join(c.copies, n.Name+"-older") }
func (c *corrupter) saved(n *cluster.Node) string { return filepath.Join(c.copies, n.Name+"-saved") }

// warmUp gives every node a snapshot, and keeps an older copy of each directory.
func (c *corrupter) warmUp() {
	c.t.Helper()
	for _, n := range c.Nodes() {
		c.goesOn(350)
		if err := n.Kill(); err != nil {
			c.t.Fatal(err)
		}
		if err := disks.CopyDir(c.older(n), n.DataDir); err != nil {
			c.t.Fatal(err)
		}
		c.restart(n)
	}
}

func (c *corrupter) restart(n *cluster.Node) {
	c.t.Helper()
	if err := n.Restart(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.whole()
}

// once makes one corruption and counts its outcome.
func (c *corrupter) once(p pair) {
	n := c.Nodes()[c.random.IntN(3)]
	c.goesOn(30)
	if err := n.Kill(); err != nil {
		c.t.Fatal(err)
	}
	trial, err := disks.Try(c.random, n.DataDir, c.older(n), c.saved(n), p.damage, p.part)
	if errors.Is(err, disks.ErrNothing) {
		c.restart(n)
		return
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.goesOn(10) // the others do not mind
	outcome, err := c.outcome(n, trial)
	if err != nil {
		outcome = wrong
		c.t.Errorf("%s: %v: %v", n.Name, trial.Corruption, err)
	}
	c.count(p, outcome)
	c.t.Logf("%3d %-8s %s: %v [%s]", c.sum.Cases, outcome, n.Name, trial.Corruption, trial.Changed)
	c.wellAgain(n, trial, outcome)
}

func (c *corrupter) count(p pair, outcome string) {
	kind := string(p.damage) + " of " + string(p.part)
	if c.sum.ByKind[kind] == nil {
		c.sum.ByKind[kind] = map[string]int{}
	}
	c.sum.ByKind[kind][outcome]++
	c.sum.Cases++
	switch outcome {
	case detected:
		c.sum.Detected++
	case repaired:
		c.sum.Repaired++
	case harmless:
		c.sum.Harmless++
	default:
		c.sum.Wrong++
	}
}

// outcome starts the damaged node and judges what becomes of it.
func (c *corrupter) outcome(n *cluster.Node, trial *disks.Trial) (string, error) {
	since := said(n)
	if err := n.Start(); err != nil {
		return wrong, err
	}
	if err := c.upAndWhole(n); err != nil {
		return wrong, err
	}
	if n.Running() {
		if err := c.leads(n); err == nil {
			if lost := c.lost(40); lost > 0 {
				return wrong, fmt.Errorf("as leader it had not %d of the last 40 acknowledged decisions", lost)
			}
			c.sum.Led++
		} else if n.Running() {
			return wrong, err
		}
	}
	if !n.Running() {
		if n.ExitCode() == 0 {
			return wrong, errors.New("it ended with exit code 0")
		}
		return detected, trial.Refusal(lastWords(n, since, 30))
	}
	if err := c.eventuallySameDigests(); err != nil {
		return wrong, err
	}
	if trial.Changed == "" {
		return harmless, nil
	}
	return repaired, nil
}

// upAndWhole waits until a started node has ended, or is a healthy voter.
func (c *corrupter) upAndWhole(n *cluster.Node) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		select {
		case <-n.Exited():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		if c.IsWhole(c.t.Context()) == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("within 30s it neither ended nor was a healthy voter")
		}
	}
}

func (c *corrupter) eventuallySameDigests() (err error) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if err = c.sameDigests(); err == nil {
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return err
}

// wellAgain brings back what was detected, with its data as it was.
func (c *corrupter) wellAgain(n *cluster.Node, trial *disks.Trial, outcome string) {
	c.t.Helper()
	if n.Running() && outcome == wrong {
		if err := n.Kill(); err != nil {
			c.t.Fatal(err)
		}
	}
	if !n.Running() {
		if err := trial.Undo(); err != nil {
			c.t.Fatal(err)
		}
		c.restart(n)
	}
}

// seedOf draws a seed and tells it.
func seedOf(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() >> 1
	}
	t.Logf("seed %d", seed)
	return seed
}
