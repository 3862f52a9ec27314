package dtm_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// message is a body whose actions are at /NAME, or topics.
func (w *world) message(gid string, more object, names ...string) object {
	body := w.saga(gid, more, names...)
	body["trans_type"] = "msg"
	steps := []object{}
	for _, name := range names {
		if !strings.HasPrefix(name, "topic://") {
			name = w.bank.http + "/" + name
		}
		steps = append(steps, object{"action": name})
	}
	body["steps"], body["query_prepared"] = steps, w.bank.http+"/asked"
	for k, v := range more {
		body[k] = v
	}
	return body
}

// TestMessageSubmitted: prepared, then submitted: what was prepared is called, one
// after the other, until it is done; it is never rolled back.
func TestMessageSubmitted(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/a action", no, broken, working, yes)
	w.post("prepare", w.message("g", object{"retry_interval": 1}, "a", "b"), 200, success)
	w.post("prepare", w.message("g", object{"retry_interval": 1}, "a", "b"), 200, success)
	equal(t, "rows", w.query("g").rows(), []string{"01 action prepared", "02 action prepared"})
	w.post("submit", w.message("g", object{"wait_result": true}, "ignored"), 200, success)
	equal(t, "calls", w.bank.of("g"), []string{"01 action /a", "01 action /a", "01 action /a", "01 action /a", "02 action /b"})
	s := w.becomes("g", "succeed")
	equal(t, "rows", s.rows(), []string{"01 action succeed", "02 action succeed"})
	if s.Transaction.QueryPrepared != w.bank.http+"/asked" {
		t.Errorf("shown as %+v", s.Transaction)
	}
	w.post("submit", w.message("g", nil, "a"), 200, success)
	w.post("abort", object{"gid": "g", "trans_type": "msg"}, 409, "trans type: 'msg' current status 'succeed', cannot abort. FAILURE")

	w.post("submit", w.message("alone", object{"wait_result": true}, "c"), 200, success)
	equal(t, "calls", w.bank.of("alone"), []string{"01 action /c"})
	w.post("prepare", w.message("dropped", nil, "c"), 200, success)
	w.post("abort", object{"gid": "dropped", "trans_type": "msg"}, 200, success)
	w.becomes("dropped", "failed")
	w.post("submit", w.message("dropped", nil, "c"), 409, "current status 'failed', cannot sumbmit. FAILURE")
	w.post("prepare", w.message("x", object{"query_prepared": ""}, "c"), 500, "query_prepared is missing")
}

// TestMessageAskedAbout: prepared for longer than its time, its initiator is
// asked, by GET, as branch 00.
func TestMessageAskedAbout(t *testing.T) {
	for name, test := range map[string]struct {
		answers []answer
		status  string
	}{
		"done":                 {[]answer{yes}, "succeed"},
		"refused":              {[]answer{no}, "failed"},
		"working, then broken": {[]answer{working, broken, yes}, "succeed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.bank.answer("/asked msg", test.answers...)
			w.post("prepare", w.message("g", object{"retry_interval": 1, "timeout_to_fail": 50}, "a"), 200, success)
			w.later(45 * time.Second)
			if calls := w.bank.of("g"); len(calls) != 0 {
				t.Fatalf("asked too early: %v", calls)
			}
			w.later(6 * time.Second)
			w.becomes("g", test.status)
			calls := w.bank.all("g")
			if c := calls[0]; c.String() != "00 msg /asked" || c.method != "GET" || c.body != "" || c.transType != "msg" {
				t.Errorf("asked by %+v", c)
			}
			if test.status == "succeed" {
				w.saw("g", "01 action /a")
			} else if slices.ContainsFunc(calls, func(c called) bool { return c.String() != "00 msg /asked" }) || len(calls) > 2 {
				t.Errorf("calls %v, want one a leadership: later begins another", w.bank.of("g"))
			}
		})
	}
}

// TestMessageDelay: the actions wait, by the cluster's clock.
func TestMessageDelay(t *testing.T) {
	w := newWorld(t)
	w.post("submit", w.message("g", object{"custom_data": `{"delay":10}`}, "a"), 200, success)
	w.later(8 * time.Second)
	if calls := w.bank.of("g"); len(calls) != 0 {
		t.Fatalf("called too early: %v", calls)
	}
	w.later(3 * time.Second)
	w.becomes("g", "succeed")

	// DTM's clients say it at submit, not at prepare.
	w.post("prepare", w.message("h", nil, "a"), 200, success)
	w.later(5 * time.Second)
	w.post("submit", w.message("h", object{"custom_data": `{"delay":20}`}, "a"), 200, success)
	w.later(14 * time.Second)
	if calls := w.bank.of("h"); len(calls) != 0 {
		t.Fatalf("called too early: %v", calls)
	}
	w.later(2 * time.Second)
	w.becomes("h", "succeed")
}

