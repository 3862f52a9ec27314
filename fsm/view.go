package fsm

import (
	"iter"

	"github.com/quorate/quorate/fsm/logpb"
)

// Record is a transaction's record as it stood when it was read, without a copy of
// it: records are replaced, never edited in place. So it may be kept, and read while
// entries are applied, and says the same for ever. What it returns must not be
// changed.
//
// Its methods are named as those of logpb.Transaction, which is the record for
// readers who want all of it. The zero Record stands for none; only Stands may be
// asked of it.
type Record struct{ t *transaction }

// BranchRecord is one branch of a Record.
type BranchRecord struct{ b *branch }

// Stamp says where in the log something happened, and when.
type Stamp struct{ at stamp }

// Read returns a record as it stands, without a copy.
func (s *State) Read(gid GID) (Record, bool) {
	if t, ok := s.live[gid]; ok {
		return Record{t}, true
	}
	if t := s.lately.get(gid); t != nil {
		if _, filed := s.stubs.index.get(gid); filed {
			return Record{t}, true
		}
	}
	if t := s.find(gid); t != nil {
		return Record{t}, true
	}
	return Record{}, false
}

// Stands says that this is a record.
func (r Record) Stands() bool { return r.t != nil }

// GetBegin is what it began with; a tombstone's holds the GID only.
func (r Record) GetBegin() *logpb.Begin { return r.t.begin }

// GetState is where the transaction stands.
func (r Record) GetState() TxState { return r.t.state }

// GetTombstone says that it was made by a rollback of an unseen GID.
func (r Record) GetTombstone() bool { return r.t.tombstone }

// GetQuarantined says that an invariant broke here; an operator must end it.
func (r Record) GetQuarantined() bool { return r.t.quarantined }

// GetWithheld says that it was restored undecided: an operator must decide it.
func (r Record) GetWithheld() bool { return r.t.withheld }

// GetDecision is the decision, or none.
func (r Record) GetDecision() Decision { return r.t.decision }

// GetReason is why it rolled back.
func (r Record) GetReason() Reason { return r.t.reason }

// GetDetail is for people.
func (r Record) GetDetail() string { return r.t.detail }

// GetBegan is when the record was made.
func (r Record) GetBegan() Stamp { return Stamp{r.t.began.value()} }

// GetDecided is when it was decided.
func (r Record) GetDecided() Stamp { return Stamp{r.t.decided.value()} }

// GetFinished is when its last branch had ended.
func (r Record) GetFinished() Stamp { return Stamp{r.t.finished.value()} }

// GetBranches are its branches, in the order of their ids.
func (r Record) GetBranches() iter.Seq[BranchRecord] {
	return func(yield func(BranchRecord) bool) {
		for _, b := range r.t.branches {
			if !yield(BranchRecord{b}) {
				return
			}
		}
	}
}

// Unheard counts the branches that something is still to be heard of: a step's
// answer while a saga is undecided, then the end of each. Where as many are due, no
// other waits for their turn.
func (r Record) Unheard() int {
	n := 0
	undecided := r.t.undecided()
	for _, b := range r.t.branches {
		if undecided && b.vote == voteNone || !undecided && b.due() {
			n++
		}
	}
	return n
}

// GetSpec is the branch as it entered.
func (b BranchRecord) GetSpec() *logpb.BranchSpec { return b.b.spec }

// GetHint says that only its name was heard.
func (b BranchRecord) GetHint() bool { return b.b.hint }

// GetVote is its vote, or a step's answer.
func (b BranchRecord) GetVote() logpb.VoteKind { return b.b.vote }

// GetReported is when it reported, last.
func (b BranchRecord) GetReported() Stamp { return Stamp{b.b.reported.value()} }

// GetIndex is that of the log entry; 0 where it did not happen.
func (s Stamp) GetIndex() uint64 { return s.at.index }

// GetClockMs is the cluster clock.
func (s Stamp) GetClockMs() uint64 { return s.at.clockMS }

// latelyFiled remembers records that were filed a moment ago as they were before
// that, so that whoever looks at what has just ended need not decode it again. It is
// no part of the state: nothing but Read looks into it. A record that was filed later
// takes the place of an earlier one, and always that of the same GID.
type latelyFiled struct{ places []*transaction }

// latelyFiledMax is many times what one entry ends: GIDs choose their places by chance, and
// each that was filed meanwhile may take the place of one that nobody has looked at yet.
const latelyFiledMax = 4096

func (l *latelyFiled) place(gid GID) int {
	n := len(gid)
	return (int(gid[n-2])<<8 | int(gid[n-1])) % latelyFiledMax
}

func (l *latelyFiled) put(t *transaction) {
	if l.places == nil {
		l.places = make([]*transaction, latelyFiledMax)
	}
	l.places[l.place(t.gid)] = t
}

// rememberFiled keeps a record for who applies and looks at what has ended. A follower
// has nobody who does.
func (s *State) rememberFiled(t *transaction) {
	if !s.follows {
		s.lately.put(t)
	} else if s.lately.get(t.gid) != nil {
		s.lately.places[s.lately.place(t.gid)] = nil // it is another one now
	}
}

func (l *latelyFiled) get(gid GID) *transaction {
	if l.places == nil {
		return nil
	}
	if t := l.places[l.place(gid)]; t != nil && t.gid == gid {
		return t
	}
	return nil
}
