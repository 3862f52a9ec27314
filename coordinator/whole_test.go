package coordinator

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Between a request and its command, and between a result and its answer, fields are
// copied by hand, call by call. What follows holds of every call, and of every field,
// those that are yet to come too.

// aCall is one of the calls that append a command, made with all that it can say.
type aCall struct {
	name    string
	request any // the request, where it is a struct: nothing of it may be unset
	make    func(n *node) (Status, error)
	want    *logpb.Command
	// What a refusal of it names.
	branch, key string
	// ending: it brings work to its end, so that no limit may refuse it.
	ending bool
	// unsaid are the fields of the command that this call has no word for.
	unsaid []protoreflect.Name
}

var wholeGID = fsm.NewGID(10_000, [10]byte{7})

func wholeSpec(id string) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: id, Resource: "db", Endpoint: "http://h/do", Undo: "http://h/undo", Payload: []byte("p")}
}

// everyCall is all of them. They name one transaction: by its key where they can.
func everyCall(byKey bool) []aCall {
	gid, ref, key := wholeGID, ByGID(wholeGID), ""
	if byKey {
		ref, key = ByKey("theirs", "order-1"), "order-1"
	}
	spec := wholeSpec("1")
	commit := CommitRequest{Transaction: ref, Set: &logpb.BranchSet{Ids: []string{"2", "1", "2"}}, Wait: WaitNone, Result: []byte("r"), DelayMS: 5}
	asClient := RollbackRequest{Transaction: ref, Branches: []*logpb.BranchSpec{spec}, Detail: "d", Wait: WaitNone, Result: []byte("r")}
	asParticipant, asOperator := asClient, asClient
	asParticipant.Participant, asOperator.Operator = true, "ann"
	rolled := func(o logpb.Origin, r logpb.Reason, operator string) *logpb.Command {
		return &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
			Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Branches: asClient.Branches, Origin: o, Reason: r, Detail: "d", Operator: operator, Result: []byte("r"),
		}}}
	}
	report := ReportRequest{GID: gid, Branch: "1", Outcome: committed, Detail: "d", Attempt: 3, Holder: holderN(1)}
	resolve := ResolveRequest{Transaction: ref, Branch: "1", Outcome: committed, Operator: "ann", Reason: "why"}
	record := RecordRequest{Transaction: ref, Branch: spec, Operation: "op", Failed: true, Result: []byte("r"), Detail: "d"}
	stop := StopRequest{Transaction: ref, Operator: "ann", Reason: "why"}
	begin := func() *logpb.Begin { // the calls take it over
		return &logpb.Begin{
			Gid: gid.Bytes(), Namespace: "theirs", Key: "order-1", Mode: logpb.Mode_MODE_MESSAGE, Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 77,
			Labels: []*logpb.Label{{Name: "b"}, {Name: "a", Value: "v"}}, Traceparent: "t", Initiator: "i",
			Plan:     &logpb.Plan{Callback: "http://i/back", Headers: []*logpb.Label{{Name: "y"}, {Name: "x"}}},
			Branches: []*logpb.BranchSpec{{Id: "2", After: []string{"1", "0", "1"}}, {Id: "1"}, {Id: "0"}}, Holder: holderN(1),
		}
	}
	begun := begin()
	begun.Labels = []*logpb.Label{{Name: "a", Value: "v"}, {Name: "b"}}
	begun.Plan.Headers = []*logpb.Label{{Name: "x"}, {Name: "y"}}
	begun.Branches = []*logpb.BranchSpec{{Id: "0"}, {Id: "1"}, {Id: "2", After: []string{"0", "1"}}}
	submit := func() *logpb.Submit {
		return &logpb.Submit{
			Begin: begin(), Set: []*logpb.BranchSpec{wholeSpec("2"), wholeSpec("1")},
			Votes: []*logpb.Ballot{{Branch: wholeSpec("2"), Kind: prepared, Detail: "d"}, {Branch: wholeSpec("1"), Kind: prepared}},
		}
	}
	submitted := submit()
	submitted.Begin = begun
	slices.Reverse(submitted.Set)
	slices.Reverse(submitted.Votes)
	after := wholeSpec("3")
	after.After = []string{"2", "1", "2"}
	afterSorted := wholeSpec("3")
	afterSorted.After = []string{"1", "2"}
	ballot := &logpb.Ballot{Branch: spec, Kind: logpb.VoteKind_VOTE_KIND_REFUSED, MaybePrepared: true, Detail: "d"}
	afterHeld, ballotHeld := proto.CloneOf(afterSorted), proto.CloneOf(ballot)
	afterHeld.Holder, ballotHeld.Branch.Holder = holderN(1), holderN(1)
	return []aCall{
		{name: "begin", make: func(n *node) (Status, error) { return n.Begin(n.ctx, begin()) },
			want: &logpb.Command{Kind: &logpb.Command_Begin{Begin: begun}}},
		{name: "submit", make: func(n *node) (Status, error) {
			return n.Submit(n.ctx, SubmitRequest{Submit: submit(), Wait: WaitNone})
		}, key: "order-1", want: &logpb.Command{Kind: &logpb.Command_Submit{Submit: submitted}}},
		{name: "enlist", make: func(n *node) (Status, error) { return n.Enlist(n.ctx, gid, after) }, branch: "3",
			want: &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid.Bytes(), Branch: afterSorted}}}},
		{name: "vote", make: func(n *node) (Status, error) { return n.Vote(n.ctx, gid, ballot) }, branch: "1", ending: true,
			want: &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid.Bytes(), Ballot: ballot}}}},
		{name: "enlist, together with others", make: func(n *node) (Status, error) {
			return n.together(Asked{GID: gid, Branch: proto.CloneOf(after)})
		}, branch: "3", want: &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid.Bytes(), Branch: afterHeld}}}},
		{name: "vote, together with others", make: func(n *node) (Status, error) {
			return n.together(Asked{GID: gid, Ballot: proto.CloneOf(ballot)})
		}, branch: "1", ending: true, want: &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid.Bytes(), Ballot: ballotHeld}}}},
		{name: "commit", request: commit, make: func(n *node) (Status, error) { return n.Commit(n.ctx, commit) }, key: key,
			want: &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
				Gid: gid.Bytes(), Decision: fsm.DecisionCommit, Set: &logpb.BranchSet{Ids: []string{"1", "2"}},
				Origin: logpb.Origin_ORIGIN_CLIENT, Result: []byte("r"), DelayMs: 5,
			}}}, unsaid: []protoreflect.Name{"branches", "epoch", "reason", "detail", "operator"}},
		{name: "rollback", make: func(n *node) (Status, error) { return n.Rollback(n.ctx, asClient) }, key: key, ending: true,
			want:   rolled(logpb.Origin_ORIGIN_CLIENT, logpb.Reason_REASON_REQUESTED, ""),
			unsaid: []protoreflect.Name{"set", "epoch", "operator", "delay_ms"}},
		{name: "rollback of a participant", make: func(n *node) (Status, error) { return n.Rollback(n.ctx, asParticipant) }, key: key, ending: true,
			want:   rolled(logpb.Origin_ORIGIN_PARTICIPANT, logpb.Reason_REASON_PRESUMED, ""),
			unsaid: []protoreflect.Name{"set", "epoch", "operator", "delay_ms"}},
		{name: "rollback of an operator", make: func(n *node) (Status, error) { return n.Rollback(n.ctx, asOperator) }, key: key, ending: true,
			want:   rolled(logpb.Origin_ORIGIN_OPERATOR, logpb.Reason_REASON_OPERATOR, "ann"),
			unsaid: []protoreflect.Name{"set", "epoch", "delay_ms"}},
		{name: "report", make: func(n *node) (Status, error) { return n.Report(n.ctx, report) }, branch: "1", ending: true,
			want: &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{
				Gid: gid.Bytes(), Branch: "1", Outcome: committed, Detail: "d", Attempts: 3, Holder: holderN(1),
			}}}},
		{name: "resolve", request: resolve, make: func(n *node) (Status, error) { return n.Resolve(n.ctx, resolve) }, branch: "1", key: key, ending: true,
			want: &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
				Gid: gid.Bytes(), Branch: "1", Outcome: committed, Operator: "ann", Reason: "why",
			}}}},
		{name: "record", request: record, make: func(n *node) (Status, error) { return n.Record(n.ctx, record) }, branch: "1", key: key, ending: true,
			want: &logpb.Command{Kind: &logpb.Command_Record{Record: &logpb.Record{
				Gid: gid.Bytes(), Branch: spec, Operation: "op", Failed: true, Result: []byte("r"), Detail: "d",
			}}}},
		{name: "stop", request: stop, make: func(n *node) (Status, error) { return n.Stop(n.ctx, stop) }, key: key, ending: true,
			want: &logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: gid.Bytes(), Operator: "ann", Reason: "why"}}}},
		{name: "an inquiry that presumes", make: func(n *node) (Status, error) {
			return Status{}, n.presume(n.ctx, InquireRequest{GID: gid, Branch: "1", Resource: "db", Holder: holderN(1)})
		}, ending: true, want: &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
			Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Branches: []*logpb.BranchSpec{{Id: "1", Resource: "db", Holder: holderN(1)}},
			Origin: logpb.Origin_ORIGIN_PARTICIPANT, Reason: logpb.Reason_REASON_PRESUMED, Detail: "a prepared branch asked, and nobody had asked for a commit in time",
		}}}, unsaid: []protoreflect.Name{"set", "epoch", "operator", "result", "delay_ms"}},
	}
}

