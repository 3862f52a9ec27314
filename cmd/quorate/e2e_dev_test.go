package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testkit"
)

// devProcess is a running `quorate dev`.
type devProcess struct {
	cmd *exec.Cmd
	out *syncBuffer
}

// syncBuffer is a bytes.Buffer that a process may write while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startDev starts `quorate dev` and waits for the end of its banner.
func startDev(t *testing.T, args ...string) *devProcess {
	t.Helper()
	d := &devProcess{cmd: exec.Command(binary, append([]string{"dev"}, args...)...), out: &syncBuffer{}}
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			_ = d.cmd.Process.Kill()
			_ = d.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("dev said:\n%s", d.out)
		}
	})
	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(d.out.String(), "Ctrl-C") }, "the banner")
	return d
}

// find returns what the expression's group matches in the output.
func (d *devProcess) find(t *testing.T, expression string) string {
	t.Helper()
	match := regexp.MustCompile(expression).FindStringSubmatch(d.out.String())
	if match == nil {
		t.Fatalf("no %s in:\n%s", expression, d.out)
	}
	return match[1]
}

// interrupt presses Ctrl-C and waits for the end.
func (d *devProcess) interrupt(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("dev ended with %v after Ctrl-C", err)
	}
}

// call is what curl does: a request to /v1 and its JSON answer.
func call(t *testing.T, method, url, body string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, url, response.Status, text)
	}
	answer := make(map[string]any)
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s %s: %v: %s", method, url, err, text)
	}
	return answer
}

// begin begins a transaction with two prepared branches over HTTP.
func begin(t *testing.T, http, key string) (gid string) {
	t.Helper()
	gid = call(t, "POST", http+"/v1/transactions", `{"key": "`+key+`", "timeout": "300s"}`)["gid"].(string)
	for _, b := range []string{"1", "2"} {
		call(t, "POST", http+"/v1/transactions/"+gid+"/branches", `{"id": "`+b+`", "resource": "db-`+b+`"}`)
		call(t, "POST", http+"/v1/transactions/"+gid+"/votes", `{"branch": {"id": "`+b+`", "resource": "db-`+b+`"}, "vote": "VOTE_PREPARED"}`)
	}
	return gid
}

