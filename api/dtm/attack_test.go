package dtm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/api/dtm/dtmpb"
	"github.com/quorate/quorate/internal/testkit"
)

// raw makes a call whose body is what it is, and that must answer code without
// saying anything of a transaction.
func (w *world) raw(what, method, at string, body io.Reader, code int, part string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.cluster.HTTP(w.through)+at, body)
	if err != nil {
		w.t.Fatal(err)
	}
	reply, err := w.web.Do(req)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	defer func() { _ = reply.Body.Close() }()
	text, _ := io.ReadAll(reply.Body)
	if reply.StatusCode != code || !strings.Contains(string(text), part) {
		w.t.Errorf("%s answered %d %.300s, want %d with %q", what, reply.StatusCode, text, code, part)
	}
	for _, word := range []string{"FAILURE", "ONGOING", "panic", "goroutine", "runtime error"} {
		if strings.Contains(string(text), word) {
			w.t.Errorf("%s: the answer holds %s: %.300s", what, word, text)
		}
	}
}

// TestGarbage: what no SDK would send gets a clear error, and nothing else changes.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	deep := strings.Repeat("[", 100_000)
	for what, test := range map[string]struct{ body, part string }{
		"nothing":            {"", "JSON object"},
		"a list":             {"[]", "JSON object"},
		"a text":             {`"FAILURE"`, "JSON object"},
		"null":               {"null", "no gid"},
		"an end that lacks":  {`{"gid":"g","trans_type":"saga"`, "JSON object"},
		"more than one":      {`{"gid":"g","trans_type":"saga"}{"gid":"h"}`, "JSON object"},
		"depth":              {`{"steps":` + deep, "JSON object"},
		"depth of unknown":   {`{"gid":"g","x":` + deep, "JSON object"},
		"a gid of numbers":   {`{"gid":[7]}`, "JSON object"},
		"steps as text":      {`{"gid":"g","trans_type":"saga","steps":"FAILURE"}`, "JSON object"},
		"steps of numbers":   {`{"gid":"g","trans_type":"saga","steps":[{"action":1}]}`, "JSON object"},
		"wait_result as yes": {`{"gid":"g","trans_type":"saga","wait_result":"yes"}`, "JSON object"},
		"times beyond int64": {`{"gid":"g","trans_type":"saga","timeout_to_fail":1e30}`, "JSON object"},
		"times in fractions": {`{"gid":"g","trans_type":"saga","timeout_to_fail":1.5}`, "JSON object"},
		"years":              {`{"gid":"g","trans_type":"saga","retry_interval":99999999999}`, "retry_interval"},
		"bytes in the gid":   {"{\"gid\":\"a\xff\",\"trans_type\":\"tcc\"}", "UTF-8"},
		"half a character":   {`{"gid":"a\ud800","trans_type":"tcc"}`, "UTF-8"},
		"bytes elsewhere":    {"{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":[{\"action\":\"" + w.bank.http + "\"}],\"payloads\":[\"\xb0\xa1\"]}", "UTF-8"},
		"a NUL":              {`{"gid":"a\u0000b","trans_type":"tcc"}`, "control character"},
		"HTML":               {`<html>FAILURE ONGOING</html>`, "JSON object"},
	} {
		for _, call := range []string{"prepare", "submit", "abort", "prepareWorkflow", "registerBranch"} {
			part := test.part
			if call == "registerBranch" || call == "abort" {
				part = "message" // it reads less of it
			}
			w.raw(what+" to "+call, "POST", "/api/dtmsvr/"+call, strings.NewReader(test.body), 500, part)
		}
	}
	for _, at := range []string{"query?gid=%ff", "all?gid=%ff", "query?gid=%00", "all?limit=-1", "all?position=%ff", "all?transType=%ff"} {
		w.raw(at, "GET", "/api/dtmsvr/"+at, nil, 500, "message")
	}
	w.get("all", 200, `{"next_position":"","transactions":[]}`)
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// TestHundredMegabytes are not read, over either side.
func TestHundredMegabytes(t *testing.T) {
	w := newWorld(t)
	for _, at := range []string{"/api/dtmsvr/submit", "/api/dtmsvr/prepareWorkflow", "/api/dtmsvr/registerBranch", "/api/json-rpc"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		body := io.MultiReader(strings.NewReader(`{"gid":"FAILURE","x":"`), io.LimitReader(zeros{}, 100<<20))
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+w.cluster.HTTP(w.through)+at, body)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := w.web.Do(req)
		if err == nil {
			text, _ := io.ReadAll(reply.Body)
			_ = reply.Body.Close()
			if reply.StatusCode != 413 || bytes.Contains(text, []byte("FAILURE")) {
				t.Errorf("%s: %d %s", at, reply.StatusCode, text)
			}
		} // else the connection was closed while it was written, which is as good
		cancel()
	}
	_, err := w.dtm().Submit(t.Context(), &dtmpb.DtmRequest{Gid: "g", TransType: "saga", Steps: strings.Repeat("0", 100<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC: %v", err)
	}
	w.get("query", 200, `"transaction":null`, "gid", "g")
}

// odd are texts that some other server took for more than a text.
var odd = []string{
	`'; DROP TABLE trans_global; --`, `" OR ""="`, "${jndi:ldap://x/}", "../../etc/passwd", "a&op=compensate&gid=b", "a#b", "a?b=c", "%0d%0aEvil:1",
	"<script>alert(1)</script>", "{{.}}", "key:g", "01KNOTAGID", " ", "a b", "ü", "topic://x", "FAILURE",
}

// TestOddTextsAreTexts: a gid, a payload, a path, a remark is what was sent, at
// every place that shows or passes it on.
func TestOddTextsAreTexts(t *testing.T) {
	w := newWorld(t)
	for i, text := range odd {
		body := w.saga(text, object{"wait_result": true, "custom_data": text}, "out")
		body["payloads"] = []string{text}
		w.post("submit", body, 200, success)
		calls := w.bank.all(text)
		if len(calls) != 1 || calls[0].body != text || calls[0].branch != "01" || calls[0].op != "action" || calls[0].header.Get("Evil") != "" {
			t.Errorf("%q: calls %+v", text, calls)
			continue
		}
		if s := w.becomes(text, "succeed"); s.Transaction.Gid != text || s.Transaction.CustomData != text {
			t.Errorf("%q is shown as %+v", text, s.Transaction)
		}
		w.get("all", 200, `"transactions":[{`, "gid", text)
		tcc := fmt.Sprintf("tcc%d", i)
		w.post("prepare", object{"gid": tcc, "trans_type": "tcc"}, 200, success)
		w.post("registerBranch", object{
			"gid": tcc, "trans_type": "tcc", "branch_id": text, "data": text, "confirm": w.bank.http + "/in", "cancel": w.bank.http + "/in",
		}, 200, success)
		w.post("submit", object{"gid": tcc, "trans_type": "tcc", "wait_result": true}, 200, success)
		if calls := w.bank.all(tcc); len(calls) != 1 || calls[0].branch != text || calls[0].body != text {
			t.Errorf("%q: calls %+v", text, calls)
		}
	}
}

// TestOddTopics: what can be subscribed to can be asked for, used and deleted.
func TestOddTopics(t *testing.T) {
	w := newWorld(t)
	for i, text := range append(odd, "..", "a/b", "a//b", "/", "news/") {
		if strings.HasPrefix(text, "topic://") {
			continue
		}
		w.get("subscribe", 200, success, "topic", text, "url", w.bank.http+"/a", "remark", text)
		w.get("queryKV", 200, `"version":1`, "cat", "topics", "key", text)
		gid := fmt.Sprintf("g%d", i)
		w.post("submit", w.message(gid, object{"wait_result": true}, "topic://"+text), 200, success)
		equal(t, "calls", w.bank.of(gid), []string{"01 action /a"})
		if i%2 == 0 {
			if _, err := w.dtm().DeleteTopic(t.Context(), &dtmpb.DtmTopicRequest{Topic: text}); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		} else {
			w.want("DELETE", "/api/dtmsvr/topic/"+strings.ReplaceAll(url.PathEscape(text), ".", "%2E"), nil, 200, success)
		}
		w.get("queryKV", 200, `{"kv":[]}`, "cat", "topics", "key", text)
	}
	for _, text := range []string{"", "a\nb", "topic://x", strings.Repeat("t", 2000)} {
		w.get("subscribe", 500, "message", "topic", text, "url", w.bank.http+"/a")
	}
	for _, address := range []string{"etcd://h/bank.Bank/In", "discovery:///bank/bank.Bank/In", "topic://x", "file:///etc/passwd", "http://169.254.169.254/", "x", ":"} {
		w.get("subscribe", 500, "message", "topic", "t", "url", address)
	}
}

// TestServiceDiscoveryIsRefused where the URL is named, and not when it is called.
func TestServiceDiscoveryIsRefused(t *testing.T) {
	w := newWorld(t)
	const part = "no service discovery is asked"
	for i, at := range []string{"etcd://etcd:2379/bank.Bank/In", "discovery:///bank/bank.Bank/In", "dns:///bank:80/bank.Bank/In", "consul://x:1/bank/bank.Bank/In"} {
		gid := fmt.Sprintf("g%d", i)
		steps := []object{{"action": at, "compensate": at}}
		w.post("submit", object{"gid": gid, "trans_type": "saga", "steps": steps, "payloads": []string{"{}"}}, 500, part)
		w.post("submit", object{"gid": gid, "trans_type": "msg", "steps": steps, "payloads": []string{"{}"}}, 500, part)
		w.post("prepare", w.message(gid, object{"query_prepared": at}, "a"), 500, part)
		w.post("prepareWorkflow", object{"gid": gid, "trans_type": "workflow", "query_prepared": at, "custom_data": `{"name":"n"}`}, 500, part)
		w.get("subscribe", 500, part, "topic", "t", "url", at)
		r := w.request(gid, "saga", "Out")
		r.Steps = strings.ReplaceAll(r.Steps, w.bank.grpc+"/bank.Bank/Out", at)
		_, err := w.dtm().Submit(t.Context(), r)
		wantCode(t, at, err, codes.Internal, part)
		w.get("query", 200, `"transaction":null`, "gid", gid)
		tcc := "tcc" + gid
		w.post("prepare", object{"gid": tcc, "trans_type": "tcc"}, 200, success)
		w.post("registerBranch", object{"gid": tcc, "trans_type": "tcc", "branch_id": "01", "data": "{}", "confirm": at, "cancel": w.bank.http + "/in"}, 500, part)
		w.post("abort", object{"gid": tcc, "trans_type": "tcc"}, 200, success)
	}
}

// TestWhatGRPCCannotCarry is refused at once: a call would fail for ever.
func TestWhatGRPCCannotCarry(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.dtm(), t.Context()
	_, err := c.Submit(ctx, w.request("größe", "saga", "Out"))
	wantCode(t, "gid", err, codes.Internal, "gRPC")
	w.post("submit", object{
		"gid": "größe", "trans_type": "saga", "payloads": []string{""}, "steps": []object{{"action": "grpc://" + w.bank.grpc + "/bank.Bank/Out"}},
	}, 500, "gRPC")
	r := w.request("g", "saga", "Out")
	r.TransOptions.BranchHeaders = map[string]string{"x-tenant": "größe"}
	_, err = c.Submit(ctx, r)
	wantCode(t, "header's value", err, codes.Internal, "x-tenant")
	r.TransOptions.BranchHeaders = map[string]string{"x tenant": "a"}
	_, err = c.Submit(ctx, r)
	wantCode(t, "header's name", err, codes.Internal, "x tenant")
	w.get("query", 200, `"transaction":null`, "gid", "g")
	_, err = c.Prepare(ctx, &dtmpb.DtmRequest{Gid: "größe", TransType: "tcc"})
	wantCode(t, "gid of a tcc", err, codes.Internal, "gRPC")
	if _, err := c.Prepare(ctx, &dtmpb.DtmRequest{Gid: "t", TransType: "tcc"}); err != nil {
		t.Fatal(err)
	}
	at := w.bank.grpc + "/bank.Bank/Out"
	_, err = c.RegisterBranch(ctx, &dtmpb.DtmBranchRequest{Gid: "t", TransType: "tcc", BranchID: "ä", Data: map[string]string{"confirm": at, "cancel": at}})
	wantCode(t, "branch", err, codes.Internal, "gRPC")
	// Over HTTP all of it goes.
	w.post("submit", w.saga("größe", object{"wait_result": true}, "out"), 200, success)
}

// TestLongReasons: an abort is not refused for the length of its reason, or for its
// lines.
func TestLongReasons(t *testing.T) {
	w := newWorld(t)
	for i, reason := range []string{"one line\nand another\x00", strings.Repeat("ü", 100_000)} {
		gid := fmt.Sprintf("g%d", i)
		w.post("prepare", object{"gid": gid, "trans_type": "tcc"}, 200, success)
		w.post("abort", object{"gid": gid, "trans_type": "tcc", "rollback_reason": reason}, 200, success)
		if s := w.becomes(gid, "failed"); len(s.Transaction.RollbackReason) < 8 || !strings.HasPrefix(reason, s.Transaction.RollbackReason[:8]) {
			t.Errorf("the reason is %.100q", s.Transaction.RollbackReason)
		}
		flow := "w" + gid
		w.post("prepareWorkflow", object{"gid": flow, "trans_type": "workflow", "query_prepared": w.bank.http + "/w", "custom_data": `{"name":"n"}`}, 200, "prepared")
		w.post("submit", object{"gid": flow, "trans_type": "workflow", "req_extra": object{"status": "failed", "rollback_reason": reason}}, 200, success)
		w.becomes(flow, "failed")
	}
}

// TestStoppedIsNoSuccess: a message or a tcc that an operator ends before its
// branches have done their part has failed, as in DTM, whatever was decided before.
func TestStoppedIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/out action", broken)
	w.bank.answer("/out confirm", broken)
	heard := make(chan string, 1)
	go func() {
		_, text, err := w.do("POST", "/api/dtmsvr/submit", w.message("m", object{"wait_result": true}, "out"))
		heard <- fmt.Sprint(text, err)
	}()
	w.post("prepare", object{"gid": "t", "trans_type": "tcc"}, 200, success)
	w.post("registerBranch", w.register("t", "01", "out"), 200, success)
	w.post("submit", object{"gid": "t", "trans_type": "tcc"}, 200, success)
	w.saw("m", "01 action /out")
	for _, gid := range []string{"m", "t"} {
		w.post("forceStop", object{"gid": gid}, 200, success)
		if s := w.query(gid); s.Transaction.Status != "failed" || !strings.Contains(s.Transaction.RollbackReason, "stopped") {
			t.Errorf("stopped, and shown as %+v", s.Transaction)
		}
		w.post("forceStop", object{"gid": gid}, 409, "global transaction force stop error. status: failed. error: FAILURE")
	}
	if text := <-heard; !strings.Contains(text, `"dtm_result":"FAILURE"`) {
		t.Errorf("who waited for the result heard %s", text)
	}
	w.post("submit", w.message("m", object{"wait_result": true}, "out"), 409, "current status 'failed'")
	for status, want := range map[string]string{"failed": `"gid":"m"`, "succeed": `"transactions":[]`} {
		w.get("all", 200, want, "status", status)
	}
}

// TestRetryingOthers: what native callers began is not for DTM's callers to hurry.
func TestRetryingOthers(t *testing.T) {
	w := newWorld(t)
	w.want("POST", "/v1/transactions", object{"key": "native", "mode": "MODE_TWO_PHASE"}, 200, "gid")
	w.post("resetNextCronTime", object{"gid": "native"}, 500, "not begun over DTM's protocol")
	w.post("prepare", object{"gid": "t", "trans_type": "tcc"}, 200, success)
	w.post("resetNextCronTime", object{"gid": "t"}, 200, success)
	w.post("submit", object{"gid": "t", "trans_type": "tcc"}, 200, success)
	w.becomes("t", "succeed")
	w.post("resetNextCronTime", object{"gid": "t"}, 200, success)
	w.get("resetCronTime", 200, `{"has_remaining":false,"succeed_count":0}`, "timeout", "0")
	for _, timeout := range []string{"-1", "x", "1e99", "9999999999999999999"} {
		w.get("resetCronTime", 500, "timeout", "timeout", timeout)
	}
}

// TestHangingUp: whoever waits for the result and goes loses nothing but the answer.
func TestHangingUp(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/out action", broken)
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan error, 2)
	go func() {
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+w.cluster.HTTP(w.through)+"/api/dtmsvr/submit",
			strings.NewReader(`{"gid":"h","trans_type":"saga","wait_result":true,"steps":[{"action":"`+w.bank.http+`/out"}],"payloads":["{}"]}`))
		if err == nil {
			var reply *http.Response
			if reply, err = w.web.Do(req); err == nil {
				_ = reply.Body.Close()
			}
		}
		gone <- err
	}()
	r := w.request("g", "saga", w.bank.http+"/out")
	go func() {
		_, err := w.dtm().Submit(ctx, r)
		gone <- err
	}()
	w.saw("g", "01 action /out")
	w.saw("h", "01 action /out")
	hangUp()
	for range 2 {
		if err := <-gone; !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
			t.Errorf("who hung up heard %v", err)
		}
	}
	w.bank.answer("/out action", yes)
	w.becomes("g", "succeed")
	w.becomes("h", "succeed")
}

