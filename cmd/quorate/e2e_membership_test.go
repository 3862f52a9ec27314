package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
)

// loneNode is one `quorate serve` with flags of the test's own.
type loneNode struct {
	*proc.Process
	dir, log, grpc, raft, http string
	spec                       proc.Spec
}

// newLoneNode describes a node; nothing is started.
func newLoneNode(t *testing.T, name string, flags ...string) *loneNode {
	t.Helper()
	dir := t.TempDir()
	address := func() string {
		a, err := cluster.FreeAddress("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	n := &loneNode{dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"), grpc: address(), raft: address(), http: address()}
	n.spec = proc.Spec{
		Name: name, Path: binary, LogPath: n.log,
		Args: append([]string{"serve", "--name", name, "--data-dir", n.dir, "--profile", "fast",
			"--listen-grpc", n.grpc, "--listen-raft", n.raft, "--listen-http", n.http}, flags...),
	}
	return n
}

// start starts it; it is killed with the test at the latest.
func (n *loneNode) start(t *testing.T) *loneNode {
	t.Helper()
	p, err := proc.Start(n.spec)
	if err != nil {
		t.Fatal(err)
	}
	n.Process = p
	t.Cleanup(func() {
		_ = p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", n.spec.Name, tail(n.said(t), 40))
		}
	})
	return n
}

func (n *loneNode) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ends waits for the node to end with the code, having said each text.
func (n *loneNode) ends(t *testing.T, code int, texts ...string) {
	t.Helper()
	select {
	case <-n.Exited():
	case <-time.After(30 * time.Second):
		t.Fatalf("%s still runs", n.spec.Name)
	}
	if got := n.ExitCode(); got != code {
		t.Errorf("%s ended with %d, want %d", n.spec.Name, got, code)
	}
	for _, text := range texts {
		if !strings.Contains(n.said(t), text) {
			t.Errorf("%s did not say %q", n.spec.Name, text)
		}
	}
}

// viewOf reads `cluster status -o json`.
func viewOf(t *testing.T, flag string) (view struct {
	LeaderID string `json:"leader_id"`
	Nodes    []struct {
		ID, Name      string
		Voter, Leader bool
		Healthy       bool
		RaftAddress   string `json:"raft_address"`
		GRPCAddress   string `json:"grpc_address"`
	}
}) {
	t.Helper()
	out := quorate(t, "cluster", "status", "-o", "json", flag)
	if err := json.Unmarshal([]byte(out.stdout), &view); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.stdout, out.stderr)
	}
	return view
}

func TestMembershipByTheCommandLine(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	flag := endpoints(c)
	join := strings.Join(c.Endpoints(), ",")

	// A fourth node joins without a vote, keeps that over a restart, is promoted.
	n4 := newLoneNode(t, "n4", "--join", join, "--non-voter").start(t)
	testkit.Eventually(t, 30*time.Second, func() bool { return strings.Contains(n4.said(t), `msg="in the cluster"`) }, "n4 to be in")
	quorate(t, "cluster", "status", flag).want(t, exitOK, "n4", "non-voter", "quorum 3/3")
	if err := n4.Kill(); err != nil {
		t.Fatal(err)
	}
	n4.start(t)
	testkit.Eventually(t, 30*time.Second, func() bool { return strings.Count(n4.said(t), `msg="in the cluster"`) == 2 }, "n4 to be in again")
	if !strings.Contains(n4.said(t), "not needed any more") {
		t.Error("n4 does not say that it ignores --join")
	}
	quorate(t, "cluster", "promote", "n9", flag).want(t, exitNotFound, `"n9"`, "cluster status -o wide")
	// It was away for a moment: until it has caught up the promotion is refused.
	testkit.Eventually(t, 30*time.Second, func() bool { return quorate(t, "cluster", "promote", "n4", flag).code == exitOK }, "n4 to be promoted")
	quorate(t, "cluster", "status", flag).want(t, exitOK, "quorum 4/4")

	// Leadership is handed over by name, and to any.
	quorate(t, "cluster", "transfer-leader", "n4", flag).want(t, exitOK, "leads")
	view := viewOf(t, flag)
	for _, n := range view.Nodes {
		if n.Leader != (n.Name == "n4") {
			t.Errorf("%s leads: %v", n.Name, n.Leader)
		}
	}
	quorate(t, "cluster", "remove", "n4", flag).want(t, exitRejected, "QUORUM_AT_RISK", "transfer-leader")
	quorate(t, "cluster", "transfer-leader", flag).want(t, exitOK, "leads")

	// A removed node ends and says why; started again it still does.
	quorate(t, "cluster", "remove", "n4", flag).want(t, exitOK, "is out")
	n4.ends(t, exitRejected, "was removed from its cluster", "start with --join")
	n4.start(t)
	n4.ends(t, exitRejected, "was removed from its cluster")
	if got := len(viewOf(t, flag).Nodes); got != 3 {
		t.Errorf("%d nodes, want 3", got)
	}
	// With an empty directory it is a new node, and votes by itself.
	if err := os.RemoveAll(n4.dir); err != nil {
		t.Fatal(err)
	}
	n4.spec.Args = n4.spec.Args[:len(n4.spec.Args)-1] // without --non-voter
	n4.start(t)
	testkit.Eventually(t, 30*time.Second, func() bool {
		for _, n := range viewOf(t, flag).Nodes {
			if n.Name == "n4" && n.Voter {
				return true
			}
		}
		return false
	}, "the new n4 to vote")
	quorate(t, "cluster", "remove", "n4", flag).want(t, exitOK)

	// What leaves no quorum is refused: with n3 dead, n2 must stay.
	n3, _ := c.Node("n3")
	n1, _ := c.Node("n1")
	quorate(t, "cluster", "transfer-leader", "n1", flag).want(t, exitOK)
	if err := n3.Kill(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		for _, n := range viewOf(t, "--endpoints="+n1.GRPC).Nodes {
			if n.Name == "n3" && !n.Healthy {
				return true
			}
		}
		return false
	}, "the leader to miss n3")
	quorate(t, "cluster", "remove", "n2", "--endpoints", n1.GRPC).want(t, exitRejected, "QUORUM_AT_RISK")
	quorate(t, "cluster", "status", "--endpoints", n1.GRPC).want(t, exitOK, "DOWN", "losing one more node stops decisions")
	if err := n3.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A first node whose disk was wiped must not found a second cluster: it is told
