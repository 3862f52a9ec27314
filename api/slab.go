package api

import (
	"sync"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// slabBranches is how many branches a submit may have whose command is made in one piece
// of memory. All of it is let go of at once, when the submit is answered, for the next one
// to use; to find room for each message by itself costs more than to fill it in.
const slabBranches = 2

// slab is that memory. A reader that has none, or has used it up, makes each message by
// itself.
type slab struct {
	submit  logpb.Submit
	begin   logpb.Begin
	specs   [slabBranches]logpb.BranchSpec
	ballots [slabBranches]logpb.Ballot
	ids     [2 + slabBranches]fsm.GID
	set     [slabBranches]*logpb.BranchSpec
	votes   [slabBranches]*logpb.Ballot
	used    struct{ begin, specs, ballots, ids int }

	// asked is the set of a submit as it was asked for, and given what was read of each:
	// a vote that names its branch by the same words names that.
	asked []*quoratev1.BranchSpec
	given [slabBranches]*logpb.BranchSpec
	read  int
}

// newSubmit makes room for a submit, and for all that belongs to it where that is little.
func (r *reader) newSubmit(req *quoratev1.SubmitRequest) *logpb.Submit {
	if len(req.GetSet()) > slabBranches || len(req.GetVotes()) > slabBranches {
		return new(logpb.Submit)
	}
	r.slab = slabs.Get().(*slab)
	return &r.slab.submit
}

// slabs are free to be used.
var slabs = sync.Pool{New: func() any { return new(slab) }}

// free lets the next submit use the memory. Nothing that was made in it may be kept: the
// coordinator does not, once it has answered.
func (s *slab) free() {
	if s != nil {
		*s = slab{}
		slabs.Put(s)
	}
}

func (r *reader) newBegin() *logpb.Begin {
	if s := r.slab; s != nil && s.used.begin == 0 {
		s.used.begin++
		return &s.begin
	}
	return new(logpb.Begin)
}

func (r *reader) newSpec() *logpb.BranchSpec {
	if s := r.slab; s != nil && s.used.specs < len(s.specs) {
		s.used.specs++
		return &s.specs[s.used.specs-1]
	}
	return new(logpb.BranchSpec)
}

func (r *reader) newBallot() *logpb.Ballot {
	if s := r.slab; s != nil && s.used.ballots < len(s.ballots) {
		s.used.ballots++
		return &s.ballots[s.used.ballots-1]
	}
	return new(logpb.Ballot)
}

// bytesOf is an id as the log has it.
func (r *reader) bytesOf(id fsm.GID) []byte {
	s := r.slab
	if s == nil || s.used.ids == len(s.ids) {
		return id.Bytes()
	}
	own := &s.ids[s.used.ids]
	s.used.ids++
	*own = id
	return own[:]
}

// reading says that the set of a submit is read next.
func (s *slab) reading(set []*quoratev1.BranchSpec) {
	if s != nil {
		s.asked = set
	}
}

// setOf is an empty list of so many branches.
func (s *slab) setOf(n int) []*logpb.BranchSpec {
	if s != nil && s.asked != nil && n <= len(s.set) {
		return s.set[:0]
	}
	return make([]*logpb.BranchSpec, 0, n)
}

// votesOf is an empty list of so many votes.
func (s *slab) votesOf(n int) []*logpb.Ballot {
	if s != nil && n <= len(s.votes) {
		return s.votes[:0]
	}
	return make([]*logpb.Ballot, 0, n)
}

// note notes what was read of the next branch of the set.
func (s *slab) note(spec *logpb.BranchSpec) {
	if s != nil && s.read < len(s.asked) {
		s.given[s.read] = spec
		s.read++
	}
}

// known is what was read of the i-th branch of the set, if a vote names the same; nil
// otherwise. It is shared then.
func (s *slab) known(i int, spec *quoratev1.BranchSpec) *logpb.BranchSpec {
	if s != nil && i < s.read && sameSpec(s.asked[i], spec) {
		return s.given[i]
	}
	return nil
}

// sameSpec: two branches of a request are the same, word for word. Those that have what
// few have are not compared.
func sameSpec(a, b *quoratev1.BranchSpec) bool {
	return a.GetId() == b.GetId() && a.GetResource() == b.GetResource() && a.GetEndpoint() == b.GetEndpoint() &&
		a.GetHeld() == b.GetHeld() && a.GetHolder() == b.GetHolder() && few(a) && few(b)
}

// few tells of a branch that holds no more than sameSpec compares.
func few(s *quoratev1.BranchSpec) bool {
	return s != nil && s.GetUndo() == "" && len(s.GetPayload()) == 0 && len(s.GetAfter()) == 0 && s.GetAttemptsMax() == 0 &&
		s.GetCallTimeout() == nil && s.GetTopic() == ""
}

// seen are the ids of a list, where they are named.
type seen map[string]bool

// again tells of an id that stands in the list a second time. A reader that names no
// fields does not look for it: see once.
func (r *reader) again(before *seen, id string) bool {
	if r.nameless {
		return false
	}
	if *before == nil {
		*before = make(seen)
	}
	twice := (*before)[id]
	(*before)[id] = true
	return twice
}

// once refuses, without names, a sorted list in which an id stands twice.
func once[T any](r *reader, sorted []T, id func(T) string) {
	if !r.nameless {
		return
	}
	for i := 1; i < len(sorted); i++ {
		if id(sorted[i]) == id(sorted[i-1]) {
			r.refuse("", "stands twice")
			return
		}
	}
}
