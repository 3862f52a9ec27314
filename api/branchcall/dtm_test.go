package branchcall

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/callheader"
)

const (
	dtmHTTP = logpb.Dialect_DIALECT_DTM_HTTP
	dtmGRPC = logpb.Dialect_DIALECT_DTM_GRPC
	dtmRPC  = logpb.Dialect_DIALECT_DTM_JSON_RPC
)

// dtmCall is a call in DTM's tongue.
func dtmCall(endpoint string, tongue logpb.Dialect, transType string, mode fsm.Mode, op fsm.Operation) coordinator.Delivery {
	d := called(endpoint, mode, op)
	d.Key, d.Branch = "gid 1&op=x", "01"
	d.Plan = &logpb.Plan{Dialect: tongue, DialectMode: transType, CallbackPayload: []byte("data"), Workflow: "flow"}
	return d
}

// TestDTMMeaning is DTM's exact precedence: ongoing before failure, a body
// before a status, and only 200 is success.
func TestDTMMeaning(t *testing.T) {
	for _, tt := range []struct {
		code int
		body string
		want meaning
	}{
		{200, `{"dtm_result":"SUCCESS"}`, done}, {200, "", done}, {200, "failure ongoing", done},
		{200, `{"dtm_result":"FAILURE"}`, refused}, {200, `{"dtm_result":"ONGOING"}`, working}, {200, "FAILURE ONGOING", working},
		{409, "", refused}, {409, "ONGOING", working}, {425, "", working}, {425, "FAILURE", working},
		{500, "FAILURE", refused}, {500, "ONGOING", working}, {500, "oops", again}, {201, "", again}, {204, "", again}, {202, "", again},
		{302, "", again}, {404, "", again}, {503, "xFAILUREx", refused},
	} {
		if got := meaningDTM(tt.code, tt.body); got != tt.want {
			t.Errorf("%d %q means %d, want %d", tt.code, tt.body, got, tt.want)
		}
	}
	for _, tt := range []struct {
		code int
		body string
		want meaning
	}{
		{200, `{"jsonrpc":"2.0","result":{},"id":"1"}`, done}, {200, `{"error":{"code":-32901}}`, refused}, {200, `{"error":{"code":-32902,"message":"FAILURE"}}`, working},
		{200, `{"error":{"code":-32603,"message":"x"}}`, again}, {200, `{"error":{"code":-32601,"message":"FAILURE"}}`, again},
		{200, `{"error":null,"result":{"dtm_result":"FAILURE"}}`, refused}, {200, `<html>ok</html>`, again}, {200, ``, again}, {500, ``, again}, {409, ``, refused}, {425, `x`, working},
	} {
		if got := meaningJSONRPC(tt.code, tt.body); got != tt.want {
			t.Errorf("JSON-RPC %d %q means %d, want %d", tt.code, tt.body, got, tt.want)
		}
	}
	for _, tt := range []struct {
		code codes.Code
		text string
		want meaning
	}{
		{codes.OK, "", done}, {codes.Aborted, "x", refused}, {codes.Aborted, "FAILURE", refused}, {codes.Aborted, "ONGOING", working}, {codes.Aborted, "is ONGOING", refused},
		{codes.FailedPrecondition, "FAILURE", working}, {codes.Unavailable, "ONGOING", again}, {codes.Internal, "FAILURE", again}, {codes.Unknown, "", again},
	} {
		if got := meaningDTMCode(status.New(tt.code, tt.text)); got != tt.want {
			t.Errorf("gRPC %s %q means %d, want %d", tt.code, tt.text, got, tt.want)
		}
	}
}

