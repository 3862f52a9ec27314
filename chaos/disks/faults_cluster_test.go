package disks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testkit"
)

// switched arms failpoints in every node that fire while a file exists: one a
// node and a point.
type switched struct {
	dir    string
	points []string // such as "store-write@log=error(EIO)"
}

func (s switched) env(node string, _ int) []string {
	var specs []string
	for i, point := range s.points {
		specs = append(specs, fmt.Sprintf("%s,when=%s", point, s.file(node, i)))
	}
	return []string{failpoint.Variable + "=" + strings.Join(specs, ";")}
}

func (s switched) file(node string, point int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s.%d", node, point))
}

func (s switched) on(t *testing.T, n *cluster.Node, point int) {
	t.Helper()
	if err := os.WriteFile(s.file(n.Name, point), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s switched) off(t *testing.T, n *cluster.Node, point int) {
	t.Helper()
	if err := os.Remove(s.file(n.Name, point)); err != nil {
		t.Fatal(err)
	}
}

// ends waits for a node to end by itself.
func (r *rig) ends(n *cluster.Node, what string) {
	r.t.Helper()
	select {
	case <-n.Exited():
	case <-time.After(within):
		r.t.Fatalf("%s still runs: %s", n.Name, what)
	}
}

func (r *rig) back(n *cluster.Node) {
	r.t.Helper()
	if err := n.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.whole()
}

func (r *rig) leader() *cluster.Node {
	r.t.Helper()
	n, err := r.WaitLeader(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *rig) follower() *cluster.Node {
	r.t.Helper()
	leader := r.leader()
	for _, n := range r.Nodes() {
		if n != leader {
			return n
		}
	}
	return nil
}

// A disk that errs, stalls or is slow under a whole `quorate serve`: an error or a
// stall ends the node loudly, at once and for good; the others go on; nothing
// that was acknowledged is lost. A slow one is lived with.
func TestBadDisks(t *testing.T) {
	s := switched{t.TempDir(), []string{
		"store-write@log=error(EIO)", "store-written@log=error(EIO)", "store-write@stable=error(EIO)",
		"store-write@log=error(ENOSPC)", "store-write@log=pause(60s)", "store-write@log=pause(500ms)",
	}}
	r := newRig(t, cluster.Config{Nodes: 3, Env: s.env, Args: []string{"--storage-operation-timeout", "2s"}})

	// A follower's disk that takes half a second for each write delays nobody.
	r.goesOn(20)
	slow := r.follower()
	s.on(t, slow, 5)
	started := time.Now()
	r.goesOn(40) // one after the other at its pace would take 20 s over four callers, at the least 5
	t.Logf("40 decisions beside a slow follower took %v", time.Since(started).Round(time.Millisecond))
	if !slow.Running() {
		t.Errorf("%s has ended, though its disk was only slow:\n%s", slow.Name, lastWords(slow, 0, 5))
	}
	s.off(t, slow, 5)
	r.whole()

	for _, test := range []struct {
		point int
		leads bool
		says  string
	}{
		{0, true, "input/output error"},
		{1, false, "input/output error"},
		{3, true, "make room"},
		{4, true, "has taken longer than 2s: the disk does not answer"},
	} {
		n := r.follower()
		if test.leads {
			n = r.leader()
		}
		since := said(n)
		s.on(t, n, test.point)
		r.ends(n, s.points[test.point])
		s.off(t, n, test.point)
		if words := lastWords(n, since, 3); n.ExitCode() != 1 || !strings.Contains(words, test.says) || !strings.Contains(words, "the node stops itself") {
			t.Errorf("%s: %s ended with %d and said:\n%s", s.points[test.point], n.Name, n.ExitCode(), words)
		}
		r.goesOn(20) // without it
		r.back(n)
	}

	// A vote that cannot be written is not given: the node ends when it is asked.
	voter := r.follower()
	since := said(voter)
	s.on(t, voter, 2)
	dead := r.leader()
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	r.ends(voter, "its vote could not be written")
	s.off(t, voter, 2)
	if words := lastWords(voter, since, 3); !strings.Contains(words, "the node stops itself") {
		t.Errorf("%s said:\n%s", voter.Name, words)
	}
	for _, n := range []*cluster.Node{dead, voter} {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	r.whole()
	r.goesOn(20)
	r.stopLoad()
	r.lost(0)
}

// A small file system under a whole `quorate serve` that fills up. Its log is in
// boltdb: raft-wal's segments have their 64 MiB from the start, and it would take as
// much load to find the disk full (raftnode's TestAFullDisk does).
func TestAFullDiskUnderANode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not possible here: mounting a tmpfs needs root; TestBadDisks injects the error")
		return
	}
	dir := t.TempDir()
	small, err := disks.NewTmpfs(filepath.Join(dir, "n2"), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = small.Close() })
	r := newRig(t, cluster.Config{Nodes: 3, Dir: dir, Args: []string{"--log-store", "boltdb"}})
	n2, _ := r.Node("n2")
	r.goesOn(20)
	free, err := disks.Fill(small.Dir)
	if err != nil {
		t.Fatal(err)
	}
	r.ends(n2, "its disk is full")
	if words := lastWords(n2, 0, 3); !strings.Contains(words, "make room on the file system") {
		t.Errorf("n2 said:\n%s", words)
	}
	r.goesOn(20)
	// As long as there is no room it does not come back, and says why.
	since := said(n2)
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, within, func() bool { return !n2.Running() }, "n2 to end again")
	if words := lastWords(n2, since, 5); !strings.Contains(words, "no space left") {
		t.Errorf("without room n2 said:\n%s", words)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	r.back(n2)
	if err := r.leads(n2); err != nil {
		t.Error(err)
	}
	r.stopLoad()
	r.lost(0)
}

// P11: a kill at each place of a snapshot, of the shortening of the log behind it,
// and of a snapshot that a leader sends.
func TestKillsAroundSnapshots(t *testing.T) {
	s := switched{t.TempDir(), []string{
		"snapshot-begun=kill", "snapshot-written=kill", "log-shortened=kill", "install-restored=kill",
	}}
	r := newRig(t, cluster.Config{Nodes: 3, Env: s.env, Args: []string{
		"--log-store", *storeFlag, "--raft-snapshot-threshold", "60", "--raft-snapshot-interval", "100ms", "--raft-trailing-logs", "10"}})
	installed := 0
	for point := range s.points {
		for _, own := range []bool{true, false} {
			if own && strings.HasPrefix(s.points[point], "install") {
				continue
			}
			n := r.follower()
			if !own {
				// It misses so much that it must be sent a snapshot; the place is passed then.
				if err := n.Kill(); err != nil {
					t.Fatal(err)
				}
				r.goesOn(300)
			}
			since := said(n)
			s.on(t, n, point)
			if !own {
				if err := n.Start(); err != nil {
					t.Fatal(err)
				}
			}
			r.ends(n, s.points[point])
			s.off(t, n, point)
			if strings.Contains(lastWords(n, since, 200), "copied to local snapshot") || strings.HasPrefix(s.points[point], "install") {
				installed++
			}
			r.back(n)
			r.goesOn(10)
		}
	}
	if installed == 0 {
		t.Error("vacuous: no snapshot was sent")
	}
	testkit.EventuallyNoError(t, within, r.sameDigests)
	for _, n := range r.Nodes() {
		if err := r.leads(n); err != nil {
			t.Error(err)
		}
	}
	r.stopLoad()
	r.lost(0)
}
