package dtm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/quorate/quorate/api/dtm/dtmpb"
)

// options are a transaction's; times are in seconds.
type options struct {
	WaitResult     bool              `json:"wait_result,omitempty"`
	TimeoutToFail  int64             `json:"timeout_to_fail,omitempty"`
	RequestTimeout int64             `json:"request_timeout,omitempty"`
	RetryInterval  int64             `json:"retry_interval,omitempty"`
	BranchHeaders  map[string]string `json:"branch_headers,omitempty"`
	Concurrent     bool              `json:"concurrent"`
	RetryLimit     int64             `json:"retry_limit,omitempty"`
	RetryCount     int64             `json:"retry_count,omitempty"`
}

// trans is the object that prepare, submit, abort and prepareWorkflow take.
type trans struct {
	Gid            string              `json:"gid"`
	TransType      string              `json:"trans_type"`
	Steps          []map[string]string `json:"steps"`
	Payloads       []string            `json:"payloads"`
	QueryPrepared  string              `json:"query_prepared"`
	Protocol       string              `json:"protocol"`
	CustomData     string              `json:"custom_data"`
	RollbackReason string              `json:"rollback_reason"`
	ReqExtra       map[string]string   `json:"req_extra"`
	options

	binary [][]byte // the payloads, raw
}

// The protocols by which branches are called.
const (
	protocolHTTP    = "http"
	protocolGRPC    = "grpc"
	protocolJSONRPC = "json-rpc"
)

// readTrans reads the JSON object. Unknown fields are ignored: SDKs of six
// languages send some of their own.
func readTrans(body []byte) (*trans, error) {
	t := &trans{}
	if err := checkText(body); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, t); err != nil {
		return nil, bad("the body is not the JSON object of a transaction: %v", err)
	}
	for _, payload := range t.Payloads {
		t.binary = append(t.binary, []byte(payload))
	}
	return t, t.check()
}

// transOfGRPC reads the same from the gRPC message.
func transOfGRPC(r *dtmpb.DtmRequest) (*trans, error) {
	o := r.GetTransOptions()
	t := &trans{
		Gid: r.GetGid(), TransType: r.GetTransType(), QueryPrepared: r.GetQueryPrepared(), Protocol: protocolGRPC,
		CustomData: r.GetCustomedData(), RollbackReason: r.GetRollbackReason(), ReqExtra: r.GetReqExtra(), binary: r.GetBinPayloads(),
		options: options{
			WaitResult: o.GetWaitResult(), TimeoutToFail: o.GetTimeoutToFail(), RetryInterval: o.GetRetryInterval(),
			BranchHeaders: o.GetBranchHeaders(), RequestTimeout: o.GetRequestTimeout(), RetryLimit: o.GetRetryLimit(),
		},
	}
	if r.GetSteps() != "" {
		if err := json.Unmarshal([]byte(r.GetSteps()), &t.Steps); err != nil {
			return nil, bad("Steps is not a JSON list of steps: %v", err)
		}
	}
	return t, t.check()
}

// check refuses what no call could mean. What our own services check is left
// to them.
func (t *trans) check() error {
	if err := checkGid(t.Gid); err != nil {
		return err
	}
	if t.Protocol == "" {
		t.Protocol = protocolHTTP
	}
	if !slices.Contains([]string{protocolHTTP, protocolGRPC, protocolJSONRPC}, t.Protocol) {
		return bad("protocol %q is neither http, grpc nor json-rpc", t.Protocol)
	}
	for name, seconds := range map[string]int64{
		"timeout_to_fail": t.TimeoutToFail, "request_timeout": t.RequestTimeout, "retry_interval": t.RetryInterval,
	} {
		if seconds < 0 || seconds > secondsMax {
			return bad("%s is %d: it is in seconds, from 0 to %d", name, seconds, int64(secondsMax))
		}
	}
	if t.RetryLimit < 0 || t.RetryLimit > retriesMax {
		return bad("retry_limit is %d: it lies from 0 to %d", t.RetryLimit, retriesMax)
	}
	return nil
}

const (
	// secondsMax bounds every time that a caller names: ten years.
	secondsMax = 10 * 366 * 24 * 3600
	retriesMax = 1 << 20
)

// checkText refuses a body that is no text: what is none would be replaced where it
// stands, in a payload without a word, and in a gid so that two become one.
func checkText(body []byte) error {
	if !utf8.Valid(body) {
		return bad("the body is not UTF-8, as JSON must be")
	}
	return nil
}

