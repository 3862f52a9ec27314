package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/linearizability"
)

// entry is a log entry that holds one command.
func entry(index, term uint64, c *logpb.Command) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: fsm.EncodeEntry(nil, &logpb.Batch{ClockMs: index, Commands: []*logpb.Command{c}})}
}

func tick() *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}}
}

func begin(n byte) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Begin{Begin: &logpb.Begin{Gid: fsm.NewGID(1, [10]byte{n}).Bytes()}}}
}

// merged merges logs of two nodes; committed says to where they must be equal.
func merged(t *testing.T, committed uint64, logs ...[]*raft.Log) *Replay {
	t.Helper()
	return mergedBehind(t, committed, nil, logs...)
}

// mergedBehind is merged, where some nodes had not caught up.
func mergedBehind(t *testing.T, committed uint64, behind []int, logs ...[]*raft.Log) *Replay {
	t.Helper()
	r := &Replay{Compared: committed}
	var stores []raft.LogStore
	for i, entries := range logs {
		store := raft.NewInmemStore()
		if err := store.StoreLogs(entries); err != nil {
			t.Fatal(err)
		}
		l := NodeLog{Node: "n" + string(rune('1'+i)), CaughtUp: !slices.Contains(behind, i)}
		if len(entries) > 0 {
			l.First, l.Last = entries[0].Index, entries[len(entries)-1].Index
		}
		stores, r.Logs = append(stores, store), append(r.Logs, l)
	}
	if err := r.merge(stores); err != nil {
		t.Fatal(err)
	}
	return r
}

// The comparison of the logs is the last word on what was agreed: it must see a
// single entry that differs, one that is missing, and one that is damaged.
func TestReplaySeesWhatDiffers(t *testing.T) {
	a := []*raft.Log{entry(1, 1, tick()), entry(2, 1, begin(1)), entry(3, 2, begin(2))}
	damaged := entry(2, 1, begin(1))
	damaged.Data = append([]byte(nil), damaged.Data...)
	damaged.Data[len(damaged.Data)-1] ^= 1
	for name, tt := range map[string]struct {
		other []*raft.Log
		want  string // promise of the first finding; empty: none
		whole bool
	}{
		"equal":              {slices.Clone(a), "", true},
		"longer by a tick":   {append(slices.Clone(a), entry(4, 2, tick())), "", true},
		"longer by a client": {append(slices.Clone(a), entry(4, 2, begin(3))), "", false},
		"compacted":          {a[1:], "", true},
		"another term":       {[]*raft.Log{a[0], a[1], entry(3, 3, begin(2))}, "S1", true},
		"another command":    {[]*raft.Log{a[0], entry(2, 1, begin(9)), a[2]}, "S1", true},
		"too short":          {a[:2], "S6", true},
		"damaged":            {[]*raft.Log{a[0], damaged, a[2]}, "S1", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := merged(t, 3, a, tt.other)
			got := ""
			if len(r.Findings) > 0 {
				got = r.Findings[0].Promise
			}
			if got != tt.want || r.Whole != tt.whole || len(r.Entries) != 3 {
				t.Errorf("findings %v, whole %v, %d entries: want %q, %v, 3", r.Findings, r.Whole, len(r.Entries), tt.want, tt.whole)
			}
		})
	}
	if r := merged(t, 3, []*raft.Log{a[0], damaged, a[2]}); len(r.Findings) != 1 || r.Findings[0].Promise != "S18" {
		t.Errorf("a damaged entry that all agree on: %v", r.Findings)
	}
	if r := mergedBehind(t, 3, []int{1}, a, a[:2]); len(r.Findings) != 0 || !r.Whole {
		t.Errorf("a node that had not caught up: %v, whole %v", r.Findings, r.Whole)
	}
	if r := merged(t, 3, a[2:], a[2:]); r.Whole || r.FromStart {
		t.Error("a log that nobody has from its start is called whole")
	}
}

// S17: the state that the log leads to is compared with what the nodes said.
func TestReplaySeesAnotherDigest(t *testing.T) {
	log := []*raft.Log{entry(1, 1, tick()), entry(2, 1, tick())}
	state := fsm.New()
	for _, l := range log {
		if _, err := state.ApplyEntry(l.Index, l.Term, l.Data); err != nil {
			t.Fatal(err)
		}
	}
	digest := state.Digest().String()
	r := merged(t, 2, log, log)
	if r.summary(map[string]string{"n1": digest, "n2": digest}, 2); len(r.Findings) != 0 {
		t.Errorf("equal digests: %v", r.Findings)
	}
	if r.summary(map[string]string{"n1": digest, "n2": "00"}, 2); len(r.Findings) != 1 || r.Findings[0].Promise != "S17" {
		t.Errorf("another digest: %v", r.Findings)
	}
}