// TestTopics: subscribe, expand, unsubscribe, delete, each at once.
func TestTopics(t *testing.T) {
	w := newWorld(t)
	w.get("subscribe", 500, "empty topic", "url", "http://x/")
	w.get("subscribe", 500, "empty url", "topic", "news")
	w.get("unsubscribe", 500, "no such a topic", "topic", "news", "url", "http://x/")
	w.post("submit", w.message("g0", nil, "topic://news"), 500, "news")
	w.get("query", 200, `"transaction":null`, "gid", "g0")

	w.get("subscribe", 200, success, "topic", "news", "url", w.bank.http+"/a", "remark", "the first")
	w.get("subscribe", 500, "this url exists", "topic", "news", "url", w.bank.http+"/a")
	w.post("submit", w.message("g1", object{"wait_result": true}, "topic://news", "z"), 200, success)
	equal(t, "rows", w.query("g1").rows(), []string{"01 action succeed", "02 action succeed"})
	w.get("subscribe", 200, success, "topic", "news", "url", w.bank.http+"/b")
	w.post("submit", w.message("g2", object{"wait_result": true}, "topic://news", "z"), 200, success)
	equal(t, "rows", w.query("g2").rows(), []string{"01-01 action succeed", "01-02 action succeed", "02 action succeed"})

	var kv struct {
		KV []struct {
			Cat, K, V string
			Version   int
		}
	}
	for _, call := range [][]string{{"queryKV", "cat", "topics", "key", "news"}, {"scanKV", "cat", "topics"}} {
		text := w.get(call[0], 200, `"kv":[{`, call[1:]...)
		want := fmt.Sprintf(`[{"url":"%s/a","remark":"the first"},{"url":"%s/b","remark":""}]`, w.bank.http, w.bank.http)
		if err := json.Unmarshal([]byte(text), &kv); err != nil || len(kv.KV) != 1 || kv.KV[0].V != want || kv.KV[0].Version != 2 || kv.KV[0].K != "news" {
			t.Errorf("%v: %s", call, text)
		}
	}
	w.get("queryKV", 200, `{"kv":[]}`, "cat", "topics", "key", "none")
	w.get("scanKV", 200, `{"kv":[],"next_position":""}`, "cat", "others")

	w.get("unsubscribe", 500, "no such an url ", "topic", "news", "url", "http://x/")
	w.get("unsubscribe", 200, success, "topic", "news", "url", w.bank.http+"/a")
	w.get("unsubscribe", 200, success, "topic", "news", "url", w.bank.http+"/b")
	w.get("unsubscribe", 500, "this topic is empty", "topic", "news", "url", w.bank.http+"/b")
	w.want("DELETE", "/api/dtmsvr/topic/news", nil, 200, success)
	w.want("DELETE", "/api/dtmsvr/topic/news", nil, 500, "storage: NotFound")
	w.post("submit", w.message("g3", nil, "topic://news"), 500, "news")
}

