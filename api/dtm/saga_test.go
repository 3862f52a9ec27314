package dtm_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// TestSagaForward: the steps one after the other, each by POST with its payload,
// its headers and who it is in the query; then query shows them in DTM's order.
func TestSagaForward(t *testing.T) {
	w := newWorld(t)
	gid := "order-1/ü;x"
	w.post("submit", w.saga(gid, object{
		"wait_result": true, "branch_headers": object{"X-Tenant": "blue"}, "retry_interval": 3, "timeout_to_fail": 60, "custom_data": "anything",
	}, "out", "in"), 200, success)
	calls := w.bank.all(gid)
	equal(t, "calls", w.bank.of(gid), []string{"01 action /out", "02 action /in"})
	for i, c := range calls {
		if c.method != "POST" || c.transType != "saga" || c.header.Get("X-Tenant") != "blue" ||
			!strings.HasPrefix(c.header.Get("Content-Type"), "application/json") || c.body != []string{`{"to":"out"}`, `{"to":"in"}`}[i] {
			t.Errorf("call %d: %+v", i, c)
		}
	}
	s := w.becomes(gid, "succeed")
	equal(t, "rows", s.rows(), []string{"01 compensate prepared", "01 action succeed", "02 compensate prepared", "02 action succeed"})
	x := s.Transaction
	if x.Gid != gid || x.TransType != "saga" || x.Protocol != "http" || x.CustomData != "anything" || x.FinishTime == "" || x.RollbackTime != "" {
		t.Errorf("shown as %+v", x)
	}
	if _, err := time.Parse(time.RFC3339, x.CreateTime); err != nil {
		t.Error(err)
	}
	var options map[string]any
	if err := json.Unmarshal([]byte(x.Options), &options); err != nil || options["retry_interval"] != 3.0 || options["timeout_to_fail"] != 60.0 {
		t.Errorf("options %s: %v", x.Options, err)
	}
	if s.Branches[1].URL != w.bank.http+"/out" {
		t.Errorf("url %q", s.Branches[1].URL)
	}
	// Again: the caller may not have heard the answer. Not a failure, and no call.
	w.post("submit", w.saga(gid, object{
		"wait_result": true, "branch_headers": object{"X-Tenant": "blue"}, "retry_interval": 3, "timeout_to_fail": 60, "custom_data": "anything",
	}, "out", "in"), 200, success)
	if n := len(w.bank.all(gid)); n != 2 {
		t.Errorf("%d calls after the second submit", n)
	}
	w.post("submit", w.saga(gid, nil, "elsewhere"), 500, "other content")
}

// TestSagaRefused: what was done, and what refused, is compensated, the last one
// first; the reason names the URL and what it said.
func TestSagaRefused(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/in action", no)
	reply := w.post("submit", w.saga("g", object{"wait_result": true}, "out", "in", "never"), 409, `"dtm_result":"FAILURE"`)
	equal(t, "calls", w.bank.of("g"), []string{"01 action /out", "02 action /in", "02 compensate /in", "01 compensate /out"})
	s := w.becomes("g", "failed")
	equal(t, "rows", s.rows(), []string{
		"01 compensate succeed", "01 action succeed", "02 compensate succeed", "02 action failed", "03 compensate prepared", "03 action prepared",
	})
	x := s.Transaction
	for _, part := range []string{w.bank.http + "/in", "not enough FAILURE"} {
		if !strings.Contains(x.RollbackReason, part) || !strings.Contains(reply, part) {
			t.Errorf("the reason %q, or the reply %s, lacks %q", x.RollbackReason, reply, part)
		}
	}
	if x.RollbackTime == "" || x.FinishTime != "" {
		t.Errorf("shown as %+v", x)
	}
	w.post("submit", w.saga("g", object{"wait_result": true}, "out", "in", "never"), 409, "current status 'failed', cannot sumbmit. FAILURE")
}

// TestSagaSaysFailureInABodyOf200: DTM's SDKs did so before they knew 409.
func TestSagaSaysFailureInABodyOf200(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/out action", answer{http: 200, text: `{"dtm_result":"FAILURE"}`})
	w.post("submit", w.saga("g", object{"wait_result": true}, "out"), 409, "FAILURE")
	w.bank.answer("/in action", answer{http: 201, text: "made"}, yes)
	w.post("submit", w.saga("h", object{"wait_result": true, "retry_interval": 1}, "in"), 200, success)
	if n := len(w.bank.all("h")); n != 2 {
		t.Errorf("a step that answered 201 was called %d times", n)
	}
}