// What a client cannot know is never written down as a failure, and only our own
// typed words are definite.
func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status linearizability.Status
	}{
		{nil, linearizability.StatusOK},
		{api.Errorf(api.ReasonNotLeader, "x").GRPCStatus().Err(), linearizability.StatusFailed},
		{api.Errorf(api.ReasonNoLeader, "x").GRPCStatus().Err(), linearizability.StatusFailed},
		{api.Errorf(api.ReasonQuota, "x").GRPCStatus().Err(), linearizability.StatusFailed},
		{api.Errorf(api.ReasonOutcomeUnknown, "x").GRPCStatus().Err(), linearizability.StatusUnknown},
		{api.Errorf(api.ReasonSealed, "x").GRPCStatus().Err(), linearizability.StatusRefused},
		{api.Errorf(api.ReasonNotFound, "x").GRPCStatus().Err(), linearizability.StatusRefused},
		{status.Error(codes.Unavailable, "the stream was reset"), linearizability.StatusUnknown},
		{status.Error(codes.DeadlineExceeded, "too late"), linearizability.StatusUnknown},
		{status.Error(codes.FailedPrecondition, "not ours"), linearizability.StatusUnknown},
		{errors.New("anything"), linearizability.StatusUnknown},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: connection refused"`), linearizability.StatusFailed},
	} {
		if got := classify(tt.err); got.status != tt.status {
			t.Errorf("%v is %s, want %s", tt.err, got.status, tt.status)
		}
	}
}

// S6's witness: what the ledger counted is in the file, and a line that was cut
// by the ledger's own death was never counted.
func TestLedgerCountsWhatIsSynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l, err := NewLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	const lines = 500
	counted := make(chan int, lines)
	for i := range lines {
		l.Acknowledge(Acknowledgement{GID: "g", Kind: "commit", AtNS: int64(i)}, func() { counted <- i })
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"gid":"cut`); err != nil || f.Close() != nil {
		t.Fatal("the ledger cannot be cut")
	}
	all, err := ReadLedger(path)
	if err != nil || len(all) != lines || len(counted) != lines || all[lines-1].AtNS != lines-1 {
		t.Errorf("%d lines, %d counted, %v: want %d of both", len(all), len(counted), err, lines)
	}
}

func TestSelect(t *testing.T) {
	if all, err := Select(nil); err != nil || len(all) != len(Table) {
		t.Errorf("%d faults, %v: want all %d", len(all), err, len(Table))
	}
	if none, err := Select([]string{"none"}); err != nil || len(none) != 0 {
		t.Errorf("none: %v, %v", none, err)
	}
	some, err := Select([]string{"pause", "kill-leader"})
	if err != nil || some[0].Name != "kill-leader" || some[1].Kind != "pause" {
		t.Errorf("a name and a family: %v, %v", some, err)
	}
	if _, err := Select([]string{"kill", "earthquake"}); err == nil || !strings.Contains(err.Error(), "earthquake") {
		t.Errorf("a fault that is none: %v", err)
	}
	seen := map[string]bool{}
	for _, f := range Table {
		if f.Name == "" || f.Kind == "" || f.Doc == "" || f.Inject == nil || seen[f.Name] {
			t.Errorf("the table's %q is not whole, or there twice", f.Name)
		}
		seen[f.Name] = true
	}
}

// Each family is drawn about as often as another, and in about half of the
// windows there are two or three faults; the seed alone decides.
func TestScheduleDraws(t *testing.T) {
	draw := func(seed uint64) (several int, kinds map[string]int, names string) {
		o := NewOptions()
		o.Seed = seed
		s := &schedule{env: newEnv(o), faults: []Fault{
			{Name: "a1", Kind: "a", Weight: 9}, {Name: "a2", Kind: "a"}, {Name: "b", Kind: "b"}, {Name: "c", Kind: "c", Alone: true},
		}}
		kinds = map[string]int{}
		for range 2000 {
			chosen := s.choose()
			if len(chosen) > 1 {
				several++
			}
			for _, f := range chosen {
				kinds[f.Kind]++
				names += f.Name
				if f.Alone && len(chosen) > 1 {
					t.Fatalf("%s shares a window", f.Name)
				}
			}
		}
		return several, kinds, names
	}
	several, kinds, names := draw(7)
	if several < 500 || kinds["a"] < 800 || kinds["b"] < 800 || kinds["c"] < 400 {
		t.Errorf("%d windows of several, kinds %v of 2000", several, kinds)
	}
	if _, _, again := draw(7); again != names {
		t.Error("the same seed draws other faults")
	}
	if _, _, other := draw(8); other == names {
		t.Error("another seed draws the same")
	}
}

func TestSpread(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	if got := spread(all); got != (Spread{P50: 50, P99: 99, Max: 100, N: 100}) {
		t.Errorf("1 to 100 ms: %+v", got)
	}
	if got := spread(nil); got != (Spread{}) {
		t.Errorf("nothing: %+v", got)
	}
}

// A run of a few dozen transactions has its shares, whatever the luck: the judge
// calls one without them vacuous.
func TestTurnsAreNoLuck(t *testing.T) {
	for _, share := range []float64{contendedShare, duplicatedShare} {
		taken := 0.0
		for n := 1; n <= 5000; n++ {
			if turn(int64(n), share) {
				taken++
			}
			if off := taken - share*float64(n); off > 2.5 || off < -2.5 {
				t.Fatalf("%v of %d are taken, %.1f off the share of %v", taken, n, off, share)
			}
		}
	}
}
