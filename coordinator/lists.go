package coordinator

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// List reads a page of transactions, oldest first, in an order that stays.
func (c *Coordinator) List(ctx context.Context, r ListRequest) (Page, error) {
	after, size, err := pageOf(r.PageToken, r.PageSize)
	if err != nil {
		return Page{}, err
	}
	var stuck map[fsm.GID]bool
	if r.Filter.Stuck {
		if stuck, err = c.stuck(ctx); err != nil {
			return Page{}, err
		}
	}
	if err := c.freshen(ctx, r.Consistency, r.MinIndex); err != nil {
		return Page{}, err
	}
	keep := func(clockMS uint64) func(*logpb.Transaction) bool {
		return func(t *logpb.Transaction) bool {
			return r.Filter.matches(t, clockMS) && (!r.Filter.Stuck || stuck[fsm.GID(t.GetBegin().GetGid())])
		}
	}
	found, next, at, err := c.scan(ctx, after, size, r.Filter.IncludeFinished, keep)
	if err != nil {
		return Page{}, err
	}
	page := Page{Transactions: make([]View, len(found)), NextPageToken: next, At: at}
	for i, t := range found {
		page.Transactions[i].Transaction = t
	}
	c.addDeliveries(ctx, page.Transactions)
	return page, nil
}

// scan reads up to size transactions after the cursor, and tells where the log
// stood when it began. It lets entries be applied in between, so that a list of few
// among many holds up nothing.
func (c *Coordinator) scan(ctx context.Context, after fsm.Cursor, size int, finished bool,
	keep func(clockMS uint64) func(*logpb.Transaction) bool) (found []*logpb.Transaction, next string, at Header, err error) {
	for first := true; ; first = false {
		var page fsm.ListPage
		c.replog.View(func(s *fsm.State) {
			if first {
				at = headerOf(s)
			}
			page = s.List(after, fsm.ListQuery{Finished: finished, Keep: keep(s.ClockMS()), LimitMax: size - len(found)})
		})
		found, after = append(found, page.Transactions...), page.Next
		switch {
		case !page.More:
			return found, "", at, nil
		case len(found) >= size:
			return found, tokenOf(after), at, nil
		case ctx.Err() != nil:
			return nil, "", at, context.Cause(ctx)
		}
	}
}

// stuck asks the core, because only the leader knows how long a branch is due.
func (c *Coordinator) stuck(ctx context.Context) (map[fsm.GID]bool, error) {
	if err := c.leads(); err != nil {
		return nil, err
	}
	answer := make(chan []fsm.GID, 1)
	if !c.query(ctx, func(core *Core, now time.Time) { answer <- core.Stuck(now) }) {
		return nil, c.gone(ctx)
	}
	stuck := make(map[fsm.GID]bool)
	for _, gid := range <-answer {
		stuck[gid] = true
	}
	return stuck, nil
}

func (c *Coordinator) addDeliveries(ctx context.Context, views []View) {
	if c.lead.Load() == nil || len(views) == 0 {
		return
	}
	answer := make(chan [][]DeliveryStatus, 1)
	asked := c.query(ctx, func(core *Core, now time.Time) {
		all := make([][]DeliveryStatus, len(views))
		for i := range views {
			all[i] = core.Deliveries(now, fsm.GID(views[i].Transaction.GetBegin().GetGid()))
		}
		answer <- all
	})
	if !asked {
		return
	}
	for i, due := range <-answer {
		if len(due) > 0 && callsBack(due[0].Operation) {
			views[i].Callback, due = &due[0], due[1:]
		}
		views[i].Deliveries = due
	}
}

