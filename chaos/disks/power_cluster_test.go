package disks_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/cluster"
)

var cuts = flag.Int("cuts", 0, "power losses of the campaign; 0: a few, without the control")

// powerSummary is the campaign's result. A cut is one moment; it may be of one
// node's power or of all nodes'.
type powerSummary struct {
	Suite        string         `json:"suite"`
	Seed         uint64         `json:"seed"`
	Store        string         `json:"log_store"`
	Cuts         int            `json:"cuts"`
	OfAll        int            `json:"of_all"`
	OfLeader     int            `json:"of_leader"`
	OfFollower   int            `json:"of_follower"`
	Canaries     int            `json:"canaries"`
	CanariesLost int            `json:"canaries_lost"`
	CanariesKept int            `json:"canaries_kept"`
	Acknowledged int            `json:"acknowledged_commits"`
	Lost         int            `json:"lost"`
	Seconds      float64        `json:"seconds"`
	Control      *controlResult `json:"control,omitempty"`
}

// controlResult is what a build without fsync lost on the same rig.
type controlResult struct {
	Lost    int    `json:"lost"`
	Refused int    `json:"refused"` // nodes that would not start with what was left
	What    string `json:"what"`
}

const volumeBytes = 192 << 20

// onVolumes prepares a directory in which each node's data directory is a volume
// of its own; nil where none can be made.
func onVolumes(t *testing.T) (dir string, volumes map[string]*disks.Volume) {
	t.Helper()
	if err := disks.Possible(); err != nil {
		t.Logf("not possible here: %v", err)
		return "", nil
	}
	dir, volumes = t.TempDir(), map[string]*disks.Volume{}
	for _, name := range []string{"n1", "n2", "n3"} {
		v, err := disks.NewVolume(filepath.Join(dir, name), volumeBytes)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
		volumes[name] = v
	}
	return dir, volumes
}

// S6: "an acknowledged begin, enlist, vote or decision survives kill -9 and power
// loss of all nodes". Each cut must lose a canary, or it was none.
func TestPowerLoss(t *testing.T) {
	dir, volumes := onVolumes(t)
	if volumes == nil {
		return
	}
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 6))
	r := newRig(t, cluster.Config{
		Nodes: 3, Dir: dir,
		Args: []string{"--log-store", *storeFlag, "--raft-snapshot-threshold", "300", "--raft-snapshot-interval", "300ms", "--raft-trailing-logs", "100"},
	})
	p := &powerCutter{rig: r, volumes: volumes, sum: powerSummary{Suite: "power", Seed: seed, Store: *storeFlag}}
	total, began := max(*cuts, 3), time.Now()
	for p.sum.Cuts < total && !t.Failed() {
		p.once(random)
	}
	r.stopLoad()
	p.sum.Lost = r.lost(0)
	p.sum.Acknowledged, p.sum.Seconds = r.acknowledged(), time.Since(began).Seconds()
	if *cuts > 0 && *storeFlag == "boltdb" {
		p.sum.Control = control(t)
	}
	summarise(t, "power-"+*storeFlag, p.sum)
	if p.sum.CanariesLost != p.sum.Canaries || p.sum.CanariesKept != p.sum.Canaries {
		t.Errorf("%d canaries, %d of the unsynced lost, %d of the synced kept", p.sum.Canaries, p.sum.CanariesLost, p.sum.CanariesKept)
	}
}

type powerCutter struct {
	*rig
	volumes map[string]*disks.Volume
	sum     powerSummary
}

