package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quorate/quorate/api/branchcall"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

const (
	sagaMode     = quoratev1.Mode_MODE_SAGA
	tccMode      = quoratev1.Mode_MODE_TCC
	messageMode  = quoratev1.Mode_MODE_MESSAGE
	workflowMode = quoratev1.Mode_MODE_WORKFLOW
	notifyMode   = quoratev1.Mode_MODE_NOTIFY
)

// injections are texts that must break nothing that they pass through.
var injections = []string{
	"a\r\nQuorate-Gid: x", "a\nb", "a\x00b", "a\x1b[2Jb", "a\u2028b", "a\u202eb", "\xff\xfe",
}

// hostile texts are harmless here, and kept as they are.
var hostile = []string{"'; DROP TABLE orders; --", `"><script>alert(1)</script>`, "%0d%0aX: y", "${jndi:ldap://x}", "../../etc/passwd", "FAILURE"}

// TestModesBadInput is the list of what the modes are refused for: each before
// it reaches the coordinator, with the field at fault and what would be right.
func TestModesBadInput(t *testing.T) {
	c := newFake()
	allow, err := branchcall.ParseAllow("good")
	if err != nil {
		t.Fatal(err)
	}
	n := serve(t, Config{Endpoints: allow}, c, newFakeCluster())
	step := func(id string, change ...func(*quoratev1.BranchSpec)) *quoratev1.BranchSpec {
		s := &quoratev1.BranchSpec{Id: id, Endpoint: "http://good/do"}
		for _, f := range change {
			f(s)
		}
		return s
	}
	after := func(ids ...string) func(*quoratev1.BranchSpec) {
		return func(s *quoratev1.BranchSpec) { s.After = ids }
	}
	submit := func(begin *quoratev1.BeginRequest, set ...*quoratev1.BranchSpec) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := n.transactions().Submit(ctx, &quoratev1.SubmitRequest{Begin: begin, Set: set})
			return err
		}
	}
	saga := func(set ...*quoratev1.BranchSpec) func(context.Context) error {
		return submit(&quoratev1.BeginRequest{Mode: sagaMode}, set...)
	}
	planned := func(plan *quoratev1.Plan) func(context.Context) error {
		return submit(&quoratev1.BeginRequest{Mode: sagaMode, Plan: plan}, step("1"))
	}
	begin := func(req *quoratev1.BeginRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := n.transactions().Begin(ctx, req); return err }
	}
	one := func(change func(*quoratev1.BranchSpec)) func(context.Context) error { return saga(step("1", change)) }
	var many []*quoratev1.BranchSpec
	for i := range 257 {
		many = append(many, step(fmt.Sprintf("%03d", i)))
	}
	var five []*quoratev1.BranchSpec
	for i := range 5 {
		five = append(five, step(fmt.Sprint(i), func(s *quoratev1.BranchSpec) { s.Payload = make([]byte, 60<<10) }))
	}
	headers := make(map[string]string)
	for i := range 300 {
		headers[fmt.Sprintf("x-%d", i)] = "v"
	}
	for _, tt := range []struct {
		name   string
		call   func(context.Context) error
		fields string
		says   string // in the error
	}{
		{"a step after itself", saga(step("1", after("1"))), "set[0].after set", "itself"},
		{"two steps after each other", saga(step("1", after("2")), step("2", after("1"))), "set", "in a circle, or for one: 1, 2"},
		{"a circle of three behind a good one", saga(step("0"), step("1", after("0", "3")), step("2", after("1")), step("3", after("2"))), "set", "circle"},
		{"a step after nobody", saga(step("1", after("9"))), `set["1"].after`, `"9"`},
		{"a step after one twice", saga(step("1"), step("2", after("1", "1"))), "set[1].after", "twice"},
		{"a delay beyond the timeout", submit(&quoratev1.BeginRequest{
			Mode: sagaMode, Timeout: durationpb.New(time.Second), Plan: &quoratev1.Plan{Delay: durationpb.New(5 * time.Second)},
		}, step("1")), "begin.plan.delay", "before its first step"},
		{"too many steps", saga(many...), "set", "at most 256"},
		{"no steps", saga(), "set", "at least one"},
		{"a compensation without an action", saga(&quoratev1.BranchSpec{Id: "1", Undo: "http://good/undo"}), `set["1"].endpoint`, "nothing that undo could undo"},
		{"nobody to call", saga(&quoratev1.BranchSpec{Id: "1"}), `set["1"].endpoint`, "nobody is named"},
		{"a forbidden action", one(func(s *quoratev1.BranchSpec) { s.Endpoint = "http://evil/do" }), "set[0].endpoint", "--endpoint-allow evil"},
		{"a forbidden compensation", one(func(s *quoratev1.BranchSpec) { s.Undo = "http://evil/undo" }), "set[0].undo", "--endpoint-allow evil"},
		{"an action at the metadata service", one(func(s *quoratev1.BranchSpec) { s.Endpoint = "http://169.254.169.254/latest" }), "set[0].endpoint", "--endpoint-allow"},
		{"an endpoint with a line end", one(func(s *quoratev1.BranchSpec) { s.Endpoint = "http://good/\r\nHost: evil" }), "set[0].endpoint set[0].endpoint", "control character"},
		{"an action over gRPC without a method", one(func(s *quoratev1.BranchSpec) { s.Endpoint = "grpc://good:9000" }), `set["1"].endpoint`, "package.Service/Method"},
		{"a compensation over gRPC without a method", one(func(s *quoratev1.BranchSpec) { s.Undo = "grpc://good:9000/" }), "set[0].undo", "package.Service/Method"},
		{"a saga at a topic", one(func(s *quoratev1.BranchSpec) { s.Endpoint = "topic://orders" }), `set["1"].endpoint`, "topic"},
		{"a compensation at a topic", one(func(s *quoratev1.BranchSpec) { s.Undo = "topic://orders" }), "set[0].undo", "topic"},
		{"a topic of one's own", one(func(s *quoratev1.BranchSpec) { s.Topic = "orders" }), "set[0].topic", "topic://orders"},
		{"a held step", one(func(s *quoratev1.BranchSpec) { s.Held = true }), `set["1"].held`, "two-phase"},
		{"a large payload", one(func(s *quoratev1.BranchSpec) { s.Payload = make([]byte, 64<<10+1) }), "set[0].payload", "65537 bytes"},
		{"five large payloads", saga(five...), "set", "at most 262144 fit into one entry"},
		{"a negative timeout of a call", one(func(s *quoratev1.BranchSpec) { s.CallTimeout = durationpb.New(-1) }), "set[0].call_timeout", "at least 0"},
		{"a day for a call", one(func(s *quoratev1.BranchSpec) { s.CallTimeout = durationpb.New(24 * time.Hour) }), "set[0].call_timeout", "still working"},
		{"votes of a saga", func(ctx context.Context) error {
			_, err := n.transactions().Submit(ctx, &quoratev1.SubmitRequest{
				Begin: &quoratev1.BeginRequest{Mode: sagaMode}, Set: []*quoratev1.BranchSpec{step("1")},
				Votes: []*quoratev1.Ballot{{Branch: step("1"), Vote: quoratev1.Vote_VOTE_PREPARED}},
			})
			return err
		}, "votes", "do not vote"},
		{"branches of a submit's begin", submit(&quoratev1.BeginRequest{Mode: sagaMode, Branches: []*quoratev1.BranchSpec{step("1")}}, step("1")), "begin.branches", "its set"},
		{"a begin of a saga", begin(&quoratev1.BeginRequest{Mode: sagaMode}), "mode", "submit it"},
		{"a begin of a notification", begin(&quoratev1.BeginRequest{Mode: notifyMode}), "mode", "submit it"},
		{"a submit of a workflow", submit(&quoratev1.BeginRequest{Mode: workflowMode, Plan: &quoratev1.Plan{Workflow: "w"}}, step("1")), "begin.mode", "begin it"},
		{"an undo of a message", submit(&quoratev1.BeginRequest{Mode: messageMode}, step("1", func(s *quoratev1.BranchSpec) { s.Undo = "http://good/undo" })), `set["1"].undo`, "never undone"},
		{"a message that names no topic", submit(&quoratev1.BeginRequest{Mode: messageMode}, &quoratev1.BranchSpec{Id: "1", Endpoint: "topic://"}), `set["1"].endpoint`, "topic://NAME"},
		{"a message that runs out of time", begin(&quoratev1.BeginRequest{Mode: messageMode, Timeout: durationpb.New(time.Second), Plan: &quoratev1.Plan{Callback: "http://good/ask"}, Branches: []*quoratev1.BranchSpec{step("1")}}), "timeout", "leave it out"},
		{"a message that nobody can ask about", begin(&quoratev1.BeginRequest{Mode: messageMode, Branches: []*quoratev1.BranchSpec{step("1")}}), "plan.callback", "is missing"},
		{"a message to nobody", begin(&quoratev1.BeginRequest{Mode: messageMode, Plan: &quoratev1.Plan{Callback: "http://good/ask"}}), "branches", "at least one"},
		{"a workflow without a name", begin(&quoratev1.BeginRequest{Mode: workflowMode, Plan: &quoratev1.Plan{Callback: "http://good/go"}}), "plan.workflow", "is missing"},
		{"a workflow without a callback", begin(&quoratev1.BeginRequest{Mode: workflowMode, Plan: &quoratev1.Plan{Workflow: "w"}}), "plan.callback", "is missing"},
		{"a forbidden callback", begin(&quoratev1.BeginRequest{Mode: workflowMode, Plan: &quoratev1.Plan{Workflow: "w", Callback: "http://evil/"}}), "plan.callback", "--endpoint-allow evil"},
		{"branches of TCC's begin", begin(&quoratev1.BeginRequest{Mode: tccMode, Branches: []*quoratev1.BranchSpec{step("1")}}), "branches", "enlist"},
		{"a plan of two-phase", begin(&quoratev1.BeginRequest{Plan: &quoratev1.Plan{}}), "plan", "two-phase has none"},
		{"a call's field in two-phase", submit(&quoratev1.BeginRequest{}, step("1", after("1"), func(s *quoratev1.BranchSpec) { s.Payload = []byte("x"); s.Undo = "http://good/x" })), `set[0].after set["1"].undo set["1"].payload set["1"].after`, "votes"},
		{"a method in two-phase", submit(&quoratev1.BeginRequest{}, step("1", func(s *quoratev1.BranchSpec) { s.Endpoint = "grpc://good:1/a.B/C" })), `set["1"].endpoint`, "BranchService"},
		{"an unknown tongue", planned(&quoratev1.Plan{Dialect: "dtm\r\n"}), "begin.plan.dialect", "dtm-http"},
		{"a negative delay", planned(&quoratev1.Plan{Delay: durationpb.New(-1)}), "begin.plan.delay", "at least 0"},
		{"negative retries", planned(&quoratev1.Plan{Retry: &quoratev1.Retry{Interval: durationpb.New(-1), IntervalMax: durationpb.New(-1), CallTimeout: durationpb.New(-1)}}), "begin.plan.retry.interval begin.plan.retry.interval_max begin.plan.retry.call_timeout", "at least 0"},
		{"retries that shrink", planned(&quoratev1.Plan{Retry: &quoratev1.Retry{Interval: durationpb.New(2), IntervalMax: durationpb.New(1_000_000), CallTimeout: nil}}), "", ""},
		{"retries that shrink a lot", planned(&quoratev1.Plan{Retry: &quoratev1.Retry{Interval: durationpb.New(time.Minute), IntervalMax: durationpb.New(time.Second)}}), "begin.plan.retry.interval_max", "shorter"},
		{"a callback of a saga", planned(&quoratev1.Plan{Callback: "http://good/"}), "begin.plan.callback", "never called back"},
		{"too many headers", planned(&quoratev1.Plan{Headers: headers}), "begin.plan.headers", "at most"},
		{"a header of ours", planned(&quoratev1.Plan{Headers: map[string]string{"Quorate-Gid": "x"}}), "begin.plan.headers", "reserved"},
		{"a header of the connection", planned(&quoratev1.Plan{Headers: map[string]string{"Host": "x", "transfer-encoding": "chunked"}}), "begin.plan.headers begin.plan.headers", "reserved"},
		{"a header twice", planned(&quoratev1.Plan{Headers: map[string]string{"X-A": "1", "x-a": "2"}}), "begin.plan.headers", "twice"},
		{"a header without a name", planned(&quoratev1.Plan{Headers: map[string]string{"": "1"}}), "begin.plan.headers", "is none"},
		{"a header with a colon", planned(&quoratev1.Plan{Headers: map[string]string{"X: y": "1"}}), "begin.plan.headers", "is none"},
		{"a header in other letters", planned(&quoratev1.Plan{Headers: map[string]string{"X-A": "é"}}), "begin.plan.headers", "escape it"},
		{"a header that is a book", planned(&quoratev1.Plan{Headers: map[string]string{"X-A": strings.Repeat("x", 2000)}}), "begin.plan.headers", "at most 1024"},
		{"an enlisted topic", func(ctx context.Context) error {
			_, err := n.transactions().Enlist(ctx, &quoratev1.EnlistRequest{Gid: testGID.String(), Branch: &quoratev1.BranchSpec{Id: "1", Endpoint: "topic://x"}})
			return err
		}, "branch.endpoint", "topic"},
		{"a record of nothing", func(ctx context.Context) error {
			_, err := n.transactions().Record(ctx, &quoratev1.RecordRequest{Result: make([]byte, 64<<10+1)})
			return err
		}, "gid branch operation result", "is missing"},
		{"a record's long word", func(ctx context.Context) error {
			_, err := n.transactions().Record(ctx, &quoratev1.RecordRequest{Gid: testGID.String(), Branch: "1", Operation: strings.Repeat("x", 46)})
			return err
		}, "operation", "at most 45"},
		{"a stop by nobody", func(ctx context.Context) error {
			_, err := n.transactions().Stop(ctx, &quoratev1.StopRequest{Transaction: testGID.String()})
			return err
		}, "operator reason", "carries a name"},
		{"a large result", func(ctx context.Context) error {
			_, err := n.transactions().Commit(ctx, &quoratev1.CommitRequest{Transaction: testGID.String(), Result: make([]byte, 64<<10+1)})
			return err
		}, "result", "at most 65536"},
		{"a subscription of nobody", func(ctx context.Context) error {
			_, err := n.transactions().Subscribe(ctx, &quoratev1.SubscribeRequest{})
			return err
		}, "topic subscriber.endpoint", "who is to be called"},
		{"a subscription of a topic", func(ctx context.Context) error {
			_, err := n.transactions().Subscribe(ctx, &quoratev1.SubscribeRequest{Topic: "topic://a", Subscriber: &quoratev1.Subscriber{Endpoint: "topic://b"}})
			return err
		}, "topic subscriber.endpoint", "name alone"},
		{"a forbidden subscription", func(ctx context.Context) error {
			_, err := n.transactions().Subscribe(ctx, &quoratev1.SubscribeRequest{Topic: "a", Subscriber: &quoratev1.Subscriber{Endpoint: "http://evil/"}})
			return err
		}, "subscriber.endpoint", "--endpoint-allow evil"},
		{"topics a page too large", func(ctx context.Context) error {
			_, err := n.transactions().ListTopics(ctx, &quoratev1.ListTopicsRequest{PageSize: 1001, Topic: "topic://a"})
			return err
		}, "page_size topic", "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := callsOf(c)
			err := tt.call(within(t))
			if tt.fields == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if got, _ := wireReason(t, err); got != ReasonInvalid {
				t.Fatalf("answered %v, want INVALID", err)
			}
			if got := strings.Join(fieldsOf(err), " "); got != tt.fields || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("fields %q, want %q: %v", got, tt.fields, err)
			}
			if after := callsOf(c); !maps.Equal(before, after) {
				t.Errorf("the coordinator was asked: %v", after)
			}
		})
	}
}

