package api

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// keyPrefix marks a reference by the caller's own id.
const keyPrefix = "key:"

// reader turns one request into commands, and collects what is wrong with it:
// people correct everything at once. The state machine checks all of it again.
type reader struct {
	limits     *logpb.Limits
	endpoints  EndpointChecker
	violations []Violation
	// nameless: what is refused is only counted. See read.
	nameless bool
	slab     *slab // or nil
	// own is the instance id of whoever asks, where that is known: most requests of a
	// session name it.
	own instance
}

// instance is an instance id, and its text. It is not changed.
type instance struct {
	text string
	id   []byte
}

// read reads a request without naming its fields, which costs more than to check them;
// where something is refused it is read once more, and the names are given.
func read[T any](fresh func() *reader, f func(r *reader) T) (T, error) {
	r := fresh()
	r.nameless = true
	if request := f(r); len(r.violations) == 0 {
		return request, nil
	}
	r = fresh()
	request := f(r)
	return request, r.err()
}

// at is the path of a part of a field.
func (r *reader) at(field, part string) string {
	if r.nameless {
		return ""
	}
	return field + part
}

// item is the path of one of a list.
func (r *reader) item(field string, i int) string {
	if r.nameless {
		return ""
	}
	return fmt.Sprintf("%s[%d]", field, i)
}

func (s *Server) reader() *reader {
	limits := s.cluster.Limits()
	if limits == nil {
		limits = fsm.DefaultLimits()
	}
	return &reader{limits: limits, endpoints: s.cfg.Endpoints}
}

// endingReader reads what brings work to its end: no limit that was lowered
// since may refuse that, so only the widest ones hold.
func (s *Server) endingReader() *reader {
	return &reader{limits: endingLimits, endpoints: s.cfg.Endpoints}
}

var endingLimits = func() *logpb.Limits {
	limits := fsm.DefaultLimits()
	limits.BranchIdBytesMax = fsm.BranchIDBytesMax
	limits.KeyBytesMax = fsm.KeyBytesMax
	limits.TextBytesMax = 64 << 10
	limits.BranchesPerTransactionMax = 64 << 10
	return limits
}()

func (r *reader) refuse(field, format string, args ...any) {
	if r.nameless {
		r.violations = append(r.violations, Violation{})
		return
	}
	r.violations = append(r.violations, Violation{field, fmt.Sprintf(format, args...)})
}

// err is nil where nothing was refused.
func (r *reader) err() error {
	if len(r.violations) == 0 {
		return nil
	}
	return &Error{Reason: ReasonInvalid, Violations: r.violations}
}

// gid reads a GID that must be given.
func (r *reader) gid(field, text string) fsm.GID {
	if text == "" {
		r.refuse(field, "is missing: give the transaction's gid, a ULID of %d characters", fsm.GIDTextBytes)
		return fsm.GID{}
	}
	gid, err := fsm.ParseGID(text)
	if err != nil {
		r.refuse(field, "%v", err)
	}
	return gid
}

// ref reads "GID or key:K".
func (r *reader) ref(field, text string) coordinator.Ref {
	key, byKey := strings.CutPrefix(text, keyPrefix)
	if !byKey {
		gid, err := fsm.ParseGID(text)
		if err != nil {
			r.refuse(field, "names neither a gid nor a key: %v; your own id is written key:ID", err)
		}
		return coordinator.ByGID(gid)
	}
	if key == "" {
		r.refuse(field, "names no key: give key:K, or a gid")
	}
	r.text(field, key, r.limits.GetKeyBytesMax())
	return coordinator.ByKey(Namespace, key)
}

// holder reads an instance id, which may be absent.
func (r *reader) holder(field, text string) []byte {
	if text == "" {
		return nil
	}
	if text == r.own.text {
		return r.own.id
	}
	id, err := fsm.ParseGID(text)
	if err != nil {
		r.refuse(field, "an instance id is a ULID: %v", err)
		return nil
	}
	return r.bytesOf(id)
}

// text checks what is stored and shown.
func (r *reader) text(field, text string, bytesMax uint32) {
	switch {
	case len(text) > int(bytesMax):
		r.refuse(field, "is of %d bytes: at most %d are allowed", len(text), bytesMax)
	case plain(text):
	case !utf8.ValidString(text):
		r.refuse(field, "is not UTF-8")
	case strings.ContainsFunc(text, unprintable):
		r.refuse(field, "holds a control character: %q", text)
	}
}

// plain tells of text that needs no closer look: printable ASCII, as nearly all is.
func plain(text string) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		// Eight at a time. A borrow, or a carry, comes only from one that is not plain.
		c := uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
			uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
		if (c|(c+ones)|(c-' '*ones))&tops != 0 {
			return false
		}
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// unprintable tells of characters that would break a terminal, a log line or a
// header.
func unprintable(c rune) bool { return fsm.IsControl(c) }

// shownText cuts what is only shown to the text limit; a caller's long error
// must not keep a branch from refusing or reporting.
func (r *reader) shownText(text string) string {
	if len(text) <= int(r.limits.GetTextBytesMax()) && plain(text) {
		return text
	}
	text = strings.Map(func(c rune) rune {
		if unprintable(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "\uFFFD"))
	for bytesMax := int(r.limits.GetTextBytesMax()); len(text) > bytesMax; {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

// required refuses an absent text, and text that is too long or unprintable.
func (r *reader) required(field, text, whatFor string) string {
	if text == "" {
		r.refuse(field, "is missing: %s", whatFor)
	}
	r.text(field, text, r.limits.GetTextBytesMax())
	return text
}

func (r *reader) pageSize(field string, size uint32) int {
	if size > PageSizeMax {
		r.refuse(field, "is %d: at most %d", size, PageSizeMax)
	}
	if size == 0 {
		return PageSizeDefault
	}
	return int(min(size, PageSizeMax))
}

// duration reads a duration that must not be negative; nil is 0.
func (r *reader) duration(field string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 {
		r.refuse(field, "is no duration of at least 0")
		return 0
	}
	return d.AsDuration()
}