// together asks over a session, beside a request that is refused before it is proposed.
func (n *node) together(asked Asked) (Status, error) {
	s := n.attach(holderN(1), "db")
	told := s.Together(n.ctx, []Asked{{GID: wholeGID}, asked})
	if wantRefusal(n.t, told[0].Err, fsm.Invalid); len(told) != 2 {
		n.t.Errorf("told %v", told)
	}
	return told[1].Status, told[1].Err
}

// tellingLog answers every proposal with one result, and keeps what was proposed.
type tellingLog struct {
	*memLog
	proposed chan *logpb.Command
	result   fsm.Result
}

func (l *tellingLog) Propose(_ context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	results := make([]fsm.Result, len(commands))
	for i, c := range commands {
		if c.GetTick() == nil {
			l.proposed <- proto.CloneOf(c) // its memory is used again
			results[i] = l.result
		}
	}
	return results, 1, nil
}

// tellingNode leads over such a log. The state machine knows one transaction, by its key.
func tellingNode(t *testing.T, change ...func(*Settings)) (*node, *tellingLog) {
	t.Helper()
	l := &tellingLog{proposed: make(chan *logpb.Command, 100)}
	n := newNode(t, func(c *Config) {
		for _, f := range change {
			f(&c.Settings)
		}
		l.memLog = c.Log.(*memLog)
		c.Log = l
	})
	l.appendNow(&logpb.Command{Kind: &logpb.Command_Begin{Begin: &logpb.Begin{
		Gid: wholeGID.Bytes(), Namespace: "theirs", Key: "order-1", Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_EXPLICIT, TimeoutMs: 60_000,
	}}})
	return n, l
}

