package participant

import (
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// registry holds the branches that are live in this process: registered, and
// not ended. A branch is in it before the cluster hears of it, so the list sent
// at each attach never misses one.
type registry struct {
	mu       sync.Mutex
	branches map[BranchRef]*Branch
}

func newRegistry() *registry {
	return &registry{branches: make(map[BranchRef]*Branch)}
}

// add registers b and returns nil, or returns the branch that stands there already.
func (r *registry) add(b *Branch) *Branch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if standing := r.branches[b.ref]; standing != nil {
		return standing
	}
	r.branches[b.ref] = b
	return nil
}

// remove takes b out, unless another one stands in its place by now.
func (r *registry) remove(b *Branch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.branches[b.ref] == b {
		delete(r.branches, b.ref)
	}
}

// get returns the live branch of that name, or nil.
func (r *registry) get(ref BranchRef) *Branch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.branches[ref]
}

// list is what an attach tells.
func (r *registry) list() []*quoratev1.LiveBranch {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*quoratev1.LiveBranch, 0, len(r.branches))
	for _, b := range r.branches {
		out = append(out, b.liveBranch())
	}
	return out
}

// overdue are the branches of a resource whose verdict is to be asked for now.
func (r *registry) overdue(resource string, now time.Time, pause time.Duration) (out []*Branch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.branches {
		if b.resource == resource && b.overdue(now, pause) {
			out = append(out, b)
		}
	}
	return out
}

// count is the number of live branches of a resource.
func (r *registry) count(resource string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, b := range r.branches {
		if b.resource == resource {
			n++
		}
	}
	return n
}
