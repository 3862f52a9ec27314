package chaos

import (
	"context"
	"fmt"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const (
	// wholeMax is how long a cluster that heals may stand still: as long as some node
	// comes nearer to the leader's log, it may go on. A lost disk is filled from the
	// log's first entry, as a run keeps all of it: that takes as long as the log is
	// long and the machine is busy. Longer than this without progress is a finding.
	wholeMax = 45 * time.Second
	// healMax bounds the whole of it.
	healMax = 10 * time.Minute
	// progressEvery is how long passes between two looks.
	progressEvery = 500 * time.Millisecond
	// progressEntries nearer is progress: a node that goes up and down with the load is
	// not getting there.
	progressEntries = 256
)

// patient returns a context that ends when the cluster has made no progress for
// wholeMax, or at healMax; its cause says how far each node was.
func (e *Env) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return e.patientWith(ctx, wholeMax, e.distances)
}

// settling is patient for the end of a run: as long as the transactions that are open
// grow fewer, it may go on.
func (e *Env) settling(ctx context.Context) (context.Context, context.CancelFunc) {
	return e.patientWith(ctx, settleMax, e.open)
}

func (e *Env) patientWith(ctx context.Context, still time.Duration, look func(context.Context) []distance) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		p := progress{}
		began, last := e.Now(), e.Now()
		for ctx.Err() == nil {
			pause(ctx, progressEvery)
			if p.made(look(ctx)) {
				last = e.Now()
			}
			switch now := e.Now(); {
			case now-last > still:
				cancel(fmt.Errorf("no progress in %v; %v", still, p))
			case now-began > healMax:
				cancel(fmt.Errorf("still not done after %v; %v", healMax, p))
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// progress is how near each node has come to the leader's log, by the node's id: a
// node whose disk was lost comes back as another one.
type progress map[string]near

type near struct {
	name string
	best uint64
}

// made takes new distances over, and says whether one of them is a step nearer.
func (p progress) made(distances []distance) (nearer bool) {
	for _, d := range distances {
		known, ok := p[d.id]
		switch {
		case !ok:
			p[d.id] = near{d.name, d.behind}
		case d.behind+d.step <= known.best || d.behind == 0 && known.best > 0:
			p[d.id] = near{d.name, d.behind}
			nearer = true
		}
	}
	return nearer
}

func (p progress) String() string {
	text := "to go, at best:"
	for _, id := range sortedNames(p) {
		text += fmt.Sprintf(" %s (%.8s): %d", p[id].name, id, p[id].best)
	}
	return text
}

// distance is how much there is to go: entries that a node has to get or to apply,
// transactions that are open; and what is a step nearer.
type distance struct {
	id, name     string
	behind, step uint64
}

// open asks the leader how many transactions are open.
func (e *Env) open(ctx context.Context) []distance {
	leader := e.Leader(ctx)
	if leader == nil {
		return nil
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return nil
	}
	return []distance{{"open", "transactions", status.GetActiveTransactions(), 1}}
}

// distances asks every node; who does not answer is not in the result.
func (e *Env) distances(ctx context.Context) (all []distance) {
	var last uint64
	answers := map[string]*quoratev1.StatusResponse{}
	for _, n := range e.Cluster.Nodes() {
		if !n.Running() {
			continue
		}
		status, err := n.Status(ctx)
		if err != nil {
			continue
		}
		answers[n.Name] = status
		if status.GetRole() == quoratev1.Role_ROLE_LEADER {
			last = max(last, status.GetLastLogIndex())
		}
	}
	for _, name := range sortedNames(answers) {
		status := answers[name]
		has := min(status.GetLastLogIndex(), status.GetHeader().GetAppliedIndex())
		if last > 0 {
			all = append(all, distance{status.GetHeader().GetNodeId(), name, last - min(has, last), progressEntries})
		}
	}
	return all
}
