package fence

import (
	"context"
	"net/http"
	"strconv"

	"github.com/quorate/quorate/internal/callheader"
	"github.com/quorate/quorate/participant"
	"google.golang.org/grpc/metadata"
)

// isDTM reports whether a request comes in DTM's protocol.
func isDTM(r *http.Request) bool {
	q := r.URL.Query()
	return r.Header.Get(callheader.Operation) == "" && q.Get("op") != "" && q.Get("trans_type") != ""
}

// FromHTTP reads the call that a request is: Quorate's headers, or the query of DTM's
// protocol. The zero Call and no error: it is none.
func FromHTTP(r *http.Request) (Call, error) {
	if r.Header.Get(callheader.Operation) != "" {
		return fromHeaders(r.Header.Get)
	}
	if q := r.URL.Query(); isDTM(r) {
		return fromDTM(q.Get("gid"), q.Get("trans_type"), q.Get("branch_id"), q.Get("op"), r.Header.Get)
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
	if get(callheader.Operation) != "" {
		return fromHeaders(get)
	}
	if get("dtm-op") != "" && get("dtm-trans_type") != "" {
		return fromDTM(get("dtm-gid"), get("dtm-trans_type"), get("dtm-branch_id"), get("dtm-op"), get)
	}
	return Call{}, nil
}

func fromHeaders(get func(string) string) (Call, error) {
	gid, err := participant.ParseGID(get(callheader.GID))
	if err != nil {
		return Call{}, badCall("header %s: %v", callheader.GID, err)
	}
	c := Call{
		GID: string(gid), Cluster: get(callheader.Cluster),
		Operation: Operation(get(callheader.Operation)), Mode: get(callheader.Mode),
	}
	for name, to := range map[string]*string{callheader.Key: &c.Key, callheader.Branch: &c.Branch} {
		if *to, err = callheader.Unescape(get(name)); err != nil {
			return Call{}, badCall("header %s: %v", name, err)
		}
	}
	if c.Epoch, err = epochIn(get); err != nil {
		return Call{}, err
	}
	for name, to := range map[string]*uint64{callheader.Attempt: &c.Attempt, callheader.Floor: &c.FloorMS, callheader.Clock: &c.ClockMS} {
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

// epochIn reads the leader that a call names, in either dialect; none is no error.
func epochIn(get func(string) string) (Epoch, error) {
	s := get(callheader.Epoch)
	if s == "" {
		return Epoch{}, nil
	}
	return parseEpoch(s)
}

// dtmOperations maps DTM's words. Its XA and workflows say commit and rollback of a
// branch where TCC says confirm and cancel.
var dtmOperations = map[string]Operation{
	"try": Try, "action": Action, "confirm": Confirm, "cancel": Cancel, "compensate": Compensate,
	"commit": Confirm, "rollback": Cancel,
}

// dtmModes maps DTM's words for modes.
var dtmModes = map[string]string{"saga": "saga", "tcc": "tcc", "xa": "tcc", "msg": modeMessage, "workflow": "workflow"}

func fromDTM(gid, transType, branch, op string, get func(string) string) (Call, error) {
	mode, ok := dtmModes[transType]
	if !ok {
		return Call{}, badCall("trans_type %q", transType)
	}
	c := Call{GID: gid, Branch: branch, Operation: dtmOperations[op], Mode: mode, Dialect: DTM}
	var err error
	if c.Epoch, err = epochIn(get); err != nil {
		return Call{}, err
	}
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
