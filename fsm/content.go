package fsm

import (
	"strings"
	"unicode/utf8"

	"github.com/quorate/quorate/fsm/logpb"
)

// checkText refuses text that is too long, not UTF-8, or holds control
// characters. The ranges are written out: Unicode's tables change from one
// version of Go to the next, and nodes of two versions must agree.
func checkText(field, text string, most uint32) (Result, bool) {
	if len(text) > int(most) {
		return invalid(field, "is of %d bytes: at most %d are allowed", len(text), most), false
	}
	return checkPrintable(field, text)
}

func checkPrintable(field, text string) (Result, bool) {
	if !utf8.ValidString(text) {
		return invalid(field, "is not UTF-8: %q", text), false
	}
	if strings.ContainsFunc(text, isControl) {
		return invalid(field, "holds a control character: %q", text), false
	}
	return Result{}, true
}

func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7F && r < 0xA0 || r == 0x2028 || r == 0x2029 || r == 0xFEFF
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

// checkBegin refuses a malformed Begin.
func (s *State) checkBegin(b *logpb.Begin) (Result, bool) {
	if len(b.GetGid()) != len(GID{}) {
		return invalid("gid", "is of %d bytes: a ULID has 16", len(b.GetGid())), false
	}
	rules, ok := rulesOf(b.GetMode())
	if !ok {
		return invalid("mode", "%d is unknown", b.GetMode()), false
	}
	if !rules.open {
		return invalid("mode", "%s is not offered by this version: use two-phase", rules.name), false
	}
	if e := b.GetEntry(); e != logpb.Entry_ENTRY_EXPLICIT && e != logpb.Entry_ENTRY_NAMED {
		return invalid("entry", "is neither explicit nor named"), false
	}
	if most := s.limits.GetTransactionTimeoutMaxMs(); b.GetTimeoutMs() > most {
		return invalid("timeout", "is %d ms: transaction_timeout_max_ms is %d", b.GetTimeoutMs(), most), false
	}
	if b.GetTimeoutMs() == 0 && !rules.endless {
		return invalid("timeout", "is 0 ms: it must lie between 1 and transaction_timeout_max_ms, which is %d",
			s.limits.GetTransactionTimeoutMaxMs()), false
	}
	if b.GetNamespace() == "" {
		return invalid("namespace", "is empty"), false
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
		if refusal, ok := checkText(f.field, f.value, f.most); !ok {
			return refusal, false
		}
	}
	return s.checkLabels(b.GetLabels())
}

func (s *State) checkLabels(labels []*logpb.Label) (Result, bool) {
	if most := s.limits.GetLabelsMax(); len(labels) > int(most) {
		return invalid("labels", "are %d: labels_max is %d", len(labels), most), false
	}
	for i, l := range labels {
		if l.GetName() == "" {
			return invalid("labels", "hold one without a name"), false
		}
		if i > 0 && labels[i-1].GetName() >= l.GetName() {
			return invalid("labels", "are not sorted by unique names at %q", l.GetName()), false
		}
		for _, text := range []string{l.GetName(), l.GetValue()} {
			if refusal, ok := checkText("labels", text, s.limits.GetTextBytesMax()); !ok {
				return refusal, false
			}
		}
	}
	return Result{}, true
}

// checkSpec refuses a malformed branch. Lengths are looked at only where the
// branch would join: no limit refuses a member.
func (s *State) checkSpec(field string, spec *logpb.BranchSpec, joins bool) (Result, bool) {
	if spec.GetId() == "" {
		return invalid(field+".id", "is empty"), false
	}
	ids, text := uint32(BranchIDBytesMax), uint32(1<<20)
	if joins {
		ids, text = s.limits.GetBranchIdBytesMax(), s.limits.GetTextBytesMax()
	}
	for _, f := range []struct {
		field, value string
		most         uint32
	}{
		{".id", spec.GetId(), ids},
		{".resource", spec.GetResource(), text},
		{".endpoint", spec.GetEndpoint(), text},
	} {
		if refusal, ok := checkText(field+f.field, f.value, f.most); !ok {
			return refusal, false
		}
	}
	if n := len(spec.GetHolder()); n != 0 && n != 16 {
		return invalid(field+".holder", "is of %d bytes: an instance id has 16", n), false
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
func (s *State) checkSet(ids []string) (Result, bool) {
	for i, id := range ids {
		if refusal, ok := s.checkSpec("set", &logpb.BranchSpec{Id: id}, false); !ok {
			return refusal, false
		}
		if i > 0 && ids[i-1] >= id {
			return invalid("set", "is not sorted by unique ids at %q", id), false
		}
	}
	return Result{}, true
}

// checkBallot refuses a malformed ballot.
func (s *State) checkBallot(field string, b *logpb.Ballot, joins bool) (Result, bool) {
	if k := b.GetKind(); k < votePrepared || k > voteRefused {
		return invalid(field+".kind", "is neither prepared nor read-only nor refused"), false
	}
	if b.GetMaybePrepared() && b.GetKind() != voteRefused {
		return invalid(field+".maybe_prepared", "belongs to a refusal only"), false
	}
	return s.checkSpec(field+".branch", b.GetBranch(), joins)
}