// TestDTMRequests: method, query and body of every kind of call.
func TestDTMRequests(t *testing.T) {
	var got *http.Request
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		got = req
		text, _ := io.ReadAll(req.Body)
		body = string(text)
	}))
	defer server.Close()
	caller := newCaller(t, nil)
	const ours = "&gid=gid+1%26op%3Dx"
	for _, tt := range []struct {
		name      string
		transType string
		mode      fsm.Mode
		op        fsm.Operation
		payload   string
		method    string
		query     string
		body      string
	}{
		{"saga action", "saga", saga, fsm.OperationAction, "{}", "POST", "branch_id=01" + ours + "&op=action&trans_type=saga", "{}"},
		{"saga action without a payload", "saga", saga, fsm.OperationAction, "", "GET", "branch_id=01" + ours + "&op=action&trans_type=saga", ""},
		{"saga compensate", "saga", saga, fsm.OperationCompensate, "{}", "POST", "branch_id=01" + ours + "&op=compensate&trans_type=saga", "{}"},
		{"tcc confirm", "tcc", tcc, fsm.OperationConfirm, "{}", "POST", "branch_id=01" + ours + "&op=confirm&trans_type=tcc", "{}"},
		{"tcc cancel", "tcc", tcc, fsm.OperationCancel, "{}", "POST", "branch_id=01" + ours + "&op=cancel&trans_type=tcc", "{}"},
		{"xa commit", "xa", tcc, fsm.OperationConfirm, "", "POST", "branch_id=01" + ours + "&op=commit&trans_type=xa", ""},
		{"xa rollback", "xa", tcc, fsm.OperationCancel, "", "POST", "branch_id=01" + ours + "&op=rollback&trans_type=xa", ""},
		{"msg action", "msg", message, fsm.OperationAction, "{}", "POST", "branch_id=01" + ours + "&op=action&trans_type=msg", "{}"},
		{"msg query", "msg", message, fsm.OperationCheckBack, "{}", "GET", "branch_id=00" + ours + "&op=msg&trans_type=msg", ""},
		{"workflow", "workflow", workflow, fsm.OperationResume, "", "POST", "branch_id=00" + ours + "&op=flow&trans_type=workflow", "data"},
	} {
		for _, tongue := range []logpb.Dialect{dtmHTTP, dtmGRPC, dtmRPC} { // a URL of HTTP is called by HTTP
			d := dtmCall(server.URL+"/busi?a=1%202&b", tongue, tt.transType, tt.mode, tt.op)
			d.Payload = []byte(tt.payload)
			if _, err := caller.Call(bounded(t), d); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if got.Method != tt.method || got.URL.RawQuery != "a=1%202&b&"+tt.query || body != tt.body {
				t.Errorf("%s: %s ?%s with %q", tt.name, got.Method, got.URL.RawQuery, body)
			}
			if q := got.URL.Query(); q.Get("gid") != "gid 1&op=x" || len(q["op"]) != 1 {
				t.Errorf("%s: the gid arrives as %q, op as %q", tt.name, q.Get("gid"), q["op"])
			}
			if got.Header.Get("Content-Type") != "application/json" || got.Header.Get(callheader.Epoch) != "1.7" || got.Header.Get(callheader.Operation)+got.Header.Get(callheader.GID) != "" {
				t.Errorf("%s: %v", tt.name, got.Header)
			}
		}
	}
}

