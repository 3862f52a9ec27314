package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testkit"
)

// The operator's commands on one node, which is enough for what they say.
func TestTransactionsByTheCommandLine(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 1, Args: []string{"--log-store", "wal", "--stuck-after", "50ms"}})
	flag, http := endpoints(c), "http://"+c.Nodes()[0].HTTP

	t.Run("commit asked before the last vote, waited for, and stuck", func(t *testing.T) {
		gid := call(t, "POST", http+"/v1/transactions", `{"key": "late", "timeout": "300s"}`)["gid"].(string)
		for _, b := range []string{"1", "2"} {
			call(t, "POST", http+"/v1/transactions/"+gid+"/branches", `{"id": "`+b+`", "resource": "db-`+b+`"}`)
		}
		quorate(t, "tx", "show", gid, flag).want(t, exitOK, "not decided", "branch 1 has not voted", "rolls back by itself in 4m")
		quorate(t, "tx", "commit", gid, flag, "--wait", "none").want(t, exitOK, "sealed")
		quorate(t, "tx", "wait", gid, flag, "--timeout", "200ms").want(t, exitUnreachable, "still sealed")
		waited := make(chan ran, 1)
		go func() { waited <- quorate(t, "tx", "wait", gid, flag, "--timeout", "30s", "-o", "json") }()
		for _, b := range []string{"1", "2"} {
			call(t, "POST", http+"/v1/transactions/"+gid+"/votes", `{"branch": {"id": "`+b+`", "resource": "db-`+b+`"}, "vote": "VOTE_PREPARED"}`)
		}
		(<-waited).want(t, exitOK, `"decision": "DECISION_COMMIT"`)
		quorate(t, "tx", "commit", "key:late", flag).want(t, exitOK, "decision commit")

		testkit.Eventually(t, 20*time.Second, func() bool { return strings.Contains(quorate(t, "tx", "ls", "--stuck", flag).stdout, gid) }, "it to be stuck")
		quorate(t, "tx", "show", gid, flag).want(t, exitOK, "STUCK", "quorate tx resolve "+gid+" --branch 1")
		quorate(t, "tx", "retry", gid, flag).want(t, exitOK, "2 branches are called now")
		quorate(t, "tx", "retry", gid, "--branch", "2", flag, "-o", "json").want(t, exitOK, `"branches": 1`)

		resolve := []string{"tx", "resolve", gid, "--outcome", "committed", "--operator", "jane", "--reason", "seen in the standby", flag, "--branch"}
		quorateIn(t, "no\n", append(resolve, "1")...).want(t, exitUsage, "not confirmed", "voted prepared", "for ever")
		quorateIn(t, "", append(resolve, "1")...).want(t, exitUsage, "not confirmed")
		quorate(t, append(resolve, "7", "--yes")...).want(t, exitRejected, "NOT_ENLISTED")
		quorateIn(t, "7\n", append(resolve, "7")...).want(t, exitNotFound, "no branch 7")
		quorateIn(t, "1\n", append(resolve, "1")...).want(t, exitOK, "resolved as committed by jane")
		quorate(t, append(resolve, "2", "--yes", "-o", "yaml")...).want(t, exitOK, "state: STATE_COMMITTED")
		quorate(t, "tx", "show", gid, flag).want(t, exitOK, "branch 1 resolved as committed", "by jane: seen in the standby", "finished: committed")
		quorate(t, "tx", "retry", gid, flag).want(t, exitOK, "nothing to retry")
	})
	t.Run("rollback", func(t *testing.T) {
		gid := call(t, "POST", http+"/v1/transactions", `{"labels": {"shop": "eu"}}`)["gid"].(string)
		quorate(t, "tx", "ls", "--label", "shop=eu", flag).want(t, exitOK, gid)
		quorate(t, "tx", "ls", "--label", "shop=us", flag).want(t, exitOK, "0 transactions")
		quorate(t, "tx", "rollback", gid, "--reason", "changed my mind", flag).want(t, exitOK, "decision rollback")
		quorate(t, "tx", "show", gid, "--local", flag).want(t, exitOK, "DECIDED rollback", "REQUESTED", "changed my mind")
		quorate(t, "tx", "commit", gid, flag).want(t, exitRejected, "ALREADY_DECIDED")
		quorate(t, "tx", "wait", gid, flag).want(t, exitRejected, "rolls back (requested)")
		quorate(t, "tx", "rollback", gid, flag, "-o", "json").want(t, exitOK, `"decision": "DECISION_ROLLBACK"`)
		out := quorate(t, "tx", "ls", "--state", "rolled-back", "-o", "json", "--local", flag).want(t, exitOK).stdout
		var list []struct{ GID string }
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].GID != gid {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("replicated limits", func(t *testing.T) {
		call(t, "PATCH", http+"/v1/cluster/limits", `{"limits": {"transaction_timeout_max": "120s"}, "operator": "jane"}`)
		limits := call(t, "GET", http+"/v1/cluster/limits", "")["limits"].(map[string]any)
		if limits["transaction_timeout_max"] != "120s" || limits["transaction_timeout_default"] != "30s" {
			t.Errorf("limits %v", limits)
		}
	})
	t.Run("what is no transaction", func(t *testing.T) {
		quorate(t, "tx", "show", "order-1", flag).want(t, exitUsage, "INVALID")
		quorate(t, "tx", "show", "key:", flag).want(t, exitUsage, "INVALID")
		quorate(t, "tx", "show", "key:nobody", flag).want(t, exitNotFound, "NOT_FOUND")
		quorate(t, "tx", "rollback", "key:nobody", flag).want(t, exitNotFound, "NOT_FOUND")
		quorate(t, "tx", "retry", "000000000MYBKBGMYVTVTM4XP5", flag).want(t, exitNotFound)
		quorate(t, "tx", "commit", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", flag).want(t, exitUsage, "after the cluster clock")
	})
	t.Run("the list again and again", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := &syncBuffer{}
		done := make(chan int, 1)
		go func() {
			done <- run(ctx, []string{"tx", "ls", "--watch=10ms", flag}, strings.NewReader(""), out, out)
		}()
		testkit.Eventually(t, 10*time.Second, func() bool { return strings.Count(out.String(), "GID ") >= 3 }, "three lists")
		cancel()
		if code := <-done; code != exitOK && code != exitError {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("pages", func(t *testing.T) {
		for range 3 {
			call(t, "POST", http+"/v1/transactions", `{}`)
		}
		quorate(t, "tx", "ls", "--limit", "2", flag).want(t, exitOK, "2 transactions (more exist: raise --limit)")
		quorate(t, "cluster", "status", "-o", "wide", flag).want(t, exitOK, "wal", "3 active", "quorum 1/1: works, and tolerates no failure")
	})
}

// One node of three is left: everything that needs a quorum says so, in time.
func TestWithoutAQuorum(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	gid := begin(t, "http://"+c.Nodes()[0].HTTP, "order-1")
	last := c.Nodes()[2]
	testkit.Eventually(t, 20*time.Second, func() bool {
		return strings.Contains(quorate(t, "tx", "show", gid, "--local", "--endpoints="+last.GRPC).stdout, "branch 2 voted prepared")
	}, "n3 to have applied the votes")
	for _, n := range c.Nodes()[:2] {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	flag := "--endpoints=" + last.GRPC
	quorate(t, "tx", "commit", gid, flag, "--timeout", "1500ms").want(t, exitUnreachable)
	quorate(t, "cluster", "status", flag).want(t, exitUnhealthy, "1 of 3 voters answer, and a quorum is 2")
	quorate(t, "tx", "show", gid, "--local", flag).want(t, exitOK, "branch 2 voted prepared")
	for _, n := range c.Nodes()[:2] {
		// Alone neither of them is ready; together they are.
		go func() { _ = n.Restart(t.Context()) }()
	}
	if _, err := c.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	quorate(t, "tx", "commit", gid, flag, "--timeout", "30s").want(t, exitOK, "decision commit")
	if err := c.WaitWhole(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A log that was damaged while the node was down is noticed at its start, and
// the node does not serve.
func TestADamagedLogStopsItsNode(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 3})
	const key = "a-key-that-is-found-in-the-file"
	begin(t, "http://"+c.Nodes()[0].HTTP, key)
	n3 := c.Nodes()[2]
	// Two nodes are a quorum: the third has it a moment later.
	var path string
	testkit.Eventually(t, 30*time.Second, func() bool {
		segments, err := filepath.Glob(n3.DataDir + "/wal/*.wal")
		for _, path = range segments {
			content, readErr := os.ReadFile(path)
			if err == nil && readErr == nil && strings.Contains(string(content), key) {
				return true
			}
		}
		return false
	}, "the entry in a segment of the third node")
	if err := n3.Kill(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.ReplaceAll(string(content), key, "A"+key[1:])
	if damaged == string(content) {
		t.Fatal("the entry is not in the file")
	}
	if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n3.Restart(t.Context()); err == nil {
		t.Fatal("the node serves with a damaged log")
	}
	text, err := os.ReadFile(n3.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if code := n3.ExitCode(); code != exitError || !strings.Contains(string(text), "damaged") {
		t.Errorf("exit code %d; it said:\n%s", code, tail(string(text), 5))
	}
}
