package participant

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
	// oneShot: branches do not enlist, and their votes go back with the answers.
	oneShot bool
	// mustBegin has the transaction begun where a branch cannot do without: held ones
	// are the cluster's to watch. Nil where only the initiator can.
	mustBegin func(context.Context) error

	// behind are prepares of the scope's own branches that its code does not wait for.
	behind behind

	mu sync.Mutex
	// next is the number of children given out.
	next int
	// open counts branches that have not voted, and calls that have not ended.
	open int
	// unended are the calls, by path, whose last word was no complete trailer. A
	// repeated request of the same call may bring one yet.
	unended map[string]bool
	// lost is set once a run of a call has ended so: what it prepared, if anything, may not
	// be among the branches, whatever later runs say.
	lost bool
	// answered is set once the caller was told that the subtree is complete: with a
	// one-shot transaction once it was told anything, for it is told once.
	answered bool
	// waited is set while the initiator waits for the scope's end.
	waited bool
	// branches are those of the subtree that this process has heard of, by id.
	branches map[string]*quoratev1.BranchSpec
	// ballots are their votes, of a one-shot transaction, by id.
	ballots map[string]*quoratev1.Ballot
}

func newScope(info Info) *scope {
	return &scope{
		gid: info.GID, path: info.Path, cluster: info.Cluster, timeout: info.Timeout, entry: info.Entry, oneShot: info.OneShot,
		unended: make(map[string]bool), branches: make(map[string]*quoratev1.BranchSpec), ballots: make(map[string]*quoratev1.Ballot),
	}
}

func (s *scope) info() Info {
	return Info{GID: s.gid, Path: s.path, Cluster: s.cluster, Timeout: s.timeout, Entry: s.entry, OneShot: s.oneShot}
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
// complete one the callee, or one below it, may still be working: the path itself is
// noted as a branch that was called, so that a rollback can name it. Of a call
// whose request was repeated the last word counts: the branches of the runs before
// are the same ones, or strangers to the set.
func (s *scope) callEnded(path string, t trailer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	standing := s.branches[path]
	switch {
	case !t.complete:
		s.unended[path], s.lost = true, true
		if standing == nil {
			s.branches[path] = &quoratev1.BranchSpec{Id: path}
		}
	case s.unended[path]:
		delete(s.unended, path)
		if standing.GetResource() == "" {
			delete(s.branches, path) // it stood for what was not known
		}
	}
	for _, b := range t.branches {
		s.branches[b.GetId()] = b
	}
	for _, b := range t.ballots {
		if !strings.HasPrefix(b.GetBranch().GetId(), path+".") {
			s.unended[path] = true // a vote that is not its own to bring
			continue
		}
		s.branches[b.GetBranch().GetId()], s.ballots[b.GetBranch().GetId()] = b.GetBranch(), b
	}
}

// answer is what the scope's own caller is told, once, at the end of the call.
func (s *scope) answer() trailer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = false
	t := s.trailerLocked()
	s.answered = t.complete || s.oneShot
	return t
}

// trailer is what is known of the subtree now.
func (s *scope) trailer() trailer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailerLocked()
}

func (s *scope) trailerLocked() trailer {
	t := trailer{complete: s.open == 0 && len(s.unended) == 0, oneShot: s.oneShot}
	for id, b := range s.branches {
		t.branches = append(t.branches, b)
		if ballot := s.ballots[id]; ballot != nil {
			t.ballots = append(t.ballots, ballot)
		} else if s.oneShot && !b.GetHeld() {
			t.complete = false // nobody else has its vote
		}
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
