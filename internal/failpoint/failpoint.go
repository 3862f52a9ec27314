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
//	point  = name [ "@" key ] "=" action [ ",once=" FILE ]
//	action = "kill" | "exit" | "error" | "pause(" DURATION ")"
//
// A point without a key fires for every key. `once=FILE` creates FILE and fires
// only if it did not exist, so that several processes armed alike fire once
// between them. A key cannot hold `=` or `;`, nor FILE a `;`.
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
	Begun          = "begun"            // a Begin is applied, its caller not answered
	Enlisted       = "enlisted"         // an Enlist is applied, its caller not answered
	BeforeDecision = "before-decision"  // a commit is asked, and not proposed yet
	AtDecision     = "at-decision"      // the decision is applied, nobody was told
	AfterDecision  = "after-decision"   // a commit stands, no delivery of it was sent
	PartlyDone     = "partly-delivered" // one of several branches has reported
	AllReported    = "all-reported"     // the last branch of a commit has reported
	Prepared       = "prepared"         // a participant's branch is durably prepared, its vote not sent
)

// Names lists every failpoint of the binary.
func Names() []string {
	return []string{Begun, Enlisted, BeforeDecision, AtDecision, AfterDecision, PartlyDone, AllReported, Prepared}
}

// ErrInjected is what Hit returns at a failpoint armed with `error`.
var ErrInjected = errors.New("failpoint: injected error")

type action uint8

const (
	actionKill action = iota + 1
	actionExit
	actionPause
	actionError
)

type point struct {
	name   string
	key    string // empty: every key
	action action
	pause  time.Duration
	once   string // file to create, or empty
}

// armed is nil while nothing is armed; the slice it points to is never edited.
var armed atomic.Pointer[[]point]

// What an action does to the process; tests replace them.
var (
	kill = func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way: nothing after the failpoint may run
	}
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

// Hit performs what is armed at the named place for the key. It returns
// ErrInjected for `error`, nil otherwise; after `kill` and `exit` it does not
// return.
func Hit(name, key string) error {
	points := armed.Load()
	if points == nil {
		return nil
	}
	for _, p := range *points {
		if p.name != name || (p.key != "" && p.key != key) || !p.first(key) {
			continue
		}
		if err := p.fire(); err != nil {
			return err
		}
	}
	return nil
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
	// The file's text says who fired and when, for whoever watches the run.
	fmt.Fprintf(f, "%s pid=%d at=%s key=%s\n", p.name, os.Getpid(), time.Now().UTC().Format(time.RFC3339Nano), key)
	_ = f.Close()
	return true
}

func (p point) fire() error {
	switch p.action {
	case actionKill:
		kill()
	case actionExit:
		exit(ExitCode)
	case actionPause:
		sleep(p.pause)
	case actionError:
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
	verb, option, hasOption := strings.Cut(what, ",")
	if hasOption {
		if p.once, ok = strings.CutPrefix(option, "once="); !ok || p.once == "" {
			return point{}, fmt.Errorf("unknown option %q: only once=FILE", option)
		}
	}
	switch inner, isPause := strings.CutPrefix(verb, "pause("); {
	case verb == "kill":
		p.action = actionKill
	case verb == "exit":
		p.action = actionExit
	case verb == "error":
		p.action = actionError
	case isPause && strings.HasSuffix(inner, ")"):
		d, err := time.ParseDuration(strings.TrimSuffix(inner, ")"))
		if err != nil || d <= 0 {
			return point{}, fmt.Errorf("pause wants a positive duration such as pause(500ms), not %q", inner)
		}
		p.action, p.pause = actionPause, d
	default:
		return point{}, fmt.Errorf("unknown action %q: kill, exit, error or pause(DURATION)", verb)
	}
	return p, nil
}
