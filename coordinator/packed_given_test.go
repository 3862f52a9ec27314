package coordinator

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// TestPackedReportsLeaveWhatWasNotGiven: a word that may be said again stays as it is, one
// that was given goes in itself, and what the log is told is the same.
func TestPackedReportsLeaveWhatWasNotGiven(t *testing.T) {
	gid := fsm.NewGID(5, [10]byte{1})
	said := func(given bool) (words []said) {
		for _, branch := range []string{"1", "2"} {
			words = append(words, saidOf(gid, branch, given))
		}
		return words
	}
	kept, given := said(false), said(true)
	want := packed(gid, kept)
	for i, w := range kept {
		if !proto.Equal(w.command, said(false)[i].command) {
			t.Errorf("a word that may be said again has become %v", w.command)
		}
		if w.command.GetReport() == want.GetReports().GetReports()[i] {
			t.Error("a word that may be said again is shared")
		}
	}
	got := packed(gid, given)
	if !proto.Equal(got, want) {
		t.Errorf("given: %v, want %v", got, want)
	}
	if got.GetReports().GetReports()[1] != given[1].command.GetReport() {
		t.Error("a word that was given is copied")
	}
	mixed := said(true)
	mixed[1].command = answerOf(&logpb.Answer{Gid: gid.Bytes(), Branch: "2"})
	if packed(gid, mixed) != nil || !proto.Equal(mixed[0].command, said(true)[0].command) {
		t.Errorf("words of two kinds: %v", mixed[0].command)
	}
}

func saidOf(gid fsm.GID, branch string, given bool) said {
	return said{branch: branch, given: given, command: reportOf(&logpb.Report{
		Gid: gid.Bytes(), Branch: branch, Outcome: logpb.Outcome_OUTCOME_COMMITTED, Detail: "done", Attempts: 3, Holder: []byte("0123456789abcdef"),
	})}
}