// TestNoQuorumWhileWaiting: with the leader gone, and no other, who waits hears that
// it still runs. Nobody has said that it failed.
func TestNoQuorumWhileWaiting(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/out action", broken)
	w.bank.answer("/out confirm", broken)
	w.post("prepare", object{"gid": "t", "trans_type": "tcc"}, 200, success)
	w.post("registerBranch", w.register("t", "01", "out"), 200, success)
	type reply struct {
		code int
		text string
	}
	heard := make(chan reply, 2)
	for _, body := range []object{
		w.saga("g", object{"wait_result": true, "request_timeout": 3}, "out"), {"gid": "t", "trans_type": "tcc", "wait_result": true, "request_timeout": 3},
	} {
		go func() {
			code, text, _ := w.do("POST", "/api/dtmsvr/submit", body)
			heard <- reply{code, text}
		}()
	}
	w.saw("g", "01 action /out")
	testkit.Eventually(t, patience, func() bool { return w.query("t").Transaction.Status == "submitted" }, "the tcc is submitted")
	w.cluster.Down(0)
	for range 2 {
		if r := <-heard; r.code != 425 || !strings.Contains(r.text, `"dtm_result":"ONGOING"`) || strings.Contains(r.text, "FAILURE") {
			t.Errorf("without a leader, who waits hears %d %s", r.code, r.text)
		}
	}
	w.cluster.Lead(2)
	w.bank.answer("/out action", yes)
	w.bank.answer("/out confirm", yes)
	w.becomes("g", "succeed")
	w.becomes("t", "succeed")
}