// what to type, and that works as written.
func TestAWipedFirstNodeIsNotBootstrappedAgain(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	n1, _ := c.Node("n1")
	n2, _ := c.Node("n2")
	if err := n1.Kill(); err != nil {
		t.Fatal(err)
	}
	old := ""
	testkit.Eventually(t, 20*time.Second, func() bool {
		for _, n := range viewOf(t, "--endpoints="+n2.GRPC).Nodes {
			if n.Name == "n1" && !n.Leader {
				old = n.ID
			}
		}
		return old != ""
	}, "another leader")
	if err := os.RemoveAll(n1.DataDir); err != nil {
		t.Fatal(err)
	}
	err := n1.Restart(t.Context())
	if err == nil {
		t.Fatal("a wiped first node founded a cluster")
	}
	if code := n1.ExitCode(); code != exitRejected {
		t.Errorf("exit code %d, want %d", code, exitRejected)
	}
	text, err := os.ReadFile(n1.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bootstrap refused", "quorate cluster remove " + old, "quorate serve --data-dir " + n1.DataDir + " --name n1 --join"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it did not say %q", want)
		}
	}

	// As printed: first out with the old one. A new node at its address is held
	// off until then.
	rejoin, err := proc.Start(proc.Spec{Name: "n1", Path: binary, LogPath: n1.LogPath, Args: []string{
		"serve", "--name", "n1", "--data-dir", n1.DataDir, "--profile", "fast", "--join", n2.GRPC,
		"--listen-http", n1.HTTP, "--listen-grpc", n1.GRPC, "--listen-raft", n1.Raft,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rejoin.Kill() })
	testkit.Eventually(t, 20*time.Second, func() bool {
		text, _ := os.ReadFile(n1.LogPath)
		return strings.Contains(string(text), "quorate cluster remove "+old) && strings.Contains(string(text), "NODE_CONFLICT")
	}, "the new node to be told that its address is taken")
	quorate(t, "cluster", "remove", old, "--endpoints", n2.GRPC).want(t, exitOK)
	testkit.Eventually(t, 30*time.Second, func() bool {
		return strings.Contains(quorate(t, "cluster", "status", "--endpoints", n2.GRPC).stderr, "quorum 3/3")
	}, "n1 to be back as a new node")
}

