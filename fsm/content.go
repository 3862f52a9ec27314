package fsm

import (
	"strings"
	"unicode/utf8"

	"github.com/quorate/quorate/fsm/logpb"
)

// What is malformed is refused first, whatever stands. What is over a limit is
// refused only where it would be stored: limits may be lowered, and a command
// that was taken before must still be answered by what it came to. A client
// that hears QUOTA or INVALID believes that nothing happened.

// checkPrintable refuses text that is not UTF-8 or holds control characters.
// The ranges are written out: Unicode's tables change from one version of Go
// to the next, and nodes of two versions must agree.
func checkPrintable(field, text string) (Result, bool) {
	if plain(text) {
		return Result{}, true
	}
	if !utf8.ValidString(text) {
		return invalid(field, "is not UTF-8: %q", text), false
	}
	if strings.ContainsFunc(text, IsControl) {
		return invalid(field, "holds a control character: %q", text), false
	}
	return Result{}, true
}

// plain says that a text is of printable ASCII, as most are.
func plain(text string) bool {
	// Sixteen at a time, then eight. Where no byte has its highest bit, neither sum carries
	// into a neighbour: 0x7F gets it by the first, and all but those below 0x20 by the second.
	for ; len(text) >= 16; text = text[16:] {
		v, w := wordAt(text), wordAt(text[8:])
		if (v|(v+ones)|^(v+0x60*ones)|w|(w+ones)|^(w+0x60*ones))&highest != 0 {
			return false
		}
	}
	if len(text) >= 8 {
		v := wordAt(text)
		if (v|(v+ones)|^(v+0x60*ones))&highest != 0 {
			return false
		}
		text = text[8:]
	}
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7E {
			return false
		}
	}
	return true
}

// wordAt is the first eight bytes.
func wordAt(text string) uint64 {
	_ = text[7]
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}

const (
	ones    = 0x0101010101010101
	highest = 0x80 * ones
)

// IsControl holds for what ends lines, moves cursors, or turns the direction of
// writing, so that two texts which look alike may differ.
func IsControl(r rune) bool {
	return r < 0x20 || r >= 0x7F && r < 0xA0 || r == 0x200E || r == 0x200F ||
		r >= 0x2028 && r <= 0x202E || r >= 0x2066 && r <= 0x2069 || r == 0xFEFF
}

