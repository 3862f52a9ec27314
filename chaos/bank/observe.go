package bank

import (
	"cmp"
	"slices"
	"strings"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
)

// History is the evidence in the words of package linearizability, whose checks
// know nothing of banks. Branches that a fault is known to have ended on its own
// (explained) are left out: that they differ is what the fault was for.
func (e *Evidence) History(note string, explained map[string]bool) *linearizability.History {
	o := observer{e: e, explained: explained, ours: map[string]bool{}, base: e.base(), h: &linearizability.History{
		// The SDK enlists, votes and repeats by itself: only decisions are seen whole.
		Header: linearizability.Header{Seed: e.Plan.Seed, Cluster: e.Cluster, Note: note, Partial: true, DeliveriesUnseen: true},
	}}
	for _, tx := range e.Transactions {
		o.ours[tx.GetGid()] = true
	}
	o.operations()
	o.journal()
	o.stores()
	for _, tx := range e.Transactions {
		o.final(tx)
	}
	o.unknown()
	o.observe(linearizability.Observation{Sight: linearizability.SightQuiescent})
	return o.h
}

type observer struct {
	e         *Evidence
	explained map[string]bool
	ours      map[string]bool // GIDs of the run: a database may hold rows of others
	base      int64
	h         *linearizability.History
}

// base is a time before everything.
func (e *Evidence) base() int64 {
	var first int64
	note := func(at int64) {
		if first == 0 || at < first {
			first = at
		}
	}
	for _, l := range e.Journal {
		note(l.At)
	}
	for _, entry := range e.Ledger {
		note(entry.At)
	}
	return first - 1
}

func (o *observer) observe(s linearizability.Observation) {
	o.h.Observations = append(o.h.Observations, s)
}

// operations are the ledgers' calls with what came of each.
func (o *observer) operations() {
	open := map[callKey]int{}
	for _, entry := range o.e.Ledger {
		key := callKey{entry.Seat, entry.Start, entry.Op}
		if kind, ok := kinds[entry.Ask]; ok {
			open[key] = len(o.h.Operations)
			o.h.Operations = append(o.h.Operations, linearizability.Operation{
				Client: len(o.h.Operations) + 1, Call: entry.At - o.base, Kind: kind, GID: entry.GID, Key: entry.Key,
				Input: linearizability.Input{TimeoutMS: uint64(entry.TimeoutMS), Content: string(entry.Shape)}, Status: linearizability.StatusUnknown,
			})
		}
		if i, ok := open[key]; ok && entry.Word != "" {
			o.answer(&o.h.Operations[i], entry)
		}
	}
	// A begin that was never answered names no transaction: it says nothing.
	kept := o.h.Operations[:0]
	for _, op := range o.h.Operations {
		if op.GID != "" {
			kept = append(kept, op)
		}
	}
	o.h.Operations = kept
}

var kinds = map[Ask]linearizability.Kind{
	AskBegin: linearizability.KindBegin, AskCommit: linearizability.KindCommit, AskRollback: linearizability.KindRollback,
}

// answer completes an operation, and what was acknowledged is a line of the ledger.
func (o *observer) answer(op *linearizability.Operation, entry Entry) {
	if op.GID == "" {
		op.GID = entry.GID
	}
	switch entry.Word {
	case WordUnknown:
		op.Error = entry.Reason
		return
	case WordRefused:
		op.Status, op.Return, op.Output.Refusal = linearizability.StatusFailed, entry.At-o.base, entry.Reason
		if op.Output.Refusal == "" {
			op.Output.Refusal = "REFUSED"
		}
		return
	case WordBegun:
		op.Output.GID, op.Output.Created = entry.GID, true
	case WordCommit, WordRollback:
		op.Output.Decision, op.Output.Reason = linearizability.Decision(entry.Word), ""
		op.Output.DecisionIndex = entry.Index
	}
	op.Status, op.Return = linearizability.StatusOK, entry.At-o.base
	o.observe(linearizability.Observation{
		Sight: linearizability.SightLedger, At: op.Return, GID: op.GID, Kind: op.Kind, Decision: op.Output.Decision,
	})
}

