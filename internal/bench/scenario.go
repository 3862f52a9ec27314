package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// scenario is one kind of work, made the same way against the product and its floor.
type scenario struct {
	// Name is what the command line calls it, Doc what one operation is.
	Name, Doc string
	// Floor says what the floor does of it.
	Floor string
	// attaches: two participants are attached. called: branches are called over gRPC.
	attaches, called bool
	// floorRecords are those that the floor puts into the log for one operation.
	floorRecords int
	// leaves says that an operation is answered before its transaction has ended.
	leaves bool
	// submits says that its transactions are submitted whole.
	submits bool
	// prepare makes what the operations need before they are measured; nil: nothing.
	prepare func(ctx context.Context, b *bed) error
	// operate makes one operation.
	operate func(ctx context.Context, b *bed, caller int) error
}

// bed is one cluster made ready for a scenario.
type bed struct {
	t *target
	// product says that the cluster decides, and answers about its decisions.
	product bool
	// stream says that submits go over a stream.
	stream bool
	// resources are those of the two branches of a transaction.
	resources    [2]string
	participants [2]*attachee
	branches     *branches
	answers      *answers
	gate         *gate
	known        []string // transactions to read
}

// scenarios in the order in which they are run.
var scenarios = []scenario{
	{
		Name: "decide", Doc: "one-shot commit of a two-branch transaction (Submit with both votes); two sessions are told and acknowledge",
		Floor:    "the same Submit, deliveries and reports: a record before the answer, and one for both reports",
		attaches: true, floorRecords: 2, leaves: true, submits: true, operate: decide,
	},
	{
		Name: "submit", Doc: "one-shot commit of a two-branch transaction whose branches are read-only: the bare decision",
		Floor: "the same Submit and one record", floorRecords: 1, submits: true, operate: submit,
	},
	{
		Name: "managed", Doc: "begin, two enlists and two votes over two sessions, commit; both sessions acknowledge",
		Floor:    "the same calls and frames, a record each, and one for both reports",
		attaches: true, floorRecords: 7, leaves: true, operate: managed,
	},
	{
		Name: "saga", Doc: "a saga of two gRPC branches at once, answered when both are done",
		Floor:  "the same Submit and branch calls, with two records: one before the calls, one for both answers",
		called: true, floorRecords: 2, submits: true, operate: saga,
	},
	{
		Name: "tcc", Doc: "begin, two enlists, two tries called by the initiator, commit; two confirms over gRPC",
		Floor:  "the same calls, a record each, and one for both confirms",
		called: true, floorRecords: 5, leaves: true, operate: tcc,
	},
	{
		Name: "message", Doc: "a two-phase message to two gRPC branches: begin, then commit",
		Floor:  "the same calls, a record each, and one for both answers",
		called: true, floorRecords: 3, leaves: true, operate: message,
	},
	{
		Name: "read", Doc: "a linearizable Get of a finished two-branch transaction",
		Floor: "a ReadIndex, and an answer as large", prepare: prepareRead, operate: read,
	},
}

// Described is a scenario as people are told of it.
type Described struct{ Name, Doc, Floor string }

// Scenarios describes all of them.
func Scenarios() []Described {
	var all []Described
	for _, s := range scenarios {
		all = append(all, Described{s.Name, s.Doc, s.Floor})
	}
	return append(all, Described{transferName, transferDoc, transferFloor}, Described{proposeName, proposeDoc, proposeFloor})
}

// Names lists the scenarios.
func Names() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.Name)
	}
	return append(names, transferName, proposeName)
}

func findScenario(name string) (scenario, error) {
	for _, s := range scenarios {
		if s.Name == name {
			return s, nil
		}
	}
	return scenario{}, fmt.Errorf("no scenario is named %q: there are %s", name, strings.Join(Names(), ", "))
}

// answers are what the callers were told, to be compared with the state.
type answers struct {
	mu   sync.Mutex
	told []told
}

// told is one answer.
type told struct {
	gid      string
	decision quoratev1.Decision
	// unknown: nothing, or an error; the state may be either way, but it must be one.
	unknown bool
}

func (a *answers) add(gid string, decision quoratev1.Decision, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, told{gid: gid, decision: decision, unknown: err != nil})
}

// decided notes an answer, and makes an error of one that no operation here expects.
func (b *bed) decided(gid string, decision quoratev1.Decision, detail string, err error) error {
	b.answers.add(gid, decision, err)
	if err == nil && decision != quoratev1.Decision_DECISION_COMMIT {
		return fmt.Errorf("transaction %s: %v, want a commit: %s", gid, decision, detail)
	}
	return err
}

// transactions is a shorthand.
func transactions(conn *grpc.ClientConn) quoratev1.TransactionServiceClient {
	return quoratev1.NewTransactionServiceClient(conn)
}

// labels carry the payload of branches that vote, which have none of their own.
func labels() map[string]string {
	return map[string]string{"a": string(freshPayload()), "b": string(freshPayload())}
}

// plain is a branch that votes.
func (b *bed) plain(i int) *quoratev1.BranchSpec {
	return &quoratev1.BranchSpec{Id: branchIDs[i], Resource: b.resources[i]}
}

var branchIDs = [2]string{"1", "2"}

// submitted submits and notes the answer.
func (b *bed) submitted(ctx context.Context, caller int, req *quoratev1.SubmitRequest) error {
	got, err := ask(ctx, b.t, caller, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.SubmitResponse, error) {
		if b.stream {
			return b.t.submits(conn).Submit(ctx, req)
		}
		return transactions(conn).Submit(ctx, req)
	})
	return b.decided(req.GetBegin().GetGid(), got.GetDecision(), got.GetDetail(), err)
}

