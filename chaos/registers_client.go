package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
)

// actor is one client: it makes one call after the other. After an outcome that
// it cannot know it goes on as another client.
type actor struct {
	w    *registers
	h    *host
	id   int
	rand *rand.Rand
}

func (w *registers) newActor(h *host, r *rand.Rand) *actor {
	return &actor{w: w, h: h, id: int(w.clients.Add(1)), rand: r}
}

// fork is another client on any host, for another goroutine.
func (a *actor) fork() *actor {
	r := rand.New(rand.NewPCG(a.rand.Uint64(), a.rand.Uint64()))
	return a.w.newActor(a.w.hosts[r.IntN(len(a.w.hosts))], r)
}

// request is one call: how it is written down, and how it is sent.
type request struct {
	op   linearizability.Operation
	send func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error)
	// read requests change nothing; they are never duplicated.
	read bool
}

// operation is the request as this client's.
func (a *actor) operation(q request) linearizability.Operation {
	q.op.Client = a.id
	return q.op
}

// once sends the request to one node, recorded.
func (a *actor) once(ctx context.Context, q request, node int) (answer, linearizability.Output) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pending := a.w.recorder.Invoke(a.operation(q))
	out, header, err := q.send(ctx, a.h.conns[node])
	return a.complete(q, pending, node, out, header, err)
}

// complete writes down how a call ended.
func (a *actor) complete(q request, pending *linearizability.Pending, node int, out linearizability.Output, header *quoratev1.ResponseHeader, err error) (answer, linearizability.Output) {
	got := classify(err)
	a.w.operations.Add(1)
	switch got.status {
	case linearizability.StatusOK:
		a.w.heard.header(header)
		fillHeader(&out, header)
		pending.ReturnFrom(a.h.nodes[node].Name, got.status, out)
		a.w.note(q, out)
	case linearizability.StatusRefused:
		out = linearizability.Output{Refusal: got.reason, GID: got.gid}
		pending.ReturnFrom(a.h.nodes[node].Name, got.status, out)
	case linearizability.StatusFailed:
		pending.Failed(got.reason, got.err)
	default:
		pending.Unknown(got.err)
		a.w.unknown.Add(1)
		a.id = int(a.w.clients.Add(1))
	}
	a.h.learn(node, got, a.rand)
	return got, out
}

func fillHeader(out *linearizability.Output, header *quoratev1.ResponseHeader) {
	out.AppliedIndex, out.ClockMS, out.FloorMS = header.GetAppliedIndex(), header.GetClockMs(), header.GetFloorMs()
	out.Epoch = linearizability.Epoch{Incarnation: header.GetEpoch().GetIncarnation(), Term: header.GetEpoch().GetTerm()}
}

// How long a client goes on with one request.
const (
	triesMax     = 10
	effortMax    = 6 * time.Second
	triesPause   = 25 * time.Millisecond
	giveUpChance = 0.04
)

// try sends the request until it is answered, or the client loses patience. Each
// try is an operation of its own.
func (a *actor) try(ctx context.Context, q request) (answer, linearizability.Output) {
	if !q.read {
		if turn(a.w.mutating.Add(1), duplicatedShare) {
			a.echo(ctx, q)
		}
	}
	var got answer
	var out linearizability.Output
	until := time.Now().Add(effortMax)
	for range triesMax {
		got, out = a.once(ctx, q, a.h.pick(a.rand))
		done := got.status == linearizability.StatusOK || got.status == linearizability.StatusRefused || got.reason == "INVALID"
		if done || ctx.Err() != nil || time.Now().After(until) || a.rand.Float64() < giveUpChance {
			break
		}
		if got.reason != "NOT_LEADER" || got.leader == "" {
			pause(ctx, triesPause)
		}
	}
	return got, out
}

// echo makes the same call as another client: at once, soon, or late, and often
// through another node.
func (a *actor) echo(ctx context.Context, q request) {
	a.w.duplicates.Add(1)
	twin := a.fork()
	var delay time.Duration
	switch d := a.rand.Float64(); {
	case d < lateShare:
		delay = time.Duration(200+a.rand.IntN(2500)) * time.Millisecond
		a.w.late.Add(1)
	case d < 0.5:
		delay = time.Duration(a.rand.IntN(60)) * time.Millisecond
	}
	a.w.echoes.Go(func() {
		pause(ctx, delay)
		if ctx.Err() != nil {
			return
		}
		node := twin.h.pick(twin.rand)
		if twin.rand.Float64() < 0.3 {
			node = twin.h.other(twin.rand)
		}
		if got, _ := twin.once(ctx, q, node); got.reason == "NOT_LEADER" {
			twin.once(ctx, q, int(twin.h.leader.Load()))
		}
	})
}

// note puts an acknowledgement into the ledger.
func (w *registers) note(q request, out linearizability.Output) {
	if q.read || q.op.Input.Vote == linearizability.VoteRefused {
		return // a refusal is kept only where it came first: what it leads to is acknowledged to others
	}
	gid := out.GID
	if gid == "" {
		gid = q.op.GID
	}
	a := Acknowledgement{GID: gid, Kind: string(q.op.Kind), Branch: q.op.Branch, Vote: string(q.op.Input.Vote), Decision: string(out.Decision)}
	w.acknowledge(a)
}

// The requests, in the order of a transaction's life.