// fieldsOf lists the fields that an INVALID names.
func fieldsOf(err error) (fields []string) {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range bad.FieldViolations {
				fields = append(fields, v.Field)
			}
		}
	}
	return fields
}

// TestModesInjection puts what could break a header, a log line, a terminal or a
// query into every text of a request: control characters are refused, all else is
// kept as it is and harmless.
func TestModesInjection(t *testing.T) {
	c := newFake()
	allow, err := branchcall.ParseAllow("good")
	if err != nil {
		t.Fatal(err)
	}
	n := serve(t, Config{Endpoints: allow}, c, newFakeCluster())
	gid := testGID.String()
	everywhere := func(text string) map[string]func(context.Context) error {
		submit := func(begin *quoratev1.BeginRequest, spec *quoratev1.BranchSpec) func(context.Context) error {
			begin.Mode = sagaMode
			return func(ctx context.Context) error {
				_, err := n.transactions().Submit(ctx, &quoratev1.SubmitRequest{Begin: begin, Set: []*quoratev1.BranchSpec{spec}})
				return err
			}
		}
		good := func() *quoratev1.BranchSpec { return &quoratev1.BranchSpec{Id: "1", Endpoint: "http://good/do"} }
		return map[string]func(context.Context) error{
			"key":        submit(&quoratev1.BeginRequest{Key: text}, good()),
			"label":      submit(&quoratev1.BeginRequest{Labels: map[string]string{"a": text}}, good()),
			"label name": submit(&quoratev1.BeginRequest{Labels: map[string]string{text: "a"}}, good()),
			"header":     submit(&quoratev1.BeginRequest{Plan: &quoratev1.Plan{Headers: map[string]string{"X-A": text}}}, good()),
			"mode word":  submit(&quoratev1.BeginRequest{Plan: &quoratev1.Plan{Dialect: "dtm-http", DialectMode: text}}, good()),
			"branch":     submit(&quoratev1.BeginRequest{}, &quoratev1.BranchSpec{Id: text, Endpoint: "http://good/do"}),
			"resource":   submit(&quoratev1.BeginRequest{}, &quoratev1.BranchSpec{Id: "1", Resource: text, Endpoint: "http://good/do"}),
			"workflow": func(ctx context.Context) error {
				_, err := n.transactions().Begin(ctx, &quoratev1.BeginRequest{Mode: workflowMode, Plan: &quoratev1.Plan{Workflow: text, Callback: "http://good/go"}})
				return err
			},
			"step": func(ctx context.Context) error {
				_, err := n.transactions().Record(ctx, &quoratev1.RecordRequest{Gid: gid, Branch: "1", Operation: text})
				return err
			},
			"topic": func(ctx context.Context) error {
				_, err := n.transactions().Subscribe(ctx, &quoratev1.SubscribeRequest{Topic: text, Subscriber: &quoratev1.Subscriber{Endpoint: "http://good/x"}})
				return err
			},
			"remark": func(ctx context.Context) error {
				_, err := n.transactions().Subscribe(ctx, &quoratev1.SubscribeRequest{Topic: "a", Subscriber: &quoratev1.Subscriber{Endpoint: "http://good/x", Remark: text}})
				return err
			},
			"operator": func(ctx context.Context) error {
				_, err := n.transactions().Stop(ctx, &quoratev1.StopRequest{Transaction: gid, Operator: text, Reason: "x"})
				return err
			},
			"reason": func(ctx context.Context) error {
				_, err := n.transactions().Stop(ctx, &quoratev1.StopRequest{Transaction: gid, Operator: "ann", Reason: text})
				return err
			},
		}
	}
	for _, text := range injections {
		if strings.HasPrefix(text, "\xff") {
			continue // no protobuf string: refused before it is a message
		}
		for name, call := range everywhere(text) {
			err := call(within(t))
			if got, _ := wireReason(t, err); got != ReasonInvalid || strings.ContainsFunc(err.Error(), unprintable) {
				t.Errorf("%q as %s: %q", text, name, err)
			}
		}
	}
	for _, text := range hostile {
		for name, call := range everywhere(text) {
			if err := call(within(t)); err != nil && ReasonOf(err) != ReasonInvalid {
				t.Errorf("%q as %s: %v", text, name, err)
			}
		}
	}
	if err := everywhere("'; DROP TABLE orders; --")["key"](within(t)); err != nil {
		t.Fatal(err)
	}
	if got := c.last("Submit").(coordinator.SubmitRequest).Submit.GetBegin().GetKey(); got != "'; DROP TABLE orders; --" {
		t.Errorf("the key became %q", got)
	}
}

