package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// txOptions are the settings of one transaction.
type txOptions struct {
	key     string
	timeout time.Duration
	entry   Entry
	oneShot bool
	behind  bool
	labels  map[string]string
}

// TxOption is a setting of [Client.Begin] and [Client.Run].
type TxOption func(*txOptions)

// WithKey gives the transaction the caller's own id, at most 128 bytes of
// printable text. The first transaction with a key is the only one while it is kept.
func WithKey(key string) TxOption { return func(o *txOptions) { o.key = key } }

// WithTimeout sets the time, by the cluster's clock, after which an undecided
// transaction rolls back (default 30 s, at most 10 min).
func WithTimeout(d time.Duration) TxOption { return func(o *txOptions) { o.timeout = d } }

// WithEntry sets how branches enter (default: explicit).
func WithEntry(e Entry) TxOption { return func(o *txOptions) { o.entry = e } }

// WithLabels adds labels, shown by `quorate tx ls`.
func WithLabels(labels map[string]string) TxOption { return func(o *txOptions) { o.labels = labels } }

// Transaction is one transaction, in the hands of its initiator.
type Transaction struct {
	c       *Client
	gid     GID
	created bool
	root    *scope
	// begin is what the transaction was begun with, or, one-shot, will be.
	begin *quoratev1.BeginRequest
	asked time.Time // for it, by this process' clock

	mu       sync.Mutex
	begun    bool // the cluster has it
	sent     bool // one-shot: its commit was sent, and may have arrived
	dropped  bool // one-shot: rolled back with nobody to tell; it is never sent
	decision Decision
	index    uint64
}

// Begin creates a transaction. It is repeated with the same GID until it is
// answered; a GID that expired on the way is replaced by a fresh one.
//
// With a key that stands already, the returned transaction is the one that has
// it, and Created is false: do not run its work, ask its [Transaction.Outcome].
func (c *Client) Begin(ctx context.Context, opts ...TxOption) (*Transaction, error) {
	o := txOptions{timeout: TransactionTimeoutDefault, entry: EntryExplicit}
	for _, set := range opts {
		set(&o)
	}
	if o.timeout <= 0 || o.timeout > TransactionTimeoutMax {
		return nil, &RefusedError{Reason: "INVALID", Detail: fmt.Sprintf("the timeout is %v, want more than 0 and at most %v", o.timeout, TransactionTimeoutMax)}
	}
	var pause backoff
	for {
		gid, err := c.mint(ctx)
		if err != nil {
			return nil, err
		}
		if o.oneShot && o.key == "" {
			return c.oneShot(gid, o), nil
		}
		tx, err := c.begin(ctx, gid, o)
		if refusedWith(err) != reasonExpired {
			return tx, err
		}
		// Nothing stands under the expired GID, so a new one is safe. On Submit it never is.
		if sleep(ctx, pause.next()) != nil {
			return nil, err
		}
		if err := c.refreshClock(ctx); err != nil {
			return nil, err
		}
	}
}

// request is what the transaction is begun with.
func (o txOptions) request(gid GID) *quoratev1.BeginRequest {
	return &quoratev1.BeginRequest{
		Gid: string(gid), Key: o.key, Mode: quoratev1.Mode_MODE_TWO_PHASE, Entry: quoratev1.Entry(o.entry),
		Timeout: durationpb.New(o.timeout), Labels: o.labels,
	}
}

// begin sends one Begin.
func (c *Client) begin(ctx context.Context, gid GID, o txOptions) (*Transaction, error) {
	t := c.transaction(gid, o)
	stands, err := c.sendBegin(ctx, t.begin)
	if err != nil {
		return nil, err
	}
	if stands != gid {
		// A repeated Begin of ours is answered created=false too: the GID tells.
		t = c.transaction(stands, o)
		t.created = false
	}
	t.begun = true
	return t, nil
}

// sendBegin returns the GID that stands.
func (c *Client) sendBegin(ctx context.Context, req *quoratev1.BeginRequest) (GID, error) {
	got, err := call(ctx, c, GID(req.GetGid()), func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.BeginResponse, error) {
		return quoratev1.NewTransactionServiceClient(cc).Begin(ctx, req)
	})
	if err != nil {
		return "", err
	}
	return ParseGID(got.GetGid())
}

