package api

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/callheader"
	"github.com/quorate/quorate/internal/testkit"
)

// shop is everybody who is called: it notes each call that is done, as
// `operation path body`, and answers by the path: /refuse, /busy, /down, or done.
type shop struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
	tries map[string]int
}

func openShop(t *testing.T) *shop {
	s := &shop{tries: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tries[req.URL.Path]++
		switch first := s.tries[req.URL.Path] == 1; {
		case strings.HasPrefix(req.URL.Path, "/refuse"):
			w.WriteHeader(http.StatusConflict)
			return
		case strings.HasPrefix(req.URL.Path, "/busy") && first:
			w.WriteHeader(http.StatusAccepted)
			return
		case strings.HasPrefix(req.URL.Path, "/down"), strings.HasPrefix(req.URL.Path, "/flaky") && first:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.calls = append(s.calls, strings.TrimSpace(req.Header.Get(callheader.Operation)+" "+req.URL.Path+" "+string(body)))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// until waits for a transaction's state, and returns it as it is then.
func until(t *testing.T, n *realNode, gid any, state string) map[string]any {
	t.Helper()
	var tx map[string]any
	testkit.Eventually(t, 20*time.Second, func() bool {
		tx, _ = n.must(t, "GET", fmt.Sprintf("/v1/transactions/%v", gid), "")["transaction"].(map[string]any)
		return tx["state"] == state
	}, fmt.Sprintf("transaction %v to be %s", gid, state))
	return tx
}

// retrying makes calls that failed come again soon.
const retrying = `"plan":{"retry":{"interval":"0.01s","interval_max":"0.02s","attempts_max":3}}`

// TestModesWithCurl is each mode's story in JSON, through a follower, with branches
// that are called over HTTP.
func TestModesWithCurl(t *testing.T) {
	follower := realCluster(t, 2)[1]

	t.Run("a saga", func(t *testing.T) {
		s := openShop(t)
		body := `{"begin":{"mode":"MODE_SAGA","key":"saga-1",` + retrying + `},"wait":"WAIT_FINISH","set":[
			{"id":"a","endpoint":"` + s.URL + `/busy/stock","undo":"` + s.URL + `/stock/undo","payload":"` + base64.StdEncoding.EncodeToString([]byte(`{"n":1}`)) + `"},
			{"id":"b","endpoint":"` + s.URL + `/flaky/pay","undo":"` + s.URL + `/pay/undo","after":["a"]}]}`
		submitted := follower.must(t, "POST", "/v1/transactions:submit", body)
		if submitted["decision"] != "DECISION_COMMIT" || submitted["state"] != "STATE_COMMITTED" {
			t.Fatalf("submitted %v", submitted)
		}
		if got := s.done(); !slices.Equal(got, []string{`action /busy/stock {"n":1}`, "action /flaky/pay"}) {
			t.Errorf("called %q", got)
		}
		if again := follower.must(t, "POST", "/v1/transactions:submit", body); again["created"] != false || again["gid"] != submitted["gid"] {
			t.Errorf("again %v", again)
		}
		code, other, _ := follower.request(t, "POST", "/v1/transactions:submit", strings.Replace(body, `"after":["a"]`, `"after":[]`, 1))
		if reason, _ := jsonReason(t, other); code != 409 || reason != "KEY_CONFLICT" && reason != "GID_CONFLICT" {
			t.Errorf("another saga of the same key: %d %v", code, other)
		}
		tx := until(t, follower, submitted["gid"], "STATE_COMMITTED")
		if tx["deadline_ms"] != "0" {
			t.Errorf("a saga without a timeout has the deadline %v", tx["deadline_ms"])
		}
		for _, b := range tx["branches"].([]any) {
			if b := b.(map[string]any); b["operation"] != "OPERATION_ACTION" || b["terminal"] != true {
				t.Errorf("branch %v", b)
			}
		}
	})
	t.Run("a saga that fails", func(t *testing.T) {
		s := openShop(t)
		submitted := follower.must(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_SAGA",`+retrying+`},"wait":"WAIT_FINISH","set":[
			{"id":"1","endpoint":"`+s.URL+`/1","undo":"`+s.URL+`/u1"},{"id":"2","endpoint":"`+s.URL+`/2","undo":"`+s.URL+`/flaky/u2","after":["1"]},
			{"id":"3","endpoint":"`+s.URL+`/refuse/3","undo":"`+s.URL+`/u3","after":["2"]},{"id":"4","endpoint":"`+s.URL+`/4","undo":"`+s.URL+`/u4","after":["3"]}]}`)
		if submitted["decision"] != "DECISION_ROLLBACK" || submitted["state"] != "STATE_ROLLED_BACK" || submitted["reason"] != "ROLLBACK_REASON_REFUSED" {
			t.Errorf("submitted %v", submitted)
		}
		if got := s.done(); !slices.Equal(got, []string{"action /1", "action /2", "compensate /flaky/u2", "compensate /u1"}) {
			t.Errorf("called %q", got)
		}
	})
	t.Run("a saga that gives up", func(t *testing.T) {
		s := openShop(t)
		submitted := follower.must(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_SAGA",`+retrying+`},"wait":"WAIT_FINISH","set":[
			{"id":"1","endpoint":"`+s.URL+`/1","undo":"`+s.URL+`/u1"},{"id":"2","endpoint":"`+s.URL+`/down/2","undo":"`+s.URL+`/u2","after":["1"]}]}`)
		if submitted["reason"] != "ROLLBACK_REASON_GAVE_UP" {
			t.Errorf("submitted %v", submitted)
		}
		if got := s.done(); !slices.Equal(got, []string{"action /1", "compensate /u2", "compensate /u1"}) || s.tries["/down/2"] != 3 {
			t.Errorf("called %q, the step that is down %d times", got, s.tries["/down/2"])
		}
	})
	t.Run("TCC", func(t *testing.T) {
		s := openShop(t)
		for _, word := range []string{"commit", "rollback"} {
			gid := follower.must(t, "POST", "/v1/transactions", `{"mode":"MODE_TCC",`+retrying+`}`)["gid"].(string)
			follower.must(t, "POST", "/v1/transactions/"+gid+"/branches", `{"id":"1","endpoint":"`+s.URL+`/confirm","undo":"`+s.URL+`/cancel","payload":"e30="}`)
			follower.must(t, "POST", "/v1/transactions/"+gid+":"+word, `{"wait":"WAIT_FINISH"}`)
		}
		if got := s.done(); !slices.Equal(got, []string{"confirm /confirm {}", "cancel /cancel {}"}) {
			t.Errorf("called %q", got)
		}
	})
	t.Run("messages", func(t *testing.T) {
		s := openShop(t)
		for _, endpoint := range []string{"/one", "/flaky/two"} {
			follower.must(t, "POST", "/v1/topics/orders%2Feu:subscribe", `{"endpoint":"`+s.URL+endpoint+`","remark":"r"}`)
		}
		asked := func(callback string) string {
			return follower.must(t, "POST", "/v1/transactions", `{"mode":"MODE_MESSAGE","plan":{"callback":"`+s.URL+callback+`","callback_after":"0.05s","retry":{"interval":"0.01s"}},
				"branches":[{"id":"01","endpoint":"topic://orders/eu","payload":"e30="}]}`)["gid"].(string)
		}
		until(t, follower, asked("/busy/check"), "STATE_COMMITTED")
		got := s.done()
		slices.Sort(got)
		if !slices.Equal(got, []string{"action /flaky/two {}", "action /one {}", "check-back /busy/check"}) {
			t.Errorf("called %q", got)
		}
		if tx := until(t, follower, asked("/refuse/check"), "STATE_ROLLED_BACK"); tx["reason"] != "ROLLBACK_REASON_CHECKED_BACK" {
			t.Errorf("a message of a local transaction that did not commit: %v", tx)
		}
		follower.must(t, "POST", "/v1/topics/orders%2Feu:unsubscribe", `{"endpoint":"`+s.URL+`/one"}`)
		list := follower.must(t, "GET", "/v1/topics?topic=orders/eu", "")["topics"].([]any)
		if len(list) != 1 || len(list[0].(map[string]any)["subscribers"].([]any)) != 1 || list[0].(map[string]any)["version"] != "3" {
			t.Errorf("topics %v", list)
		}
		submitted := follower.must(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_MESSAGE"},"wait":"WAIT_FINISH","set":[{"id":"01","endpoint":"topic://orders/eu"}]}`)
		if branches := until(t, follower, submitted["gid"], "STATE_COMMITTED")["branches"].([]any); len(branches) != 1 {
			t.Errorf("%d branches for one subscriber", len(branches))
		}
		follower.must(t, "DELETE", "/v1/topics/orders%2Feu", "")
		code, refused, _ := follower.request(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_MESSAGE"},"set":[{"id":"01","endpoint":"topic://orders/eu"}]}`)
		if reason, _ := jsonReason(t, refused); code != 404 || reason != "NOT_FOUND" || !strings.Contains(refused["message"].(string), "orders/eu") || !strings.Contains(refused["message"].(string), "quorate topic subscribe") {
			t.Errorf("a message to a topic that is gone: %d %v", code, refused)
		}
	})
	t.Run("best effort", func(t *testing.T) {
		s := openShop(t)
		submitted := follower.must(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_NOTIFY",`+retrying+`},"wait":"WAIT_FINISH","set":[
			{"id":"1","endpoint":"`+s.URL+`/1"},{"id":"2","endpoint":"`+s.URL+`/down/2"}]}`)
		branches := until(t, follower, submitted["gid"], "STATE_COMMITTED")["branches"].([]any)
		if branches[0].(map[string]any)["outcome"] != "OUTCOME_COMMITTED" || branches[1].(map[string]any)["outcome"] != "OUTCOME_GAVE_UP" || s.tries["/down/2"] != 3 {
			t.Errorf("branches %v after %d tries", branches, s.tries["/down/2"])
		}
	})
	t.Run("a workflow", func(t *testing.T) {
		s := openShop(t)
		body := `{"mode":"MODE_WORKFLOW","key":"w-1","plan":{"callback":"` + s.URL + `/resume","callback_payload":"e30=","callback_after":"0.05s","workflow":"order","retry":{"interval":"0.05s"}}}`
		gid := follower.must(t, "POST", "/v1/transactions", body)["gid"].(string)
		follower.must(t, "POST", "/v1/transactions/"+gid+"/branches/1:record", `{"operation":"pay","result":"cGFpZA=="}`)
		follower.must(t, "POST", "/v1/transactions/"+gid+"/branches/1:record", `{"operation":"pay","result":"cGFpZA=="}`)
		code, other, _ := follower.request(t, "POST", "/v1/transactions/"+gid+"/branches/1:record", `{"operation":"pay","failed":true}`)
		if reason, _ := jsonReason(t, other); code != 409 || reason != "VOTE_CONFLICT" {
			t.Errorf("another word on a step: %d %v", code, other)
		}
		testkit.Eventually(t, 10*time.Second, func() bool { return len(s.done()) >= 2 }, "the code to be called twice")
		if got := s.done()[0]; got != "resume /resume {}" {
			t.Errorf("called %q", got)
		}
		if again := follower.must(t, "POST", "/v1/transactions", body); again["created"] != false || again["gid"] != gid {
			t.Errorf("begun again: %v", again)
		}
		committed := follower.must(t, "POST", "/v1/transactions/"+gid+":commit", `{"result":"b2s=","wait":"WAIT_FINISH"}`)
		tx := until(t, follower, gid, "STATE_COMMITTED")
		step := tx["branches"].([]any)[0].(map[string]any)
		if committed["decision"] != "DECISION_COMMIT" || tx["result"] != "b2s=" || step["recorded"] != "pay" || step["result"] != "cGFpZA==" {
			t.Errorf("%v, %v", committed, tx)
		}
	})
	t.Run("an operator's stop", func(t *testing.T) {
		s := openShop(t)
		submitted := follower.must(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_SAGA","plan":{"retry":{"interval":"30s"}}},"wait":"WAIT_NONE","set":[{"id":"1","endpoint":"`+s.URL+`/down/1","undo":"`+s.URL+`/u1"}]}`)
		var delivery map[string]any
		testkit.Eventually(t, 10*time.Second, func() bool {
			// Only the leader knows; the follower asks it.
			tx := follower.must(t, "GET", fmt.Sprintf("/v1/transactions/%v", submitted["gid"]), "")["transaction"].(map[string]any)
			delivery, _ = tx["branches"].([]any)[0].(map[string]any)["delivery"].(map[string]any)
			return delivery["attempts"] == 1.0 && delivery["last_error"] != ""
		}, "an attempt at an undecided saga's step to be shown")
		if text, _ := delivery["last_error"].(string); !strings.Contains(text, "503") || delivery["next_attempt"] == nil {
			t.Errorf("delivery %v", delivery)
		}
		if retried := follower.must(t, "POST", fmt.Sprintf("/v1/transactions/%v:retry", submitted["gid"]), `{}`); retried["branches"] != 1.0 {
			t.Errorf("retried %v", retried)
		}
		testkit.Eventually(t, 10*time.Second, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.tries["/down/1"] == 2
		}, "the step to be called now")
		stopped := follower.must(t, "POST", fmt.Sprintf("/v1/transactions/%v:stop", submitted["gid"]), `{"operator":"ann","reason":"closed"}`)
		tx := until(t, follower, submitted["gid"], "STATE_ROLLED_BACK")
		if stopped["state"] != "STATE_ROLLED_BACK" || tx["stopped"] != true || tx["operator"] != "ann" || !strings.Contains(tx["detail"].(string), "closed") || len(s.done()) != 0 {
			t.Errorf("stopped %v: %v, called %q", stopped, tx, s.done())
		}
	})
}
