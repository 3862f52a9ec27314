package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testkit"
)

// The operator's commands on transactions whose branches are called, on one
// real node: what is stuck says why and what to type, and what is typed helps.
func TestModesByTheCommandLine(t *testing.T) {
	c := startCluster(t, cluster.Config{Nodes: 1, Args: []string{"--stuck-after", "50ms", "--endpoint-allow", "localhost"}})
	flag := endpoints(c)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/down"):
			http.Error(w, "pool exhausted", http.StatusServiceUnavailable)
		case strings.HasPrefix(req.URL.Path, "/refuse"):
			http.Error(w, "no funds", http.StatusConflict)
		}
	}))
	t.Cleanup(shop.Close)
	submit := func(key, mode, set string) string {
		file := filepath.Join(t.TempDir(), "tx.json")
		body := fmt.Sprintf(`{"begin": {"key": %q, "mode": %q, "plan": {"retry": {"interval": "60s"}}}, "set": %s}`, key, mode, strings.ReplaceAll(set, "SHOP", shop.URL))
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		var answer struct{ GID string }
		out := quorate(t, "tx", "submit", file, "-o", "json", flag).want(t, exitOK).stdout
		if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.GID) != 26 {
			t.Fatalf("%v: %s", err, out)
		}
		quorate(t, "tx", "submit", file, flag).want(t, exitOK, answer.GID) // the same again is the same
		return answer.GID
	}
	shows := func(gid string, texts ...string) {
		t.Helper()
		testkit.Eventually(t, 20*time.Second, func() bool {
			out := quorate(t, "tx", "show", gid, flag).stdout
			for _, text := range texts {
				if !strings.Contains(out, text) {
					return false
				}
			}
			return true
		}, fmt.Sprintf("the story of %s to tell %q", gid, texts))
	}

	t.Run("a saga that hangs, is retried, and given up", func(t *testing.T) {
		gid := submit("hangs", "MODE_SAGA", `[{"id": "1", "endpoint": "SHOP/1", "undo": "SHOP/u1"}, {"id": "2", "endpoint": "SHOP/down/2", "undo": "SHOP/u2", "after": ["1"]}]`)
		shows(gid, "step 1 done", "step 2 action: 1 attempt", "STUCK", "pool exhausted", "quorate tx retry "+gid+" --branch 2", "quorate tx rollback "+gid)
		quorate(t, "tx", "ls", "--stuck", "--mode", "saga", flag).want(t, exitOK, gid, "1/2")
		quorate(t, "tx", "retry", gid, "--branch", "2", flag).want(t, exitOK, "1 branch is called now")
		shows(gid, "step 2 action: 2 attempts")
		quorate(t, "tx", "rollback", gid, "--reason", "closed", "--wait", "finish", flag).want(t, exitOK)
		shows(gid, "DECIDED rollback", "step 2 compensated", "step 1 compensated", "finished: rolled-back")
		quorate(t, "tx", "wait", gid, flag).want(t, exitRejected)
	})
	t.Run("a compensation that hangs, and is stopped", func(t *testing.T) {
		gid := submit("stopped", "MODE_SAGA", `[{"id": "1", "endpoint": "SHOP/1", "undo": "SHOP/down/u1"}, {"id": "2", "endpoint": "SHOP/refuse/2", "undo": "SHOP/u2", "after": ["1"]}]`)
		shows(gid, "step 2 refused", "no funds", "step 1 compensate: 1 attempt", "quorate tx stop "+gid, "quorate tx resolve "+gid+" --branch 1")
		stop := []string{"tx", "stop", gid, "--operator", "jane", "--reason", "refunded by hand", flag}
		quorateIn(t, "no\n", stop...).want(t, exitUsage, "not confirmed", "step 1 is left as it is")
		quorateIn(t, strings.ToLower(gid[22:])+"\n", stop...).want(t, exitOK, "stopped by jane")
		quorate(t, append(stop, "--yes", "-o", "json")...).want(t, exitOK, `"state": "STATE_ROLLED_BACK"`)
		quorate(t, "tx", "show", gid, flag).want(t, exitOK, "rolled-back, STOPPED", "by operator jane: stopped: refunded by hand", "REFUSED")
	})
	t.Run("topics", func(t *testing.T) {
		quorate(t, "topic", "ls", flag).want(t, exitOK, "TOPIC")
		quorate(t, "topic", "ls", "orders", flag).want(t, exitNotFound, `no topic "orders"`)
		quorate(t, "topic", "subscribe", "orders", shop.URL+"/a", "--remark", "team blue", flag).want(t, exitOK, "team blue")
		quorate(t, "topic", "subscribe", "orders", shop.URL+"/b", flag).want(t, exitOK, shop.URL+"/a", shop.URL+"/b")
		quorate(t, "topic", "subscribe", "orders", "http://10.0.0.1/", flag).want(t, exitUsage, "--endpoint-allow")
		gid := submit("told", "MODE_MESSAGE", `[{"id": "1", "endpoint": "topic://orders"}]`)
		shows(gid, "branch 1-01 delivered", "branch 1-02 delivered", "of topic orders", "finished: committed")
		quorate(t, "topic", "unsubscribe", "orders", shop.URL+"/a", "-o", "json", flag).want(t, exitOK, `"version": "3"`)
		quorate(t, "topic", "ls", "-o", "jsonl", flag).want(t, exitOK, shop.URL+"/b")
		quorate(t, "topic", "rm", "orders", flag).want(t, exitOK, "deleted")
		// A name that was mistyped is not said to be done.
		quorate(t, "topic", "rm", "order", flag).want(t, exitOK, `no topic "order"`)
		quorate(t, "topic", "unsubscribe", "order", shop.URL+"/a", flag).want(t, exitOK, `no topic "order"`)
		quorateIn(t, `{"begin": {"mode": "MODE_NOTIFY", "key": "x"}, "set": [{"id": "1", "endpoint": "topic://orders"}]}`, "tx", "submit", "-", flag).
			want(t, exitNotFound, "orders", "quorate topic subscribe")
	})
	t.Run("what is no submit", func(t *testing.T) {
		quorateIn(t, `{"begin": {}, "sett": []}`, "tx", "submit", "-", flag).want(t, exitUsage, "sett")
		quorateIn(t, `{"begin": {"mode": "MODE_SAGA"}}`, "tx", "submit", "-", flag).want(t, exitUsage, "neither a gid nor a key")
		quorateIn(t, `{"begin": {"mode": "MODE_SAGA", "key": "k"}, "set": [{"id": "1", "endpoint": "http://localhost:1/", "after": ["2"]}]}`, "tx", "submit", "-", flag).
			want(t, exitUsage, "INVALID", `names "2", which is no branch`)
	})
}
