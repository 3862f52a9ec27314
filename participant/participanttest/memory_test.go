package participanttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
)

// bug is a mistake that a manager's author might make. The suite must notice
// each; see TestTheSuiteCatches.
type bug string

// disk is what survives a crash of the memory manager.
type disk struct {
	data     map[string]string
	prepared map[participant.BranchRef]*memRecord
	evidence map[participant.BranchRef]participant.Outcome
	floorMS  uint64
}

type memRecord struct {
	participant.Prepared
	writes map[string]string
}

// memory is the suite's own subject: the smallest manager that follows the
// rules, and every bug on request.
type memory struct {
	bug bug

	mu       sync.Mutex
	disk     *disk
	volatile map[participant.BranchRef]participant.Outcome // for a bug
	locks    map[string]any                                // by whom: *memWork, or BranchRef when prepared
	live     map[participant.BranchRef]*memWork
	client   *participant.Client
	dead     bool
}

const memoryLockWait = 100 * time.Millisecond

var errDead = errors.New("memory: the process is dead")

// memResource is the harness' resource over a disk.
type memResource struct {
	bug  bug
	disk *disk
	m    *memory
}

func memoryHarness(b bug) Harness {
	return Harness{WaitMax: 2 * time.Second, Open: func(t testing.TB) Resource {
		r := &memResource{bug: b, disk: &disk{
			data: map[string]string{}, prepared: map[participant.BranchRef]*memRecord{},
			evidence: map[participant.BranchRef]participant.Outcome{},
		}}
		t.Cleanup(func() { r.Crash(t) })
		return r
	}}
}

func (r *memResource) Serve(t testing.TB, client *participant.Client) participant.Manager {
	m := &memory{
		bug: r.bug, disk: r.disk, client: client, locks: map[string]any{},
		live: map[participant.BranchRef]*memWork{}, volatile: map[participant.BranchRef]participant.Outcome{},
	}
	for ref, rec := range r.disk.prepared {
		for k := range rec.writes {
			if m.bug != "locks are not taken again" {
				m.locks[k] = ref
			}
		}
	}
	r.m = m
	if _, err := client.Attach(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (r *memResource) Crash(testing.TB) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.dead = true
	// What the dead process still does must not reach the disk.
	old := r.disk
	r.disk = &disk{
		data: maps.Clone(old.data), prepared: maps.Clone(old.prepared), evidence: maps.Clone(old.evidence), floorMS: old.floorMS,
	}
}

func (r *memResource) Begin(ctx context.Context) (Work, error) { return r.m.begin(ctx) }

func (r *memResource) Read(_ context.Context, key string) (string, error) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.m.disk.data[key], nil
}

func (m *memory) Resource() string { return "memory" }

func (m *memory) Commit(_ context.Context, ref participant.BranchRef) (participant.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return 0, errDead
	}
	switch rec := m.record(ref); {
	case rec != nil && (m.bug == "a repeated commit applies again" || m.evidenceOf(ref) == 0):
		maps.Copy(m.disk.data, rec.writes)
		if m.bug != "a repeated commit applies again" {
			delete(m.disk.prepared, rec.BranchRef)
		}
		m.put(ref, participant.OutcomeCommitted)
		m.free(ref)
		return participant.OutcomeCommitted, nil
	case m.evidenceOf(ref) != 0:
		return m.evidenceOf(ref), nil
	case m.bug == "not found on commit is success":
		return participant.OutcomeCommitted, nil
	case m.live[ref] != nil:
		return 0, participant.ErrBusy
	}
	if m.bug != "a heuristic rollback is not fenced" {
		m.put(ref, participant.OutcomeRolledBack)
	}
	return participant.OutcomeRolledBack, nil
}

func (m *memory) Rollback(_ context.Context, ref participant.BranchRef) (participant.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return 0, errDead
	}
	if e := m.evidenceOf(ref); e != 0 && m.bug != "a late rollback is called rolled back" {
		return e, nil
	}
	if m.bug == "branches match by prefix" {
		for other := range m.disk.prepared {
			if other.GID == ref.GID && strings.HasPrefix(other.ID, ref.ID) {
				m.drop(other)
			}
		}
	}
	known := m.record(ref) != nil
	if m.bug == "rollback keeps the work" {
		m.free(ref)
		return participant.OutcomeRolledBack, nil
	}
	m.drop(ref)
	if known || m.bug != "empty rollback leaves no record" {
		m.put(ref, participant.OutcomeRolledBack)
	}
	return participant.OutcomeRolledBack, nil
}

// drop forgets what was prepared, and ends what is being worked on.
func (m *memory) drop(ref participant.BranchRef) {
	delete(m.disk.prepared, ref)
	m.free(ref)
	if w := m.live[ref]; w != nil {
		w.over = true
		delete(m.live, ref)
		m.free(w)
	}
}

func (m *memory) Recover(context.Context) ([]participant.Prepared, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errDead
	}
	var out []participant.Prepared
	for _, rec := range m.disk.prepared {
		p := rec.Prepared
		switch m.bug {
		case "recovery loses the timeout":
			p.Timeout = 0
		case "recovery loses the cluster":
			p.Cluster = ""
		case "recovery lists nothing":
			continue
		}
		out = append(out, p)
	}
	if m.bug == "recovery lists what is being worked on" {
		for _, w := range m.live {
			out = append(out, w.branch.Prepared())
		}
	}
	return out, nil
}

