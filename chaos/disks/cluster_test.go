package disks_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
)

// Campaigns are the same tests for longer:
//
//	go test ./chaos/disks -run 'TestPower|TestCorruption' -cuts 100 -corruptions 200 -summary DIR -timeout 60m
var (
	summaryDir = flag.String("summary", "", "directory for the JSON summaries of the campaigns")
	seedFlag   = flag.Uint64("seed", 0, "seed of the campaigns; 0: drawn and logged")
	storeFlag  = flag.String("store", "wal", "log store of the campaigns' nodes")
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	if os.Getenv("QUORATE_DISKS_HELPER") != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "quorate-disks-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "quorate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// within bounds what these tests wait for, on a busy machine.
const within = 60 * time.Second

// rig is a cluster with a load, and the ledger of what the load was told.
type rig struct {
	*cluster.Cluster
	t      *testing.T
	client *participant.Client
	stop   context.CancelFunc
	wait   sync.WaitGroup

	mu    sync.Mutex
	acks  []string // acknowledged commits, in order
	other int      // answers that were none
}

// newRig starts a cluster and loads it with transactions of no branches: what is
// acknowledged is a decision in the log.
func newRig(t *testing.T, cfg cluster.Config) *rig {
	t.Helper()
	cfg.Binary = binary
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	c, err := cluster.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	return loaded(t, c)
}

// loaded puts load on a running cluster.
func loaded(t *testing.T, c *cluster.Cluster) *rig {
	t.Helper()
	r := &rig{Cluster: c, t: t}
	var err error
	t.Cleanup(func() {
		r.stopLoad()
		_ = r.client.Close()
		if t.Failed() {
			for _, n := range c.Nodes() {
				t.Logf("%s said last:\n%s", n.Name, lastWords(n, 0, 12))
			}
		}
	})
	if r.client, err = participant.Dial(t.Context(), c.Endpoints()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	for range 4 {
		r.wait.Go(func() { r.load(ctx) })
	}
	return r
}

func (r *rig) load(ctx context.Context) {
	for ctx.Err() == nil {
		tx, err := r.client.Begin(ctx)
		if err == nil {
			err = tx.Commit(ctx)
		}
		r.mu.Lock()
		if err == nil {
			r.acks = append(r.acks, string(tx.GID()))
		} else {
			r.other++
		}
		r.mu.Unlock()
	}
}

func (r *rig) stopLoad() {
	r.stop()
	r.wait.Wait()
}

func (r *rig) acknowledged() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acks)
}

// goesOn waits until so many more decisions were acknowledged.
func (r *rig) goesOn(more int) {
	r.t.Helper()
	before := r.acknowledged()
	testkit.Eventually(r.t, within, func() bool { return r.acknowledged() >= before+more }, "%d more decisions", more)
}

// whole waits until every node is a healthy voter.
func (r *rig) whole() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), within)
	defer cancel()
	if err := r.WaitWhole(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// lost counts the acknowledged decisions, of the last ones or of all, that the
// leader does not know as commits; each is an error.
func (r *rig) lost(last int) int {
	r.t.Helper()
	lost, words := r.missing(last)
	for _, w := range words {
		r.t.Error(w)
	}
	return lost
}

// countLost is lost where losses are what is looked for.
func (r *rig) countLost(last int) int {
	lost, _ := r.missing(last)
	return lost
}

func (r *rig) missing(last int) (lost int, words []string) {
	r.t.Helper()
	r.mu.Lock()
	acks := r.acks
	if last > 0 && len(acks) > last {
		acks = acks[len(acks)-last:]
	}
	r.mu.Unlock()
	for _, gid := range acks {
		ctx, cancel := context.WithTimeout(r.t.Context(), within)
		tx, err := r.client.Get(ctx, gid)
		cancel()
		var refused *participant.RefusedError
		switch {
		case errors.As(err, &refused):
			words = append(words, fmt.Sprintf("S6: %s was acknowledged as committed, and now: %v", gid, err))
			lost++
		case err != nil:
			r.t.Fatalf("read %s: %v", gid, err)
		case tx.GetDecision() != quoratev1.Decision_DECISION_COMMIT:
			words = append(words, fmt.Sprintf("S2: %s was acknowledged as committed, and is %v", gid, tx.GetDecision()))
			lost++
		}
	}
	return lost, words
}

// sameDigests compares the state of all running nodes at one index (S17).
func (r *rig) sameDigests() error {
	leader, ok := r.Leader(r.t.Context())
	if !ok {
		return errors.New("no leader")
	}
	status, err := leader.Status(r.t.Context())
	if err != nil {
		return err
	}
	at, digests := status.GetHeader().GetAppliedIndex(), map[string][]string{}
	for _, n := range r.Nodes() {
		if !n.Running() {
			continue
		}
		status, err := n.StatusAt(r.t.Context(), at)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if status.GetDigestAt() != at {
			return fmt.Errorf("%s tells no digest at %d", n.Name, at)
		}
		digests[status.GetDigest()] = append(digests[status.GetDigest()], n.Name)
	}
	if len(digests) != 1 {
		return fmt.Errorf("the nodes differ at index %d: %v", at, digests)
	}
	return nil
}

// leads makes a node the leader, so that whatever it holds is what clients hear.
func (r *rig) leads(n *cluster.Node) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		err := r.TransferLeader(ctx, n)
		cancel()
		if leader, ok := r.Leader(r.t.Context()); ok && leader == n {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not get the leadership: %w", n.Name, err)
		}
		select {
		case <-n.Exited():
			return fmt.Errorf("%s has ended", n.Name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// said returns how much a node has said so far.
func said(n *cluster.Node) int64 {
	info, err := os.Stat(n.LogPath)
	if err != nil {
		return 0
	}
	return info.Size()
}

// lastWords returns the last lines of what a node has said since.
func lastWords(n *cluster.Node, since int64, count int) string {
	text, err := os.ReadFile(n.LogPath)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text[min(since, int64(len(text))):])), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// summarise writes a campaign's figures as JSON and logs them.
func summarise(t *testing.T, name string, summary any) {
	t.Helper()
	text, err := json.Marshal(summary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if *summaryDir == "" {
		return
	}
	if err := os.MkdirAll(*summaryDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*summaryDir, name+".json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
