package api

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm/logpb"
)

// topicScheme is how an endpoint names a topic.
const topicScheme = "topic://"

// modeTraits are what the API must know of a mode to read a request: the fields
// that mean something in it. What it does is the state machine's.
type modeTraits struct {
	// called: the coordinator calls the branches, or the initiator, by itself.
	called bool
	// endless: without a timeout it has no deadline. timeless: it never has one.
	endless, timeless bool
	// begins and submits are the requests that open it; prepares says that Begin
	// carries the branches, topics that an endpoint may be topic://name.
	begins, submits, prepares, topics bool
	// callback says that the initiator is called back.
	callback bool
}

var traits = map[logpb.Mode]modeTraits{
	logpb.Mode_MODE_TWO_PHASE: {begins: true, submits: true},
	logpb.Mode_MODE_TCC:       {called: true, begins: true},
	logpb.Mode_MODE_SAGA:      {called: true, endless: true, submits: true},
	logpb.Mode_MODE_MESSAGE:   {called: true, endless: true, timeless: true, begins: true, submits: true, prepares: true, topics: true, callback: true},
	logpb.Mode_MODE_WORKFLOW:  {called: true, endless: true, timeless: true, begins: true, callback: true},
	logpb.Mode_MODE_NOTIFY:    {called: true, endless: true, timeless: true, submits: true, topics: true},
}

// traitsByMode are traits again, where every request looks: in an array.
var traitsByMode = func() (list [modesMax]modeTraits) {
	for mode, t := range traits {
		list[mode] = t
	}
	return list
}()

// traitsOf are a mode's traits; of an unknown one, none.
func traitsOf(mode logpb.Mode) modeTraits {
	if mode < 0 || int(mode) >= len(traitsByMode) {
		return modeTraits{}
	}
	return traitsByMode[mode]
}

// opens refuses a request that does not open a transaction of the mode.
func (r *reader) opens(field string, mode logpb.Mode, submit bool) {
	switch t := traitsOf(mode); {
	case !t.submits && !t.begins: // of no mode that is known, which is said already
	case submit && !t.submits:
		r.refuse(field, "%s is not submitted whole: begin it", modeText(mode))
	case !submit && !t.begins:
		r.refuse(field, "%s has no begin of its own: submit it with its steps", modeText(mode))
	}
}

// modeTimeout reads the timeout of a mode: some have none unless they are given one.
func (r *reader) modeTimeout(field string, mode logpb.Mode, timeout *durationpb.Duration) uint64 {
	t := traitsOf(mode)
	none := timeout == nil || timeout.CheckValid() == nil && timeout.AsDuration() == 0
	switch {
	case t.endless && none:
		return 0
	case t.timeless:
		r.refuse(field, "is given, and time never rolls a %s back: leave it out", modeText(mode))
		return 0
	default:
		return r.timeout(field, timeout)
	}
}

// cut is the beginning of a text that may be long, for an error.
func cut(text string) string {
	if len(text) > 64 {
		return text[:64] + "..."
	}
	return text
}

// callable checks an endpoint that is called by itself, and is no topic.
func (r *reader) callable(field, endpoint string) {
	if strings.HasPrefix(endpoint, topicScheme) {
		r.refuse(field, "is a topic: a branch of a message, or of a notification, may have one")
		return
	}
	if err := r.endpoints.Check(endpoint); err != nil {
		r.refuse(field, "%v", err)
		return
	}
	r.methodNamed(field, endpoint)
}

// methodNamed refuses a gRPC endpoint that says nothing of what is called there.
func (r *reader) methodNamed(field, endpoint string) {
	if scheme, method := grpcMethod(endpoint); scheme != "" && method == "" {
		r.refuse(field, "%q names no method: give %s://host:port/package.Service/Method", cut(endpoint), scheme)
	}
}

// grpcMethod takes an endpoint apart that Check has passed; scheme is "" for HTTP.
func grpcMethod(endpoint string) (scheme, method string) {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "grpc" && scheme != "grpcs" {
		return "", ""
	}
	_, method, _ = strings.Cut(rest, "/")
	return scheme, method
}