// TestOperators: all and its filters, forceStop, resetCronTime.
func TestOperators(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/out action", broken)
	for i := range 5 {
		w.post("submit", w.saga(fmt.Sprintf("s%d", i), nil, "out"), 200, success)
		w.post("prepare", object{"gid": fmt.Sprintf("t%d", i), "trans_type": "tcc"}, 200, success)
	}
	w.want("POST", "/v1/transactions", object{"key": "native", "mode": "MODE_TWO_PHASE"}, 200, "gid")
	type page struct {
		Transactions []struct{ Gid, Status string }
		Next         string `json:"next_position"`
	}
	all := func(pairs ...string) (gids []string) {
		t.Helper()
		position := ""
		for range 20 {
			var p page
			text := w.get("all", 200, `"next_position"`, append(pairs, "position", position)...)
			if err := json.Unmarshal([]byte(text), &p); err != nil {
				t.Fatal(err)
			}
			for _, x := range p.Transactions {
				gids = append(gids, x.Gid)
			}
			if position = p.Next; position == "" {
				return gids
			}
		}
		t.Fatal("no end of pages")
		return nil
	}
	equal(t, "all", all("limit", "3"), []string{"s0", "t0", "s1", "t1", "s2", "t2", "s3", "t3", "s4", "t4"})
	equal(t, "sagas", all("limit", "2", "transType", "saga"), []string{"s0", "s1", "s2", "s3", "s4"})
	equal(t, "prepared", all("limit", "2", "status", "prepared"), []string{"t0", "t1", "t2", "t3", "t4"})
	equal(t, "none", all("createTimeEnd", "1000"), nil)
	equal(t, "one", all("gid", "s3"), []string{"s3"})
	w.get("all", 200, `{"next_position":"","transactions":null}`, "gid", "none")
	w.get("query", 200, `{"branches":[],"transaction":null}`, "gid", "native")
	w.post("prepare", object{"gid": "native", "trans_type": "tcc"}, 500, "not begun over DTM's protocol")
	w.post("forceStop", object{"gid": "native"}, 500, "not begun over DTM's protocol")
	w.post("abort", object{"gid": "native", "trans_type": "tcc"}, 500, "not begun over DTM's protocol")
	w.post("submit", object{"gid": "native", "trans_type": "tcc"}, 500, "not begun over DTM's protocol")
	w.post("registerBranch", w.register("native", "01", "a"), 500, "not begun over DTM's protocol")

	w.get("resetCronTime", 200, `{"has_remaining":false,"succeed_count":0}`, "timeout", "3600")
	for _, s := range []string{"s0", "s1", "s2", "s3", "s4"} {
		testkit.Eventually(t, patience, func() bool { return len(w.bank.of(s)) >= 5 }, "back-off of %s", s)
	}
	testkit.Eventually(t, patience, func() bool {
		_, text, _ := w.do("GET", "/api/dtmsvr/resetCronTime?timeout=0&limit=2", nil)
		return text == `{"has_remaining":true,"succeed_count":2}`
	}, "two are called now, and more wait")
	w.post("resetNextCronTime", object{"gid": "nobody"}, 500, "no TransGlobal with gid: nobody found")

	w.post("forceStop", object{"gid": "s0"}, 200, success)
	if s := w.query("s0"); s.Transaction.Status != "failed" {
		t.Errorf("stopped, and shown as %+v", s.Transaction)
	}
	for _, c := range w.bank.of("s0") {
		if strings.Contains(c, "compensate") {
			t.Errorf("stopped, and %s", c)
		}
	}
	w.post("forceStop", object{"gid": "s0"}, 409, "global transaction force stop error. status: failed. error: FAILURE")
	w.post("forceStop", object{"gid": "nobody"}, 500, "no TransGlobal")
	w.get("version", 200, `"version":"v`)
	w.want("GET", "/api/ping", nil, 200, `{"msg":"pong"}`)
	w.want("PUT", "/api/ping", nil, 200, `{"msg":"pong"}`)
	w.want("GET", "/api/dtmsvr/nothing", nil, 404, "not served")
	w.want("GET", "/api//dtmsvr/FAILURE", nil, 404, `FAIL\u0055RE is not served`)
	w.want("POST", "/api/dtmsvr/submit", strings.Repeat("FAILURE", 1<<18), 413, "larger than")
}

// TestJSONRPC: the five calls, the codes.
func TestJSONRPC(t *testing.T) {
	w := newWorld(t)
	rpc := func(method string, params any, part string) {
		t.Helper()
		w.want("POST", "/api/json-rpc", object{"jsonrpc": "2.0", "id": "no-use", "method": method, "params": params}, 200, part)
	}
	rpc("newGid", object{}, `"gid":"`)
	rpc("prepare", object{"gid": "g", "trans_type": "tcc"}, `"result":{"dtm_result":"SUCCESS"}`)
	rpc("registerBranch", w.register("g", "01", "a"), `"error":null`)
	rpc("submit", object{"gid": "g", "trans_type": "tcc", "wait_result": true}, `"error":null`)
	rpc("abort", object{"gid": "g", "trans_type": "tcc"}, `"code":-32901`)
	rpc("nothing", object{}, `"code":-32601`)
	w.want("POST", "/api/json-rpc", object{"jsonrpc": "1.0", "id": "x", "method": "newGid"}, 200, `"code":-32600`)
	w.want("POST", "/api/json-rpc", object{"jsonrpc": "2.0", "id": 7, "method": "newGid"}, 200, `"code":-32600`)
	w.want("POST", "/api/json-rpc", "text", 400, "parse json error")
	w.bank.answer("/out action", working)
	rpc("submit", w.saga("s", object{"wait_result": true, "request_timeout": 1, "protocol": "json-rpc"}, "out"), `"code":-32902`)
	w.bank.answer("/rpc ", answer{http: 200, text: `{"jsonrpc":"2.0","result":{}}`})
	body := w.saga("r", object{"wait_result": true, "protocol": "json-rpc"}, "rpc?method=pay")
	rpc("submit", body, `"error":null`)
	testkit.Eventually(t, patience, func() bool { return w.query("r").Transaction.Status == "succeed" })
}
