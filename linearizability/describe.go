package linearizability

import (
	"fmt"
	"strconv"
	"strings"
)

// describeOperation is an operation on one line: who, what, on which object, and
// what came back.
func describeOperation(op *Operation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "c%d %s", op.Client, op.Kind)
	if op.Branch != "" {
		fmt.Fprintf(&b, " branch %s", op.Branch)
	}
	b.WriteString(inputText(&op.Input))
	switch {
	case op.Key != "" && op.GID != "":
		fmt.Fprintf(&b, " of %s, key %s", short(op.GID), op.Key)
	case op.Key != "":
		fmt.Fprintf(&b, " of key:%s", op.Key)
	case op.GID != "":
		fmt.Fprintf(&b, " of %s", short(op.GID))
	}
	b.WriteString(" → " + outputText(op))
	return b.String()
}

// where is an operation with its time and its line, for reports.
func where(op *Operation) string {
	until := "…"
	if op.Return > 0 {
		until = seconds(op.Return)
	}
	line := ""
	if op.Line > 0 {
		line = "line " + strconv.Itoa(op.Line) + ", "
	}
	return fmt.Sprintf("%s%s–%s: %s", line, seconds(op.Call), until, describeOperation(op))
}

func seconds(ns int64) string { return strconv.FormatFloat(float64(ns)/1e9, 'f', 6, 64) + "s" }

// short is enough of a GID to tell it from its neighbours.
func short(gid string) string {
	if len(gid) != 26 {
		return gid
	}
	return "…" + gid[20:]
}

func inputText(in *Input) string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	if in.Vote != "" {
		add("%s", in.Vote)
	}
	if in.MaybePrepared {
		add("(maybe prepared)")
	}
	if in.Outcome != "" {
		add("%s", in.Outcome)
	}
	if in.Said != "" {
		add("%s", in.Said)
	}
	if in.Operation != "" {
		add("%s", in.Operation)
	}
	if in.Failed {
		add("failed")
	}
	if in.Result != "" {
		add("with result %s", in.Result)
	}
	if in.Entry != "" {
		add("%s", in.Entry)
	}
	if in.Mode != "" {
		add("%s", in.Mode)
	}
	if in.TimeoutMS != 0 {
		add("timeout %d ms", in.TimeoutMS)
	}
	if in.Content != "" {
		add("content %s", in.Content)
	}
	if in.Resource != "" || in.Endpoint != "" || in.Holder != "" {
		add("at %s", strings.Trim(in.Resource+" "+in.Endpoint+" "+in.Holder, " "))
	}
	if in.Held {
		add("held")
	}
	if in.Bare {
		add("bare")
	}
	if in.Set != nil {
		add("{%s}", strings.Join(in.Set, " "))
	}
	if len(in.Branches) > 0 {
		ids := make([]string, len(in.Branches))
		for i, branch := range in.Branches {
			ids[i] = branch.ID
			if branch.Held {
				ids[i] += "!"
			}
			if branch.named() {
				ids[i] += "?"
			}
		}
		add("{%s}", strings.Join(ids, " "))
	}
	for _, ballot := range in.Votes {
		add("%s:%s", ballot.Branch.ID, ballot.Vote)
	}
	if in.Operator != "" {
		add("by operator %s", in.Operator)
	}
	if in.Participant {
		add("by a participant")
	}
	if in.Wait != "" && in.Wait != WaitDecision {
		add("wait %s", in.Wait)
	}
	if in.Consistency == Local {
		add("local")
	}
	if in.MinIndex > 0 {
		add("from index %d", in.MinIndex)
	}
	return b.String()
}

func outputText(op *Operation) string {
	out := &op.Output
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch op.Status {
	case StatusUnknown, "":
		return strings.TrimSpace("unknown " + op.Error)
	case StatusFailed:
		return strings.TrimSpace("failed " + out.Refusal)
	case StatusRefused:
		add("%s", out.Refusal)
	default:
		add("ok")
	}
	if out.GID != "" && out.GID != op.GID {
		add("gid %s", short(out.GID))
	}
	if out.Created {
		add("created")
	}
	if out.Decision != "" {
		add("%s", out.Decision)
	}
	if out.State != "" {
		add("(%s)", out.State)
	}
	if out.Stopped {
		add("stopped")
	}
	if out.Result != "" {
		add("result %s", out.Result)
	}
	if out.Reason != "" {
		add("%s", out.Reason)
	}
	if out.Verdict != "" {
		add("verdict %s", out.Verdict)
	}
	if out.Unseen {
		add("unseen")
	}
	for _, b := range out.Branches {
		vote := string(b.Vote)
		switch {
		case b.Hint:
			vote = "only named"
		case vote == "":
			vote = "no vote"
		}
		if b.Terminal {
			vote += ", ended"
		}
		add("[%s %s]", b.ID, vote)
	}
	if out.DecisionIndex > 0 {
		add("decided at %d", out.DecisionIndex)
	}
	if out.AppliedIndex > 0 {
		add("@%d", out.AppliedIndex)
	}
	return strings.Join(words, " ")
}

// describe is an event in porcupine's drawing.
func (e *event) describe() string {
	switch e.role {
	case roleOver:
		return "(what was not needed never happened)"
	case roleTimeout:
		return "(the deadline passed)"
	case roleLost:
		return "(a holder was lost)"
	case roleDrive:
		return "(the leader's driver committed)"
	case roleDone:
		return "(the called branches were done)"
	case roleUndone:
		return "(a called branch was not done)"
	case roleLogged:
		return "(the log: " + string(e.kind) + " " + e.branch.ID + inputText(e.input) + ")"
	case rolePresume:
		return "(an unseen GID was ended: " + describeOperation(e.op) + ")"
	case roleAsk:
		return describeOperation(e.op) + " [asked]"
	case roleAwait:
		return describeOperation(e.op) + " [heard]"
	default:
		return describeOperation(e.op)
	}
}

// describe is a state in porcupine's drawing.
func (t *tx) describe() string {
	if t.phase == phaseOver {
		return "over"
	}
	if t.phase == phaseUnseen {
		if t.gone {
			return "expired"
		}
		return "unseen"
	}
	var b strings.Builder
	if t.called() {
		b.WriteString(t.mode + " ")
	}
	b.WriteString(string(t.state()))
	if t.reason != "" {
		b.WriteString(" " + t.reason)
	}
	if t.stopped {
		b.WriteString(", stopped")
	}
	if t.tombstone {
		b.WriteString(", a tombstone")
	}
	for i := range t.members {
		m := &t.members[i]
		vote := string(m.vote)
		switch {
		case m.hint:
			vote = "only named"
		case m.word != "":
			vote = m.word
		case vote == "" && t.called():
			vote = "not answered"
		case vote == "":
			vote = "no vote"
		}
		fmt.Fprintf(&b, "; %s %s", m.ID, vote)
		if m.terminal() {
			b.WriteString(" ended")
		}
	}
	return b.String()
}
