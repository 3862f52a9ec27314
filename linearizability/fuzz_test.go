package linearizability

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzRead: whatever the file holds, it is read, or refused by a line's number; what
// is read can be written and read again to the same history; and what is judged
// neither panics nor hangs.
func FuzzRead(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.jsonl"))
		if err != nil || len(files) == 0 {
			f.Fatal("no seeds", err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte(`{"line":"header","format":1}` + "\n" + `{"line":"call","id":1,"client":1,"at":5,"kind":"begin","gid":"g"}` + "\n" + `{"line":"ret`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := Read(bytes.NewReader(text))
		if err != nil {
			if wrong := (*LineError)(nil); !errors.As(err, &wrong) || wrong.Line < 1 || wrong.Why == "" || wrong.Do == "" {
				t.Fatalf("refused without saying where, why and what to do: %v", err)
			}
			return
		}
		var again bytes.Buffer
		if err := Write(&again, h); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		h2, err := Read(&again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if len(h.Operations) != len(h2.Operations) || len(h.Observations) != len(h2.Observations) {
			t.Fatalf("%d operations and %d observations became %d and %d",
				len(h.Operations), len(h.Observations), len(h2.Operations), len(h2.Observations))
		}
		if len(h.Operations) > 60 {
			return // a search that is too long is no finding
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		Check(ctx, h, Options{Timeout: 200 * time.Millisecond})
	})
}

// TestReadRefuses: each error names the line, says why, and what to do.
func TestReadRefuses(t *testing.T) {
	const head = `{"line":"header","format":1}` + "\n"
	const call = `{"line":"call","id":1,"client":1,"at":5,"kind":"begin","gid":"g"}` + "\n"
	for _, c := range []struct {
		name, text string
		line       int
		why        string
	}{
		{"nothing", "", 1, "empty"},
		{"no header", call, 1, "no header"},
		{"two headers", head + head, 2, "second header"},
		{"no JSON", head + "x\n", 2, "no JSON"},
		{"another format", `{"line":"header","format":2}` + "\n", 1, "format 2"},
		{"a field misspelt", head + `{"line":"call","id":1,"client":1,"at":5,"kind":"begin","gidd":"g"}` + "\n", 2, "gidd"},
		{"an unknown line", head + `{"line":"remark"}` + "\n", 2, `"remark"`},
		{"an unknown kind", head + `{"line":"call","id":1,"client":1,"at":5,"kind":"began","gid":"g"}` + "\n", 2, `kind is "began"`},
		{"no transaction", head + `{"line":"call","id":1,"client":1,"at":5,"kind":"begin"}` + "\n", 2, "without a gid or a key"},
		{"no branch", head + `{"line":"call","id":1,"client":1,"at":5,"kind":"vote","gid":"g","input":{"vote":"prepared"}}` + "\n", 2, "vote without a branch"},
		{"no time", head + `{"line":"call","id":1,"client":1,"kind":"begin","gid":"g"}` + "\n", 2, "without a time"},
		{"two calls", head + call + call, 3, "second call with id 1"},
		{"a return of nothing", head + `{"line":"return","id":3,"at":5,"status":"ok"}` + "\n", 2, "not pending"},
		{"two returns", head + call + `{"line":"return","id":1,"at":5,"status":"ok"}` + "\n" + `{"line":"return","id":1,"at":5,"status":"ok"}` + "\n", 4, "not pending"},
		{"back in time", head + call + `{"line":"return","id":1,"at":4,"status":"ok"}` + "\n", 3, "before its call"},
		{"a refusal without reason", head + call + `{"line":"return","id":1,"at":9,"status":"refused"}` + "\n", 3, "without a reason"},
		{"an unknown state", head + call + `{"line":"return","id":1,"at":9,"status":"ok","output":{"state":"COMMITTED"}}` + "\n", 3, `state is "COMMITTED"`},
		{"two values", head + `{"line":"observe","sight":"quiescent"} {}` + "\n", 2, "more than one JSON value"},
		{"a journal of nothing", head + `{"line":"observe","sight":"journal","gid":"g","branch":"1"}` + "\n", 2, "without a step"},
		{"a bare commit with a set", head + `{"line":"call","id":1,"client":1,"at":5,"kind":"commit","gid":"g","input":{"bare":true,"set":["1"]}}` + "\n", 2, "bare commit that names a set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader([]byte(c.text)))
			wrong := (*LineError)(nil)
			if !errors.As(err, &wrong) || wrong.Line != c.line || !bytes.Contains([]byte(wrong.Why), []byte(c.why)) || wrong.Do == "" {
				t.Fatalf("%v; want line %d, %q", err, c.line, c.why)
			}
		})
	}
}

// TestOutOfTimeIsRed: a check that cannot come to its end has not passed.
func TestOutOfTimeIsRed(t *testing.T) {
	// Twenty unknown votes that conflict, under an answer that nothing explains: the
	// search must go through their orders.
	h := &History{Header: Header{Format: Format}}
	add := func(op Operation) {
		op.GID, op.Call = "g", int64(len(h.Operations)+1)
		if op.Status != StatusUnknown {
			op.Return = op.Call
		}
		h.Operations = append(h.Operations, op)
	}
	add(Operation{Kind: KindBegin, Status: StatusOK, Output: Output{Created: true}})
	for i := range 20 {
		add(Operation{Kind: KindEnlist, Branch: string(rune('a' + i)), Status: StatusUnknown})
	}
	add(Operation{Kind: KindGet, Status: StatusOK, Output: Output{State: StateSealed}})
	report := Check(context.Background(), h, Options{Timeout: 50 * time.Millisecond})
	if broken := report.Broken(); len(broken) != 1 || broken[0] != promiseTimeout {
		t.Fatalf("reported %v", report.Violations)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if report := Check(ctx, generate(1, 3, 5, 0), Options{}); report.OK() || report.Broken()[0] != promiseTimeout {
		t.Fatalf("a check that was ended before it began: %v", report.Violations)
	}
}