// The tour of the README with the leader's death in the middle: everything
// through a follower, as a newcomer does it.
func TestDevADecisionOutlivesItsLeader(t *testing.T) {
	t.Setenv("QUORATE_JOIN", "nowhere:1") // the user's settings are not for dev's nodes
	d := startDev(t, "--port", strconv.Itoa(20000+testkit.FreePort(t)%5000))
	seeds := strings.Split(d.find(t, `QUORATE_ENDPOINTS=(\S+)`), ",")
	dir := d.find(t, `temporary \((\S+)\), lost on exit`)
	leader := d.find(t, `leader (n\d)`)
	leaderPid, err := strconv.Atoi(d.find(t, `Pids.*`+leader+` (\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	// The followers' endpoints, for HTTP one port below gRPC.
	var followers []string
	for i, seed := range seeds {
		if "n"+strconv.Itoa(i+1) != leader {
			followers = append(followers, seed)
		}
	}
	flag := "--endpoints=" + strings.Join(followers, ",")
	follower := "http://" + httpOf(t, dir, followers[0])

	gid := begin(t, follower, "order-4711")
	answer := call(t, "POST", follower+"/v1/transactions/"+gid+":commit", `{}`)
	if answer["decision"] != "DECISION_COMMIT" {
		t.Fatalf("commit was answered %v", answer)
	}
	index := answer["index"].(string)
	if err := syscall.Kill(leaderPid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}

	story := quorate(t, "tx", "show", "key:order-4711", flag, "--timeout", "30s").want(t, exitOK,
		gid, "committing", "decision COMMIT", "/"+index, "branch 1 joined", "branch 2 voted prepared", "DECIDED commit",
		"was lost", "carried on", `no process of resource "db-1" is attached`).stdout
	if strings.Index(story, "DECIDED commit") > strings.Index(story, "was lost") {
		t.Errorf("the decision fell before the leader was lost, and is told after it:\n%s", story)
	}
	quorate(t, "tx", "rollback", gid, flag).want(t, exitRejected, "ALREADY_DECIDED")
	quorate(t, "tx", "ls", flag, "--in-doubt").want(t, exitOK, gid, "1 transaction, 1 in doubt")

	for _, b := range []string{"1", "2"} {
		call(t, "POST", follower+"/v1/transactions/"+gid+"/branches/"+b+":report", `{"outcome": "OUTCOME_COMMITTED"}`)
	}
	quorate(t, "tx", "wait", gid, "--for", "finish", flag).want(t, exitOK, "committed")
	quorate(t, "tx", "ls", flag).want(t, exitOK, "0 transactions")
	quorate(t, "tx", "ls", "--all", "-o", "jsonl", flag).want(t, exitOK, `"state":"STATE_COMMITTED"`)

	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(d.out.String(), leader+" runs again") }, "the node to be started again, visibly")
	if !strings.Contains(d.out.String(), leader+" ended (signal: killed)") {
		t.Errorf("the death of %s is hidden:\n%s", leader, d.out)
	}
	// A busy machine may hold another election while it comes back.
	testkit.Eventually(t, time.Minute, func() bool { return quorate(t, "cluster", "status", flag).code == exitOK }, "the cluster to be whole")
	quorate(t, "cluster", "status", flag).want(t, exitOK, "quorum 3/3")

	d.interrupt(t)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory %s is left behind: %v", dir, err)
	}
	if conn, err := net.Dial("tcp", seeds[0]); err == nil {
		conn.Close()
		t.Error("a node still listens after the end")
	}
}

// httpOf finds the HTTP address of a node by its gRPC address.
func httpOf(t *testing.T, dir, grpc string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(grpc)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if err != nil {
		t.Fatal(err)
	}
	var remembered struct{ Nodes []cluster.Ports }
	if err := json.Unmarshal(text, &remembered); err != nil {
		t.Fatal(err)
	}
	for _, p := range remembered.Nodes {
		if strconv.Itoa(p.GRPC) == port {
			return net.JoinHostPort(host, strconv.Itoa(p.HTTP))
		}
	}
	t.Fatalf("no node at %s in %s", grpc, text)
	return ""
}

// All nodes are killed at once; what was acknowledged is there after a restart
// with the same command line.
func TestDevKeptDataSurvivesKillOfEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"--nodes", "3", "--data-dir", dir, "--port", strconv.Itoa(20000 + testkit.FreePort(t)%5000)}
	first := startDev(t, args...)
	flag := "--endpoints=" + first.find(t, `QUORATE_ENDPOINTS=(\S+)`)
	if !strings.Contains(first.out.String(), dir+", kept on exit") {
		t.Errorf("the banner does not say that the data lasts:\n%s", first.out)
	}
	gid := begin(t, first.find(t, `HTTP +(\S+)`), "kept")
	quorate(t, "tx", "commit", gid, flag).want(t, exitOK, "decision commit")
	// The kernel kills the nodes with their parent.
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()

	waitPortsFree(t, dir)
	second := startDev(t, args...)
	quorate(t, "tx", "show", "key:kept", flag).want(t, exitOK, gid, "decision COMMIT")
	if got := "--endpoints=" + second.find(t, `QUORATE_ENDPOINTS=(\S+)`); got != flag {
		t.Errorf("the ports changed from %s to %s", flag, got)
	}
	busy := exec.Command(binary, append([]string{"dev"}, args...)...)
	if out, err := busy.CombinedOutput(); err == nil || !strings.Contains(string(out), "is this cluster running already?") {
		t.Errorf("a second dev in the same directory: %v\n%s", err, out)
	}
	second.interrupt(t)
	other := exec.Command(binary, "dev", "--nodes", "5", "--data-dir", dir)
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "--nodes 3") {
		t.Errorf("other number of nodes: %v\n%s", err, out)
	}
}

// waitPortsFree waits until the killed nodes of a directory are gone.
func waitPortsFree(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if err != nil {
		t.Fatal(err)
	}
	var remembered struct{ Nodes []cluster.Ports }
	if err := json.Unmarshal(text, &remembered); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		for _, p := range remembered.Nodes {
			for _, port := range []int{p.HTTP, p.GRPC, p.Raft} {
				l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
				if err != nil {
					return false
				}
				l.Close()
			}
		}
		return true
	}, "the killed nodes to be gone")
}