// once cuts the power of one node or of all in the middle of the load.
func (p *powerCutter) once(random *rand.Rand) {
	p.t.Helper()
	p.goesOn(5 + random.IntN(30))
	nodes := p.Nodes()
	leader, _ := p.Leader(p.t.Context())
	if p.sum.Cuts%3 != 0 {
		nodes = nodes[random.IntN(3):][:1]
	}
	switch {
	case len(nodes) == 3:
		p.sum.OfAll++
	case nodes[0] == leader:
		p.sum.OfLeader++
	default:
		p.sum.OfFollower++
	}
	p.sum.Cuts++
	p.cut(nodes)
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			p.t.Fatal(err)
		}
	}
	p.whole()
	if lost := p.lost(30); lost > 0 {
		p.t.Errorf("cut %d, of %d nodes: %d of the last 30 acknowledged decisions are lost", p.sum.Cuts, len(nodes), lost)
	}
	p.t.Logf("cut %d: %d nodes, %d acknowledged so far", p.sum.Cuts, len(nodes), p.acknowledged())
}

// cut kills the nodes at one moment and cuts their power.
func (p *powerCutter) cut(nodes []*cluster.Node) {
	p.t.Helper()
	canaries := make([]*disks.Canary, len(nodes))
	together(p.t, len(nodes), func(i int) (err error) {
		canaries[i], err = disks.PlantCanary(p.volumes[nodes[i].Name].Dir)
		return err
	})
	together(p.t, len(nodes), func(i int) error { return nodes[i].Kill() })
	together(p.t, len(nodes), func(i int) error { return p.volumes[nodes[i].Name].Cut() })
	for i := range nodes {
		p.sum.Canaries++
		if err := canaries[i].Check(); err != nil {
			p.t.Error(err)
			continue
		}
		p.sum.CanariesLost++
		p.sum.CanariesKept++
	}
}

// together runs n functions at once.
func together(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// control runs the same cuts against a build that does not sync its log: it must
// lose acknowledged decisions, or refuse what is left; else the rig shows nothing.
func control(t *testing.T) *controlResult {
	t.Helper()
	unsafe := buildWithoutSync(t)
	dir, volumes := onVolumes(t)
	c, err := cluster.Start(t.Context(), cluster.Config{Binary: unsafe, Nodes: 3, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	r := loaded(t, c)
	defer r.stopLoad()
	p := &powerCutter{rig: r, volumes: volumes}
	result := &controlResult{}
	for range 5 {
		p.goesOn(50)
		p.cut(c.Nodes())
		since := make([]int64, 3)
		for i, n := range c.Nodes() {
			since[i] = said(n)
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for i, n := range c.Nodes() {
			if words := waitForLoss(t, c, n, since[i]); words != "" {
				result.Refused++
				result.What = words
			}
		}
		if result.Refused > 0 {
			return result
		}
		if result.Lost = r.countLost(50); result.Lost > 0 {
			result.What = fmt.Sprintf("%d of the last 50 acknowledged decisions", result.Lost)
			return result
		}
	}
	t.Error("vacuous: a build without fsync lost nothing in five power losses of all nodes")
	return result
}

// waitForLoss returns the last words of a node that does not start, "" once the
// cluster is whole.
func waitForLoss(t *testing.T, c *cluster.Cluster, n *cluster.Node, since int64) string {
	t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		select {
		case <-n.Exited():
			return lastWords(n, since, 1)
		case <-time.After(20 * time.Millisecond):
		}
		if c.IsWhole(t.Context()) == nil {
			return ""
		}
		for _, other := range c.Nodes() {
			if !other.Running() {
				return lastWords(other, 0, 1)
			}
		}
	}
	return "not whole within " + within.String()
}

// buildWithoutSync builds the program with a log that is written and not synced.
func buildWithoutSync(t *testing.T) string {
	t.Helper()
	const source, safe = "../../raftnode/stores.go", "Path: s.path,"
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), safe) != 1 {
		t.Fatalf("%s has not %q once", source, safe)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "stores.go"), filepath.Join(dir, "overlay.json")
	path, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(changed, []byte(strings.Replace(string(text), safe, safe+" NoSync: true,", 1)), 0o600),
		os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace": {%q: %q}}`, path, changed), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "quorate")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		t.Fatalf("build without fsync: %v\n%s", err, out)
	}
	return program
}