// TestReusedGids: a gid names one transaction. Another one under it is an error and
// changes nothing, whoever asks.
func TestReusedGids(t *testing.T) {
	w := newWorld(t)
	w.post("prepare", w.message("m", nil, "a"), 200, success)
	w.post("prepare", w.message("m", nil, "b"), 500, "other content")
	w.post("prepare", w.message("m", object{"query_prepared": w.bank.http + "/elsewhere"}, "a"), 500, "other content")
	w.post("prepare", object{"gid": "m", "trans_type": "tcc"}, 500, "of type msg, not tcc")
	w.post("submit", w.saga("m", nil, "a"), 500, "of type msg, not saga")
	w.post("registerBranch", w.register("m", "01", "a"), 500, "of type msg, not tcc")
	w.post("prepareWorkflow", object{"gid": "m", "trans_type": "workflow", "custom_data": `{"name":"n"}`, "query_prepared": w.bank.http}, 500, "of type msg, not workflow")
	w.post("submit", w.message("m", object{"wait_result": true}, "ignored, as in DTM"), 200, success)
	equal(t, "calls", w.bank.of("m"), []string{"01 action /a"})
	w.post("prepare", w.message("m", nil, "a"), 409, "current status 'succeed', cannot prepare. FAILURE")
}

// TestJSONRPCPayloads that are no object are refused at once: a call has no params then.
func TestJSONRPCPayloads(t *testing.T) {
	w := newWorld(t)
	for payload, code := range map[string]int{"[1]": 500, "text": 500, "7": 500, `{"a":1}`: 200, "": 200, "null": 200} {
		body := w.saga("g"+payload, object{"protocol": "json-rpc"}, "rpc?method=pay")
		body["payloads"] = []string{payload}
		w.post("submit", body, code, "")
	}
}

// TestNobodyToCallBack: a workflow that names no query_prepared waits for its code
// alone, as with DTM; `quorate tx show` says so.
func TestNobodyToCallBack(t *testing.T) {
	w := newWorld(t)
	w.post("prepareWorkflow", object{"gid": "g", "trans_type": "workflow", "custom_data": `{"name":"n"}`}, 200, `"status":"prepared"`)
	w.later(time.Hour)
	if s := w.query("g"); s.Transaction.Status != "prepared" || len(w.bank.of("g")) != 0 {
		t.Errorf("shown as %+v, called: %v", s.Transaction, w.bank.of("g"))
	}
	w.post("submit", object{"gid": "g", "trans_type": "workflow", "req_extra": object{"status": "succeed"}}, 200, success)
	w.becomes("g", "succeed")
}
