package dtm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// kept is what a caller sent and reads back, and nothing here acts upon: it is
// the plan's dialect_data.
type kept struct {
	CustomData    string          `json:"custom_data,omitempty"`
	QueryPrepared string          `json:"query_prepared,omitempty"`
	Options       json.RawMessage `json:"options,omitempty"`
}

// begin is the native request that creates the transaction.
func (t *trans) begin() (*quoratev1.BeginRequest, error) {
	c, err := t.custom()
	if err != nil {
		return nil, err
	}
	begin := &quoratev1.BeginRequest{Key: t.Gid, Entry: quoratev1.Entry_ENTRY_EXPLICIT, Plan: t.plan()}
	switch t.TransType {
	case typeSaga:
		begin.Mode = quoratev1.Mode_MODE_SAGA
		if t.TimeoutToFail > 0 {
			begin.Timeout = seconds(t.TimeoutToFail)
		}
	case typeTCC, typeXA:
		begin.Mode = quoratev1.Mode_MODE_TCC
		begin.Timeout = durationpb.New(t.timeoutToFail())
	case typeMessage:
		begin.Mode = quoratev1.Mode_MODE_MESSAGE
		begin.Plan.Callback = t.endpoint(t.QueryPrepared)
		begin.Plan.CallbackAfter = durationpb.New(t.timeoutToFail())
		if c.Delay > 0 {
			begin.Plan.Delay = seconds(int64(c.Delay))
		}
	case typeWorkflow:
		begin.Mode = quoratev1.Mode_MODE_WORKFLOW
		begin.Plan.Callback = t.endpoint(t.QueryPrepared)
		begin.Plan.CallbackAfter = durationpb.New(t.firstResume())
		begin.Plan.CallbackPayload = c.Data
		begin.Plan.Workflow = c.Name
	}
	for what, name := range map[string]string{"gid": t.Gid, "the workflow's name": begin.GetPlan().GetWorkflow()} {
		if err := checkCarried(begin.GetPlan().GetCallback(), what, name); err != nil {
			return nil, err
		}
	}
	if t.Protocol == protocolGRPC && begin.GetMode() == quoratev1.Mode_MODE_TCC {
		// Its branches are not known yet, and are called over gRPC.
		return begin, checkCarried(grpcScheme, "gid", t.Gid)
	}
	return begin, nil
}

func (t *trans) plan() *quoratev1.Plan {
	plan := &quoratev1.Plan{Retry: &quoratev1.Retry{}, Headers: t.BranchHeaders, DialectMode: t.TransType}
	switch t.Protocol {
	case protocolGRPC:
		plan.Dialect = "dtm-grpc"
	case protocolJSONRPC:
		plan.Dialect = "dtm-json-rpc"
	default:
		plan.Dialect = "dtm-http"
	}
	if t.RetryInterval > 0 {
		plan.Retry.Interval = seconds(t.RetryInterval)
	}
	if t.RequestTimeout > 0 {
		plan.Retry.CallTimeout = seconds(t.RequestTimeout)
	}
	if t.TransType == typeSaga && t.RetryLimit > 0 {
		plan.Retry.AttemptsMax = uint32(t.RetryLimit) + 1
	}
	keep := kept{CustomData: t.CustomData, QueryPrepared: t.QueryPrepared}
	if t.TransType == typeWorkflow {
		keep.CustomData = "" // it is in the plan, with a payload that may be large
	}
	keep.Options, _ = json.Marshal(t.options)
	plan.DialectData, _ = json.Marshal(keep)
	return plan
}

// timeoutToFail is how long a prepared transaction stays so.
func (t *trans) timeoutToFail() time.Duration {
	if t.TimeoutToFail > 0 {
		return time.Duration(t.TimeoutToFail) * time.Second
	}
	return TimeoutToFailDefault
}

// firstResume is how long a workflow's code may be silent before it is called.
func (t *trans) firstResume() time.Duration {
	switch {
	case t.RetryInterval > 0:
		return time.Duration(t.RetryInterval) * time.Second
	case t.TimeoutToFail > 0:
		return min(RetryIntervalDefault, time.Duration(t.TimeoutToFail)*time.Second)
	default:
		return RetryIntervalDefault
	}
}

// endpoint is a URL as our own services take it: DTM's gRPC URLs have no scheme.
func (t *trans) endpoint(url string) string {
	if t.Protocol == protocolGRPC {
		return withScheme(url)
	}
	return url
}

const grpcScheme = "grpc://"

func withScheme(url string) string {
	if url == "" || strings.Contains(url, "://") {
		return url
	}
	return grpcScheme + url
}

// asSent undoes withScheme.
func asSent(endpoint string) string { return strings.TrimPrefix(endpoint, grpcScheme) }

// checkCarried refuses a name that a gRPC call to an endpoint could not carry in its
// metadata: each call of it would fail, for ever.
func checkCarried(endpoint, what, name string) error {
	scheme, _, _ := strings.Cut(endpoint, "://")
	if scheme != "grpc" && scheme != "grpcs" || !strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil
	}
	return bad("%s %q cannot be carried by a call over gRPC, of %s: only visible ASCII can", what, name, asSent(endpoint))
}

// set is the branches of a saga's or a message's steps.
func (t *trans) set() ([]*quoratev1.BranchSpec, error) {
	c, err := t.custom()
	if err != nil {
		return nil, err
	}
	if len(t.Steps) == 0 {
		return nil, bad("a %s has no steps", t.TransType)
	}
	concurrent := t.Concurrent || c.Concurrent
	orders, err := c.orders(len(t.Steps))
	if err != nil {
		return nil, err
	}
	specs := make([]*quoratev1.BranchSpec, 0, len(t.Steps))
	for i, step := range t.Steps {
		payload, err := t.payload(i)
		if err != nil {
			return nil, err
		}
		if err := t.checkParams(step, payload); err != nil {
			return nil, err
		}
		spec := &quoratev1.BranchSpec{Id: stepID(i), Endpoint: t.endpoint(step["action"]), Payload: payload}
		if t.TransType == typeSaga {
			spec.Undo = t.endpoint(step["compensate"])
		}
		for _, endpoint := range []string{spec.GetEndpoint(), spec.GetUndo()} {
			if err := checkCarried(endpoint, "gid", t.Gid); err != nil {
				return nil, err
			}
		}
		switch {
		case !concurrent && i > 0:
			spec.After = []string{stepID(i - 1)}
		case concurrent:
			for _, before := range orders[i] {
				spec.After = append(spec.After, stepID(before))
			}
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// checkParams refuses a payload that cannot be the params of a JSON-RPC call: each
// call of it would fail, for ever.
func (t *trans) checkParams(step map[string]string, payload []byte) error {
	if t.Protocol != protocolJSONRPC || len(bytes.TrimSpace(payload)) == 0 {
		return nil
	}
	for _, endpoint := range []string{step["action"], step["compensate"]} {
		if u, err := url.Parse(endpoint); err != nil || !u.Query().Has("method") {
			continue
		}
		if err := json.Unmarshal(payload, &map[string]json.RawMessage{}); err != nil {
			return bad("the payload of %s is no JSON object, as params of JSON-RPC must be", endpoint)
		}
	}
	return nil
}

// stepID is DTM's id of a step's branch.
func stepID(index int) string { return fmt.Sprintf("%02d", index+1) }

func seconds(n int64) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }
