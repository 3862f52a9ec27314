package api

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/callheader"
)

// Limits of what the modes with called branches carry.
const (
	// CallTimeoutMax bounds one call to a branch: work that takes longer is
	// answered "still working" and asked about again.
	CallTimeoutMax = 10 * time.Minute
	// StepWordBytesMax bounds a workflow's own word for a step.
	StepWordBytesMax = 45
)

// dialects by their names on the wire.
var dialects = map[string]logpb.Dialect{
	"":             logpb.Dialect_DIALECT_UNSPECIFIED,
	"dtm-http":     logpb.Dialect_DIALECT_DTM_HTTP,
	"dtm-grpc":     logpb.Dialect_DIALECT_DTM_GRPC,
	"dtm-json-rpc": logpb.Dialect_DIALECT_DTM_JSON_RPC,
}

// plan reads what modes with called branches carry. nil stays nil.
func (r *reader) plan(field string, mode logpb.Mode, plan *quoratev1.Plan) *logpb.Plan {
	t := traitsOf(mode)
	switch {
	case plan == nil && t.callback:
		plan = new(quoratev1.Plan) // refused below, where a callback is needed
	case plan == nil:
		return nil
	case !t.called:
		r.refuse(field, "belongs to modes whose branches are called: %s has none", modeText(mode))
		return nil
	}
	dialect, known := dialects[plan.GetDialect()]
	if !known {
		r.refuse(r.at(field, ".dialect"), "%q is unknown: dtm-http, dtm-grpc, dtm-json-rpc, or nothing for our own", cut(plan.GetDialect()))
	}
	read := &logpb.Plan{
		Retry: r.retry(r.at(field, ".retry"), plan.GetRetry()), Callback: plan.GetCallback(), CallbackPayload: plan.GetCallbackPayload(),
		CallbackAfterMs: r.milliseconds(r.at(field, ".callback_after"), plan.GetCallbackAfter()), ConcurrencyMax: plan.GetConcurrencyMax(),
		DelayMs: r.milliseconds(r.at(field, ".delay"), plan.GetDelay()), Headers: r.headers(r.at(field, ".headers"), plan.GetHeaders(), dialect),
		Dialect: dialect, DialectMode: plan.GetDialectMode(), DialectData: plan.GetDialectData(), Workflow: plan.GetWorkflow(),
	}
	r.callback(field, mode, read)
	r.payload(r.at(field, ".callback_payload"), read.GetCallbackPayload())
	r.payload(r.at(field, ".dialect_data"), read.GetDialectData())
	r.text(r.at(field, ".dialect_mode"), read.GetDialectMode(), r.limits.GetTextBytesMax())
	r.text(r.at(field, ".workflow"), read.GetWorkflow(), r.limits.GetTextBytesMax())
	return read
}

// callback checks whom a message or a workflow is asked back at.
func (r *reader) callback(field string, mode logpb.Mode, plan *logpb.Plan) {
	at, dialected := r.at(field, ".callback"), plan.GetDialect() != 0
	if !traitsOf(mode).callback {
		if plan.GetCallback() != "" || len(plan.GetCallbackPayload()) > 0 || plan.GetCallbackAfterMs() != 0 {
			r.refuse(at, "is given, and the initiator of a %s is never called back: leave it out", modeText(mode))
		}
		return
	}
	r.text(at, plan.GetCallback(), r.limits.GetTextBytesMax())
	if plan.GetCallback() != "" {
		r.callable(at, plan.GetCallback())
	}
	if mode == logpb.Mode_MODE_WORKFLOW && plan.GetWorkflow() == "" && !dialected {
		r.refuse(r.at(field, ".workflow"), "is missing: the name by which the code is found again")
	}
}

// retry reads a policy; nil stays nil.
func (r *reader) retry(field string, retry *quoratev1.Retry) *logpb.Retry {
	if retry == nil {
		return nil
	}
	read := &logpb.Retry{
		IntervalMs: r.milliseconds(r.at(field, ".interval"), retry.GetInterval()), IntervalMaxMs: r.milliseconds(r.at(field, ".interval_max"), retry.GetIntervalMax()),
		AttemptsMax: retry.GetAttemptsMax(), CallTimeoutMs: r.callTimeout(r.at(field, ".call_timeout"), retry.GetCallTimeout()),
	}
	if read.IntervalMaxMs != 0 && read.IntervalMaxMs < read.IntervalMs {
		r.refuse(r.at(field, ".interval_max"), "is shorter than interval: the delay grows from one to the other")
	}
	return read
}

// milliseconds reads a duration that must not be negative, rounded up.
func (r *reader) milliseconds(field string, d *durationpb.Duration) uint64 {
	return uint64((r.duration(field, d) + time.Millisecond - 1) / time.Millisecond)
}

func (r *reader) callTimeout(field string, d *durationpb.Duration) uint64 {
	if d == nil {
		return 0
	}
	if d.CheckValid() == nil && d.AsDuration() > CallTimeoutMax {
		r.refuse(field, "is %v: at most %v; a branch that works for longer answers that it is still working", d.AsDuration(), CallTimeoutMax)
		return 0
	}
	return r.milliseconds(field, d)
}

// payload checks bytes that are stored and sent.
func (r *reader) payload(field string, payload []byte) {
	if most := r.limits.GetPayloadBytesMax(); len(payload) > int(most) {
		r.refuse(field, "is of %d bytes: at most %d are allowed; keep large bodies elsewhere and send where", len(payload), most)
	}
}

// headers reads what is carried to every branch, sorted by name. In another
// tongue a reserved name is left out at the call, as its caller is used to.
func (r *reader) headers(field string, headers map[string]string, dialect logpb.Dialect) []*logpb.Label {
	most := r.limits.GetHeadersMax()
	if most == 0 {
		most = fsm.DefaultLimits().GetHeadersMax()
	}
	if most != 0 && len(headers) > int(most) {
		r.refuse(field, "are %d: at most %d are allowed", len(headers), most)
		return nil
	}
	read := make([]*logpb.Label, 0, len(headers))
	for name, value := range headers {
		read = append(read, &logpb.Label{Name: name, Value: value})
	}
	slices.SortFunc(read, func(a, b *logpb.Label) int { return strings.Compare(a.Name, b.Name) })
	seen := make(map[string]bool, len(read))
	for _, h := range read {
		lower := strings.ToLower(h.Name)
		switch {
		case h.Name == "" || strings.ContainsFunc(lower, notInHeaderName):
			r.refuse(field, "name %q is none: letters, digits, - _ and . are allowed", cut(h.Name))
		case dialect == 0 && callheader.Reserved(lower):
			r.refuse(field, "name %q is reserved: it is set by the call itself", h.Name)
		case seen[lower]:
			r.refuse(field, "name %q stands twice: upper and lower case are the same", h.Name)
		case len(h.Name)+len(h.Value) > int(r.limits.GetTextBytesMax()):
			r.refuse(field, "%q is of %d bytes: at most %d are allowed", cut(h.Name), len(h.Name)+len(h.Value), r.limits.GetTextBytesMax())
		case strings.ContainsFunc(h.Value, notInHeaderValue):
			r.refuse(field, "value of %q holds a character that no header may: %q; escape it", h.Name, cut(h.Value))
		}
		seen[lower] = true
	}
	return read
}

func notInHeaderName(c rune) bool {
	return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}

func notInHeaderValue(c rune) bool { return c < ' ' || c > '~' }