// calledSpec reads what a called branch has beyond its name and endpoint.
func (r *reader) calledSpec(field string, spec *quoratev1.BranchSpec, into *logpb.BranchSpec) {
	into.Undo, into.Payload, into.AttemptsMax = spec.GetUndo(), spec.GetPayload(), spec.GetAttemptsMax()
	into.CallTimeoutMs = r.callTimeout(r.at(field, ".call_timeout"), spec.GetCallTimeout())
	if len(spec.GetAfter()) > 0 {
		into.After = slices.Sorted(slices.Values(spec.GetAfter()))
	}
	r.text(r.at(field, ".undo"), spec.GetUndo(), r.limits.GetTextBytesMax())
	r.payload(r.at(field, ".payload"), spec.GetPayload())
	if spec.GetUndo() != "" {
		r.callable(r.at(field, ".undo"), spec.GetUndo())
	}
	if spec.GetTopic() != "" {
		r.refuse(r.at(field, ".topic"), "is not the caller's to set: name it in endpoint, %s%s", topicScheme, cut(spec.GetTopic()))
	}
	for i, before := range into.After {
		r.branchID(r.at(field, ".after"), before)
		switch {
		case before == spec.GetId():
			r.refuse(r.at(field, ".after"), "names %q, the branch itself", before)
		case i > 0 && into.After[i-1] == before:
			r.refuse(r.at(field, ".after"), "names %q twice", before)
		}
	}
}

// beginMode checks a Begin as its mode wants it.
func (r *reader) beginMode(begin *logpb.Begin) {
	r.opens("mode", begin.GetMode(), false)
	t, dialected := traitsOf(begin.GetMode()), begin.GetPlan().GetDialect() != 0
	switch {
	case t.prepares:
		r.modeSet("branches", begin, begin.GetBranches())
		r.fits("branches", begin.WireSize())
	case len(begin.GetBranches()) > 0:
		r.refuse("branches", "come with the begin of a message only: enlist them, or submit a saga's")
	}
	if t.callback && begin.GetPlan().GetCallback() == "" && !dialected {
		r.refuse("plan.callback", "is missing: an endpoint that is asked when nothing is heard of a %s", modeText(begin.GetMode()))
	}
}

// submitMode checks a Submit as its mode wants it.
func (r *reader) submitMode(submit *logpb.Submit) {
	begin := submit.GetBegin()
	r.opens("begin.mode", begin.GetMode(), true)
	if len(begin.GetBranches()) > 0 {
		r.refuse("begin.branches", "are given: those of a submit are its set")
	}
	if traitsOf(begin.GetMode()).called && len(submit.GetVotes()) > 0 {
		r.refuse("votes", "are given, and branches of a %s do not vote", modeText(begin.GetMode()))
	}
	r.modeSet("set", begin, submit.GetSet())
	if traitsOf(begin.GetMode()).called {
		r.fits("set", submit.WireSize())
	}
	for _, vote := range submit.GetVotes() {
		if spec := vote.GetBranch(); spec != nil && !traitsOf(begin.GetMode()).called {
			at := r.at(r.branchField("votes", spec), ".branch")
			r.plainSpec(at, spec)
			if !slices.ContainsFunc(submit.GetSet(), func(s *logpb.BranchSpec) bool { return s.GetId() == spec.GetId() }) {
				r.refuse(at, "is not in the set")
			}
		}
	}
}

// modeSet checks the branches that a Begin or a Submit of a mode brings.
func (r *reader) modeSet(field string, begin *logpb.Begin, set []*logpb.BranchSpec) {
	t, dialected := traitsOf(begin.GetMode()), begin.GetPlan().GetDialect() != 0
	if !t.called {
		for _, spec := range set {
			r.plainSpec(r.branchField(field, spec), spec)
		}
		return
	}
	if len(set) == 0 && len(r.violations) == 0 {
		r.refuse(field, "is empty: a %s has at least one branch", modeText(begin.GetMode()))
	}
	for _, spec := range set {
		at := r.branchField(field, spec)
		name, isTopic := strings.CutPrefix(spec.GetEndpoint(), topicScheme)
		switch {
		case spec.GetHeld():
			r.refuse(r.at(at, ".held"), "belongs to two-phase")
		case isTopic && !t.topics:
			r.refuse(r.at(at, ".endpoint"), "is a topic: a %s has none", modeText(begin.GetMode()))
		case isTopic && name == "":
			r.refuse(r.at(at, ".endpoint"), "names no topic: give %sNAME", topicScheme)
		case spec.GetEndpoint() != "":
			r.methodNamed(r.at(at, ".endpoint"), spec.GetEndpoint())
		case dialected:
		case spec.GetUndo() != "":
			r.refuse(r.at(at, ".endpoint"), "is missing: there is nothing that undo could undo")
		default:
			r.refuse(r.at(at, ".endpoint"), "is missing: nobody is named to call")
		}
		if spec.GetUndo() != "" && begin.GetMode() != logpb.Mode_MODE_SAGA && !dialected {
			r.refuse(r.at(at, ".undo"), "is given, and a %s is never undone: leave it out", modeText(begin.GetMode()))
		}
	}
	r.order(field, set)
}

