package branchcall

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// dialect is DTM's tongue: what its server tells a branch, and how its SDKs
// answer.
type dialect struct {
	gid, transType, branch, op string
	jsonRPC                    bool
}

// The words by which DTM's SDKs answer, wherever they stand in a body, and the
// codes of their JSON-RPC.
const (
	dtmFailure = "FAILURE"
	dtmOngoing = "ONGOING"

	rpcFailure = -32901
	rpcOngoing = -32902
)

// callbackBranch is the branch id of a check-back and a resume.
const callbackBranch = "00"

// dialectOf is nil for Quorate's own.
func dialectOf(d coordinator.Delivery) *dialect {
	kind := d.Plan.GetDialect()
	if kind == logpb.Dialect_DIALECT_UNSPECIFIED {
		return nil
	}
	l := &dialect{
		gid: d.Key, transType: d.Plan.GetDialectMode(), branch: d.Branch, op: operationWord(d.Operation),
		jsonRPC: kind == logpb.Dialect_DIALECT_DTM_JSON_RPC,
	}
	if l.gid == "" {
		l.gid = d.GID.String()
	}
	switch d.Operation {
	case fsm.OperationCheckBack:
		l.branch, l.op = callbackBranch, "msg"
	case fsm.OperationResume:
		l.branch, l.op = callbackBranch, d.Plan.GetWorkflow()
	case fsm.OperationConfirm:
		if l.transType == "xa" {
			l.op = "commit"
		}
	case fsm.OperationCancel:
		if l.transType == "xa" {
			l.op = "rollback"
		}
	}
	return l
}

// spelled is a delivery's endpoint as we write it: a gRPC URL of DTM's has no scheme.
func spelled(d coordinator.Delivery) string {
	if dialectOf(d) != nil && d.Endpoint != "" && !strings.Contains(d.Endpoint, "://") {
		return "grpc://" + d.Endpoint
	}
	return d.Endpoint
}

// postDTM makes one call over HTTP.
func (c *Caller) postDTM(ctx context.Context, t target, d coordinator.Delivery, l *dialect) (coordinator.Answered, error) {
	if method := t.url.Query().Get("method"); l.jsonRPC && method != "" {
		return c.postJSONRPC(ctx, t, d, l, method)
	}
	at, body, verb := *t.url, payloadOf(d), http.MethodPost
	switch {
	case d.Operation == fsm.OperationCheckBack:
		verb, body = http.MethodGet, nil
	case len(body) == 0 && l.transType != "xa" && d.Operation != fsm.OperationResume:
		verb = http.MethodGet
	}
	at.RawQuery = strings.TrimPrefix(at.RawQuery+"&"+l.query(), "&")
	answer, err := c.exchange(ctx, verb, at.String(), body, d)
	if err != nil && (!errors.Is(err, errLarge) || !decisive(answer.code)) {
		return coordinator.Answered{}, err
	}
	return answeredCall(d, meaningDTM(answer.code, answer.text), answer.what, answer.text)
}

// postJSONRPC makes one call as JSON-RPC.
func (c *Caller) postJSONRPC(ctx context.Context, t target, d coordinator.Delivery, l *dialect, method string) (coordinator.Answered, error) {
	body, err := l.envelope(method, d)
	if err != nil {
		return coordinator.Answered{}, err
	}
	answer, err := c.exchange(ctx, http.MethodPost, t.url.String(), body, d)
	if err != nil {
		return coordinator.Answered{}, err
	}
	return answeredCall(d, meaningJSONRPC(answer.code, answer.text), answer.what, answer.text)
}

// query is what DTM appends to a URL, in the order of the names.
func (l *dialect) query() string {
	return url.Values{"gid": {l.gid}, "trans_type": {l.transType}, "branch_id": {l.branch}, "op": {l.op}}.Encode()
}

// envelope is a JSON-RPC request: the payload's members, and who is meant.
func (l *dialect) envelope(method string, d coordinator.Delivery) ([]byte, error) {
	params := make(map[string]any)
	if body := bytes.TrimSpace(payloadOf(d)); len(body) > 0 && !bytes.Equal(body, []byte("null")) {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber() // an id of 19 digits stays what it is
		if err := decoder.Decode(&params); err != nil {
			return nil, fmt.Errorf("POST %s: the payload is no JSON object, as params of JSON-RPC must be", d.Endpoint)
		}
	}
	for name, value := range map[string]string{"gid": l.gid, "trans_type": l.transType, "branch_id": l.branch, "op": l.op} {
		params[name] = value
	}
	return json.Marshal(map[string]any{
		"jsonrpc": "2.0", "method": method, "params": params,
		"id": fmt.Sprintf("%s-%s-%s-%d", d.GID, l.branch, l.op, d.Attempt),
	})
}

// addMetadata is what DTM's SDKs read of a gRPC call.
func (l *dialect) addMetadata(md metadata.MD) {
	md.Set("dtm-gid", l.gid)
	md.Set("dtm-trans_type", l.transType)
	md.Set("dtm-branch_id", l.branch)
	md.Set("dtm-op", l.op)
	md.Set("dtm-dtm", "")
}

// grpcBody is the message: the payload as it is, but for a resume, which
// wraps it in WorkflowData{bytes Data = 1}.
func (l *dialect) grpcBody(d coordinator.Delivery) []byte {
	switch d.Operation {
	case fsm.OperationCheckBack:
		return nil
	case fsm.OperationResume:
		if len(payloadOf(d)) == 0 {
			return nil
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), payloadOf(d))
	default:
		return payloadOf(d)
	}
}

// meaningDTM is how DTM's server reads an answer, precedence included: a body
// that says ONGOING or FAILURE counts at any status, and 201 is no success.
func meaningDTM(code int, body string) meaning {
	switch {
	case code == http.StatusTooEarly || strings.Contains(body, dtmOngoing):
		return working
	case code == http.StatusConflict || strings.Contains(body, dtmFailure):
		return refused
	case code != http.StatusOK:
		return again
	default:
		return done
	}
}

// decisive tells of a status that needs no body.
func decisive(code int) bool { return code == http.StatusTooEarly || code == http.StatusConflict }

// meaningJSONRPC reads the error's code first, then as any other answer.
func meaningJSONRPC(code int, body string) meaning {
	var answer struct {
		Error *struct {
			Code int `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil && code == http.StatusOK && meaningDTM(code, body) == done {
		return again // whatever spoke there, JSON-RPC it was not
	}
	switch {
	case answer.Error == nil:
		return meaningDTM(code, body)
	case answer.Error.Code == rpcOngoing:
		return working
	case answer.Error.Code == rpcFailure:
		return refused
	default:
		return again
	}
}

// meaningDTMCode is the same of gRPC. Before 1.10 DTM's SDKs said ABORTED with
// the message ONGOING.
func meaningDTMCode(st *status.Status) meaning {
	switch {
	case st.Code() == codes.OK:
		return done
	case st.Code() == codes.FailedPrecondition, st.Code() == codes.Aborted && st.Message() == dtmOngoing:
		return working
	case st.Code() == codes.Aborted:
		return refused
	default:
		return again
	}
}