// TestModesHugeBodies: what is too large is refused, and by name.
func TestModesHugeBodies(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	huge := strings.Repeat("x", 100<<20)
	code, body, _ := n.request(t, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_SAGA"},"set":[{"id":"1","endpoint":"http://good/do","payload":"`+huge+`"}]}`)
	if reason, _ := jsonReason(t, body); code != 413 || reason != string(ReasonInvalid) {
		t.Errorf("over HTTP: %d %v", code, body)
	}
	_, err := n.transactions().Submit(within(t), &quoratev1.SubmitRequest{
		Begin: &quoratev1.BeginRequest{Mode: sagaMode}, Set: []*quoratev1.BranchSpec{{Id: "1", Endpoint: "http://good/do", Payload: []byte(huge)}},
	})
	if err == nil || c.called("Submit") != 0 {
		t.Errorf("over gRPC: %v, %d calls", err, c.called("Submit"))
	}
}

// TestModesReachTheCoordinator: what a request of a mode says is what is asked,
// sorted and in milliseconds.
func TestModesReachTheCoordinator(t *testing.T) {
	c := newFake()
	n := serve(t, Config{Endpoints: denyEndpoints{}}, c, newFakeCluster())
	if _, err := n.transactions().Submit(within(t), &quoratev1.SubmitRequest{
		Begin: &quoratev1.BeginRequest{Gid: testGID.String(), Mode: sagaMode, Plan: &quoratev1.Plan{
			Retry:          &quoratev1.Retry{Interval: durationpb.New(1500 * time.Microsecond), IntervalMax: durationpb.New(time.Minute), AttemptsMax: 7, CallTimeout: durationpb.New(3 * time.Second)},
			ConcurrencyMax: 2, Delay: durationpb.New(time.Second), Headers: map[string]string{"X-B": "2", "X-A": "1"},
			Dialect: "dtm-grpc", DialectMode: "saga", DialectData: []byte("{}"),
		}},
		Set: []*quoratev1.BranchSpec{
			{Id: "2", Endpoint: "http://good:1/x", Undo: "http://good:1/x", Payload: []byte{0, 255}, After: []string{"1", "0"}, AttemptsMax: 3, CallTimeout: durationpb.New(time.Second)},
			{Id: "1", Endpoint: "http://good:1/x"}, {Id: "0"},
		},
	}); err != nil {
		t.Fatal(err)
	}
	want := &logpb.Submit{
		Begin: &logpb.Begin{
			Gid: testGID.Bytes(), Namespace: "default", Mode: logpb.Mode_MODE_SAGA, Entry: logpb.Entry_ENTRY_EXPLICIT, Plan: &logpb.Plan{
				Retry:          &logpb.Retry{IntervalMs: 2, IntervalMaxMs: 60_000, AttemptsMax: 7, CallTimeoutMs: 3000},
				ConcurrencyMax: 2, DelayMs: 1000, Headers: []*logpb.Label{{Name: "X-A", Value: "1"}, {Name: "X-B", Value: "2"}},
				Dialect: logpb.Dialect_DIALECT_DTM_GRPC, DialectMode: "saga", DialectData: []byte("{}"),
			},
		},
		Set: []*logpb.BranchSpec{
			{Id: "0"}, {Id: "1", Endpoint: "http://good:1/x"},
			{Id: "2", Endpoint: "http://good:1/x", Undo: "http://good:1/x", Payload: []byte{0, 255}, After: []string{"0", "1"}, AttemptsMax: 3, CallTimeoutMs: 1000},
		},
	}
	got := proto.CloneOf(c.last("Submit").(coordinator.SubmitRequest).Submit)
	got.Begin.Initiator = ""
	if !proto.Equal(got, want) {
		t.Errorf("submit %v\nwant   %v", got, want)
	}

	if _, err := n.transactions().Begin(within(t), &quoratev1.BeginRequest{
		Mode: messageMode, Holder: testGID.String(), Plan: &quoratev1.Plan{Callback: "http://good:1/x", CallbackPayload: []byte("p"), CallbackAfter: durationpb.New(time.Second)},
		Branches: []*quoratev1.BranchSpec{{Id: "2", Endpoint: "topic://orders"}, {Id: "1", Endpoint: "http://good:1/x"}},
	}); err != nil {
		t.Fatal(err)
	}
	begin := c.last("Begin").(*logpb.Begin)
	if begin.GetTimeoutMs() != 0 || begin.GetPlan().GetCallbackAfterMs() != 1000 || string(begin.GetPlan().GetCallbackPayload()) != "p" ||
		len(begin.GetBranches()) != 2 || begin.GetBranches()[1].GetEndpoint() != "topic://orders" || string(begin.GetHolder()) != string(testGID.Bytes()) {
		t.Errorf("begin %v", begin)
	}
	if _, err := n.transactions().Begin(within(t), &quoratev1.BeginRequest{Mode: tccMode}); err != nil {
		t.Fatal(err)
	}
	if got := c.last("Begin").(*logpb.Begin).GetTimeoutMs(); got != 30_000 {
		t.Errorf("TCC without a timeout has %d ms", got)
	}

	if _, err := n.transactions().Record(within(t), &quoratev1.RecordRequest{Gid: "key:w-1", Branch: "1", Operation: "pay", Failed: true, Result: []byte("r"), Detail: "a\nb"}); err != nil {
		t.Fatal(err)
	}
	if got := c.last("Record").(coordinator.RecordRequest); got.Transaction != coordinator.ByKey("default", "w-1") || got.Branch.GetId() != "1" || got.Operation != "pay" || !got.Failed || string(got.Result) != "r" || got.Detail != "a b" {
		t.Errorf("record %+v", got)
	}
	if _, err := n.transactions().Commit(within(t), &quoratev1.CommitRequest{Transaction: testGID.String(), Result: []byte("r")}); err != nil || string(c.last("Commit").(coordinator.CommitRequest).Result) != "r" {
		t.Errorf("commit %v", err)
	}
	if _, err := n.transactions().Rollback(within(t), &quoratev1.RollbackRequest{Transaction: testGID.String(), Result: []byte("r")}); err != nil || string(c.last("Rollback").(coordinator.RollbackRequest).Result) != "r" {
		t.Errorf("rollback %v", err)
	}
	if _, err := n.transactions().Stop(within(t), &quoratev1.StopRequest{Transaction: "key:w-1", Operator: "ann", Reason: "why"}); err != nil || c.last("Stop").(coordinator.StopRequest) != (coordinator.StopRequest{Transaction: coordinator.ByKey("default", "w-1"), Operator: "ann", Reason: "why"}) {
		t.Errorf("stop %v", err)
	}
	topic, err := n.transactions().Subscribe(within(t), &quoratev1.SubscribeRequest{Topic: "orders", Subscriber: &quoratev1.Subscriber{Endpoint: "http://good:1/x", Remark: "r"}})
	change := c.last("PutTopic").(*logpb.PutTopic)
	if err != nil || change.GetChange() != logpb.PutTopic_CHANGE_SUBSCRIBE || change.GetNamespace() != "default" || change.GetSubscriber().GetRemark() != "r" || topic.GetTopic().GetVersion() != 2 || topic.GetTopic().GetSubscribers()[0].GetRemark() != "stock" {
		t.Errorf("subscribe %v %v %v", change, topic, err)
	}
	// One that is not allowed any more can still be taken out.
	if _, err := n.transactions().Unsubscribe(within(t), &quoratev1.UnsubscribeRequest{Topic: "orders", Endpoint: "http://evil/"}); err != nil || c.last("PutTopic").(*logpb.PutTopic).GetSubscriber().GetEndpoint() != "http://evil/" {
		t.Errorf("unsubscribe %v", err)
	}
	list, err := n.transactions().ListTopics(within(t), &quoratev1.ListTopicsRequest{})
	if err != nil || len(list.GetTopics()) != 1 || list.GetNextPageToken() != "more" || list.GetTopics()[0].GetCreated().GetIndex() != 3 {
		t.Errorf("topics %v %v", list, err)
	}
}

// TestEnlistFitsTheMode: over gRPC, a two-phase branch is told by BranchService,
// and a TCC branch by the method that it names.
func TestEnlistFitsTheMode(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	for _, tt := range []struct {
		mode     logpb.Mode
		endpoint string
		ok       bool
	}{
		{logpb.Mode_MODE_TWO_PHASE, "grpc://h:1", true}, {logpb.Mode_MODE_TWO_PHASE, "grpc://h:1/a.B/C", false}, {logpb.Mode_MODE_TWO_PHASE, "http://h/x", true},
		{logpb.Mode_MODE_TCC, "grpc://h:1", false}, {logpb.Mode_MODE_TCC, "grpc://h:1/a.B/C", true}, {logpb.Mode_MODE_TCC, "http://h/x", true},
		{0, "grpc://h:1/a.B/C", true}, // not known here: the state machine and the call itself tell
	} {
		c.views[testGID.String()] = &logpb.Transaction{Begin: &logpb.Begin{Gid: testGID.Bytes(), Mode: tt.mode}}
		_, err := n.transactions().Enlist(within(t), &quoratev1.EnlistRequest{Gid: testGID.String(), Branch: &quoratev1.BranchSpec{Id: "1", Endpoint: tt.endpoint}})
		if (err == nil) != tt.ok || err != nil && ReasonOf(err) != ReasonInvalid {
			t.Errorf("%s of %v: %v", tt.endpoint, tt.mode, err)
		}
	}
}

// TestModesAreShown: what a transaction carries comes back, with what its
// branches are asked to do.
func TestModesAreShown(t *testing.T) {
	plan := &logpb.Plan{
		Retry: &logpb.Retry{IntervalMs: 5, AttemptsMax: 2}, Callback: "http://a/", CallbackPayload: []byte("p"), CallbackAfterMs: 7, ConcurrencyMax: 3, DelayMs: 9,
		Headers: []*logpb.Label{{Name: "X-A", Value: "1"}}, Dialect: logpb.Dialect_DIALECT_DTM_JSON_RPC, DialectMode: "msg", DialectData: []byte("d"), Workflow: "w",
	}
	spec := &logpb.BranchSpec{Id: "1", Endpoint: "http://a/", Undo: "http://b/", Payload: []byte("x"), After: []string{"0"}, AttemptsMax: 4, CallTimeoutMs: 6, Topic: "t"}
	shown := transactionAnswer(coordinator.View{
		Transaction: &logpb.Transaction{
			Begin: &logpb.Begin{Gid: testGID.Bytes(), Mode: logpb.Mode_MODE_SAGA, Plan: plan}, State: fsm.StateSealed, Result: []byte("r"), Stopped: true,
			Branches: []*logpb.Branch{{Spec: &logpb.BranchSpec{Id: "0"}, Vote: logpb.VoteKind_VOTE_KIND_PREPARED}, {Spec: spec, Operation: "pay", Result: []byte("ok")}},
		},
		Deliveries: []coordinator.DeliveryStatus{{Branch: "1", Operation: fsm.OperationAction, Attempts: 3}},
		Callback:   &coordinator.DeliveryStatus{Attempts: 2, LastError: "503"},
	})
	wantPlan := &quoratev1.Plan{
		Retry: &quoratev1.Retry{Interval: durationpb.New(5 * time.Millisecond), AttemptsMax: 2}, Callback: "http://a/", CallbackPayload: []byte("p"), CallbackAfter: durationpb.New(7 * time.Millisecond),
		ConcurrencyMax: 3, Delay: durationpb.New(9 * time.Millisecond), Headers: map[string]string{"X-A": "1"}, Dialect: "dtm-json-rpc", DialectMode: "msg", DialectData: []byte("d"), Workflow: "w",
	}
	if !proto.Equal(shown.GetPlan(), wantPlan) {
		t.Errorf("plan %v", shown.GetPlan())
	}
	wantSpec := &quoratev1.BranchSpec{Id: "1", Endpoint: "http://a/", Undo: "http://b/", Payload: []byte("x"), After: []string{"0"}, AttemptsMax: 4, CallTimeout: durationpb.New(6 * time.Millisecond), Topic: "t"}
	b := shown.GetBranches()[1]
	if !proto.Equal(b.GetSpec(), wantSpec) || b.GetOperation() != quoratev1.Operation_OPERATION_ACTION || b.GetDelivery().GetAttempts() != 3 || b.GetRecorded() != "pay" || string(b.GetResult()) != "ok" {
		t.Errorf("branch %v", b)
	}
	if shown.GetCallback().GetLastError() != "503" || string(shown.GetResult()) != "r" || !shown.GetStopped() || shown.GetTimeout().AsDuration() != 0 {
		t.Errorf("shown %v", shown)
	}
}

// TestOperationsAndEnds: what each branch is asked, and whether anything more is
// expected of it, by mode, decision and what it said.
func TestOperationsAndEnds(t *testing.T) {
	const (
		c, r, none = fsm.DecisionCommit, fsm.DecisionRollback, fsm.DecisionNone
		done       = logpb.Own_OWN_DONE
		yes        = logpb.VoteKind_VOTE_KIND_PREPARED
		no         = logpb.VoteKind_VOTE_KIND_REFUSED
	)
	undo := &logpb.BranchSpec{Id: "2", Endpoint: "http://a/", Undo: "http://a/", After: []string{"1"}}
	plain := &logpb.BranchSpec{Id: "2", Endpoint: "http://a/", After: []string{"1"}}
	nobody := &logpb.BranchSpec{Id: "2"}
	for _, tt := range []struct {
		name     string
		mode     quoratev1.Mode
		state    fsm.TxState
		decision fsm.Decision
		before   logpb.VoteKind // what step 1 said
		branch   *logpb.Branch
		op       fsm.Operation
		over     bool
	}{
		{"two-phase, undecided", 1, fsm.StateActive, none, 0, &logpb.Branch{Spec: plain}, 0, false},
		{"two-phase, to be told", 1, fsm.StateCommitting, c, 0, &logpb.Branch{Spec: plain, Vote: yes}, fsm.OperationCommit, false},
		{"two-phase, told", 1, fsm.StateRollingBack, r, 0, &logpb.Branch{Spec: plain, Vote: yes, Own: done}, fsm.OperationRollback, true},
		{"two-phase, a committed one whose word is missing", 1, fsm.StateCommitted, c, 0, &logpb.Branch{Spec: plain, Vote: yes}, fsm.OperationCommit, false},
		{"TCC, undecided", tccMode, fsm.StateActive, none, 0, &logpb.Branch{Spec: undo}, 0, false},
		{"TCC, to confirm", tccMode, fsm.StateCommitting, c, 0, &logpb.Branch{Spec: undo}, fsm.OperationConfirm, false},
		{"TCC, nothing to confirm", tccMode, fsm.StateCommitting, c, 0, &logpb.Branch{Spec: nobody}, fsm.OperationConfirm, true},
		{"TCC, nothing to cancel", tccMode, fsm.StateRollingBack, r, 0, &logpb.Branch{Spec: plain}, fsm.OperationCancel, true},
		{"TCC, cancelled", tccMode, fsm.StateRolledBack, r, 0, &logpb.Branch{Spec: undo, Own: done}, fsm.OperationCancel, true},
		{"saga, not called yet", sagaMode, fsm.StateSealed, none, 0, &logpb.Branch{Spec: undo}, 0, false},
		{"saga, done", sagaMode, fsm.StateSealed, none, yes, &logpb.Branch{Spec: undo, Vote: yes}, fsm.OperationAction, false},
		{"saga, committed", sagaMode, fsm.StateCommitted, c, yes, &logpb.Branch{Spec: undo, Vote: yes}, fsm.OperationAction, true},
		{"saga, never called", sagaMode, fsm.StateRollingBack, r, 0, &logpb.Branch{Spec: undo}, 0, true},
		{"saga, maybe called", sagaMode, fsm.StateRollingBack, r, yes, &logpb.Branch{Spec: undo}, 0, false},
		{"saga, to compensate", sagaMode, fsm.StateRollingBack, r, yes, &logpb.Branch{Spec: undo, Vote: yes}, fsm.OperationAction, false},
		{"saga, nothing to compensate", sagaMode, fsm.StateRollingBack, r, yes, &logpb.Branch{Spec: plain, Vote: yes}, fsm.OperationAction, true},
		{"saga, refused", sagaMode, fsm.StateRollingBack, r, yes, &logpb.Branch{Spec: undo, Vote: no}, fsm.OperationAction, true},
		{"saga, given up", sagaMode, fsm.StateRollingBack, r, yes, &logpb.Branch{Spec: undo, Vote: no, MaybePrepared: true}, fsm.OperationAction, false},
		{"saga, compensated", sagaMode, fsm.StateRollingBack, r, yes, &logpb.Branch{Spec: undo, Vote: yes, Own: done}, fsm.OperationCompensate, true},
		{"message, prepared", messageMode, fsm.StateActive, none, 0, &logpb.Branch{Spec: plain}, 0, false},
		{"message, to deliver", messageMode, fsm.StateCommitting, c, 0, &logpb.Branch{Spec: plain}, fsm.OperationAction, false},
		{"message, to a topic of nobody", messageMode, fsm.StateCommitting, c, 0, &logpb.Branch{Spec: nobody}, fsm.OperationAction, true},
		{"message, never sent", messageMode, fsm.StateRolledBack, r, 0, &logpb.Branch{Spec: plain}, fsm.OperationAction, true},
		{"notify, given up", notifyMode, fsm.StateCommitted, c, 0, &logpb.Branch{Spec: plain, Own: done, Outcome: logpb.Outcome_OUTCOME_GAVE_UP}, fsm.OperationAction, true},
		{"workflow, recorded", workflowMode, fsm.StateActive, none, 0, &logpb.Branch{Spec: &logpb.BranchSpec{Id: "2"}}, 0, true},
	} {
		tx := &logpb.Transaction{
			Begin: &logpb.Begin{Mode: logpb.Mode(tt.mode)}, State: tt.state, Decision: tt.decision,
			Branches: []*logpb.Branch{{Spec: &logpb.BranchSpec{Id: "1"}, Vote: tt.before}, tt.branch},
		}
		if op, over := operationOf(tx, tt.branch), ended(tx, tt.branch); op != tt.op && tt.mode != messageMode || over != tt.over {
			t.Errorf("%s: %v, ended %v; want %v, %v", tt.name, op, over, tt.op, tt.over)
		}
	}
}

// TestDialectsHaveNames, and come back as they went.
func TestDialectsHaveNames(t *testing.T) {
	if got := slices.Sorted(maps.Values(dialectNames)); len(got) != len(logpb.Dialect_name) {
		t.Errorf("%q for %d dialects", got, len(logpb.Dialect_name))
	}
	for mode := range logpb.Mode_name {
		if _, ok := traits[logpb.Mode(mode)]; !ok && mode != 0 {
			t.Errorf("mode %d has no traits", mode)
		}
	}
}