func TestDirectoriesAndClustersThatDoNotBelongTogether(t *testing.T) {
	ours := startCluster(t, cluster.Config{Nodes: 1})
	theirs := newLoneNode(t, "other", "--bootstrap").start(t)
	flag := "--endpoints=" + theirs.grpc
	testkit.Eventually(t, 30*time.Second, func() bool { return quorate(t, "cluster", "status", flag, "--timeout", "1s").code == exitOK }, "the other cluster")
	n1 := ours.Nodes()[0]

	t.Run("a directory in use", func(t *testing.T) {
		second := newLoneNode(t, "second", "--join", n1.GRPC)
		second.spec.Args = append(second.spec.Args, "--data-dir", theirs.dir)
		second.start(t).ends(t, exitError, "in use by another process", theirs.dir)
	})
	t.Run("a port in use", func(t *testing.T) {
		second := newLoneNode(t, "second", "--join", n1.GRPC)
		second.spec.Args = append(second.spec.Args, "--listen-grpc", theirs.grpc)
		second.start(t).ends(t, exitError, "listen.grpc", "address already in use")
	})
	t.Run("neither bootstrap nor join", func(t *testing.T) {
		newLoneNode(t, "lost").start(t).ends(t, exitUsage, "--bootstrap", "--join")
	})
	t.Run("a node of another cluster is added by hand", func(t *testing.T) {
		id := viewOf(t, flag).Nodes[0].ID
		// It says nothing of its cluster, so it is admitted; its greeting refuses
		// our log, and it never gets a vote.
		quorate(t, "cluster", "add", id, "--raft", theirs.raft, "--grpc", theirs.grpc, "--http", theirs.http, "--name", "stranger", endpoints(ours)).want(t, exitOK, "non-voter")
		quorate(t, "cluster", "promote", id, endpoints(ours)).want(t, exitRejected, "NOT_CAUGHT_UP")
		quorate(t, "cluster", "remove", "stranger", endpoints(ours)).want(t, exitOK)
	})
	t.Run("an id that is none", func(t *testing.T) {
		quorate(t, "cluster", "add", "n7", "--raft", "127.0.0.1:1", "--grpc", "127.0.0.1:2", "--http", "127.0.0.1:3", endpoints(ours)).want(t, exitUsage, "INVALID")
	})
	t.Run("an address that is none", func(t *testing.T) {
		quorate(t, "cluster", "add", "3d7d6676-9fcb-4103-b2ba-4e05a59d2a24", "--raft", "nowhere", "--grpc", "127.0.0.1:2", "--http", "127.0.0.1:3", endpoints(ours)).want(t, exitUsage, "INVALID")
	})
	t.Run("a node of another cluster joins", func(t *testing.T) {
		if err := theirs.Kill(); err != nil {
			t.Fatal(err)
		}
		joining := *theirs
		joining.spec.Args = append(joining.spec.Args[:len(joining.spec.Args)-1:len(joining.spec.Args)-1], "--join", n1.GRPC)
		joining.start(t).ends(t, exitRejected, "is of a node of cluster", "empty directory")
	})
	t.Run("a damaged directory", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(theirs.dir, "identity.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		theirs.start(t).ends(t, exitError, "identity.json", "damaged")
	})
	if got := len(viewOf(t, endpoints(ours)).Nodes); got != 1 {
		t.Errorf("%d nodes in the cluster, want the one: something was left half done", got)
	}
}

// A copy of a data directory that is started beside its original would vote
// twice; it is refused its place, and the original keeps it.
func TestACopyOfADataDirectoryGetsNoPlace(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	n3, _ := c.Node("n3")
	copied := newLoneNode(t, "n3", "--join", strings.Join(c.Endpoints(), ","))
	if err := n3.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied.dir, os.DirFS(n3.DataDir)); err != nil {
		t.Fatal(err)
	}
	if err := n3.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitWhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied.start(t)
	testkit.Eventually(t, 30*time.Second, func() bool {
		return strings.Contains(copied.said(t), "a data directory must not be used twice")
	}, "the copy to be refused")
	for _, n := range viewOf(t, endpoints(c)).Nodes {
		if n.Name == "n3" && n.RaftAddress != n3.Raft {
			t.Errorf("the copy at %s took the place of n3 at %s", n.RaftAddress, n3.Raft)
		}
	}
}

// A node that comes back at other addresses tells them, and is led to again.
func TestANodeMovesToOtherAddresses(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	n3, _ := c.Node("n3")
	if err := n3.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	moved := newLoneNode(t, "n3-moved", "--join", strings.Join(c.Endpoints(), ","))
	moved.spec.Args = append(moved.spec.Args, "--data-dir", n3.DataDir)
	moved.start(t)
	flag := "--endpoints=" + c.Nodes()[0].GRPC
	testkit.Eventually(t, 30*time.Second, func() bool {
		for _, n := range viewOf(t, flag).Nodes {
			if n.Name == "n3-moved" && n.RaftAddress == moved.raft && n.GRPCAddress == moved.grpc && n.Voter {
				return true
			}
		}
		return false
	}, "the cluster to know the new addresses")
	testkit.Eventually(t, 30*time.Second, func() bool {
		return quorate(t, "cluster", "transfer-leader", "n3-moved", flag).code == exitOK
	}, "the moved node to lead")
	// A follower leads callers to where it is now.
	quorate(t, "tx", "ls", flag).want(t, exitOK, "0 transactions")
}

