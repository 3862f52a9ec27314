package dtm

import (
	"context"
	"encoding/base64"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// retryPause is the time between two attempts at a call that nobody answered.
const retryPause = 100 * time.Millisecond

// call makes a native call, and again while it is not known to have taken
// effect: DTM's SDKs do not repeat, and every request here is idempotent.
func call[Q, A any](ctx context.Context, g *Gateway, method func(context.Context, Q) (A, error), request Q) (A, error) {
	giveUp := time.Now().Add(g.hold)
	for {
		answer, err := method(ctx, request)
		if err == nil || !repeatable(err) || time.Now().After(giveUp) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(retryPause):
		}
	}
}

// The native calls without their options, as call takes them.
func (g *Gateway) beginNative(ctx context.Context, r *quoratev1.BeginRequest) (*quoratev1.BeginResponse, error) {
	return g.native.Begin(ctx, r)
}

func (g *Gateway) submitNative(ctx context.Context, r *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	return g.native.Submit(ctx, r)
}

func (g *Gateway) commitNative(ctx context.Context, r *quoratev1.CommitRequest) (*quoratev1.CommitResponse, error) {
	return g.native.Commit(ctx, r)
}

func (g *Gateway) rollbackNative(ctx context.Context, r *quoratev1.RollbackRequest) (*quoratev1.RollbackResponse, error) {
	return g.native.Rollback(ctx, r)
}

// prepare begins a transaction whose initiator decides.
func (g *Gateway) prepare(ctx context.Context, t *trans) error {
	if err := t.checkType(typeTCC, typeXA, typeMessage); err != nil {
		return err
	}
	if t.TransType == typeXA && len(t.Gid) > xaGidBytesMax {
		return bad("gid %q is of %d bytes: an xa transaction's xid is gid-branch, of 64 bytes at most, so at most %d are left for the gid",
			t.Gid, len(t.Gid), xaGidBytesMax)
	}
	begin, err := t.begin()
	if err != nil {
		return err
	}
	if t.TransType == typeMessage {
		if t.QueryPrepared == "" {
			return bad("query_prepared is missing: a message that is not submitted must be asked about")
		}
		if begin.Branches, err = t.set(); err != nil {
			return err
		}
	}
	answer, err := call(ctx, g, g.beginNative, begin)
	switch {
	case err != nil && !conflicts(err):
		return err
	case err == nil && answer.GetCreated():
		return nil
	}
	stands, errFind := g.find(ctx, t.Gid)
	if errFind != nil {
		return errFind
	}
	if err := stands.mustBe(t); err != nil {
		return err
	}
	if status := stands.status(); status != statusPrepared {
		return failed("current status '%s', cannot prepare.", status)
	}
	return err
}

// xaGidBytesMax leaves room for "-" and the shortest branch id in an xid's 64
// bytes: DTM's SDKs put gid-branch into the gtrid.
const xaGidBytesMax = 64 - len("-01")

// submit lets a transaction go on to its end.
func (g *Gateway) submit(ctx context.Context, t *trans) error {
	began := time.Now()
	var gid string
	var err error
	switch t.TransType {
	case typeSaga:
		gid, err = g.submitWhole(ctx, t)
	case typeMessage:
		if gid, err = g.commit(ctx, t); reasonOf(err) == reasonNotFound {
			gid, err = g.submitWhole(ctx, t)
		}
	case typeTCC, typeXA:
		gid, err = g.commit(ctx, t)
		err = unknownGid(err, t.Gid)
	case typeWorkflow:
		return g.submitWorkflow(ctx, t)
	default:
		return t.checkType()
	}
	if err == nil && t.WaitResult {
		err = g.waitResult(ctx, t, gid, began)
	}
	return err
}

// submitWhole hands a whole saga or message over.
func (g *Gateway) submitWhole(ctx context.Context, t *trans) (gid string, err error) {
	begin, err := t.begin()
	if err != nil {
		return "", err
	}
	set, err := t.set()
	if err != nil {
		return "", err
	}
	answer, err := call(ctx, g, g.submitNative, &quoratev1.SubmitRequest{Begin: begin, Set: set, Wait: quoratev1.Wait_WAIT_NONE})
	switch {
	case err != nil && !conflicts(err):
		return "", err
	case err == nil && answer.GetCreated():
		return answer.GetGid(), nil
	}
	// The key stood: by an earlier attempt of this caller, or before.
	stands, errFind := g.find(ctx, t.Gid)
	if errFind != nil {
		return "", errFind
	}
	if err := stands.mustBe(t); err != nil {
		return "", err
	}
	if stands.status() == statusPrepared {
		return g.commit(ctx, t) // a message that was prepared between two looks
	}
	if err != nil {
		return "", err // another saga, of the same gid
	}
	return stands.GetGid(), stands.submittable()
}