// matches tells whether a transaction passes the filter, but for Stuck.
func (f *Filter) matches(t *logpb.Transaction, clockMS uint64) bool {
	begin := t.GetBegin()
	switch {
	case !within(f.Namespace, begin.GetNamespace()):
		return false
	case len(f.States) > 0 && !slices.Contains(f.States, t.GetState()):
		return false
	case len(f.Modes) > 0 && !slices.Contains(f.Modes, modeOf(t)):
		return false
	case f.InDoubt && !(votes(t) && slices.ContainsFunc(t.GetBranches(), inDoubt)):
		return false
	case f.OlderThan > 0 && clockMS < fsm.GID(begin.GetGid()).BornMS()+uint64(f.OlderThan.Milliseconds()):
		return false
	case f.Resource != "" && !slices.ContainsFunc(t.GetBranches(), func(b *logpb.Branch) bool { return b.GetSpec().GetResource() == f.Resource }):
		return false
	case !strings.HasPrefix(begin.GetKey(), f.KeyPrefix):
		return false
	}
	for _, want := range f.Labels {
		if !slices.ContainsFunc(begin.GetLabels(), func(l *logpb.Label) bool {
			return l.GetName() == want.GetName() && l.GetValue() == want.GetValue()
		}) {
			return false
		}
	}
	return true
}

// inDoubt: the branch is, or may be, prepared, and nobody has said how it ended.
func inDoubt(b *logpb.Branch) bool {
	return (b.GetVote() == logpb.VoteKind_VOTE_KIND_PREPARED || b.GetMaybePrepared()) &&
		b.GetOwn() == logpb.Own_OWN_UNSPECIFIED && b.GetResolved() == logpb.Outcome_OUTCOME_UNSPECIFIED
}

// votes: its branches vote, and so can be in doubt. A saga's step that was done is
// known to be.
func votes(t *logpb.Transaction) bool { return modeOf(t) == logpb.Mode_MODE_TWO_PHASE }

// ListInDoubt reads the branches of a resource that have not reported, by their
// transactions' age. A page ends with a whole transaction, so it may hold a few
// branches more than asked.
func (c *Coordinator) ListInDoubt(ctx context.Context, r ListInDoubtRequest) (InDoubtPage, error) {
	after, size, err := pageOf(r.PageToken, r.PageSize)
	if err != nil {
		return InDoubtPage{}, err
	}
	if err := c.freshen(ctx, Linearizable, 0); err != nil {
		return InDoubtPage{}, err
	}
	mine := func(b *logpb.Branch) bool {
		return inDoubt(b) && (r.Resource == "" || b.GetSpec().GetResource() == r.Resource)
	}
	filter := Filter{Namespace: r.Namespace}
	found, next, _, err := c.scan(ctx, after, size, false, func(clockMS uint64) func(*logpb.Transaction) bool {
		return func(t *logpb.Transaction) bool {
			return filter.matches(t, clockMS) && votes(t) && slices.ContainsFunc(t.GetBranches(), mine)
		}
	})
	if err != nil {
		return InDoubtPage{}, err
	}
	page := InDoubtPage{NextPageToken: next}
	c.replog.View(func(s *fsm.State) {
		for _, t := range found {
			gid := fsm.GID(t.GetBegin().GetGid())
			for _, b := range t.GetBranches() {
				if mine(b) {
					page.Branches = append(page.Branches, InDoubt{
						GID: gid, Branch: b, Verdict: s.Inquire(gid, b.GetSpec().GetId()).Verdict, Age: ageOf(b, s.ClockMS()),
					})
				}
			}
		}
	})
	return page, nil
}

func ageOf(b *logpb.Branch, clockMS uint64) time.Duration {
	voted := b.GetVoted().GetClockMs()
	if voted == 0 || voted > clockMS {
		return 0
	}
	return milliseconds(clockMS - voted)
}

// A page token is the cursor that the next page starts after, as text.
const tokenBytes = 8 + len(fsm.GID{})

func tokenOf(cur fsm.Cursor) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, tokenBytes), cur.Index)
	return base64.RawURLEncoding.EncodeToString(append(b, cur.GID[:]...))
}

func pageOf(token string, size int) (fsm.Cursor, int, error) {
	if size <= 0 {
		size = PageSizeDefault
	}
	size = min(size, PageSizeMax)
	if token == "" {
		return fsm.Cursor{}, size, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != tokenBytes {
		return fsm.Cursor{}, 0, invalid(fsm.GID{}, "page_token %.40q is none that this API gave out", token)
	}
	return fsm.Cursor{Index: binary.BigEndian.Uint64(b), GID: fsm.GID(b[8:])}, size, nil
}