// TestDTMJSONRPC: the payload's members become params, numbers unharmed.
func TestDTMJSONRPC(t *testing.T) {
	var body map[string]any
	answer := `{"jsonrpc":"2.0","result":"ok"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost || req.URL.RawQuery != "method=Reserve" {
			t.Errorf("%s ?%s", req.Method, req.URL.RawQuery)
		}
		decoder := json.NewDecoder(req.Body)
		decoder.UseNumber()
		if err := decoder.Decode(&body); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	caller := newCaller(t, nil)
	d := dtmCall(server.URL+"/rpc?method=Reserve", dtmRPC, "saga", saga, fsm.OperationAction)
	d.Payload = []byte(`{"amount":1234567890123456789,"gid":"forged"}`)
	got, err := caller.Call(bounded(t), d)
	said{outcome: committed}.check(t, got, err)
	params, _ := body["params"].(map[string]any)
	if body["jsonrpc"] != "2.0" || body["method"] != "Reserve" || body["id"] == "" || params["gid"] != "gid 1&op=x" || params["trans_type"] != "saga" ||
		params["branch_id"] != "01" || params["op"] != "action" || params["amount"] != json.Number("1234567890123456789") {
		t.Errorf("sent %v", body)
	}
	answer = `{"error":{"code":-32901,"message":"no funds"}}`
	got, err = caller.Call(bounded(t), d)
	said{refused: true}.check(t, got, err)
	d.Operation = fsm.OperationCompensate
	_, err = caller.Call(bounded(t), d)
	said{err: "refuses what is decided"}.check(t, coordinator.Answered{}, err)
	query := dtmCall(server.URL+"/rpc?method=Reserve", dtmRPC, "msg", message, fsm.OperationCheckBack)
	query.Plan.CallbackPayload = nil
	got, err = caller.Call(bounded(t), query)
	said{refused: true}.check(t, got, err)
	if params, _ := body["params"].(map[string]any); params["branch_id"] != "00" || params["op"] != "msg" || len(params) != 4 {
		t.Errorf("asked %v", body)
	}
	d.Payload = []byte(`[1,2]`)
	_, err = caller.Call(bounded(t), d)
	said{err: "no JSON object"}.check(t, coordinator.Answered{}, err)
}

// TestDTMGRPC: a URL without a scheme, metadata, and the one body that is wrapped.
func TestDTMGRPC(t *testing.T) {
	var fails error
	address, asked := serveRaw(t, func([]byte) error { return fails })
	caller := newCaller(t, nil)
	for _, tt := range []struct {
		transType string
		mode      fsm.Mode
		op        fsm.Operation
		branch    string
		word      string
		body      string
	}{
		{"saga", saga, fsm.OperationAction, "01", "action", `{"amount":30}`},
		{"xa", tcc, fsm.OperationCancel, "01", "rollback", `{"amount":30}`},
		{"msg", message, fsm.OperationCheckBack, "00", "msg", ""},
		{"workflow", workflow, fsm.OperationResume, "00", "flow", "\x0a\x04data"},
	} {
		d := dtmCall(address+"/busi.Busi/Trans", dtmGRPC, tt.transType, tt.mode, tt.op)
		if _, err := caller.Call(bounded(t), d); err != nil {
			t.Fatalf("%s: %v", tt.transType, err)
		}
		if asked.method != "/busi.Busi/Trans" || string(asked.body) != tt.body {
			t.Errorf("%s: %s with %q", tt.transType, asked.method, asked.body)
		}
		for name, want := range map[string]string{
			"dtm-gid": "gid 1&op=x", "dtm-trans_type": tt.transType, "dtm-branch_id": tt.branch, "dtm-op": tt.word, "dtm-dtm": "", "quorate-epoch": "1.7",
		} {
			if values := asked.md.Get(name); len(values) != 1 || values[0] != want {
				t.Errorf("%s: %s is %q, want %q", tt.transType, name, values, want)
			}
		}
	}
	d := dtmCall(address+"/busi.Busi/Trans", dtmGRPC, "saga", saga, fsm.OperationAction)
	fails = status.Error(codes.Aborted, "no funds")
	got, err := caller.Call(bounded(t), d)
	said{refused: true}.check(t, got, err)
	fails = status.Error(codes.FailedPrecondition, "wait")
	got, err = caller.Call(bounded(t), d)
	said{busy: true}.check(t, got, err)
	for _, endpoint := range []string{"etcd://stock/busi.Busi/Trans", "discovery:///stock/busi.Busi/Trans"} {
		d.Endpoint = endpoint
		_, err = caller.Call(bounded(t), d)
		said{err: "endpoint not allowed"}.check(t, coordinator.Answered{}, err)
	}
}

// TestDTMLargeAnswers: FAILURE may stand where nobody reads any more.
func TestDTMLargeAnswers(t *testing.T) {
	code := 200
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.Repeat("x", AnswerBytesMax)+"FAILURE")
	}))
	defer server.Close()
	caller := newCaller(t, nil)
	_, err := caller.Call(bounded(t), dtmCall(server.URL, dtmHTTP, "saga", saga, fsm.OperationAction))
	said{err: "larger than"}.check(t, coordinator.Answered{}, err)
	code = 409
	got, err := caller.Call(bounded(t), dtmCall(server.URL, dtmHTTP, "saga", saga, fsm.OperationAction))
	said{refused: true}.check(t, got, err)
}