// oneShot is a transaction of two branches that have both voted so.
func (b *bed) oneShot(vote quoratev1.Vote) *quoratev1.SubmitRequest {
	req := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Gid: b.t.freshGID(), Labels: labels()}}
	for i := range branchIDs {
		req.Set = append(req.Set, b.plain(i))
		req.Votes = append(req.Votes, &quoratev1.Ballot{Branch: b.plain(i), Vote: vote})
	}
	return req
}

func decide(ctx context.Context, b *bed, caller int) error {
	return b.submitted(ctx, caller, b.oneShot(quoratev1.Vote_VOTE_PREPARED))
}

func submit(ctx context.Context, b *bed, caller int) error {
	return b.submitted(ctx, caller, b.oneShot(quoratev1.Vote_VOTE_READ_ONLY))
}

// begun begins a transaction.
func (b *bed) begun(ctx context.Context, caller int, req *quoratev1.BeginRequest) error {
	_, err := ask(ctx, b.t, caller, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.BeginResponse, error) {
		return transactions(conn).Begin(ctx, req)
	})
	return err
}

// committed asks the commit and notes the answer.
func (b *bed) committed(ctx context.Context, caller int, gid string) error {
	got, err := ask(ctx, b.t, caller, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.CommitResponse, error) {
		return transactions(conn).Commit(ctx, &quoratev1.CommitRequest{Transaction: gid})
	})
	return b.decided(gid, got.GetDecision(), got.GetDetail(), err)
}

// both does something for each branch, at once.
func both(do func(i int) error) error {
	second := make(chan error, 1)
	go func() { second <- do(1) }()
	err := do(0)
	if other := <-second; err == nil {
		err = other
	}
	return err
}

func managed(ctx context.Context, b *bed, caller int) error {
	gid := b.t.freshGID()
	if err := b.begun(ctx, caller, &quoratev1.BeginRequest{Gid: gid, Labels: labels()}); err != nil {
		return err
	}
	err := both(func(i int) error {
		p := b.participants[i]
		spec := b.plain(i)
		spec.Holder = p.holder
		if err := p.ask(ctx, &quoratev1.SessionRequest_Enlist{Enlist: &quoratev1.EnlistRequest{Gid: gid, Branch: spec}}); err != nil {
			return err
		}
		return p.ask(ctx, &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{
			Gid: gid, Ballot: &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED},
		}})
	})
	if err != nil {
		return err
	}
	return b.committed(ctx, caller, gid)
}

// calledSpec is a branch that is called.
func (b *bed) calledSpec(i int, undo string) *quoratev1.BranchSpec {
	spec := &quoratev1.BranchSpec{
		Id: branchIDs[i], Resource: b.resources[i], Endpoint: b.branches.endpoint(methodDo), Payload: freshPayload(),
	}
	if undo != "" {
		spec.Undo = b.branches.endpoint(undo)
	}
	return spec
}

func saga(ctx context.Context, b *bed, caller int) error {
	return b.submitted(ctx, caller, &quoratev1.SubmitRequest{
		Begin: &quoratev1.BeginRequest{Gid: b.t.freshGID(), Mode: quoratev1.Mode_MODE_SAGA},
		Set:   []*quoratev1.BranchSpec{b.calledSpec(0, methodUndo), b.calledSpec(1, methodUndo)},
		Wait:  quoratev1.Wait_WAIT_FINISH,
	})
}

func tcc(ctx context.Context, b *bed, caller int) error {
	gid := b.t.freshGID()
	if err := b.begun(ctx, caller, &quoratev1.BeginRequest{Gid: gid, Mode: quoratev1.Mode_MODE_TCC}); err != nil {
		return err
	}
	err := both(func(i int) error {
		spec := b.calledSpec(i, methodUndo)
		_, err := ask(ctx, b.t, caller, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.EnlistResponse, error) {
			return transactions(conn).Enlist(ctx, &quoratev1.EnlistRequest{Gid: gid, Branch: spec})
		})
		if err != nil {
			return err
		}
		return b.branches.try(ctx, spec.GetPayload())
	})
	if err != nil {
		return err
	}
	return b.committed(ctx, caller, gid)
}

func message(ctx context.Context, b *bed, caller int) error {
	gid := b.t.freshGID()
	err := b.begun(ctx, caller, &quoratev1.BeginRequest{
		Gid: gid, Mode: quoratev1.Mode_MODE_MESSAGE, Branches: []*quoratev1.BranchSpec{b.calledSpec(0, ""), b.calledSpec(1, "")},
		Plan: &quoratev1.Plan{Callback: b.branches.endpoint(methodCheckBack)},
	})
	if err != nil {
		return err
	}
	return b.committed(ctx, caller, gid)
}

// readable is how many transactions are read, at random.
const readable = 1000

func prepareRead(ctx context.Context, b *bed) error {
	var mu sync.Mutex
	var wait sync.WaitGroup
	var failed error
	for caller := range 16 {
		wait.Go(func() {
			for range readable / 16 {
				req := b.oneShot(quoratev1.Vote_VOTE_READ_ONLY)
				err := b.submitted(ctx, caller, req)
				mu.Lock()
				b.known = append(b.known, req.GetBegin().GetGid())
				if err != nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return failed
}