// commit decides a transaction that stands.
func (g *Gateway) commit(ctx context.Context, t *trans) (gid string, err error) {
	stands, err := g.find(ctx, t.Gid)
	if err != nil {
		return "", err
	}
	if err := stands.mustBe(t); err != nil {
		return "", err
	}
	gid = stands.GetGid()
	if stands.status() != statusPrepared {
		return gid, stands.submittable()
	}
	request := &quoratev1.CommitRequest{}
	if t.TransType == typeMessage {
		// An SDK says the delay when it submits, not when it prepares.
		c, err := t.custom()
		if err != nil {
			return "", err
		}
		if c.Delay > 0 {
			request.Delay = seconds(int64(c.Delay))
		}
	}
	return gid, g.decideCommit(ctx, t.Gid, request)
}

// decideCommit commits; who comes too late hears what stands.
func (g *Gateway) decideCommit(ctx context.Context, gid string, request *quoratev1.CommitRequest) error {
	request.Transaction, request.Wait = keyRef(gid), quoratev1.Wait_WAIT_NONE
	answer, err := call(ctx, g, g.commitNative, request)
	switch {
	case reasonOf(err) == reasonAlreadyDecided, err == nil && answer.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK:
		stands, err := g.find(ctx, gid)
		if err != nil {
			return err
		}
		return stands.submittable()
	default:
		return err
	}
}

// submitWorkflow ends a workflow as its code did.
func (g *Gateway) submitWorkflow(ctx context.Context, t *trans) error {
	stands, err := g.find(ctx, t.Gid)
	if err != nil {
		return unknownGid(err, t.Gid)
	}
	if err := stands.mustBe(t); err != nil {
		return err
	}
	result, err := base64.StdEncoding.DecodeString(t.ReqExtra["result"])
	if err != nil {
		return bad("req_extra's result is not base64: %v", err)
	}
	switch status := t.ReqExtra["status"]; status {
	case statusSucceed:
		return g.decideCommit(ctx, t.Gid, &quoratev1.CommitRequest{Result: result})
	case statusFailed:
		reason := t.ReqExtra["rollback_reason"]
		return g.decideRollback(ctx, stands, reason, result)
	default:
		return bad("req_extra's status is %q: a workflow ends as succeed or failed", status)
	}
}

// abort rolls a prepared transaction back.
func (g *Gateway) abort(ctx context.Context, t *trans) error {
	stands, err := g.find(ctx, t.Gid)
	if err != nil {
		return unknownGid(err, t.Gid)
	}
	if err := stands.mustBeDTMs(); err != nil {
		return err
	}
	switch stands.transType() {
	case typeTCC, typeXA, typeMessage:
		if t.TransType == "" || t.TransType == stands.transType() {
			return g.decideRollback(ctx, stands, t.RollbackReason, nil)
		}
	}
	return stands.cannotAbort(t.TransType)
}

func (g *Gateway) decideRollback(ctx context.Context, stands *standing, reason string, result []byte) error {
	_, err := call(ctx, g, g.rollbackNative, &quoratev1.RollbackRequest{
		Transaction: keyRef(stands.GetKey()), Detail: reason, Wait: quoratev1.Wait_WAIT_NONE, Result: result,
	})
	if reasonOf(err) != reasonAlreadyDecided {
		return err
	}
	now, err := g.find(ctx, stands.GetKey())
	if err != nil {
		return err
	}
	return now.cannotAbort(now.transType())
}