func TestACommandSaysAllThatItsRequestSaid(t *testing.T) {
	n, l := tellingNode(t)
	for _, byKey := range []bool{false, true} {
		for _, c := range everyCall(byKey) {
			if c.request != nil {
				for i := range reflect.TypeOf(c.request).NumField() {
					if f := reflect.ValueOf(c.request).Field(i); f.IsZero() {
						t.Errorf("%s: %s is not set: this test must set all of a request", c.name, reflect.TypeOf(c.request).Field(i).Name)
					}
				}
			}
			one := c.want.ProtoReflect()
			m := one.Get(one.WhichOneof(one.Descriptor().Oneofs().Get(0))).Message()
			for i := range m.Descriptor().Fields().Len() {
				if f := m.Descriptor().Fields().Get(i); m.Has(f) == slices.Contains(c.unsaid, f.Name()) {
					t.Errorf("%s: %s: whether this call has a word for it must be told", c.name, f.FullName())
				}
			}
			if _, err := c.make(n); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if got := <-l.proposed; !proto.Equal(got, c.want) {
				t.Errorf("%s: proposed\n%v, want\n%v", c.name, got, c.want)
			}
		}
	}
}

// fullResult has every field set; those of one name in an answer must be the same.
func fullResult(code fsm.Code) fsm.Result {
	return fsm.Result{
		Code: code, GID: wholeGID, Created: true, Changed: true, Alarm: true, Verdict: fsm.VerdictRollback, Decision: fsm.DecisionRollback,
		State: fsm.StateRolledBack, Reason: logpb.Reason_REASON_TIMEOUT, Index: 77, Detail: "what stands", Parts: []fsm.Result{{}, {}},
	}
}

