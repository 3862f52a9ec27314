// Package failpoint lets a test stop, kill or delay a process at a named place
// of the protocol, in the binary that users run.
//
// Failpoints are armed once, at start, from the environment variable named by
// [Variable]; nothing else arms them, the API least of all. An unarmed Hit
// costs one atomic load.
//
// The grammar of a specification:
//
//	spec   = point *( ";" point )
//	point  = name [ "@" key ] "=" action *( "," option )
//	action = "kill" | "stop" | "exit" | "error" | "error(" ERRNO ")" | "pause(" DURATION ")" | "note"
//	option = "when=" FILE | "once=" FILE | "hits=" FILE
//	ERRNO  = "EIO" | "ENOSPC"
//
// `kill` is SIGKILL, `stop` SIGSTOP: the process stands still until somebody sends
// SIGCONT. `note` does nothing; with `hits` it counts who passes.
//
// A point without a key fires for every key, and one with a transaction's key for
// each of its branches, too; where a place is a branch's, `KEY#BRANCH` names one. A
// key that ends in `*` is every one that begins so.
// `when=FILE` fires only while FILE exists, so that a fault begins and ends in a
// running process. `once=FILE` creates FILE and fires only if it did not exist, so
// that several processes armed alike fire once between them. `hits=FILE` gets a
// line for each time that the point has fired: a fault that nobody met proves
// nothing. A key cannot hold `=` or `;`, nor FILE a `,` or `;`.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Variable names the environment variable that arms failpoints.
const Variable = "QUORATE_FAILPOINTS"

// ExitCode is the status of a process that an `exit` failpoint ended.
const ExitCode = 86

// The places of the protocol, in the order in which a transaction passes them.
const (
	BeforeBegin    = "before-begin"       // a Begin is asked, and not proposed yet
	Begun          = "begun"              // a Begin is applied, its caller not answered
	BeforeEnlist   = "before-enlist"      // an Enlist is asked, and not proposed yet
	Enlisted       = "enlisted"           // an Enlist is applied, its caller not answered
	BeforeVote     = "before-vote"        // a vote came, and is not proposed yet
	Voted          = "voted"              // a vote is applied, its caller not answered
	BeforeDecision = "before-decision"    // a commit is asked, and not proposed yet
	AtDecision     = "at-decision"        // the decision is applied, nobody was told
	AfterDecision  = "after-decision"     // a commit stands, no delivery of it was sent
	PartlyDone     = "partly-delivered"   // one of several branches has reported
	BeforeReport   = "before-report"      // a report came, and is not proposed yet
	AfterReport    = "after-report"       // a called branch's report is applied
	BeforeAnswer   = "saga-before-answer" // a saga's step has answered, which is not proposed yet
	AfterAnswer    = "saga-after-answer"  // its answer is applied
	AllReported    = "all-reported"       // the last branch of a commit has reported
	Prepared       = "prepared"           // a participant's branch is durably prepared, its vote not sent
	Heard          = "heard"              // a participant was told a verdict, and has not obeyed
	Ended          = "ended"              // it has obeyed, and not reported
)

// The places of a node's disk. Their key is KeyLog or KeyStable, so that
// "store-written@log" on a leader is a decision on the leader's disk alone.
const (
	StoreWrite   = "store-write"   // about to write and sync entries, or term and vote
	StoreWritten = "store-written" // they are on this disk, nobody knows
	StoreRead    = "store-read"    // about to read them

	KeyLog    = "log"
	KeyStable = "stable"
)

// RaftSent: a message to another node was sent. With `error` it is sent once more,
// at once or late; the key is KeyAppend or KeyVote.
const (
	RaftSent = "raft-sent"

	KeyAppend = "append"
	KeyVote   = "vote"
)