// clip shortens text that no limit may refuse, because it comes with an ending.
func (s *State) clip(text string) string {
	most := int(s.limits.GetTextBytesMax())
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// checkLength refuses text that is too long.
func checkLength(field, text string, most uint32) (Result, bool) {
	if len(text) > int(most) {
		return invalid(field, "is of %d bytes: at most %d are allowed", len(text), most), false
	}
	return Result{}, true
}

// checkBegin refuses a malformed Begin.
func (s *State) checkBegin(b *logpb.Begin) (Result, bool) {
	if len(b.GetGid()) != len(GID{}) {
		return invalid("gid", "is of %d bytes: a ULID has 16", len(b.GetGid())), false
	}
	rules, ok := rulesOf(b.GetMode())
	if !ok {
		return invalid("mode", "%d is unknown", b.GetMode()), false
	}
	if rules.level > s.level {
		return invalid("mode", "%s is not offered by this version: use two-phase", rules.name), false
	}
	switch e := b.GetEntry(); {
	case rules.votes && e != logpb.Entry_ENTRY_EXPLICIT && e != logpb.Entry_ENTRY_NAMED:
		return invalid("entry", "is neither explicit nor named"), false
	case !rules.votes && e != logpb.Entry_ENTRY_EXPLICIT && e != logpb.Entry_ENTRY_UNSPECIFIED:
		return invalid("entry", "is not explicit: mode %s knows no other", rules.name), false
	}
	if b.GetNamespace() == "" {
		return invalid("namespace", "is empty"), false
	}
	for _, f := range []struct{ field, value string }{
		{"namespace", b.GetNamespace()}, {"key", b.GetKey()},
		{"traceparent", b.GetTraceparent()}, {"initiator", b.GetInitiator()},
	} {
		if refusal, ok := checkPrintable(f.field, f.value); !ok {
			return refusal, false
		}
	}
	if refusal, ok := checkLabels("labels", b.GetLabels()); !ok {
		return refusal, false
	}
	return checkPlan(rules, b)
}

func checkLabels(field string, labels []*logpb.Label) (Result, bool) {
	for i, l := range labels {
		if l.GetName() == "" {
			return invalid(field, "hold one without a name"), false
		}
		if i > 0 && labels[i-1].GetName() >= l.GetName() {
			return invalid(field, "are not sorted by unique names at %q", l.GetName()), false
		}
		for _, text := range []string{l.GetName(), l.GetValue()} {
			if refusal, ok := checkPrintable(field, text); !ok {
				return refusal, false
			}
		}
	}
	return Result{}, true
}

// limitBegin refuses a Begin that is over a limit, where it would create.
func (s *State) limitBegin(b *logpb.Begin) (Result, bool) {
	least, most := uint64(1), s.limits.GetTransactionTimeoutMaxMs()
	if rules, _ := rulesOf(b.GetMode()); rules.endless {
		least = 0
	}
	if ms := b.GetTimeoutMs(); ms < least || ms > most {
		return invalid("timeout", "is %d ms: it must lie between %d and transaction_timeout_max_ms, which is %d", ms, least, most), false
	}
	if most := s.limits.GetLabelsMax(); len(b.GetLabels()) > int(most) {
		return invalid("labels", "are %d: labels_max is %d", len(b.GetLabels()), most), false
	}
	text := s.limits.GetTextBytesMax()
	for _, f := range []struct {
		field, value string
		most         uint32
	}{
		{"namespace", b.GetNamespace(), s.limits.GetKeyBytesMax()},
		{"key", b.GetKey(), s.limits.GetKeyBytesMax()},
		{"traceparent", b.GetTraceparent(), text},
		{"initiator", b.GetInitiator(), text},
	} {
		if refusal, ok := checkLength(f.field, f.value, f.most); !ok {
			return refusal, false
		}
	}
	for _, l := range b.GetLabels() {
		for _, value := range []string{l.GetName(), l.GetValue()} {
			if refusal, ok := checkLength("labels", value, text); !ok {
				return refusal, false
			}
		}
	}
	if b.GetPlan() == nil {
		return Result{}, true
	}
	return s.limitPlan(b.GetPlan())
}

// checkBranchID refuses what can be no branch's id: an xid has room for so many
// bytes, whatever the limits say.
func checkBranchID(field, id string) (Result, bool) {
	if id == "" {
		return invalid(field, "is empty"), false
	}
	if refusal, ok := checkLength(field, id, BranchIDBytesMax); !ok {
		return refusal, false
	}
	return checkPrintable(field, id)
}

// checkSpec refuses a malformed branch.
func checkSpec(field string, spec *logpb.BranchSpec) (Result, bool) {
	// A name is put together only for what it is said of.
	if _, ok := checkBranchID("", spec.GetId()); !ok {
		return checkBranchID(field+".id", spec.GetId())
	}
	if !plain(spec.GetResource()) {
		if refusal, ok := checkPrintable(field+".resource", spec.GetResource()); !ok {
			return refusal, false
		}
	}
	if !plain(spec.GetEndpoint()) {
		if refusal, ok := checkPrintable(field+".endpoint", spec.GetEndpoint()); !ok {
			return refusal, false
		}
	}
	if n := len(spec.GetHolder()); n != 0 && n != 16 {
		return invalid(field+".holder", "is of %d bytes: an instance id has 16", n), false
	}
	if spec.GetUndo() != "" {
		return checkPrintable(field+".undo", spec.GetUndo())
	}
	return Result{}, true
}

// limitJoin refuses n branches more where t has no room for them, or where one
// of them is over a limit. No limit refuses a member, nor one that a rollback
// names.
func (s *State) limitJoin(t *transaction, field string, joining ...*logpb.BranchSpec) (Result, bool) {
	if most := s.limits.GetBranchesPerTransactionMax(); len(t.branches)+len(joining) > int(most) {
		return quota(t.gid, "branches_per_transaction_max", uint64(most)), false
	}
	text := s.limits.GetTextBytesMax()
	for _, spec := range joining {
		for _, f := range []struct {
			field, value string
			most         uint32
		}{
			{".id", spec.GetId(), s.limits.GetBranchIdBytesMax()},
			{".resource", spec.GetResource(), text},
			{".endpoint", spec.GetEndpoint(), text},
		} {
			if len(f.value) > int(f.most) {
				return checkLength(field+f.field, f.value, f.most)
			}
		}
	}
	return Result{}, true
}

// checkKnown refuses a branch that would join though nobody could tell it.
func checkKnown(field string, spec *logpb.BranchSpec) (Result, bool) {
	if !known(spec) {
		return invalid(field+".resource", "is empty, and so are endpoint and holder: nobody could be told the outcome"), false
	}
	return Result{}, true
}

// checkSet refuses a set that is not sorted and unique, or holds bad names.
func checkSet(ids []string) (Result, bool) {
	for i, id := range ids {
		if refusal, ok := checkBranchID("set.id", id); !ok {
			return refusal, false
		}
		if i > 0 && ids[i-1] >= id {
			return invalid("set", "is not sorted by unique ids at %q", id), false
		}
	}
	return Result{}, true
}

// checkBallot refuses a malformed ballot. checked is a branch that need not be looked
// at again; it may be nil.
func checkBallot(field string, b *logpb.Ballot, checked *logpb.BranchSpec) (Result, bool) {
	if k := b.GetKind(); k < votePrepared || k > voteRefused {
		return invalid(field+".kind", "is neither prepared nor read-only nor refused"), false
	}
	if b.GetMaybePrepared() && b.GetKind() != voteRefused {
		return invalid(field+".maybe_prepared", "belongs to a refusal only"), false
	}
	if checked != nil && b.GetBranch() == checked {
		return Result{}, true
	}
	if _, ok := checkSpec("", b.GetBranch()); !ok {
		return checkSpec(field+".branch", b.GetBranch())
	}
	return Result{}, true
}