// wantFields compares what two structs have in common by name.
func wantFields(t *testing.T, name string, got, want any, but ...string) {
	t.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		field := g.Type().Field(i).Name
		if slices.Contains(but, field) {
			continue
		}
		f := w.FieldByName(field)
		if !f.IsValid() || f.IsZero() && field != "Code" {
			t.Fatalf("%s: nothing to compare %s with", name, field)
		}
		if !reflect.DeepEqual(g.Field(i).Interface(), f.Interface()) {
			t.Errorf("%s: %s is %v, want %v", name, field, g.Field(i), f)
		}
	}
}

func TestAnAnswerSaysAllThatTheResultSays(t *testing.T) {
	n, l := tellingNode(t)
	for _, byKey := range []bool{false, true} {
		for _, c := range everyCall(byKey) {
			if c.name == "an inquiry that presumes" {
				continue // asks again, and answers by what stands then
			}
			l.result = fullResult(fsm.OK)
			s, err := c.make(n)
			n.must(err)
			wantFields(t, c.name, s, l.result)
			l.result.Created = false
			if s, err = c.make(n); err != nil || s.Created {
				t.Errorf("%s that began nothing: %+v, %v", c.name, s, err)
			}

			l.result = fullResult(fsm.AlreadyDecided)
			_, err = c.make(n)
			r := wantRefusal(t, err, fsm.AlreadyDecided)
			wantFields(t, c.name, *r, l.result, "Key", "Branch")
			if r.Key != c.key || r.Branch != c.branch {
				t.Errorf("%s of branch %q and key %q: the refusal names %q and %q", c.name, c.branch, c.key, r.Branch, r.Key)
			}
			for range 3 {
				<-l.proposed
			}
		}
	}
	// A topic's change has no transaction, and is refused all the same.
	l.result = fullResult(fsm.Quota)
	_, err := n.PutTopic(n.ctx, &logpb.PutTopic{Name: "t", Change: logpb.PutTopic_CHANGE_DELETE})
	wantFields(t, "topic", *wantRefusal(t, err, fsm.Quota), l.result, "Key", "Branch")
}

