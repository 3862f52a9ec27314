package dtm

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quorate/quorate/api/dtm/dtmpb"
	quoratev1 "github.com/quorate/quorate/api/v1"
)

// hostile are texts that a caller may put anywhere, and that must not come back
// as words.
var hostile = []string{"FAILURE", "ONGOING", "x FAILURE ONGOING", `\FAILURE"ONGOING\`, "http://127.0.0.1:1/ONGOING?FAILURE"}

// calls is every handler of the surface with a text in every place that holds
// one. A new route must get a line here: TestEveryRouteIsCalled sees to it.
func calls(text string) map[string]func(*stand) reply {
	trans := func(transType string) map[string]any {
		return map[string]any{
			"gid": text, "trans_type": transType, "query_prepared": text, "custom_data": text, "rollback_reason": text,
			"steps": []map[string]string{{"action": text, "compensate": text}}, "payloads": []string{text},
			"branch_headers": map[string]string{text: text}, "req_extra": map[string]string{"status": text, "result": text, "rollback_reason": text},
		}
	}
	branch := func(transType string) map[string]string {
		return map[string]string{
			"gid": text, "trans_type": transType, "branch_id": text, "op": text, "status": text, "data": text, "confirm": text, "cancel": text, "url": text,
		}
	}
	all := map[string]func(*stand) reply{
		"GET newGid":             func(s *stand) reply { return s.get("newGid", "x", text) },
		"GET query":              func(s *stand) reply { return s.get("query", "gid", text) },
		"GET all":                func(s *stand) reply { return s.get("all") },
		"GET all gid":            func(s *stand) reply { return s.get("all", "gid", text) },
		"GET all status":         func(s *stand) reply { return s.get("all", "status", text) },
		"GET all limit":          func(s *stand) reply { return s.get("all", "limit", text) },
		"GET all position":       func(s *stand) reply { return s.get("all", "position", text) },
		"GET all times":          func(s *stand) reply { return s.get("all", "createTimeStart", text) },
		"GET resetCronTime":      func(s *stand) reply { return s.get("resetCronTime", "timeout", "0") },
		"GET resetCronTime text": func(s *stand) reply { return s.get("resetCronTime", "timeout", text) },
		"POST resetNextCronTime": func(s *stand) reply { return s.post("resetNextCronTime", map[string]string{"gid": text}) },
		"POST forceStop":         func(s *stand) reply { return s.post("forceStop", map[string]string{"gid": text}) },
		"GET subscribe":          func(s *stand) reply { return s.get("subscribe", "topic", text, "url", text, "remark", text) },
		"GET unsubscribe":        func(s *stand) reply { return s.get("unsubscribe", "topic", text, "url", text) },
		"DELETE topic/{topic}":   func(s *stand) reply { return s.do("DELETE", s.url+"topic/"+url.PathEscape(text), nil) },
		"GET scanKV":             func(s *stand) reply { return s.get("scanKV", "cat", "topics", "position", text) },
		"GET queryKV":            func(s *stand) reply { return s.get("queryKV", "cat", "topics", "key", text) },
		"GET version":            func(s *stand) reply { return s.get("version") },
		"GET ping":               func(s *stand) reply { return s.do("GET", s.base+"/api/ping", nil) },
		"RPC newGid":             func(s *stand) reply { return s.rpc("newGid", text, nil) },
		"RPC unknown":            func(s *stand) reply { return s.rpc(text, text, nil) },
		"RPC without id":         func(s *stand) reply { return s.rpc("newGid", "", map[string]string{"id": text}) },
		"GET unclean":            func(s *stand) reply { return s.do("GET", s.base+"/api//dtmsvr/"+url.PathEscape(text)+"/..//x", nil) },
		"GET unknown":            func(s *stand) reply { return s.get(url.PathEscape(text)) },
	}
	for _, transType := range []string{typeSaga, typeTCC, typeXA, typeMessage, typeWorkflow, text} {
		for _, name := range []string{"prepare", "submit", "abort", "prepareWorkflow"} {
			all["POST "+name+" "+transType] = func(s *stand) reply { return s.post(name, trans(transType)) }
			all["RPC "+name+" "+transType] = func(s *stand) reply { return s.rpc(name, text, trans(transType)) }
		}
		for _, name := range []string{"registerBranch", "registerXaBranch", "registerTccBranch"} {
			all["POST "+name+" "+transType] = func(s *stand) reply { return s.post(name, branch(transType)) }
		}
		all["RPC registerBranch "+transType] = func(s *stand) reply { return s.rpc("registerBranch", text, branch(transType)) }
	}
	for _, name := range []string{"prepare", "submit", "abort", "registerBranch", "prepareWorkflow", "forceStop", "resetNextCronTime"} {
		all["POST "+name+" malformed"] = func(s *stand) reply { return s.post(name, text) }
		all["POST "+name+" other types"] = func(s *stand) reply { return s.post(name, map[string]any{"gid": []string{text}, text: 1}) }
	}
	return all
}

// rpc makes a JSON-RPC call whose answer is read as an HTTP one is; its error's
// code says what 409 and 425 say there.
func (s *stand) rpc(method, id string, params any) reply {
	r := s.do("POST", s.base+"/api/json-rpc", map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	var answer struct {
		Error *rpcError `json:"error"`
		ID    string    `json:"id"`
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 200 {
		s.t.Errorf("JSON-RPC %s: %d %s", method, r.status, r.body)
	}
	if id != "" && answer.ID != id {
		s.t.Errorf("JSON-RPC %s answered id %q, want %q", method, answer.ID, id)
	}
	// As the same reply over HTTP would be, the text as it came.
	switch {
	case answer.Error == nil:
	case answer.Error.Code == -32901:
		r.status = 409
	case answer.Error.Code == -32902:
		r.status = 425
	default:
		r.status = 500
	}
	return r
}

func mustJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// grpcCalls is the same over gRPC.
func grpcCalls(text string) map[string]func(context.Context, dtmpb.DtmClient) error {
	request := func(transType string) *dtmpb.DtmRequest {
		return &dtmpb.DtmRequest{
			Gid: text, TransType: transType, QueryPrepared: text, CustomedData: text, RollbackReason: text,
			Steps: mustJSON([]map[string]string{{"action": text, "compensate": text}}), BinPayloads: [][]byte{[]byte(text)},
			TransOptions: &dtmpb.DtmTransOptions{BranchHeaders: map[string]string{text: text}},
			ReqExtra:     map[string]string{"status": text, "result": text, "rollback_reason": text},
		}
	}
	topic := &dtmpb.DtmTopicRequest{Topic: text, URL: text, Remark: text}
	all := map[string]func(context.Context, dtmpb.DtmClient) error{
		"NewGid": func(ctx context.Context, c dtmpb.DtmClient) error {
			_, err := c.NewGid(ctx, &emptypb.Empty{})
			return err
		},
		"Subscribe":   func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.Subscribe(ctx, topic); return err },
		"Unsubscribe": func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.Unsubscribe(ctx, topic); return err },
		"DeleteTopic": func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.DeleteTopic(ctx, topic); return err },
		"Submit steps": func(ctx context.Context, c dtmpb.DtmClient) error {
			_, err := c.Submit(ctx, &dtmpb.DtmRequest{Gid: text, TransType: "saga", Steps: text})
			return err
		},
	}
	for _, transType := range []string{typeSaga, typeTCC, typeXA, typeMessage, typeWorkflow, text} {
		r := request(transType)
		all["Prepare "+transType] = func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.Prepare(ctx, r); return err }
		all["Submit "+transType] = func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.Submit(ctx, r); return err }
		all["Abort "+transType] = func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.Abort(ctx, r); return err }
		all["PrepareWorkflow "+transType] = func(ctx context.Context, c dtmpb.DtmClient) error { _, err := c.PrepareWorkflow(ctx, r); return err }
		all["RegisterBranch "+transType] = func(ctx context.Context, c dtmpb.DtmClient) error {
			_, err := c.RegisterBranch(ctx, &dtmpb.DtmBranchRequest{
				Gid: text, TransType: transType, BranchID: text, Op: text, Data: map[string]string{"url": text, "confirm": text, "cancel": text, "status": text},
			})
			return err
		}
	}
	return all
}

// honestStatus is the same as honest for gRPC.
func honestStatus(t *testing.T, what string, err error) {
	t.Helper()
	message := status.Convert(err).Message()
	failure, ongoing := strings.Contains(message, wordFailure), strings.Contains(message, wordOngoing)
	switch status.Code(err) {
	case codes.Aborted:
		if !failure || ongoing {
			t.Errorf("%s: ABORTED with %q", what, message)
		}
	case codes.FailedPrecondition:
		if failure || !ongoing {
			t.Errorf("%s: FAILED_PRECONDITION with %q", what, message)
		}
	default:
		if failure || ongoing {
			t.Errorf("%s: %v, with a word that it does not mean: %q", what, status.Code(err), message)
		}
	}
}

// TestNoWordIsSaidWrongly: DTM's clients take any reply that holds FAILURE for a
// failed transaction, and ONGOING for a running one. Every handler is called with
// those words in every text, where transactions of that name stand in every
// state, and none comes back that is not meant.
func TestNoWordIsSaidWrongly(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		for _, state := range []quoratev1.State{
			0, quoratev1.State_STATE_ACTIVE, quoratev1.State_STATE_SEALED, quoratev1.State_STATE_COMMITTING,
			quoratev1.State_STATE_COMMITTED, quoratev1.State_STATE_ROLLING_BACK, quoratev1.State_STATE_ROLLED_BACK,
		} {
			s := newStand(t, Config{WaitResultMax: time.Millisecond})
			stands := func() {
				if state == 0 {
					s.fake.mu.Lock()
					clear(s.fake.byKey)
					s.fake.mu.Unlock()
					return
				}
				s.standing(text, state)
			}
			for what, call := range calls(text) {
				stands()
				call(s).honest(t, what+" of "+text+" in "+state.String())
			}
			for what, call := range grpcCalls(text) {
				stands()
				honestStatus(t, what+" of "+text+" in "+state.String(), call(t.Context(), dtmpb.NewDtmClient(s.conn)))
			}
		}
	}
}

// standing puts a transaction full of the text under the key that it is.
func (s *stand) standing(text string, state quoratev1.State) {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	decision := quoratev1.Decision_DECISION_UNSPECIFIED
	switch state {
	case quoratev1.State_STATE_COMMITTING, quoratev1.State_STATE_COMMITTED:
		decision = quoratev1.Decision_DECISION_COMMIT
	case quoratev1.State_STATE_ROLLING_BACK, quoratev1.State_STATE_ROLLED_BACK:
		decision = quoratev1.Decision_DECISION_ROLLBACK
	}
	s.fake.byKey[text] = &quoratev1.Transaction{
		Gid: "01GID", Key: text, State: state, Decision: decision, Detail: text, Initiator: text, Result: []byte(text), Began: s.fake.stamp(),
		Plan: &quoratev1.Plan{DialectMode: typeWorkflow, Workflow: text, CallbackPayload: []byte(text), DialectData: []byte(`{"query_prepared":` + mustJSON(text) + `}`)},
		Branches: []*quoratev1.Branch{{
			Spec: &quoratev1.BranchSpec{Id: text, Endpoint: text, Undo: text, Payload: []byte(text)}, Detail: text, Recorded: text, Result: []byte(text),
		}},
	}
}

// TestNoErrorOfOursIsAFailure: whatever our own services answer, with whatever
// text, no client of DTM's may take it for a word on its transaction.
func TestNoErrorOfOursIsAFailure(t *testing.T) {
	t.Parallel()
	var errs []error
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		errs = append(errs, failing("", code, "a FAILURE while ONGOING"))
	}
	for i, code := range []codes.Code{codes.Aborted, codes.FailedPrecondition} {
		for j, reason := range []string{
			"NOT_LEADER", "NO_LEADER", "OUTCOME_UNKNOWN", "QUOTA", "LAGGING", "DEADLINE", "COMPACTED", "SESSION_LOST", "UNIMPLEMENTED", "INTERNAL",
			"INVALID", "DENIED", "SET_MISMATCH", "SET_REQUIRED", "UNDECIDED", "WITHHELD", "QUARANTINED", "STALE", "GID_CONFLICT", "KEY_CONFLICT",
			"ALREADY_DECIDED", "COMMIT_CONFLICT", "NOT_ENLISTED", "EXPIRED",
		} {
			if (i+j)%2 == 0 { // one of the two codes each is enough
				continue
			}
			errs = append(errs, failing(reason, code, "a FAILURE while ONGOING"))
		}
	}
	s := newStand(t, Config{HoldMax: time.Nanosecond})
	for _, err := range errs {
		what := status.Code(err).String() + " " + reasonOf(err)
		s.fake.set(func(string) error { return err })
		for name, call := range calls("g1") {
			r := call(s)
			if r.status == 409 || r.status == 425 {
				t.Errorf("%s answered %s with %d: %s", name, what, r.status, r.body)
			}
			r.honest(t, name+" on "+what)
		}
		for name, call := range grpcCalls("g1") {
			err := call(t.Context(), dtmpb.NewDtmClient(s.conn))
			if c := status.Code(err); c == codes.Aborted || c == codes.FailedPrecondition {
				t.Errorf("%s answered %s with %v", name, what, err)
			}
			honestStatus(t, name+" on "+what, err)
		}
	}
}

// TestNoLeaderIsAnErrorThatPasses: 503 and UNAVAILABLE, so that whoever repeats
// knows that it may.
func TestNoLeaderIsAnErrorThatPasses(t *testing.T) {
	s := newStand(t, Config{})
	for _, reason := range []string{"NO_LEADER", "OUTCOME_UNKNOWN", "QUOTA"} {
		s.fake.set(func(string) error { return failing(reason, codes.Unavailable, "not now") })
		s.post("prepare", map[string]string{"gid": "g", "trans_type": "tcc"}).wants(t, 503, "not now")
		_, err := dtmpb.NewDtmClient(s.conn).Prepare(t.Context(), &dtmpb.DtmRequest{Gid: "g", TransType: "tcc"})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("Prepare: %v", err)
		}
	}
}

// TestEveryRouteIsCalled keeps the tables above whole.
func TestEveryRouteIsCalled(t *testing.T) {
	var table []string
	for what := range calls("x") {
		table = append(table, what)
	}
	for _, route := range New(Config{}).served {
		found := false
		for _, what := range table {
			found = found || what == route || strings.HasPrefix(what, route+" ")
		}
		if !found {
			t.Errorf("%s is served, and no test calls it with hostile texts", route)
		}
	}
	for name := range (&Gateway{}).rpcMethods() {
		if _, ok := calls("x")["RPC "+name+" saga"]; !ok && name != "newGid" {
			t.Errorf("JSON-RPC's %s is served, and no test calls it with hostile texts", name)
		}
	}
	for _, method := range dtmpb.Dtm_ServiceDesc.Methods {
		found := false
		for what := range grpcCalls("x") {
			found = found || what == method.MethodName || strings.HasPrefix(what, method.MethodName+" ")
		}
		if !found {
			t.Errorf("gRPC's %s is served, and no test calls it with hostile texts", method.MethodName)
		}
	}
}