// transaction is one of our own making.
func (c *Client) transaction(gid GID, o txOptions) *Transaction {
	return &Transaction{
		c: c, gid: gid, created: true, begin: o.request(gid), asked: time.Now(),
		root: newScope(Info{GID: gid, Cluster: c.ClusterID(), Timeout: o.timeout, Entry: o.entry, OneShot: o.oneShot}),
	}
}

// GID names the transaction.
func (t *Transaction) GID() GID { return t.gid }

// Created is false when the key stood already for this, another's, transaction.
func (t *Transaction) Created() bool { return t.created }

// Context returns a context that carries the transaction: local transactions
// begun with it are branches, and calls made with it carry the GID.
func (t *Transaction) Context(ctx context.Context) context.Context { return withScope(ctx, t.root) }

// Decision is the decision, and its Raft index, as far as this value has heard.
func (t *Transaction) Decision() (Decision, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.decision, t.index
}

// CommitOption is a setting of [Transaction.Commit].
type CommitOption func(*quoratev1.CommitRequest)

// WaitFinish makes Commit wait until every branch has ended.
func WaitFinish() CommitOption {
	return func(r *quoratev1.CommitRequest) { r.Wait = quoratev1.Wait_WAIT_FINISH }
}

// Commit asks for the commit and waits for the decision; nil means committed.
// *[RolledBackError] is the other decision; *[OutcomeUnknownError] means that the
// context ended first, and that Commit may be called again. A context without a
// deadline is bounded by the transaction's timeout and the client's call timeout.
func (t *Transaction) Commit(ctx context.Context, opts ...CommitOption) error {
	if !t.created {
		return &RefusedError{GID: t.gid, Reason: "KEY_CONFLICT", Detail: "the transaction of this key belongs to another initiator; ask its Outcome"}
	}
	req := &quoratev1.CommitRequest{Transaction: string(t.gid), Wait: quoratev1.Wait_WAIT_DECISION}
	for _, set := range opts {
		set(req)
	}
	if t.root.oneShot {
		return t.commitOneShot(ctx, req.GetWait())
	}
	if t.root.entry == EntryNamed {
		tr := t.root.trailer()
		if !tr.complete {
			return fmt.Errorf("transaction %s: %w", t.gid, ErrIncomplete)
		}
		req.Set = &quoratev1.BranchSet{Ids: ids(tr.branches)}
	}
	ctx, cancel := t.c.boundBy(ctx, t.root.timeout+t.c.cfg.callTimeout)
	defer cancel()
	for {
		got, err := call(ctx, t.c, t.gid, func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.CommitResponse, error) {
			return quoratev1.NewTransactionServiceClient(cc).Commit(ctx, req)
		})
		if err != nil {
			return t.c.why(ctx, outcomeOf(t.gid, err))
		}
		if decided, err := t.take(got); decided {
			return err
		}
		// Pending: the node gave up waiting before the decision fell. Ask again.
		if err := sleep(ctx, backoffLast); err != nil {
			return &OutcomeUnknownError{GID: t.gid, Err: err}
		}
	}
}

// decision is what the answers to Commit and Submit say.
type decision interface {
	GetDecision() quoratev1.Decision
	GetIndex() uint64
	GetReason() quoratev1.RollbackReason
	GetDetail() string
}

// take keeps the decision of an answer; false when there is none yet.
func (t *Transaction) take(got decision) (decided bool, err error) {
	switch Decision(got.GetDecision()) {
	case DecisionCommit:
		t.heard(DecisionCommit, got.GetIndex())
		return true, nil
	case DecisionRollback:
		t.heard(DecisionRollback, got.GetIndex())
		return true, &RolledBackError{GID: t.gid, Reason: reasonName(got.GetReason()), Detail: got.GetDetail()}
	}
	return false, nil
}

