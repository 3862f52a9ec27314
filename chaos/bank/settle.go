package bank

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant"
)

// Evidence is all that is left of a run, read when it is quiet: what the cluster
// says, what the stores hold, what the processes wrote down.
type Evidence struct {
	Plan *Plan
	// Cluster is the cluster's id.
	Cluster string
	// Transactions are the bank's.
	Transactions []*quoratev1.Transaction
	// Books of each resource, by its name.
	Books map[string]bankstore.Books
	// Journal of every participant and Ledger of every initiator, a file after the
	// other, each in its order.
	Journal []Line
	Ledger  []Entry
	// Deaths are the processes that ended during the run.
	Deaths []Death
	// Acts are an operator's.
	Acts []Act
	// Foreign are the xids of others, by resource, which must be as they were.
	Foreign map[string][]string
}

// settlePause is the pause between two looks at what has not ended.
const settlePause = 100 * time.Millisecond

// journalsPause is the same between two readings of the journals, which are long.
const journalsPause = time.Second

// Settle ends the load and waits until every transaction has ended on every
// branch. Every fault must be healed. What has not ended within ctx is for Check
// to find: it is in the evidence. Every process has ended when it returns.
func (b *Bank) Settle(ctx context.Context) (*Evidence, error) {
	if err := b.StopInitiators(); err != nil {
		return nil, err
	}
	for _, p := range b.Participants() {
		if err := p.Restart(ctx); err != nil {
			return nil, err
		}
	}
	client, err := participant.Dial(ctx, b.plan.Seeds, participant.WithName("bank: judge"))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	e := &Evidence{Plan: b.plan, Cluster: client.ClusterID(), Books: map[string]bankstore.Books{}}
	for {
		open, err := list(ctx, client, false)
		quiet := err == nil && len(new(Evidence).own(open)) == 0
		if quiet {
			quiet = b.nothingPrepared(ctx, e.Cluster)
		}
		if quiet || sleep(ctx, settlePause) != nil {
			break
		}
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyMax)
	defer cancel()
	if e.Transactions, err = list(late, client, true); err != nil {
		return nil, err
	}
	if err := b.Stop(); err != nil {
		return nil, err
	}
	return e, b.read(late, e)
}

// nothingPrepared asks the databases that tell while they are served, and the journals of
// the embedded stores, which do not. The cluster's own list does not show all: of a
// one-shot transaction whose initiator was killed it knows nothing until the branches ask
// once more, after ClockStaleMax and the timeout.
func (b *Bank) nothingPrepared(ctx context.Context, cluster string) bool {
	for _, r := range b.plan.Resources {
		switch r.Kind {
		case bankstore.Postgres, bankstore.MySQL:
		case bankstore.Embedded:
			if b.journalsOpen(r.Name) {
				_ = sleep(ctx, journalsPause)
				return false
			}
			continue
		default:
			continue // what is held is not durable, and ends with its process
		}
		xids, err := b.prepared(ctx, r)
		if err != nil || slices.ContainsFunc(xids, func(x bankstore.Xid) bool { return x.Cluster == cluster }) {
			return false
		}
	}
	return true
}

// journalsOpen says that a branch of the resource has prepared, by the journals of its
// processes as they stand, and has not ended.
func (b *Bank) journalsOpen(resource string) bool {
	e := &Evidence{Plan: b.plan}
	for _, p := range b.Of(resource) {
		for start := 1; start <= p.starts; start++ {
			if err := e.readFile(p, start); err != nil {
				return true
			}
		}
	}
	return unended(e.Journal)
}

// unended is what the checkers ask of the journals in the end: whoever prepared has ended.
// The order across processes does not matter, since a branch prepares once.
func unended(journal []Line) bool {
	prepared, ended := map[string]bool{}, map[string]bool{}
	for _, l := range journal {
		switch {
		case l.Step == participant.StepPrepared && l.Vote == participant.VotePrepared:
			prepared[l.ref()] = true
		case l.Step == participant.StepEnded:
			ended[l.ref()] = true
		}
	}
	for ref := range prepared {
		if !ended[ref] {
			return true
		}
	}
	return false
}

// prepared lists what is prepared in a database.
func (b *Bank) prepared(ctx context.Context, r Resource) ([]bankstore.Xid, error) {
	t, err := bankstore.OpenTables(r.store(b.plan, Seat{}), b.o.Opener)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return t.Prepared(ctx)
}

// read reads stores, journals and ledgers, while no process has them.
func (b *Bank) read(ctx context.Context, e *Evidence) (err error) {
	for _, r := range b.plan.Resources {
		if e.Books[r.Name], err = bankstore.ReadBooks(ctx, r.store(b.plan, Seat{}), b.o.Opener); err != nil {
			return fmt.Errorf("bank: read the books of %s: %w", r.Name, err)
		}
	}
	for _, p := range b.processes {
		for start := 1; start <= p.starts; start++ {
			if err := e.readFile(p, start); err != nil {
				return err
			}
		}
	}
	e.Transactions = e.own(e.Transactions)
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Deaths, e.Acts, e.Foreign = slices.Clone(b.deaths), slices.Clone(b.acts), b.foreign
	return nil
}

// readFile reads the journal, or the ledger, of one start of a process. A
// process that was killed as it started has left none.
func (e *Evidence) readFile(p *Process, start int) error {
	path := journalPath(e.Plan.Dir, p.seat.Name, start)
	if found, err := filepath.Glob(path); err != nil || len(found) == 0 {
		return err
	}
	if p.resource == "" {
		entries, err := readLines[Entry](path)
		for i := range entries {
			entries[i].Seat, entries[i].Start = p.seat.Name, start
		}
		e.Ledger = append(e.Ledger, entries...)
		return err
	}
	lines, err := readLines[Line](path)
	for i := range lines {
		lines[i].Seat, lines[i].Start = p.seat.Name, start
	}
	e.Journal = append(e.Journal, lines...)
	return err
}

// own keeps the bank's transactions: a cluster may serve others, too. A tombstone
// has no labels, but somebody of ours has heard of it.
func (e *Evidence) own(all []*quoratev1.Transaction) []*quoratev1.Transaction {
	heard := map[string]bool{}
	for _, l := range e.Journal {
		heard[l.GID] = true
	}
	for _, entry := range e.Ledger {
		heard[entry.GID] = true
	}
	return slices.DeleteFunc(all, func(tx *quoratev1.Transaction) bool {
		return !heard[tx.GetGid()] && tx.GetLabels()["shape"] == ""
	})
}

// holders maps the instance ids of participants to their seat and start.
func (e *Evidence) holders() map[string]Line {
	found := map[string]Line{}
	for _, l := range e.Journal {
		if l.Holder != "" {
			found[l.Holder] = l
		}
	}
	return found
}

// killed says whether that start of a seat's process was killed.
func (e *Evidence) killed(seat string, start int) bool {
	return slices.ContainsFunc(e.Deaths, func(d Death) bool {
		return d.Seat == seat && d.Start == start && strings.Contains(d.How, "killed")
	})
}

var errNoDatabase = errors.New("bank: the resource is no database")