// TestSagaStillRunning: at the end of wait_result the truth is that it still
// runs; DTM's server says FAILURE there.
func TestSagaStillRunning(t *testing.T) {
	w := newWorld(t)
	for _, state := range []answer{working, broken} {
		gid := "g" + state.text
		w.bank.answer("/out action", state)
		w.post("submit", w.saga(gid, object{"wait_result": true, "request_timeout": 1}, "out"), 425, `"dtm_result":"ONGOING"`)
		if s := w.query(gid); s.Transaction.Status != "submitted" || s.Transaction.NextCronTime == "" {
			t.Errorf("shown as %+v", s.Transaction)
		}
		w.bank.answer("/out action", yes)
		w.post("resetNextCronTime", object{"gid": gid}, 200, success)
		w.becomes(gid, "succeed")
	}
}

// TestSagaConcurrent: all at once but what has an order; compensations in
// reverse of it.
func TestSagaConcurrent(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/d action", no)
	w.post("submit", w.saga("g", object{
		"wait_result": true, "concurrent": true, "custom_data": `{"orders":{"2":[0,1],"3":[2]},"concurrent":true}`,
	}, "a", "b", "c", "d"), 409, "FAILURE")
	s := w.becomes("g", "failed")
	if s.Transaction.CustomData != `{"orders":{"2":[0,1],"3":[2]},"concurrent":true}` {
		t.Errorf("custom_data %s", s.Transaction.CustomData)
	}
	calls := w.bank.of("g")
	at := func(call string) int { return slices.Index(calls, call) }
	order := []string{"03 action /c", "04 action /d", "04 compensate /d", "03 compensate /c"}
	for i, call := range order {
		if at(call) < 0 || i > 0 && at(call) < at(order[i-1]) {
			t.Errorf("%s is out of order in %s", call, strings.Join(calls, ", "))
		}
	}
	for _, early := range []string{"01 action /a", "02 action /b"} {
		if at(early) < 0 || at(early) > at("03 action /c") {
			t.Errorf("%s did not come before step 3: %s", early, strings.Join(calls, ", "))
		}
	}
	for _, late := range []string{"01 compensate /a", "02 compensate /b"} {
		if at(late) < at("03 compensate /c") {
			t.Errorf("%s came too early: %s", late, strings.Join(calls, ", "))
		}
	}
}

// TestSagaLimits: a retry_limit ends the attempts, a timeout the waiting.
func TestSagaLimits(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/out action", broken)
	w.post("submit", w.saga("g", object{"retry_limit": 2, "wait_result": true}, "out"), 409, "FAILURE")
	if calls := w.bank.of("g"); !slices.Equal(calls[:3], []string{"01 action /out", "01 action /out", "01 action /out"}) || calls[3] != "01 compensate /out" {
		t.Errorf("calls: %s", strings.Join(calls, ", "))
	}
	w.post("submit", w.saga("h", object{"timeout_to_fail": 20}, "out"), 200, success)
	w.saw("h", "01 action /out")
	w.later(21 * time.Second)
	w.becomes("h", "failed")
	w.saw("h", "01 compensate /out")
}