// journal is what participants heard, and what they did.
func (o *observer) journal() {
	held := map[string]bool{}
	for _, r := range o.e.Plan.Resources {
		held[r.Name] = r.Held()
	}
	committed, rolledBack := map[string]bool{}, map[string]bool{}
	for _, l := range o.e.inOrder() {
		if l.Step == "" || o.explained[l.ref()] {
			continue
		}
		s := linearizability.Observation{
			At: l.At - o.base, GID: l.GID, Branch: l.Branch, Resource: l.Resource, Held: held[l.Resource],
			Process: l.process(),
		}
		switch l.Step {
		case participant.StepPrepared:
			if rolledBack[l.ref()] {
				// The line is what the process knows, not what its database did: it was
				// stopped between the two, and others have ended the branch meanwhile. That
				// nothing is left prepared is seen in the databases.
				continue
			}
			s.Sight, s.Step = linearizability.SightJournal, linearizability.StepPrepared
			o.observe(s)
		case participant.StepVoted:
			o.voted(l, s)
		case participant.StepHeard:
			if l.Attempt == 0 {
				continue // an answer to a question; the bank's own check looks at it
			}
			s.Sight, s.Accepted = linearizability.SightDelivery, true
			s.Verdict = linearizability.Verdict(l.Verdict.String())
			s.Epoch = linearizability.Epoch{Incarnation: l.Incarnation, Term: l.Term}
			o.observe(s)
		case participant.StepEnded:
			// Whoever is told again says again what the branch did: it takes effect once,
			// which the row in its store shows.
			again := l.Outcome == participant.OutcomeCommitted && committed[l.ref()]
			committed[l.ref()] = committed[l.ref()] || l.Outcome == participant.OutcomeCommitted
			rolledBack[l.ref()] = rolledBack[l.ref()] || l.Outcome == participant.OutcomeRolledBack
			if step, ok := ends[l.Outcome]; ok && !again {
				s.Sight, s.Step = linearizability.SightJournal, step
				o.observe(s)
			}
		}
	}
}

// inOrder is the journal of all participants, by its time: they share a clock.
func (e *Evidence) inOrder() []Line {
	return slices.SortedStableFunc(slices.Values(e.Journal), func(a, b Line) int { return cmp.Compare(a.At, b.At) })
}

var ends = map[participant.Outcome]linearizability.Step{
	participant.OutcomeCommitted: linearizability.StepCommitted, participant.OutcomeRolledBack: linearizability.StepRolledBack,
}

// voted is a vote that was acknowledged: from now on it stands.
func (o *observer) voted(l Line, s linearizability.Observation) {
	vote, steps := linearizability.VotePrepared, linearizability.Step("")
	switch l.Vote {
	case participant.VoteReadOnly:
		vote, steps = linearizability.VoteReadOnly, linearizability.StepReadOnly
	case participant.VoteRefused:
		vote, steps = linearizability.VoteRefused, linearizability.StepRefused
	}
	if steps != "" {
		line := s
		line.Sight, line.Step = linearizability.SightJournal, steps
		o.observe(line)
	}
	if l.Verdict == participant.VerdictRollback {
		return // it came too late, or as a refusal: it need not stand
	}
	s.Sight, s.Kind, s.Vote = linearizability.SightLedger, linearizability.KindVote, vote
	s.Verdict = ""
	o.observe(s)
}

// process names one start of a seat.
func (l Line) process() string { return journalPath("", l.Seat, l.Start) }

// stores are the evidence rows, what is prepared still, and the sum.
func (o *observer) stores() {
	var sum, want int64
	for _, r := range o.e.Plan.Resources {
		books := o.e.Books[r.Name]
		sum += books.Total()
		want += int64(r.Accounts) * r.Opening
		for ref, done := range books.Evidence {
			gid, id, _ := strings.Cut(ref, "/")
			if o.explained[ref] || !o.ours[gid] {
				continue
			}
			o.observe(linearizability.Observation{
				Sight: linearizability.SightEvidence, GID: gid, Branch: id, Resource: r.Name, Done: done, Held: r.Held(),
			})
		}
		for _, x := range books.Prepared {
			if x.Cluster == o.e.Cluster {
				o.observe(linearizability.Observation{
					Sight: linearizability.SightInDoubt, GID: x.GID, Branch: x.Branch, Resource: r.Name, Text: x.Name,
				})
			}
		}
	}
	for _, l := range o.e.Journal {
		for _, m := range l.Work {
			if o.explained[l.ref()] {
				want -= m.Delta
			}
		}
	}
	o.observe(linearizability.Observation{Sight: linearizability.SightSum, Value: sum, Want: want})
}

// unknown are transactions that initiators heard of and the cluster does not know.
func (o *observer) unknown() {
	for _, entry := range o.e.Ledger {
		if entry.GID != "" && !o.ours[entry.GID] {
			o.ours[entry.GID] = true
			o.observe(linearizability.Observation{Sight: linearizability.SightFinal, GID: entry.GID})
		}
	}
}

// final is a transaction as it stands.
func (o *observer) final(tx *quoratev1.Transaction) {
	s := linearizability.Observation{
		Sight: linearizability.SightFinal, GID: tx.GetGid(),
		State: linearizability.FromWire[linearizability.State](tx.GetState()), Decision: linearizability.FromWire[linearizability.Decision](tx.GetDecision()),
	}
	for _, b := range tx.GetBranches() {
		if o.explained[tx.GetGid()+"/"+b.GetSpec().GetId()] {
			continue
		}
		s.Branches = append(s.Branches, linearizability.BranchView{
			ID: b.GetSpec().GetId(), Vote: linearizability.FromWire[linearizability.Vote](b.GetVote()),
			Outcome: linearizability.FromWire[linearizability.Outcome](b.GetOutcome()), Hint: b.GetHint(), Terminal: b.GetTerminal(),
		})
	}
	o.observe(s)
}