// The places of snapshots and of changes of the nodes' set. The key of the
// latter two is "add", "promote" or "remove".
const (
	SnapshotBegun   = "snapshot-begun"   // a snapshot, own or a leader's, is about to be written
	SnapshotWritten = "snapshot-written" // it is on the disk, the log is as before
	LogShortened    = "log-shortened"    // the entries that it replaces are gone
	InstallRestored = "install-restored" // a leader's snapshot is in the state machine, not answered
	MemberChange    = "member-change"    // a change of the nodes' set is about to be proposed
	MemberChanged   = "member-changed"   // it is applied, its caller not answered
	TransferBegun   = "transfer-begun"   // leadership is about to be handed over
	Transferred     = "transferred"      // it is lost to another node
)

// Names lists every failpoint of the binary.
func Names() []string {
	return []string{
		BeforeBegin, Begun, BeforeEnlist, Enlisted, BeforeVote, Voted,
		BeforeDecision, AtDecision, AfterDecision, PartlyDone, BeforeReport, AfterReport, BeforeAnswer, AfterAnswer, AllReported, Prepared, Heard, Ended,
		StoreWrite, StoreWritten, StoreRead, RaftSent,
		SnapshotBegun, SnapshotWritten, LogShortened, InstallRestored,
		MemberChange, MemberChanged, TransferBegun, Transferred,
	}
}

// ErrInjected is what Hit returns at a failpoint armed with `error`.
var ErrInjected = errors.New("failpoint: injected error")

type action uint8

const (
	actionKill action = iota + 1
	actionExit
	actionPause
	actionError
	actionStop
	actionNote
)

type point struct {
	name   string
	key    string // empty: every key
	action action
	pause  time.Duration
	errno  error  // with actionError, or nil
	when   string // file that must exist, or empty
	once   string // file to create, or empty
	hits   string // file to append to, or empty
}

// errnos are the errors of a disk that can be injected by name.
var errnos = map[string]error{"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC}

// armed is nil while nothing is armed; the slice it points to is never edited.
var armed atomic.Pointer[[]point]

// What an action does to the process; tests replace them.
var (
	kill = func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way: nothing after the failpoint may run
	}
	stop  = func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }
	exit  = os.Exit
	sleep = time.Sleep
)

// Arm parses a specification and arms it in place of what was armed before. An
// empty one disarms. It must be called before the process serves anything.
func Arm(spec string) error {
	points, err := parse(spec)
	if err != nil {
		return err
	}
	if len(points) == 0 {
		armed.Store(nil)
		return nil
	}
	armed.Store(&points)
	return nil
}

// Armed reports whether any failpoint is armed.
func Armed() bool { return armed.Load() != nil }

// Pauses reports whether whoever passes one of these places may stand still there, while
// the process goes on.
func Pauses(names ...string) bool {
	points := armed.Load()
	return points != nil && slices.ContainsFunc(*points, func(p point) bool {
		return p.action == actionPause && slices.Contains(names, p.name)
	})
}

// Hit performs what is armed at the named place for the key. It returns
// ErrInjected for `error`, nil otherwise; after `kill` and `exit` it does not
// return.
func Hit(name, key string) error {
	points := armed.Load()
	if points == nil {
		return nil
	}
	for _, p := range *points {
		if p.name != name || !p.meets(key) || !p.due() || !p.first(key) {
			continue
		}
		p.count(key)
		if err := p.fire(); err != nil {
			return err
		}
	}
	return nil
}

// BranchKey is the key of a branch's place; without a branch, its transaction's.
func BranchKey(key, branch string) string {
	if branch == "" {
		return key
	}
	return key + "#" + branch
}

// meets says that the point is armed for the key, for all of its branches, or for all
// keys that begin alike.
func (p point) meets(key string) bool {
	if prefix, ok := strings.CutSuffix(p.key, "*"); ok && strings.HasPrefix(key, prefix) {
		return true
	}
	return p.key == "" || p.key == key || len(key) > len(p.key) && key[len(p.key)] == '#' && key[:len(p.key)] == p.key
}

func (p point) due() bool {
	if p.when == "" {
		return true
	}
	_, err := os.Stat(p.when)
	return err == nil
}