// checkGid refuses what cannot be a key. DTM drops line ends and semicolons from
// a gid, so that two transactions become one; here a gid is taken as it is, or
// not at all.
func checkGid(gid string) error {
	switch {
	case gid == "":
		return bad("no gid specified")
	case strings.ContainsFunc(gid, func(c rune) bool { return c < 0x20 || c == 0x7F }):
		return bad("gid %q holds a control character", gid)
	case !utf8.ValidString(gid) || strings.ContainsRune(gid, utf8.RuneError):
		return bad("gid %q holds bytes that were no UTF-8, or half a character", gid)
	}
	return nil
}

// checkType refuses types that op does not know.
func (t *trans) checkType(types ...string) error {
	if !slices.Contains(types, t.TransType) {
		return bad("unknow trans type: %s", t.TransType) // DTM's spelling
	}
	return nil
}

// custom is what custom_data may say.
type custom struct {
	Orders     map[string][]int `json:"orders"`
	Concurrent bool             `json:"concurrent"`
	Delay      uint64           `json:"delay"`
	Name       string           `json:"name"`
	Data       []byte           `json:"data"`
}

func (t *trans) custom() (custom, error) {
	var c custom
	if t.CustomData == "" {
		return c, nil
	}
	if err := json.Unmarshal([]byte(t.CustomData), &c); err != nil {
		// Callers of msg and tcc may keep there what they like.
		if t.TransType == typeSaga && t.Concurrent || t.TransType == typeWorkflow {
			return c, bad("custom_data is not what a %s needs: %v", t.TransType, err)
		}
		return custom{}, nil
	}
	if c.Delay > secondsMax {
		return c, bad("custom_data's delay is %d: it is in seconds, at most %d", c.Delay, int64(secondsMax))
	}
	return c, nil
}

// orders are the steps that each step comes after, by index.
func (c custom) orders(steps int) (map[int][]int, error) {
	after := make(map[int][]int, len(c.Orders))
	for _, key := range slices.Sorted(maps.Keys(c.Orders)) {
		step, err := strconv.Atoi(key)
		if err != nil || step < 0 || step >= steps {
			return nil, bad("custom_data's orders name step %q: there are %d, from 0", key, steps)
		}
		for _, before := range c.Orders[key] {
			if before < 0 || before >= steps || before == step {
				return nil, bad("custom_data's orders let step %d come after step %d: there are %d, from 0", step, before, steps)
			}
			after[step] = append(after[step], before)
		}
	}
	return after, nil
}

// payload is the body of a step. An old SDK put it into the step.
func (t *trans) payload(step int) ([]byte, error) {
	if step < len(t.binary) {
		return t.binary[step], nil
	}
	if data, ok := t.Steps[step]["data"]; ok {
		return []byte(data), nil
	}
	return nil, bad("step %d has no payload: there are %d payloads for %d steps", step, len(t.binary), len(t.Steps))
}

// branch is the flat object that registerBranch takes.
type branch struct {
	gid, transType, id, op, status string
	payload                        []byte
	data                           map[string]string
}

// readBranch reads the JSON object, whose values SDKs send as strings.
func readBranch(body []byte) (*branch, error) {
	var raw map[string]any
	if err := checkText(body); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, bad("the body is not the JSON object of a branch: %v", err)
	}
	data := make(map[string]string, len(raw))
	for name, value := range raw {
		switch v := value.(type) {
		case string:
			data[name] = v
		case nil:
		default:
			data[name] = fmt.Sprint(v)
		}
	}
	b := &branch{gid: data["gid"], transType: data["trans_type"], id: data["branch_id"], op: data["op"], status: data["status"], data: data}
	if text, ok := data["data"]; ok {
		b.payload = []byte(text)
	}
	return b, b.check()
}

func branchOfGRPC(r *dtmpb.DtmBranchRequest) (*branch, error) {
	b := &branch{
		gid: r.GetGid(), transType: r.GetTransType(), id: r.GetBranchID(), op: r.GetOp(), payload: r.GetBusiPayload(),
		data: r.GetData(), status: r.GetData()["status"],
	}
	if b.op == "" {
		b.op = b.data["op"]
	}
	return b, b.check()
}

func (b *branch) check() error {
	if err := checkGid(b.gid); err != nil {
		return err
	}
	if b.id == "" {
		return bad("branch_id is missing")
	}
	if strings.ContainsRune(b.id, utf8.RuneError) {
		return bad("branch_id %q holds bytes that were no UTF-8, or half a character", b.id)
	}
	return nil
}
