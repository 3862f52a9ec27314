package fence

import (
	"context"
	"net/http"
	"strconv"

	"github.com/quorate/quorate/internal/callheader"
	"github.com/quorate/quorate/participant"
	"google.golang.org/grpc/metadata"
)

// Names on the wire: gRPC metadata as they stand, HTTP headers in canonical form.
const (
	headerGID       = "quorate-gid"
	headerKey       = "quorate-key"
	headerBranch    = "quorate-branch"
	headerOperation = "quorate-operation"
	headerMode      = "quorate-mode"
	headerAttempt   = "quorate-attempt"
	headerEpoch     = "quorate-epoch"
	headerFloor     = "quorate-floor"
	headerClock     = "quorate-clock"
)

// isDTM reports whether a request comes in DTM's protocol.
func isDTM(r *http.Request) bool {
	q := r.URL.Query()
	return r.Header.Get(headerOperation) == "" && q.Get("op") != "" && q.Get("trans_type") != ""
}

// FromHTTP reads the call that a request is: Quorate's headers, or the query of DTM's
// protocol. The zero Call and no error: it is none.
func FromHTTP(r *http.Request) (Call, error) {
	if r.Header.Get(headerOperation) != "" {
		return fromHeaders(r.Header.Get)
	}
	if q := r.URL.Query(); isDTM(r) {
		return fromDTM(q.Get("gid"), q.Get("trans_type"), q.Get("branch_id"), q.Get("op"))
	}
	return Call{}, nil
}

// FromGRPC reads the call that an incoming request is: Quorate's metadata, or DTM's. The
// zero Call and no error: it is none.
func FromGRPC(ctx context.Context) (Call, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(name string) string {
		if v := md.Get(name); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	if get(headerOperation) != "" {
		return fromHeaders(get)
	}
	if get("dtm-op") != "" && get("dtm-trans_type") != "" {
		return fromDTM(get("dtm-gid"), get("dtm-trans_type"), get("dtm-branch_id"), get("dtm-op"))
	}
	return Call{}, nil
}

func fromHeaders(get func(string) string) (Call, error) {
	gid, err := participant.ParseGID(get(headerGID))
	if err != nil {
		return Call{}, badCall("header %s: %v", headerGID, err)
	}
	c := Call{GID: string(gid), Operation: Operation(get(headerOperation)), Mode: get(headerMode)}
	for name, to := range map[string]*string{headerKey: &c.Key, headerBranch: &c.Branch} {
		if *to, err = callheader.Unescape(get(name)); err != nil {
			return Call{}, badCall("header %s is %q: %v", name, get(name), err)
		}
	}
	if s := get(headerEpoch); s != "" {
		if c.Epoch, err = parseEpoch(s); err != nil {
			return Call{}, err
		}
	}
	for name, to := range map[string]*uint64{headerAttempt: &c.Attempt, headerFloor: &c.FloorMS, headerClock: &c.ClockMS} {
		s := get(name)
		if s == "" {
			continue
		}
		if *to, err = strconv.ParseUint(s, 10, 63); err != nil {
			return Call{}, badCall("header %s is %q, want a number", name, s)
		}
	}
	return c, c.checkOnWire()
}

// dtmOperations maps DTM's words. Its XA and workflows say commit and rollback of a
// branch where TCC says confirm and cancel.
var dtmOperations = map[string]Operation{
	"try": Try, "action": Action, "confirm": Confirm, "cancel": Cancel, "compensate": Compensate,
	"commit": Confirm, "rollback": Cancel,
}

// dtmModes maps DTM's words for modes.
var dtmModes = map[string]string{"saga": "saga", "tcc": "tcc", "xa": "tcc", "msg": modeMessage, "workflow": "workflow"}

func fromDTM(gid, transType, branch, op string) (Call, error) {
	mode, ok := dtmModes[transType]
	if !ok {
		return Call{}, badCall("trans_type %q", transType)
	}
	c := Call{GID: gid, Branch: branch, Operation: dtmOperations[op], Mode: mode, Dialect: DTM}
	switch {
	case transType == "msg" && op == "msg":
		c.Operation = CheckBack
	case transType == "workflow" && c.Operation == "":
		c.Operation = Resume // op is the workflow's name
	case c.Operation == "":
		return Call{}, badCall("op %q of trans_type %s", op, transType)
	}
	return c, c.checkOnWire()
}

// checkOnWire is check for calls that may need no fence.
func (c Call) checkOnWire() error {
	switch c.Operation {
	case CheckBack, Resume:
		c.Operation, c.Branch = Action, "0" // these name no branch
	}
	return c.check()
}