func beginRequest(p *plan) request {
	req := p.begin()
	return request{
		op: linearizability.Operation{Kind: linearizability.KindBegin, GID: p.gid, Namespace: "default", Key: p.key, Input: p.beginInput()},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Begin(ctx, req)
			return linearizability.Output{
				GID: r.GetGid(), Created: r.GetCreated(),
				Decision: linearizability.FromWire[linearizability.Decision](r.GetDecision()), State: linearizability.FromWire[linearizability.State](r.GetState()),
			}, r.GetHeader(), err
		},
	}
}

func enlistRequest(gid string, spec *quoratev1.BranchSpec) request {
	return request{
		op: linearizability.Operation{Kind: linearizability.KindEnlist, GID: gid, Namespace: "default", Branch: spec.GetId(), Input: linearizability.Input{
			Resource: spec.GetResource(), Endpoint: spec.GetEndpoint(), Held: spec.GetHeld(), Holder: spec.GetHolder(),
		}},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Enlist(ctx, &quoratev1.EnlistRequest{Gid: gid, Branch: spec})
			return linearizability.Output{Verdict: linearizability.FromWire[linearizability.Verdict](r.GetVerdict())}, r.GetHeader(), err
		},
	}
}

func voteRequest(gid string, spec *quoratev1.BranchSpec, vote quoratev1.Vote) request {
	return request{
		op: linearizability.Operation{Kind: linearizability.KindVote, GID: gid, Namespace: "default", Branch: spec.GetId(), Input: linearizability.Input{
			Resource: spec.GetResource(), Endpoint: spec.GetEndpoint(), Held: spec.GetHeld(), Holder: spec.GetHolder(),
			Vote: linearizability.FromWire[linearizability.Vote](vote),
		}},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Vote(ctx, &quoratev1.VoteRequest{Gid: gid, Ballot: &quoratev1.Ballot{Branch: spec, Vote: vote}})
			return linearizability.Output{Verdict: linearizability.FromWire[linearizability.Verdict](r.GetVerdict())}, r.GetHeader(), err
		},
	}
}

// commitRequest asks for the commit; set nil: bare.
func commitRequest(gid string, set []string, wait quoratev1.Wait) request {
	req := &quoratev1.CommitRequest{Transaction: gid, Wait: wait}
	input := linearizability.Input{Bare: set == nil, Wait: waitOf(wait)}
	if set != nil {
		req.Set = &quoratev1.BranchSet{Ids: set}
		input.Set = slices.Clone(set)
	}
	return request{
		op: linearizability.Operation{Kind: linearizability.KindCommit, GID: gid, Namespace: "default", Input: input},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Commit(ctx, req)
			return linearizability.Output{
				GID: r.GetGid(), Decision: linearizability.FromWire[linearizability.Decision](r.GetDecision()),
				State: linearizability.FromWire[linearizability.State](r.GetState()), DecisionIndex: r.GetIndex(), Reason: linearizability.ReasonFromWire(r.GetReason()),
			}, r.GetHeader(), err
		},
	}
}

func waitOf(wait quoratev1.Wait) linearizability.Wait {
	return linearizability.FromWire[linearizability.Wait](wait)
}

// rollbackRequest asks for the rollback and names branches that were called.
func rollbackRequest(gid string, branches []*quoratev1.BranchSpec, wait quoratev1.Wait) request {
	req := &quoratev1.RollbackRequest{Transaction: gid, Branches: branches, Wait: wait}
	input := linearizability.Input{Wait: waitOf(wait)}
	for _, b := range branches {
		input.Branches = append(input.Branches, branchOf(b))
	}
	return request{
		op: linearizability.Operation{Kind: linearizability.KindRollback, GID: gid, Namespace: "default", Input: input},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Rollback(ctx, req)
			return linearizability.Output{
				GID: r.GetGid(), Decision: linearizability.FromWire[linearizability.Decision](r.GetDecision()),
				State: linearizability.FromWire[linearizability.State](r.GetState()), DecisionIndex: r.GetIndex(),
			}, r.GetHeader(), err
		},
	}
}

// submitRequest begins, votes and asks commit at once; the votes of the branches
// in missing are left out.
func submitRequest(p *plan, missing map[string]bool, wait quoratev1.Wait) request {
	req := &quoratev1.SubmitRequest{Begin: p.begin(), Wait: wait}
	input := p.beginInput()
	input.Wait = waitOf(wait)
	for _, b := range p.branches {
		req.Set = append(req.Set, b.spec)
		input.Branches = append(input.Branches, branchOf(b.spec))
		if !missing[b.spec.GetId()] {
			req.Votes = append(req.Votes, &quoratev1.Ballot{Branch: b.spec, Vote: b.vote})
			input.Votes = append(input.Votes, linearizability.Ballot{Branch: branchOf(b.spec), Vote: linearizability.FromWire[linearizability.Vote](b.vote)})
		}
	}
	return request{
		op: linearizability.Operation{Kind: linearizability.KindSubmit, GID: p.gid, Namespace: "default", Key: p.key, Input: input},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Submit(ctx, req)
			return linearizability.Output{
				GID: r.GetGid(), Created: r.GetCreated(), Decision: linearizability.FromWire[linearizability.Decision](r.GetDecision()),
				State: linearizability.FromWire[linearizability.State](r.GetState()), DecisionIndex: r.GetIndex(), Reason: linearizability.ReasonFromWire(r.GetReason()),
			}, r.GetHeader(), err
		},
	}
}