// PROTOCOL.md, section 3: no limit ever refuses an ending. Until all places are taken,
// those of endings too, which nothing but endings can do.
func TestNoOrdinaryLimitRefusesAnEnding(t *testing.T) {
	const limit = 6
	n, l := tellingNode(t, func(s *Settings) { s.ProposalsPendingMax = limit })
	taken := func(places int64, f func()) {
		n.pending.Add(places)
		defer n.pending.Add(-places)
		f()
		if got := n.pending.Load(); got != places {
			t.Fatalf("%d places are taken, and %d were", got, places)
		}
	}
	for _, c := range everyCall(false) {
		refused := func(most int) {
			t.Helper()
			_, err := c.make(n)
			var over *OverloadError
			if !errors.As(err, &over) || over.Max != most {
				t.Errorf("%s beside %d others: %v, want a refusal by the limit of %d", c.name, n.pending.Load(), err, most)
			}
			if len(l.proposed) != 0 {
				t.Errorf("%s was refused, and proposed", c.name)
			}
		}
		passes := func() {
			t.Helper()
			if _, err := c.make(n); err != nil {
				t.Errorf("%s beside %d others: %v", c.name, n.pending.Load(), err)
				return
			}
			<-l.proposed
		}
		taken(limit-1, passes)
		if c.ending {
			taken(limit, passes)
			taken(limit+limit/2-1, passes)
			taken(limit+limit/2, func() { refused(limit + limit/2) })
		} else {
			taken(limit, func() { refused(limit) })
		}
	}
}

// What a participant says over its session is said by its holder, whatever it says, and
// is a sign of life.
func TestASessionSpeaksForItsHolder(t *testing.T) {
	at := make(chan time.Time, 1)
	at <- time.Unix(1_700_000_000, 0)
	l := &tellingLog{proposed: make(chan *logpb.Command, 100)}
	n := newNode(t, func(c *Config) {
		l.memLog = c.Log.(*memLog)
		c.Log = l
		c.Now = func() time.Time {
			now := <-at
			at <- now
			return now
		}
	})
	holder := holderN(1)
	s := n.attach(holder, "db")
	theirs := &logpb.BranchSpec{Id: "1", Resource: "db", Holder: holderN(2)}
	for name, call := range map[string]struct {
		mine, another func() error
		holder        func(*logpb.Command) []byte
	}{
		"enlist": {
			func() error {
				_, err := s.Enlist(n.ctx, wholeGID, &logpb.BranchSpec{Id: "1", Resource: "db"})
				return err
			},
			func() error { _, err := s.Enlist(n.ctx, wholeGID, theirs); return err },
			func(c *logpb.Command) []byte { return c.GetEnlist().GetBranch().GetHolder() },
		},
		"vote": {
			func() error {
				_, err := s.Vote(n.ctx, wholeGID, &logpb.Ballot{Branch: &logpb.BranchSpec{Id: "1", Resource: "db"}, Kind: prepared})
				return err
			},
			func() error {
				_, err := s.Vote(n.ctx, wholeGID, &logpb.Ballot{Branch: theirs, Kind: prepared})
				return err
			},
			func(c *logpb.Command) []byte { return c.GetVote().GetBallot().GetBranch().GetHolder() },
		},
		"report": {
			func() error {
				_, err := s.Report(n.ctx, ReportRequest{GID: wholeGID, Branch: "1", Outcome: committed})
				return err
			}, nil,
			func(c *logpb.Command) []byte { return c.GetReport().GetHolder() },
		},
		"inquire": {
			func() error {
				gid := fsm.NewGID(1, [10]byte{3}) // its time is over
				n.log.leap(2 * time.Minute)
				_, err := s.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1", Resource: "db", Timeout: time.Second})
				return err
			}, nil,
			func(c *logpb.Command) []byte { return c.GetDecide().GetBranches()[0].GetHolder() },
		},
	} {
		at <- (<-at).Add(s.Heartbeat())
		before := s.aliveAt.Load()
		n.must(call.mine())
		if got := call.holder(<-l.proposed); !slices.Equal(got, holder) {
			t.Errorf("%s: the log has the holder %x, want %x", name, got, holder)
		}
		if s.aliveAt.Load() == before {
			t.Errorf("%s is no sign of life", name)
		}
		if call.another == nil {
			continue
		}
		wantRefusal(t, call.another(), fsm.Invalid)
		if len(l.proposed) != 0 {
			t.Errorf("%s: what another holder's branch said was proposed: %v", name, <-l.proposed)
		}
	}
}
