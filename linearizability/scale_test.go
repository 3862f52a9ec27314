package linearizability

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAMillionOperations: a million operations over 20,000 transactions, with 2 % of
// the answers lost, are judged in seconds, and one wrong word among them is found.
func TestAMillionOperations(t *testing.T) {
	gids := 20_000
	if testing.Short() || raceDetector {
		gids = 1_000
	}
	h := generate(1, gids, 50, 0.02)
	began := time.Now()
	report := Check(context.Background(), h, Options{})
	took := time.Since(began)
	t.Logf("%d operations, %d transactions, %d unknown: %v; %d committed, %d rolled back",
		report.Stats.Operations, report.Stats.GIDs, report.Stats.Unknown, took, report.Stats.Committed, report.Stats.RolledBack)
	if !report.OK() {
		t.Fatalf("a valid history: %v", report.Violations[0])
	}
	if report.Stats.Committed < gids/5 || report.Stats.RolledBack < gids/5 || report.Stats.Unknown < gids/2 {
		t.Fatalf("the history is too tame: %+v", report.Stats)
	}
	gid := plant(h, rand.New(rand.NewPCG(2, 2)))
	report = Check(context.Background(), h, Options{})
	if len(report.Violations) != 1 || report.Violations[0].GID != gid {
		t.Fatalf("one wrong word about %s among %d operations: %v", gid, len(h.Operations), report.Violations)
	}
}

// plant changes one answer so that no order explains it, and tells whose: a stale
// read, of a transaction that somebody had heard decided.
func plant(h *History, r *rand.Rand) string {
	decided := map[string]int64{}
	for {
		for i := range h.Operations {
			op := &h.Operations[i]
			at, ok := decided[op.GID]
			if op.Status == StatusOK && op.Output.Decision != DecisionNone && (!ok || op.Return < at) {
				decided[op.GID] = op.Return
			}
		}
		op := &h.Operations[r.IntN(len(h.Operations))]
		at, ok := decided[op.GID]
		if op.Kind == KindGet && op.Status == StatusOK && ok && op.Call > at {
			op.Output = Output{State: StateActive}
			return op.GID
		}
	}
}

// TestAnomalies plants each kind of wrong answer, many times, and every one must be
// found.
func TestAnomalies(t *testing.T) {
	wrong := map[string]func(op *Operation) bool{
		"a decision flipped": func(op *Operation) bool {
			switch op.Output.Decision {
			case DecisionCommit:
				op.Output = Output{Decision: DecisionRollback, State: StateRolledBack}
			case DecisionRollback:
				op.Output = Output{Decision: DecisionCommit, State: StateCommitted}
			}
			return op.Output.Decision != DecisionNone
		},
		"commit told to a branch that nobody enlisted": func(op *Operation) bool {
			ok := op.Kind == KindInquire
			op.Branch, op.Output = "9", Output{Verdict: VerdictCommit}
			return ok
		},
		"a begin that says it was first, and was not": func(op *Operation) bool {
			ok := op.Kind == KindBegin && !op.Output.Created && op.Status == StatusOK
			op.Output.Created = true
			return ok
		},
		"a refusal for another reason": func(op *Operation) bool {
			ok := op.Output.Refusal == refusalEnlisted || op.Output.Refusal == refusalVote
			op.Output.Refusal = refusalSet
			return ok
		},
		"a refusal passed off as taken": func(op *Operation) bool {
			ok := op.Output.Refusal == refusalDecided && op.Kind == KindVote
			op.Status, op.Output = StatusOK, Output{Verdict: VerdictWait}
			return ok
		},
	}
	for name, lie := range wrong {
		t.Run(name, func(t *testing.T) {
			found := 0
			for seed := range uint64(40) {
				h := generate(100+seed, 3, 60, 0.05)
				r := rand.New(rand.NewPCG(seed, 3))
				for range 1000 {
					op := &h.Operations[r.IntN(len(h.Operations))]
					kept := *op
					if op.Status != StatusUnknown && lie(op) {
						report := Check(context.Background(), h, Options{})
						if report.OK() {
							t.Fatalf("seed %d: not found: %s, in truth %s", seed, where(op), where(&kept))
						}
						found++
						break
					}
					*op = kept
				}
			}
			if found < 30 {
				t.Fatalf("planted only %d times", found)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	h := generate(1, 2_000, 50, 0.02)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if r := Check(context.Background(), h, Options{}); !r.OK() {
			b.Fatal(r.Violations[0])
		}
	}
	b.ReportMetric(float64(len(h.Operations))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// TestManyUnknown: thirty lost answers about one transaction, of which some took
// effect, do not make the search go through their orders.
func TestManyUnknown(t *testing.T) {
	h := &History{Header: Header{Format: Format}}
	now := int64(0)
	add := func(op Operation) {
		now += 10
		op.GID, op.Call = "g", now
		if op.Status != StatusUnknown {
			op.Return = now + 5
		}
		h.Operations = append(h.Operations, op)
	}
	branch := func(i int) string { return string(rune('a' + i)) }
	add(Operation{Kind: KindBegin, Status: StatusOK, Output: Output{Created: true}})
	for i := range 20 {
		add(Operation{Kind: KindEnlist, Branch: branch(i), Input: Input{Resource: "r"}, Status: StatusUnknown})
	}
	shown := []BranchView{}
	for i := 0; i < 20; i += 3 {
		add(Operation{Kind: KindEnlist, Branch: branch(i), Input: Input{Resource: "r"}, Status: StatusOK, Output: Output{Verdict: VerdictWait}})
		add(Operation{Kind: KindVote, Branch: branch(i), Input: Input{Resource: "r", Vote: VotePrepared}, Status: StatusUnknown})
		shown = append(shown, BranchView{ID: branch(i)})
		if i == 9 {
			shown[3].Vote = VotePrepared // this one took effect
		}
		add(Operation{Kind: KindGet, Status: StatusOK, Output: Output{State: StateActive, Branches: slices.Clone(shown)}})
	}
	began := time.Now()
	report := Check(context.Background(), h, Options{Timeout: 10 * time.Second})
	if !report.OK() {
		t.Fatalf("after %v: %v", time.Since(began), report.Violations)
	}
}