func (m *memory) Sweep(_ context.Context, floorMS uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ref := range m.disk.evidence {
		if ref.GID.BornMS() <= floorMS || m.bug == "a sweep drops every row" {
			delete(m.disk.evidence, ref)
		}
	}
	if m.bug != "a sweep forgets its floor" {
		m.disk.floorMS = max(m.disk.floorMS, floorMS)
	}
	return nil
}

func (m *memory) record(ref participant.BranchRef) *memRecord {
	if m.bug == "verdicts go by GID alone" {
		// Always the first by name: one that is drawn would be the right one now and then.
		var first *memRecord
		for other, rec := range m.disk.prepared {
			if other.GID == ref.GID && (first == nil || other.ID < first.ID) {
				first = rec
			}
		}
		return first
	}
	return m.disk.prepared[ref]
}

func (m *memory) evidenceOf(ref participant.BranchRef) participant.Outcome {
	if e := m.volatile[ref]; e != 0 {
		return e
	}
	return m.disk.evidence[ref]
}

func (m *memory) put(ref participant.BranchRef, o participant.Outcome) {
	if m.bug == "evidence is not durable" {
		m.volatile[ref] = o
		return
	}
	m.disk.evidence[ref] = o
}

// free releases what owner has locked.
func (m *memory) free(owner any) {
	if m.bug == "locks are never released" {
		return
	}
	for k, o := range m.locks {
		if o == owner {
			delete(m.locks, k)
		}
	}
}

// memWork is a transaction of the memory manager.
type memWork struct {
	m      *memory
	branch *participant.Branch
	writes map[string]string
	over   bool
}

func (m *memory) begin(ctx context.Context) (*memWork, error) {
	w := &memWork{m: m, writes: map[string]string{}}
	if _, ok := participant.FromContext(ctx); ok {
		b, err := m.client.StartBranch(ctx, m.Resource())
		if err != nil {
			return nil, err
		}
		w.branch = b
		m.mu.Lock()
		m.live[b.Ref()] = w
		m.mu.Unlock()
	}
	return w, nil
}

func (w *memWork) lock(key string) error {
	deadline := time.Now().Add(memoryLockWait)
	if w.m.bug == "waits for locks have no bound" {
		deadline = time.Now().Add(time.Hour)
	}
	for {
		w.m.mu.Lock()
		owner := w.m.locks[key]
		if w.m.dead {
			w.m.mu.Unlock()
			return errDead
		}
		if owner == nil || owner == w {
			w.m.locks[key] = w
			w.m.mu.Unlock()
			return nil
		}
		w.m.mu.Unlock()
		if time.Now().After(deadline) {
			return fmt.Errorf("memory: %s is locked by %v", key, owner)
		}
		pause()
	}
}

func (w *memWork) Get(key string) (string, error) {
	if err := w.lock(key); err != nil {
		return "", err
	}
	if v, ok := w.writes[key]; ok {
		return v, nil
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	return w.m.disk.data[key], nil
}

func (w *memWork) Put(key, value string) error {
	if err := w.lock(key); err != nil {
		return err
	}
	w.writes[key] = value
	return nil
}

func (w *memWork) Commit(ctx context.Context) error {
	if w.branch == nil {
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		maps.Copy(w.m.disk.data, w.writes)
		w.m.free(w)
		return nil
	}
	if len(w.writes) == 0 && w.m.bug != "a reader prepares" {
		w.finish()
		_, err := w.branch.Vote(ctx, participant.Vote{Kind: participant.VoteReadOnly})
		return err
	}
	if w.m.bug == "the vote is said before it is durable" {
		_, err := w.branch.Vote(ctx, participant.Vote{Kind: participant.VotePrepared})
		return errors.Join(err, w.prepare())
	}
	if err := w.prepare(); err != nil {
		_, _ = w.branch.Vote(ctx, participant.Vote{Kind: participant.VoteRefused, Detail: err.Error()})
		return err
	}
	verdict, err := w.branch.Vote(ctx, participant.Vote{Kind: participant.VotePrepared})
	if err == nil && verdict == participant.VerdictRollback {
		return &participant.RolledBackError{GID: w.branch.GID()}
	}
	return err
}

// prepare writes the record, and makes the locks those of the branch.
func (w *memWork) prepare() error {
	m, ref := w.m, w.branch.Ref()
	m.mu.Lock()
	defer m.mu.Unlock()
	fenced := m.evidenceOf(ref) != 0 || ref.GID.BornMS() <= m.disk.floorMS
	if m.dead || w.over || fenced {
		delete(m.live, ref)
		m.free(w)
		return fmt.Errorf("memory: branch %v was rolled back", ref)
	}
	delete(m.live, ref)
	m.disk.prepared[ref] = &memRecord{Prepared: w.branch.Prepared(), writes: w.writes}
	if m.bug == "the prepare applies" {
		maps.Copy(m.disk.data, w.writes)
	}
	for k, o := range m.locks {
		if o == w {
			m.locks[k] = ref
		}
	}
	if m.bug == "the prepare gives up the locks" {
		m.free(ref)
	}
	return nil
}

func (w *memWork) Rollback() error {
	w.finish()
	if w.branch == nil || w.over || w.m.bug == "a rollback is not said" {
		return nil
	}
	_, err := w.branch.Vote(context.Background(), participant.Vote{Kind: participant.VoteRefused})
	return err
}

func (w *memWork) finish() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.branch != nil {
		delete(w.m.live, w.branch.Ref())
	}
	w.m.free(w)
}