// TestSagaMalformed: clear errors, and nothing that could be taken for a failure.
func TestSagaMalformed(t *testing.T) {
	w := newWorld(t)
	with := func(change func(object)) object {
		body := w.saga("bad", nil, "a", "b")
		change(body)
		return body
	}
	for part, body := range map[string]object{
		"step 1 has no payload":   with(func(o object) { o["payloads"] = []string{"{}"} }),
		"a saga has no steps":     with(func(o object) { o["steps"] = []object{} }),
		"no gid specified":        with(func(o object) { o["gid"] = "" }),
		"unknow trans type: what": with(func(o object) { o["trans_type"] = "what" }),
		"control character":       with(func(o object) { o["gid"] = "a\nb" }),
		"orders name step":        with(func(o object) { o["concurrent"] = true; o["custom_data"] = `{"orders":{"7":[0]}}` }),
		"in a circle":             with(func(o object) { o["concurrent"] = true; o["custom_data"] = `{"orders":{"1":[0],"0":[1]}}` }),
		"custom_data is not":      with(func(o object) { o["concurrent"] = true; o["custom_data"] = `{` }),
		"timeout_to_fail is -1":   with(func(o object) { o["timeout_to_fail"] = -1 }),
		"neither http, grpc":      with(func(o object) { o["protocol"] = "soap" }),
		"--endpoint-allow": with(func(o object) {
			o["steps"] = []object{{"action": "http://169.254.169.254/"}, {"action": "http://10.0.0.1/"}}
		}),
		"header":                   with(func(o object) { o["branch_headers"] = object{"X": "a\r\nEvil: 1"} }),
		"at most 128":              with(func(o object) { o["gid"] = strings.Repeat("g", 129) }),
		"JSON object of a transac": {"gid": 7},
	} {
		reply := w.post("submit", body, 500, part)
		if strings.Contains(reply, "dtm_result") {
			t.Errorf("%s: %s", part, reply)
		}
	}
	w.get("query", 200, `"transaction":null`, "gid", "bad")
	// An old SDK put the payload into the step.
	old := w.saga("old", object{"wait_result": true}, "a")
	old["payloads"] = nil
	old["steps"] = []object{{"action": w.bank.http + "/a", "compensate": "", "data": `{"old":1}`}}
	w.post("submit", old, 200, success)
	if c := w.bank.all("old"); len(c) != 1 || c[0].body != `{"old":1}` {
		t.Errorf("calls %+v", c)
	}
}

// TestSagaEmptyURL is instant success, in both directions.
func TestSagaEmptyURL(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/b action", no)
	body := w.saga("g", object{"wait_result": true}, "a", "b")
	body["steps"] = []object{{"action": "", "compensate": ""}, {"action": w.bank.http + "/b", "compensate": ""}}
	w.post("submit", body, 409, "FAILURE")
	equal(t, "calls", w.bank.of("g"), []string{"02 action /b"})
	w.becomes("g", "failed")
}

// TestSagaAcrossLeaders: the one who waits through a follower hears a success,
// though the leader is gone and another one ended it.
func TestSagaAcrossLeaders(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/in action", broken)
	type reply struct {
		code int
		text string
		err  error
	}
	heard := make(chan reply, 1)
	go func() {
		code, text, err := w.do("POST", "/api/dtmsvr/submit", w.saga("g", object{"wait_result": true}, "out", "in"))
		heard <- reply{code, text, err}
	}()
	w.saw("g", "02 action /in")
	w.cluster.Down(0)
	w.bank.answer("/in action", yes)
	w.cluster.Lead(2)
	if r := <-heard; r.code != 200 || r.text != success || r.err != nil {
		t.Errorf("heard %+v", r)
	}
	w.becomes("g", "succeed")
}

// TestNoLeader: a call waits for one, and says so when there is none; what needs
// none is answered.
func TestNoLeader(t *testing.T) {
	w := newWorld(t)
	w.cluster.Down(0)
	w.get("newGid", 200, `"gid":"`)
	heard := make(chan string, 1)
	go func() {
		_, text, _ := w.do("POST", "/api/dtmsvr/prepare", object{"gid": "t", "trans_type": "tcc"})
		heard <- text
	}()
	code, text, err := w.do("POST", "/api/dtmsvr/abort", object{"gid": "t", "trans_type": "tcc"})
	if err != nil || code != 503 || strings.Contains(text, "FAILURE") || strings.Contains(text, "ONGOING") {
		t.Errorf("without a leader: %d %s %v", code, text, err)
	}
	if text := <-heard; !strings.Contains(text, "message") {
		t.Errorf("without a leader: %s", text)
	}
	go func() {
		_, text, _ := w.do("POST", "/api/dtmsvr/prepare", object{"gid": "u", "trans_type": "tcc"})
		heard <- text
	}()
	w.cluster.Lead(2)
	if text := <-heard; text != success {
		t.Errorf("held while there was no leader: %s", text)
	}
	testkit.Eventually(t, patience, func() bool { return w.query("u").Transaction.Status == "prepared" })
}