// registerBranch adds a branch, or keeps a step of a workflow.
func (g *Gateway) registerBranch(ctx context.Context, b *branch) error {
	t := &trans{Gid: b.gid, TransType: b.transType}
	if err := t.checkType(typeTCC, typeXA, typeWorkflow); err != nil {
		return err
	}
	if b.transType == typeXA && len(b.gid)+len("-")+len(b.id) > 64 {
		return bad("gid %q and branch %q leave no room in an xid of 64 bytes", b.gid, b.id)
	}
	stands, err := g.find(ctx, b.gid)
	if reasonOf(err) == reasonNotFound {
		return noPrepared(b.gid)
	}
	if err != nil {
		return err
	}
	if err := stands.mustBe(t); err != nil {
		return err
	}
	if b.transType == typeWorkflow {
		err = g.record(ctx, stands, b)
	} else {
		err = g.enlist(ctx, stands, b)
	}
	switch reasonOf(err) {
	case reasonNotFound, reasonAlreadyDecided, reasonSealed, reasonExpired:
		return noPrepared(b.gid)
	case reasonBranchConflict, reasonVoteConflict:
		return bad("storage: UniqueKeyConflict: branch %s of %s is registered with other content", b.id, b.gid)
	default:
		return err
	}
}

func noPrepared(gid string) error {
	return failed("no trans with gid: %s status: prepared found", gid)
}

// enlist adds a branch of tcc or xa. Whoever is not prepared takes none, also
// where the branch stands already: its try must not run any more.
func (g *Gateway) enlist(ctx context.Context, stands *standing, b *branch) error {
	spec := &quoratev1.BranchSpec{Id: b.id, Payload: b.payload}
	as := trans{Protocol: stands.protocol()}
	if b.transType == typeXA {
		spec.Endpoint = as.endpoint(b.data["url"])
		spec.Undo = spec.GetEndpoint()
		spec.Payload = nil
	} else {
		spec.Endpoint, spec.Undo = as.endpoint(b.data["confirm"]), as.endpoint(b.data["cancel"])
	}
	for _, endpoint := range []string{spec.GetEndpoint(), spec.GetUndo()} {
		for what, name := range map[string]string{"gid": b.gid, "branch_id": b.id} {
			if err := checkCarried(endpoint, what, name); err != nil {
				return err
			}
		}
	}
	answer, err := call(ctx, g, func(ctx context.Context, r *quoratev1.EnlistRequest) (*quoratev1.EnlistResponse, error) {
		return g.native.Enlist(ctx, r)
	}, &quoratev1.EnlistRequest{Gid: stands.GetGid(), Branch: spec})
	if err != nil {
		return err
	}
	if v := answer.GetVerdict(); v == quoratev1.Verdict_VERDICT_COMMIT || v == quoratev1.Verdict_VERDICT_ROLLBACK {
		return noPrepared(b.gid)
	}
	return nil
}

func (g *Gateway) record(ctx context.Context, stands *standing, b *branch) error {
	if b.status != statusSucceed && b.status != statusFailed {
		return bad("status is %q: a step of a workflow ends as succeed or failed", b.status)
	}
	if stands.status() != statusPrepared {
		return noPrepared(b.gid)
	}
	_, err := call(ctx, g, func(ctx context.Context, r *quoratev1.RecordRequest) (*quoratev1.RecordResponse, error) {
		return g.native.Record(ctx, r)
	}, &quoratev1.RecordRequest{
		Gid: stands.GetGid(), Branch: b.id, Operation: b.op, Failed: b.status == statusFailed, Result: b.payload,
	})
	return err
}

// prepareWorkflow begins a workflow, or reads how far it has come.
func (g *Gateway) prepareWorkflow(ctx context.Context, t *trans) (*standing, error) {
	if err := t.checkType(typeWorkflow); err != nil {
		return nil, err
	}
	begin, err := t.begin()
	if err != nil {
		return nil, err
	}
	// Its code may run in another place by now, at which it is to be called back:
	// what stands is what is asked for.
	if _, err := call(ctx, g, g.beginNative, begin); err != nil && !conflicts(err) {
		return nil, err
	}
	stands, err := g.find(ctx, t.Gid)
	if err != nil {
		return nil, err
	}
	return stands, stands.mustBe(t)
}

// unknownGid says it in DTM's words.
func unknownGid(err error, gid string) error {
	if reasonOf(err) == reasonNotFound {
		return bad("no TransGlobal with gid: %s found", gid)
	}
	return err
}

func keyRef(gid string) string { return "key:" + gid }
