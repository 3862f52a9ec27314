package fence

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quorate/quorate/participant"
)

// Operation is what a branch is called to do.
type Operation string

// Operations, as they stand in Quorate-Operation.
const (
	// Try is TCC's first phase; the initiator calls it.
	Try Operation = "try"
	// Action is a saga's step, a message's delivery, a notification.
	Action Operation = "action"
	// Confirm is TCC's second phase after a commit.
	Confirm Operation = "confirm"
	// Cancel is TCC's second phase after a rollback.
	Cancel Operation = "cancel"
	// Compensate undoes an action.
	Compensate Operation = "compensate"
	// CheckBack asks the sender of a message; see [Fence.CheckBack].
	CheckBack Operation = "check-back"
	// Resume asks an initiator to go on with a workflow; no fence is needed.
	Resume Operation = "resume"
)

// forward operations do the work.
func (o Operation) forward() bool { return o == Try || o == Action }

// back operations undo it.
func (o Operation) back() bool { return o == Cancel || o == Compensate }

// Limits of what a row is named by, in bytes.
const (
	// GIDBytesMax is the longest transaction id: a key of DTM's callers; a GID has 26.
	GIDBytesMax = 128
	// BranchBytesMax is the longest branch id: DTM's; ours have 32 at most.
	BranchBytesMax = 128
	// PartBytesMax is the longest name of a part of a branch.
	PartBytesMax = 64
	// clusterBytesMax is the longest id of a cluster: a ULID has 26.
	clusterBytesMax = 64
	// detailBytesMax is how much of a refusal's words is kept.
	detailBytesMax = 255
)

// Epoch is the leader in whose name a call is made; the zero epoch is none: the tries of
// DTM's initiators have none.
type Epoch struct{ Incarnation, Term uint64 }

// String is `incarnation.term`.
func (e Epoch) String() string {
	return strconv.FormatUint(e.Incarnation, 10) + "." + strconv.FormatUint(e.Term, 10)
}

// Compare orders epochs.
func (e Epoch) Compare(other Epoch) int {
	return cmp.Or(cmp.Compare(e.Incarnation, other.Incarnation), cmp.Compare(e.Term, other.Term))
}

func parseEpoch(s string) (Epoch, error) {
	incarnation, term, ok := strings.Cut(s, ".")
	i, err1 := strconv.ParseUint(incarnation, 10, 63) // a column of a database is signed
	t, err2 := strconv.ParseUint(term, 10, 63)
	if !ok || err1 != nil || err2 != nil {
		return Epoch{}, badCall("epoch %q, want incarnation.term", s)
	}
	return Epoch{Incarnation: i, Term: t}, nil
}

// Dialect of a call: whose protocol it came in.
type Dialect string

const (
	// Native is Quorate's own.
	Native Dialect = ""
	// DTM is DTM's: GID is a key, and there is no floor.
	DTM Dialect = "dtm"
)

// Call says which branch of which transaction is called, to do what, by whom.
type Call struct {
	// GID names the transaction: a ULID, or in DTM's protocol the caller's own key.
	GID string
	// Key is the caller's own id of a native transaction, if it gave one.
	Key string
	// Branch is the branch's id: a call path.
	Branch string
	// Part tells several local transactions of one call apart, when they meet in the
	// same table; it must be the same again when the call is repeated. See [Call.For].
	Part      string
	Operation Operation
	// Mode is `saga`, `tcc`, `message`, `workflow` or `notify`.
	Mode string
	// Attempt counts from 1; 0 is unknown.
	Attempt uint64
	Epoch   Epoch
	// FloorMS: what is recorded of GIDs born at or below it may be swept. Milliseconds of
	// the cluster's clock.
	FloorMS uint64
	// ClockMS is the cluster's clock.
	ClockMS uint64
	// Cluster is the cluster's id, where it is known: floors and clocks are its own.
	Cluster string
	Dialect Dialect
}

// For returns the call of one part of the handler's work: a handler that runs several
// local transactions in one database fences each by a name of its own.
func (c Call) For(part string) Call { c.Part = part; return c }

// String names the branch and the operation.
func (c Call) String() string {
	s := c.GID + "/" + c.Branch
	if c.Part != "" {
		s += "/" + c.Part
	}
	return string(c.Operation) + " of branch " + s
}

// born is the GID's time part; 0 for a key, which has none.
func (c Call) born() uint64 {
	if c.Dialect != Native {
		return 0
	}
	return participant.GID(c.GID).BornMS()
}

// check refuses what no row can stand for.
func (c Call) check() error {
	switch {
	case c.GID == "" && c.Operation == "":
		return badCall("the context carries none: use Middleware or UnaryServerInterceptor, or FromHTTP, FromGRPC")
	case !printable(c.GID, GIDBytesMax):
		return badCall("gid %q, want 1 to %d bytes of printable text", c.GID, GIDBytesMax)
	case !printable(c.Branch, BranchBytesMax):
		return badCall("branch %q of %s, want 1 to %d bytes of printable text", c.Branch, c.GID, BranchBytesMax)
	case c.Part != "" && !printable(c.Part, PartBytesMax):
		return badCall("part %q, want at most %d bytes of printable text", c.Part, PartBytesMax)
	case c.Cluster != "" && !printable(c.Cluster, clusterBytesMax):
		return badCall("cluster %q, want at most %d bytes of printable text", c.Cluster, clusterBytesMax)
	case !c.Operation.forward() && !c.Operation.back() && c.Operation != Confirm:
		return badCall("%s: there is nothing to fence in operation %q", c, c.Operation)
	case c.Epoch.Incarnation > math.MaxInt64 || c.Epoch.Term > math.MaxInt64:
		return badCall("%s: epoch %s", c, c.Epoch)
	}
	return nil
}

func printable(s string, bytesMax int) bool {
	if s == "" || len(s) > bytesMax || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// refusals reports whether a refusal of this call stands: an ending and a message's
// delivery are asked for until they are done, so there it is an error like any other.
func (c Call) refusals() bool {
	return c.Operation.forward() && c.Mode != modeMessage && c.Mode != modeNotify
}

// Modes that matter here.
const (
	modeMessage = "message"
	modeNotify  = "notify"
)

type callKey struct{}

// NewContext returns a context that carries the call.
func NewContext(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// FromContext is the call that the running handler serves; the zero Call, which every
// fence refuses, when there is none.
func FromContext(ctx context.Context) Call {
	c, _ := ctx.Value(callKey{}).(Call)
	return c
}

// failed wraps an error with the call.
func (c Call) failed(err error) error { return fmt.Errorf("fence: %s: %w", c, err) }
