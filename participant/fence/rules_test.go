package fence

import (
	"errors"
	"testing"
)

// TestEveryRule is the law as a table: each state, each kind of operation.
func TestEveryRule(t *testing.T) {
	const (
		run  = "run"
		skip = "skip"
	)
	type row struct {
		state   State // "": nothing stands
		o       Operation
		what    string
		next    State
		refused error
	}
	for _, r := range []row{
		{"", Action, run, StateDone, nil},
		{StateOpen, Action, run, StateDone, nil},
		{StateDone, Action, skip, StateDone, nil},
		{StateRefused, Action, "", "", ErrRefused},
		{StateConfirmed, Try, skip, StateConfirmed, nil},
		{StateUndone, Action, "", "", ErrLate},
		{StateFenced, Try, "", "", ErrLate},

		{"", Compensate, skip, StateFenced, nil},
		{StateOpen, Cancel, skip, StateFenced, nil},
		{StateDone, Compensate, run, StateUndone, nil},
		{StateRefused, Compensate, skip, StateFenced, nil},
		{StateConfirmed, Cancel, "", "", ErrOrder},
		{StateUndone, Cancel, skip, StateUndone, nil},
		{StateFenced, Compensate, skip, StateFenced, nil},

		{"", Confirm, "", "", ErrOrder},
		{StateOpen, Confirm, "", "", ErrOrder},
		{StateDone, Confirm, run, StateConfirmed, nil},
		{StateRefused, Confirm, "", "", ErrOrder},
		{StateConfirmed, Confirm, skip, StateConfirmed, nil},
		{StateUndone, Confirm, "", "", ErrOrder},
		{StateFenced, Confirm, "", "", ErrOrder},
	} {
		var standing *Record
		if r.state != "" {
			standing = &Record{State: r.state, Epoch: Epoch{1, 5}}
		}
		// An older, the same and a newer epoch; of the endings all are obeyed.
		for _, e := range []Epoch{{}, {1, 4}, {1, 5}, {1, 6}, {2, 1}} {
			got := decide(standing, Call{GID: "g", Branch: "b", Operation: r.o, Epoch: e})
			want := r
			if r.o.forward() && r.refused != ErrLate && standing != nil && e == (Epoch{1, 4}) {
				want = row{refused: ErrStale}
			}
			newest := e
			if standing != nil && e.Compare(standing.Epoch) < 0 {
				newest = standing.Epoch
			}
			switch {
			case want.refused != nil:
				if !errors.Is(got.err, want.refused) || got.run {
					t.Errorf("%q, %s in epoch %s: %+v, want the error %v", r.state, r.o, e, got, want.refused)
				}
			case got.err != nil || got.run != (want.what == run) || got.next.State != want.next || got.next.Epoch != newest:
				t.Errorf("%q, %s in epoch %s: %+v, want %s and %s with epoch %s", r.state, r.o, e, got, want.what, want.next, newest)
			}
		}
	}
}

func TestEpochsAreOrdered(t *testing.T) {
	in := []Epoch{{}, {0, 1}, {0, 10}, {1, 0}, {1, 2}, {1, 10}, {2, 1}}
	for i, a := range in {
		if back, err := parseEpoch(a.String()); err != nil || back != a {
			t.Errorf("%s is read as %s, %v", a, back, err)
		}
		for j, b := range in {
			if got := a.Compare(b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s compared with %s: %d", a, b, got)
			}
		}
	}
	for _, bad := range []string{"", "1", "1.", ".1", "-1.2", "1.2.3", "1,2", "99999999999999999999.1", "9223372036854775808.1"} {
		if e, err := parseEpoch(bad); !errors.Is(err, ErrCall) {
			t.Errorf("epoch %q is read as %s, %v", bad, e, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add("done 1.2 ")
	f.Add("refused 1.2 sold out, again")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := decodeRecord(s)
		if err != nil {
			return
		}
		again, err := decodeRecord(r.encode())
		if err != nil || *again != *r {
			t.Fatalf("%q: %+v, and again %+v, %v", s, r, again, err)
		}
	})
}

func FuzzClip(f *testing.F) {
	f.Add("注文")
	f.Fuzz(func(t *testing.T, s string) {
		got := clip(s + s + s + s)
		if len(got) > detailBytesMax {
			t.Fatalf("%d bytes are left", len(got))
		}
	})
}