// SIGTERM hands leadership over before the node stops listening.
func TestServeStopsInOrder(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := leader.ExitCode(); code != exitOK {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	text, err := os.ReadFile(leader.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"msg=stopping", "stopped by terminated", "msg=stopped", "no longer the leader"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("its log lacks %q:\n%s", want, tail(string(text), 20))
		}
	}
	if strings.Contains(string(text), "was not handed over") {
		t.Error("leadership was not handed over")
	}
	if next, err := c.WaitLeader(t.Context()); err != nil || next == leader {
		t.Errorf("leader %v, %v", next, err)
	}
}

func TestWhatServeRefusesAtItsStart(t *testing.T) {
	t.Run("failpoints beyond loopback", func(t *testing.T) {
		n := newLoneNode(t, "n1", "--bootstrap", "--insecure", "--listen-grpc", "0.0.0.0:"+strconv.Itoa(testkit.FreePort(t)), "--advertise-grpc", "localhost:36790")
		n.spec.Env = []string{"QUORATE_FAILPOINTS=at-decision=kill"}
		n.start(t).ends(t, exitUsage, "failpoints are for tests on one machine")
	})
	t.Run("detours beyond loopback", func(t *testing.T) {
		n := newLoneNode(t, "n1", "--bootstrap", "--insecure", "--listen-grpc", "0.0.0.0:"+strconv.Itoa(testkit.FreePort(t)), "--advertise-grpc", "localhost:36790")
		n.spec.Env = []string{"QUORATE_DETOURS=" + filepath.Join(t.TempDir(), "detours")}
		n.start(t).ends(t, exitUsage, "detours are for tests on one machine")
	})
	t.Run("a failpoint that is none", func(t *testing.T) {
		n := newLoneNode(t, "n1", "--bootstrap")
		n.spec.Env = []string{"QUORATE_FAILPOINTS=at-lunch=kill"}
		n.start(t).ends(t, exitUsage, "at-lunch")
	})
	t.Run("a file of detours that is none", func(t *testing.T) {
		n := newLoneNode(t, "n1", "--bootstrap")
		n.spec.Env = []string{"QUORATE_DETOURS=" + filepath.Join(t.TempDir(), "none")}
		n.start(t).ends(t, exitUsage, "no such file")
	})
	t.Run("an endpoint rule that is none", func(t *testing.T) {
		newLoneNode(t, "n1", "--bootstrap", "--endpoint-allow", "10.0.0.0/99").start(t).ends(t, exitUsage, "tx.endpoint_allow")
	})
	t.Run("a directory that cannot be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		n := newLoneNode(t, "n1", "--bootstrap")
		n.spec.Args = append(n.spec.Args, "--data-dir", filepath.Join(file, "data"))
		n.start(t).ends(t, exitError, "not a directory")
	})
}

func TestArmedFailpointsAreLoud(t *testing.T) {
	n := newLoneNode(t, "n1", "--bootstrap")
	n.spec.Env = []string{"QUORATE_FAILPOINTS=at-decision=kill"}
	n.start(t)
	testkit.Eventually(t, 20*time.Second, func() bool { return strings.Contains(n.said(t), "FAILPOINTS ARE ARMED") }, "the warning")
}

func TestInsecureIsLoudAndJSONLogsAreJSON(t *testing.T) {
	n := newLoneNode(t, "n1", "--bootstrap", "--insecure", "--log-format", "json")
	_, port, err := net.SplitHostPort(n.grpc)
	if err != nil {
		t.Fatal(err)
	}
	n.spec.Args = append(n.spec.Args, "--listen-grpc", "0.0.0.0:"+port, "--advertise-grpc", "localhost:"+port)
	n.start(t)
	testkit.Eventually(t, 20*time.Second, func() bool { return strings.Contains(n.said(t), "in the cluster") }, "the start")
	for i, line := range strings.Split(strings.TrimSpace(n.said(t)), "\n") {
		entry := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("line %d is no JSON: %s", i+1, line)
		}
	}
	if !strings.Contains(n.said(t), "INSECURE") {
		t.Error("no warning")
	}
	if got := viewOf(t, "--endpoints="+n.grpc).Nodes[0].GRPCAddress; got != "localhost:"+port {
		t.Errorf("the advertised name is stored as %s", got)
	}
}

// A new node is given the log from its beginning, where others are in the cluster
// and it is not yet. That is no removal, however long its disk takes.
func TestANodeThatCatchesUpIsNotTakenForARemovedOne(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	client, err := participant.Dial(t.Context(), c.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 200 { // some batches of entries that lie between the past and its admission
		if err := client.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	n4 := newLoneNode(t, "n4", "--join", strings.Join(c.Endpoints(), ","))
	n4.spec.Env = []string{"QUORATE_FAILPOINTS=store-write@log=pause(300ms)"}
	n4.start(t)
	testkit.Eventually(t, 60*time.Second, func() bool {
		return !n4.Running() || strings.Contains(n4.said(t), `msg="in the cluster"`)
	}, "n4 to be in")
	if !n4.Running() {
		t.Fatal("it has ended")
	}
}
