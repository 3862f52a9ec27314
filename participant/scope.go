package participant

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// BranchIDBytesMax is the longest branch id, in bytes.
const BranchIDBytesMax = 32

// scope is one run of code inside a transaction: the initiator's function (the
// root, with an empty path) or the handler of one call. It numbers its children,
// branches and outgoing calls alike, and knows what has become of them.
//
// A child's number is its place in the order of asking, so code that runs again
// in the same order names the same branches again (PROTOCOL.md, section 2).
type scope struct {
	gid     GID
	path    string
	cluster string
	timeout time.Duration
	entry   Entry

	mu sync.Mutex
	// next is the number of children given out.
	next int
	// open counts branches that have not voted, and calls that have not ended.
	open int
	// incomplete is set once a call ended without a complete trailer.
	incomplete bool
	// answered is set once the caller was told that the subtree is complete.
	answered bool
	// waited is set while the initiator waits for the scope's end.
	waited bool
	// branches are those of the subtree that this process has heard of, by id.
	branches map[string]*quoratev1.BranchSpec
}

func newScope(gid GID, path, cluster string, timeout time.Duration, entry Entry) *scope {
	return &scope{
		gid: gid, path: path, cluster: cluster, timeout: timeout, entry: entry,
		branches: make(map[string]*quoratev1.BranchSpec),
	}
}

// child gives out the next call path; none any more after the caller was told
// that the subtree is complete, because the commit may be on its way.
func (s *scope) child() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered {
		return "", fmt.Errorf("call %s of transaction %s: %w", s.path, s.gid, ErrAnswered)
	}
	path := strconv.Itoa(s.next + 1)
	if s.path != "" {
		path = s.path + "." + path
	}
	if len(path) > BranchIDBytesMax {
		return "", ErrPathTooLong
	}
	s.next++
	return path, nil
}

// branchStarted notes a local branch; branchVoted is owed for it.
func (s *scope) branchStarted(spec *quoratev1.BranchSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.branches[spec.GetId()] = spec
}

// branchVoted notes that a local branch has said its word.
func (s *scope) branchVoted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// branchForgotten takes back a branch that never came to be.
func (s *scope) branchForgotten(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	delete(s.branches, id)
}

// callStarted notes an outgoing call; callEnded is owed for it.
func (s *scope) callStarted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

// callEnded notes what the callee's trailer said of its subtree. Without a
// trailer the callee, or one below it, may still be working: the path itself is
// noted as a branch that was called, so that a rollback can name it.
func (s *scope) callEnded(path string, t trailer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if !t.complete {
		s.incomplete = true
		if s.branches[path] == nil {
			s.branches[path] = &quoratev1.BranchSpec{Id: path}
		}
	}
	for _, b := range t.branches {
		s.branches[b.GetId()] = b
	}
}

// answer is what the scope's own caller is told, once, at the end of the call.
func (s *scope) answer() trailer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = false
	t := s.trailerLocked()
	s.answered = t.complete
	return t
}

// trailer is what is known of the subtree now.
func (s *scope) trailer() trailer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailerLocked()
}

func (s *scope) trailerLocked() trailer {
	t := trailer{complete: s.open == 0 && !s.incomplete}
	for _, b := range s.branches {
		t.branches = append(t.branches, b)
	}
	return t
}

func (s *scope) setWaited(waited bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = waited
}

func (s *scope) isWaited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waited
}