// count notes that the point fires.
func (p point) count(key string) {
	if p.hits == "" {
		return
	}
	f, err := os.OpenFile(p.hits, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return // whoever counts will miss it, and call the run vacuous
	}
	if p.action == actionNote { // passed often: a line is enough
		_, _ = f.WriteString("\n")
		_ = f.Close()
		return
	}
	p.sign(f, key)
}

// sign writes who fired and when, for whoever watches the run.
func (p point) sign(f *os.File, key string) {
	fmt.Fprintf(f, "%s pid=%d at=%s key=%s\n", p.name, os.Getpid(), time.Now().UTC().Format(time.RFC3339Nano), key)
	_ = f.Close()
}

// first reports whether this process may fire the point: always, unless it
// carries `once` and its file exists.
func (p point) first(key string) bool {
	if p.once == "" {
		return true
	}
	f, err := os.OpenFile(p.once, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	p.sign(f, key)
	return true
}

func (p point) fire() error {
	switch p.action {
	case actionKill:
		kill()
	case actionStop:
		stop()
	case actionExit:
		exit(ExitCode)
	case actionPause:
		sleep(p.pause)
	case actionError:
		if p.errno != nil {
			return fmt.Errorf("%w at %s: %w", ErrInjected, p.name, p.errno)
		}
		return fmt.Errorf("%w at %s", ErrInjected, p.name)
	}
	return nil
}

func parse(spec string) ([]point, error) {
	var points []point
	for _, text := range strings.Split(spec, ";") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := parsePoint(text)
		if err != nil {
			return nil, fmt.Errorf("failpoint %q: %w", text, err)
		}
		points = append(points, p)
	}
	return points, nil
}

func parsePoint(text string) (point, error) {
	where, what, ok := strings.Cut(text, "=")
	if !ok {
		return point{}, errors.New("no action: write name[@key]=kill|exit|error|pause(DURATION)[,once=FILE]")
	}
	var p point
	p.name, p.key, _ = strings.Cut(where, "@")
	if !slices.Contains(Names(), p.name) {
		return point{}, fmt.Errorf("no failpoint is named %q; there are %s", p.name, strings.Join(Names(), ", "))
	}
	verb, options, _ := strings.Cut(what, ",")
	if err := p.parseOptions(options); err != nil {
		return point{}, err
	}
	verb, argument, hasArgument := cutArgument(verb)
	switch {
	case verb == "kill" && !hasArgument:
		p.action = actionKill
	case verb == "stop" && !hasArgument:
		p.action = actionStop
	case verb == "note" && !hasArgument:
		p.action = actionNote
	case verb == "exit" && !hasArgument:
		p.action = actionExit
	case verb == "error":
		if p.action, p.errno = actionError, errnos[argument]; hasArgument && p.errno == nil {
			return point{}, fmt.Errorf("error wants EIO or ENOSPC, not %q", argument)
		}
	case verb == "pause" && hasArgument:
		d, err := time.ParseDuration(argument)
		if err != nil || d <= 0 {
			return point{}, fmt.Errorf("pause wants a positive duration such as pause(500ms), not %q", argument)
		}
		p.action, p.pause = actionPause, d
	default:
		return point{}, fmt.Errorf("unknown action %q: kill, stop, exit, error, error(ERRNO), pause(DURATION) or note", verb)
	}
	return p, nil
}

// cutArgument splits "pause(1s)".
func cutArgument(text string) (verb, argument string, ok bool) {
	if inner, found := strings.CutSuffix(text, ")"); found {
		if verb, argument, ok = strings.Cut(inner, "("); ok {
			return verb, argument, true
		}
	}
	return text, "", false
}

func (p *point) parseOptions(text string) error {
	if text == "" {
		return nil
	}
	for option := range strings.SplitSeq(text, ",") {
		name, file, _ := strings.Cut(option, "=")
		field := map[string]*string{"when": &p.when, "once": &p.once, "hits": &p.hits}[name]
		if field == nil || file == "" {
			return fmt.Errorf("unknown option %q: only when=FILE, once=FILE and hits=FILE", option)
		}
		*field = file
	}
	return nil
}
