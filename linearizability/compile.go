package linearizability

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What the product does where a history does not say otherwise.
const (
	retentionDefault       = 30 * time.Minute
	timeoutDefault         = 30 * time.Second
	timeoutMax             = 10 * time.Minute
	clockStaleMaxMS        = 60_000
	namespaceDefault       = "default"
	timeInfinity     int64 = math.MaxInt64
	// A leader's clock is a machine's: it may run this much faster than ours.
	clockDriftPerMille = 10
)

// role of an event of a partition: an operation, half of one, or something that
// nobody called.
type role uint8

const (
	// The zero role is the operation's effect and its answer at one point.
	_ role = iota
	// roleAsk: its effect, whose answer came later.
	roleAsk
	// roleAwait: the answer, once it was decided or over.
	roleAwait
	// roleTimeout, roleLost, roleDrive, rolePresume: what the cluster may do by
	// itself, at some time from the event's call on, or never.
	roleTimeout
	roleLost
	roleDrive
	rolePresume
	// roleDone and roleUndone: called branches were done, or not, and that decided.
	roleDone
	roleUndone
	// roleLogged: a command of the log that no operation of the history accounts for.
	// It happened, in the log's order.
	roleLogged
	// roleOver: everything that was answered has happened.
	roleOver
)

// event is one entry of a partition, compiled so that a step is cheap.
type event struct {
	call
	op   *Operation
	role role
	// from and to bound its one point in time.
	from, to int64
	// expirable: the GID may have been at or below the horizon when it was
	// answered. presumable: an unseen GID's time may have been over.
	expirable, presumable bool
	unknown               bool
	// deliveriesUnseen: reports may have come unrecorded.
	deliveriesUnseen bool
	// place of a command of the log among those that are unaccounted for.
	place uint16
}

// assumed: nobody was told that it happened.
func (e *event) assumed() bool {
	return e.unknown || e.role >= roleTimeout && e.role < roleOver
}

// compiler makes events of operations.
type compiler struct {
	header  Header
	maxTime int64
	// clockMax is the newest cluster clock in any answer, 0 where none tells.
	clockMax uint64
	// log, where the history holds it.
	log *replay
}

func newCompiler(h *History) *compiler {
	c := &compiler{header: h.Header}
	for i := range h.Operations {
		op := &h.Operations[i]
		c.maxTime = max(c.maxTime, op.Call, op.Return)
		c.clockMax = max(c.clockMax, op.Output.ClockMS)
	}
	return c
}

func (c *compiler) retention() time.Duration {
	if c.header.RetentionMS > 0 {
		return time.Duration(c.header.RetentionMS) * time.Millisecond
	}
	return retentionDefault
}

// bornMS is the time part of a GID of ours, and whether it is one.
func bornMS(gid string) (uint64, bool) {
	if len(gid) != 26 {
		return 0, false
	}
	var ms uint64
	for i := range 10 {
		digit := strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", gid[i])
		if digit < 0 {
			return 0, false
		}
		ms = ms<<5 | uint64(digit)
	}
	return ms, true
}

// expirable tells whether, when op was answered, gid may have been at or below the
// horizon: by the cluster's own clock, which an answer carries; where it does not,
// by ours.
func (c *compiler) expirable(op *Operation, gid string) bool {
	clock := op.Output.ClockMS
	born, known := bornMS(gid)
	if clock == 0 || !known {
		return op.Return == 0 || op.Return >= int64(c.retention()) || c.header.ClockSkewed
	}
	return clock >= born+uint64(c.retention().Milliseconds())
}

// presumable tells whether an unseen GID's time may have been over.
func (c *compiler) presumable(op *Operation) bool {
	clock := op.Output.ClockMS
	if clock == 0 {
		clock = c.clockMax
	}
	born, known := bornMS(op.GID)
	if clock == 0 || !known {
		return true
	}
	timeout := op.Input.TimeoutMS
	if timeout == 0 {
		timeout = uint64(timeoutMax.Milliseconds())
	}
	return clock > born+clockStaleMaxMS+timeout
}

// event compiles one operation.
func (c *compiler) event(op *Operation, gid string) event {
	e := event{
		call: compileCall(op.Kind, op.Branch, &op.Input, op.Namespace, op.Key, c.header.TimeoutDefaultMS),
		op:   op, from: op.Call, to: op.Return, unknown: op.Status == StatusUnknown,
		deliveriesUnseen: c.header.DeliveriesUnseen,
	}
	if e.unknown {
		e.to = timeInfinity
	}
	switch op.Kind {
	case KindRollback:
		e.reason = reasonRequested
		if op.Input.Operator != "" {
			e.reason = reasonOperator
		} else if op.Input.Participant {
			e.reason = reasonPresumed
		}
	case KindInquire:
		e.presumable = c.presumable(op)
	case KindGet:
		if op.Input.Consistency == Local {
			e.from = 0 // any prefix of the truth will do
		}
	}
	e.expirable = c.expirable(op, gid)
	return e
}

func compileCall(kind Kind, branch string, in *Input, namespace, key string, timeoutMS uint64) call {
	c := call{
		kind: kind, input: in, bare: in.Bare || kind == KindCommit && in.Set == nil,
		branch: specIn(branch, in),
	}
	switch kind {
	case KindBegin, KindSubmit:
		if c.entry = in.Entry; c.entry == "" {
			c.entry = EntryExplicit
			if kind == KindSubmit {
				c.entry = EntryNamed
			}
		}
		c.mode = modeIn(in)
		c.content = contentOf(in, namespace, key, c.entry, timeoutMS)
	}
	if kind == KindSubmit {
		for _, b := range in.Branches {
			c.set = append(c.set, b.ID)
		}
	} else {
		c.set = slices.Clone(in.Set)
	}
	slices.Sort(c.set)
	c.set = slices.Compact(c.set)
	return c
}

// specIn is the branch that an input says.
func specIn(id string, in *Input) Branch {
	return Branch{ID: id, Resource: in.Resource, Endpoint: in.Endpoint, Held: in.Held, Holder: in.Holder, Undo: in.Undo, After: in.After, Content: in.Payload}
}

func modeIn(in *Input) string {
	if in.Mode == "" {
		return modeTwoPhase
	}
	return in.Mode
}

// contentOf is what tells a begin from another. Where branches are called, what is
// submitted is content too, whether all at once or prepared before.
func contentOf(in *Input, namespace, key string, entry Entry, timeoutMS uint64) string {
	mode := modeIn(in)
	if namespace == "" {
		namespace = namespaceDefault
	}
	if in.TimeoutMS > 0 || !expires(mode) || mode == modeSaga {
		timeoutMS = in.TimeoutMS
	}
	if mode != modeTwoPhase && mode != modeTCC {
		entry = ""
	}
	content := namespace + "\x00" + key + "\x00" + mode + "\x00" + string(entry) + "\x00" + strconv.FormatUint(timeoutMS, 10) + "\x00" + in.Content
	if mode == modeTwoPhase {
		return content
	}
	specs := make([]string, len(in.Branches))
	for i, b := range in.Branches {
		specs[i] = fmt.Sprintf("\x01%+q", [...]string{b.ID, b.Resource, b.Endpoint, b.Undo, string(b.After), b.Content})
	}
	slices.Sort(specs)
	return content + strings.Join(specs, "")
}