// Rollback decides rollback, and names the branches that were called, so that
// those the cluster has not heard of yet are told too. *[CommittedError] means
// that it came too late.
func (t *Transaction) Rollback(ctx context.Context, detail string) error {
	branches := t.root.trailer().branches
	if t.root.oneShot {
		var needed bool
		if branches, needed = t.giveUp(); !needed {
			t.heard(DecisionRollback, 0)
			return nil
		}
	}
	req := &quoratev1.RollbackRequest{
		Transaction: string(t.gid), Detail: detail, Wait: quoratev1.Wait_WAIT_DECISION,
		Branches: branches,
	}
	got, err := call(ctx, t.c, t.gid, func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.RollbackResponse, error) {
		return quoratev1.NewTransactionServiceClient(cc).Rollback(ctx, req)
	})
	if err != nil {
		return outcomeOf(t.gid, err)
	}
	if Decision(got.GetDecision()) == DecisionCommit {
		return &CommittedError{GID: t.gid}
	}
	t.heard(DecisionRollback, got.GetIndex())
	return nil
}

// Outcome waits for the decision without asking for one: nil is commit, and
// *[RolledBackError] is rollback.
func (t *Transaction) Outcome(ctx context.Context) error {
	t.mu.Lock()
	dropped := t.dropped
	t.mu.Unlock()
	if dropped {
		return t.wasDropped()
	}
	ctx, cancel := t.c.boundBy(ctx, t.root.timeout+t.c.cfg.callTimeout)
	defer cancel()
	var pause backoff
	for {
		got, err := t.c.Get(ctx, string(t.gid))
		var unavailable *UnavailableError
		if errors.As(err, &unavailable) { // nothing was done, and nothing was learnt
			return &OutcomeUnknownError{GID: t.gid, Err: err}
		}
		if refusedWith(err) == reasonNotFound && t.root.oneShot && ctx.Err() == nil {
			err = nil // not submitted, or not yet
		}
		if err != nil {
			return outcomeOf(t.gid, err)
		}
		switch Decision(got.GetDecision()) {
		case DecisionCommit:
			t.heard(DecisionCommit, got.GetDecided().GetIndex())
			return nil
		case DecisionRollback:
			t.heard(DecisionRollback, got.GetDecided().GetIndex())
			return &RolledBackError{GID: t.gid, Reason: reasonName(got.GetReason()), Detail: got.GetDetail()}
		}
		if err := sleep(ctx, pause.next()); err != nil {
			return &OutcomeUnknownError{GID: t.gid, Err: err}
		}
	}
}

func (t *Transaction) heard(d Decision, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.decision, t.index = d, index
}

// outcomeOf is what a refusal tells an initiator. A transaction that was dropped is
// unknown to it, never presumed rolled back; so is one that was set aside for an
// operator, because an earlier try of the same request may have decided it.
func outcomeOf(gid GID, err error) error {
	switch refusedWith(err) {
	case reasonExpired, reasonWithheld, reasonQuarantined:
		return &OutcomeUnknownError{GID: gid, Err: err}
	}
	return decided(gid, err)
}

// decided turns refusals that name a decision into the error of that decision.
func decided(gid GID, err error) error {
	var r *RefusedError
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.Reason == reasonAlreadyDecided && strings.EqualFold(r.Metadata["decision"], "commit"):
		return &CommittedError{GID: gid}
	case r.Reason == reasonAlreadyDecided:
		return &RolledBackError{GID: gid, Reason: r.Metadata["reason"], Detail: r.Detail}
	}
	return err
}

// whyTimeout bounds the question why a transaction rolled back.
const whyTimeout = time.Second

// why completes a rollback whose refusal did not say the reason: it is worth a read.
func (c *Client) why(ctx context.Context, err error) error {
	var rolledBack *RolledBackError
	if !errors.As(err, &rolledBack) || rolledBack.Reason != "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	if got, readErr := c.Get(ctx, string(rolledBack.GID)); readErr == nil {
		rolledBack.Reason, rolledBack.Detail = reasonName(got.GetReason()), got.GetDetail()
	}
	return err
}

// reasonName is a rollback reason without its enum's prefix.
func reasonName(r quoratev1.RollbackReason) string {
	if r == quoratev1.RollbackReason_ROLLBACK_REASON_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(r.String(), "ROLLBACK_REASON_")
}

func ids(branches []*quoratev1.BranchSpec) []string {
	out := make([]string, len(branches))
	for i, b := range branches {
		out[i] = b.GetId()
	}
	slices.Sort(out)
	return out
}
