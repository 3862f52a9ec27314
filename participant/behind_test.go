package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// preparing begins a branch whose prepares may be behind, and works in it.
func (r *resource) preparing(amount int) (*sql.Tx, *scope, BranchRef) {
	r.t.Helper()
	ctx, gid := global(r.t)
	s := scopeOf(ctx)
	s.behind.wanted = true
	return r.begin(ctx, 1, amount), s, BranchRef{gid, "1"}
}

// TestPrepareBehind: Commit of the local transaction returns while its branch has not
// prepared, the pool goes on meanwhile, and the vote is there when all are waited for.
func TestPrepareBehind(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		r.db.SetMaxOpenConns(1)
		arrived, release := make(chan BranchRef, 1), make(chan struct{})
		r.script.set(func(s *script) {
			s.beforeVote = func(ref BranchRef) {
				arrived <- ref
				<-release
			}
		})
		tx, s, ref := r.preparing(-10)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := <-arrived; got != ref {
			t.Fatalf("%v votes", got)
		}
		r.script.set(func(s *script) { s.beforeVote = nil })
		other, plain := global(t)
		if err := r.begin(other, 2, -1).Commit(); err != nil { // one connection is enough
			t.Fatal(err)
		}
		r.script.wantVote(t, BranchRef{plain, "1"}, VotePrepared, false)
		joined := make(chan error, 1)
		go func() { joined <- s.behind.join() }()
		select {
		case err := <-joined:
			t.Fatalf("%v, and the vote is still on its way", err)
		case <-time.After(10 * time.Millisecond): // it could only be shorter by mistake
		}
		close(release)
		if err := <-joined; err != nil {
			t.Fatal(err)
		}
		r.script.wantVote(t, ref, VotePrepared, false)
		r.wantListed(2)
		r.wantAmount(1, 100)
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantOutcome(BranchRef{plain, "1"}, VerdictRollback, OutcomeRolledBack)
		r.wantAmount(1, 90)
		r.wantEvidence(ref, evidenceDone)
	}, prepared...)
}

// openedConnector counts the connections that it opens.
type openedConnector struct {
	driver.Connector
	opened atomic.Int64
}

func (c *openedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c.opened.Add(1)
	return c.Connector.Connect(ctx)
}

// TestPrepareBehindUsesConnectionsAgain: those that left the pool serve later branches.
func TestPrepareBehindUsesConnectionsAgain(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		c := &openedConnector{Connector: r.open(t)}
		p := kinds[kind].proxy(c, r.script)
		db := sql.OpenDB(p)
		defer db.Close()
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := int64(0)
		for i := range 6 {
			if i == 1 {
				before = c.opened.Load()
			}
			ctx, gid := global(t)
			scopeOf(ctx).behind.wanted = true
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec("UPDATE account SET amount = amount - 1 WHERE id = 1"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(tx.Commit(), scopeOf(ctx).behind.join()); err != nil {
				t.Fatal(err)
			}
			if outcome, err := p.Commit(t.Context(), BranchRef{gid, "1"}); err != nil || outcome != OutcomeCommitted {
				t.Fatal(outcome, err)
			}
		}
		if n := c.opened.Load() - before; n != 0 {
			t.Errorf("%d connections were opened for 5 branches", n)
		}
		r.wantAmount(1, 94)
	}, prepared...)
}

// TestPrepareBehindRefuses: a prepare that fails is a refusal, told to whoever waits for
// all of them, whatever it failed with; what is prepared afterwards is waited for.
func TestPrepareBehindRefuses(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		tx, s, ref := r.preparing(-10)
		if err := fenceIt(r, ref, tx); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatalf("%v, before anybody waited", err)
		}
		for range 2 {
			if err := s.behind.join(); err == nil || !strings.Contains(err.Error(), "fenced") {
				t.Fatalf("%v, want that it was fenced", err)
			}
		}
		r.script.wantVote(t, ref, VoteRefused, false)
		r.wantListed(0)
		r.wantAmount(1, 100)
		if err := r.begin(withScope(t.Context(), s), 1, -10).Commit(); err != nil {
			t.Fatal(err)
		}
		r.script.wantVote(t, BranchRef{ref.GID, "2"}, VotePrepared, false) // at once
		r.wantOutcome(BranchRef{ref.GID, "2"}, VerdictRollback, OutcomeRolledBack)
	}, prepared...)
}

// TestPrepareBehindIsNotForOpenStatements: database/sql closes them after Commit, on the
// connection that would be preparing.
func TestPrepareBehindIsNotForOpenStatements(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newResource(t, kind)
		tx, s, ref := r.preparing(-10)
		if _, err := tx.PrepareContext(withScope(context.Background(), s), "SELECT amount FROM account WHERE id = 1"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		r.script.wantVote(t, ref, VotePrepared, false) // nobody had to wait for it
		r.wantOutcome(ref, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, prepared...)
}

// TestPrepareBehindIsAskedFor: without the option, or without a one-shot transaction, a
// local transaction's Commit is its branch's prepare.
func TestPrepareBehindIsAskedFor(t *testing.T) {
	c := &Client{}
	for name, test := range map[string]struct {
		opts []TxOption
		want bool
	}{
		"one-shot, asked for": {[]TxOption{OneShot(), PrepareBehind()}, true},
		"one-shot":            {[]TxOption{OneShot()}, false},
		"asked for":           {[]TxOption{PrepareBehind()}, false},
	} {
		o := txOptions{timeout: time.Second}
		for _, set := range test.opts {
			set(&o)
		}
		s := c.transaction(GID(clusterA), o).root
		if o.oneShot {
			s = c.oneShot(GID(clusterA), o).root
		}
		for branch, held := range map[string]bool{"": false, "held": true} {
			b := &Branch{c: c, scope: s, held: held}
			run := b.prepareBehind()
			if want := test.want && !held; (run != nil) != want {
				t.Errorf("%s %s: behind %t", name, branch, run != nil)
			}
			if run != nil {
				run(func() error { return nil })
			}
		}
	}
}