// fits refuses what is too large for one entry of the log.
func (r *reader) fits(field string, size int) {
	if most := r.limits.GetCommandBytesMax(); size > int(most) {
		r.refuse(field, "are of %d bytes with their payloads: at most %d fit into one entry of the log; keep large bodies elsewhere and send where", size, most)
	}
}

// branchField names a branch of a set in errors, by its id: the set was sorted.
func (r *reader) branchField(field string, spec *logpb.BranchSpec) string {
	if r.nameless {
		return ""
	}
	return fmt.Sprintf("%s[%q]", field, cut(spec.GetId()))
}

// plainSpec refuses what a branch that votes has no use for.
func (r *reader) plainSpec(field string, spec *logpb.BranchSpec) {
	if r.nameless && plainest(spec) {
		return
	}
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"undo", spec.GetUndo() != ""}, {"payload", len(spec.GetPayload()) > 0}, {"after", len(spec.GetAfter()) > 0},
		{"attempts_max", spec.GetAttemptsMax() != 0}, {"call_timeout", spec.GetCallTimeoutMs() != 0},
	} {
		if f.given {
			r.refuse(r.at(field, ".")+f.name, "belongs to modes whose branches are called: a branch that votes has none")
		}
	}
	if strings.HasPrefix(spec.GetEndpoint(), topicScheme) {
		r.refuse(r.at(field, ".endpoint"), "is a topic: a two-phase branch has none")
	}
	if scheme, method := grpcMethod(spec.GetEndpoint()); method != "" {
		r.refuse(r.at(field, ".endpoint"), "names a method, and a two-phase branch is told by BranchService: give %s://host:port", scheme)
	}
}

// plainest tells of what most branches that vote are: it holds nothing that plainSpec
// looks at.
func plainest(spec *logpb.BranchSpec) bool {
	return spec.GetEndpoint() == "" && spec.GetUndo() == "" && len(spec.GetPayload()) == 0 && len(spec.GetAfter()) == 0 &&
		spec.GetAttemptsMax() == 0 && spec.GetCallTimeoutMs() == 0
}

// order refuses dependencies that lead nowhere, or in a circle.
func (r *reader) order(field string, set []*logpb.BranchSpec) {
	waits := make(map[string]int, len(set)) // branches that each waits for
	next := make(map[string][]string, len(set))
	for _, spec := range set {
		waits[spec.GetId()] += 0
	}
	for _, spec := range set {
		for _, before := range spec.GetAfter() {
			if _, ok := waits[before]; !ok {
				r.refuse(r.branchField(field, spec)+".after", "names %q, which is no branch of the set", cut(before))
				continue
			}
			waits[spec.GetId()]++
			next[before] = append(next[before], spec.GetId())
		}
	}
	var free []string
	for id, n := range waits {
		if n == 0 {
			free = append(free, id)
		}
	}
	for len(free) > 0 {
		id := free[len(free)-1]
		free = free[:len(free)-1]
		delete(waits, id)
		for _, after := range next[id] {
			if waits[after]--; waits[after] == 0 {
				free = append(free, after)
			}
		}
	}
	if len(waits) == 0 {
		return
	}
	var circle []string
	for id := range waits {
		circle = append(circle, cut(id))
	}
	slices.Sort(circle)
	r.refuse(field, "wait for each other in a circle, or for one: %s", strings.Join(circle[:min(len(circle), 8)], ", "))
}

// topicName reads a topic's name.
func (r *reader) topicName(field, name string) string {
	if name == "" {
		r.refuse(field, "is missing: give the topic's name, without %s", topicScheme)
	}
	if strings.HasPrefix(name, topicScheme) {
		r.refuse(field, "is the name alone: leave %s out", topicScheme)
	}
	r.text(field, name, min(r.limits.GetTextBytesMax(), r.limits.GetKeyBytesMax()))
	return name
}

// subscriber reads who hears of a topic.
func (r *reader) subscriber(field string, s *quoratev1.Subscriber) *logpb.Subscriber {
	r.text(r.at(field, ".endpoint"), s.GetEndpoint(), r.limits.GetTextBytesMax())
	r.text(r.at(field, ".remark"), s.GetRemark(), r.limits.GetTextBytesMax())
	if s.GetEndpoint() == "" {
		r.refuse(r.at(field, ".endpoint"), "is missing: who is to be called?")
	} else {
		r.callable(r.at(field, ".endpoint"), s.GetEndpoint())
	}
	return &logpb.Subscriber{Endpoint: s.GetEndpoint(), Remark: s.GetRemark()}
}
