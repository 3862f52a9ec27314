package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/testdb"
)

// binary is the real program, built once for all tests that run processes.
var binary string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "quorate-test-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "quorate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	defer testdb.Close()
	return m.Run(), nil
}

// short are options for a run that proves that it works, and measures nothing.
func short(t *testing.T, scenarios ...string) Options {
	o := NewOptions()
	o.Scenarios, o.Binary, o.Dir, o.Profile = scenarios, binary, filepath.Join(t.TempDir(), "bench"), "fast"
	o.Callers, o.Duration, o.WarmUp, o.Runs = []int{8}, 300*time.Millisecond, 50*time.Millisecond, 1
	o.Progress, o.Opener = t.Output(), drivers.Open
	return o
}

// TestEveryScenarioBesideItsFloor runs each once against real clusters: every answer
// is compared with the state at all nodes, and single operations leave exactly as many
// records as they must, the floor's too.
func TestEveryScenarioBesideItsFloor(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), short(t, Names()...))
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != len(Names()) {
		t.Fatalf("%d rows of %d scenarios", len(report.Rows), len(Names()))
	}
	for _, row := range report.Rows {
		if row.Scenario != proposeName {
			checkRow(t, row)
			checkOneOperation(t, row)
		} else if one := row.Slices[proposeName][0]; one.P50 <= 0 || one.Cost.Records < 1 || one.Cost.Records > 1.1 {
			t.Errorf("propose: %+v, %+v", one, one.Cost)
		}
	}
}

// TestSubmitsOverAStreamBesideTheirFloor: every answer is compared with the state here, too.
func TestSubmitsOverAStreamBesideTheirFloor(t *testing.T) {
	t.Parallel()
	o := short(t, "decide", "submit")
	o.Stream = true
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"decide-stream", "submit-stream"} {
		row := report.Rows[i]
		if row.Scenario != want || row.PerSecond <= 0 || row.Ratio == nil || row.Slices[sideFloor][0].Done == 0 {
			t.Errorf("%+v, want %s", row, want)
		}
		if product := row.Slices[sideProduct][0]; product.Compared < int(product.Done) || product.Cost.Records < 1 {
			t.Errorf("%s: %d answers were compared of %d, with %v records each", want, product.Compared, product.Done, product.Cost.Records)
		}
	}
}

// tellingOperations take more CPU than the kernel's clock tick of ten milliseconds, in
// every process: of fewer, on a busy machine, it may have seen none.
const tellingOperations = 1000

func checkRow(t *testing.T, row Row) {
	t.Helper()
	product, floor := row.Slices[sideProduct][0], row.Slices[sideFloor][0]
	switch {
	case row.PerSecond <= 0 || row.P50MS <= 0 || row.P99MS < row.P50MS:
		t.Errorf("%s: %.1f a second, p50 %v ms, p99 %v ms", row.Scenario, row.PerSecond, row.P50MS, row.P99MS)
	case row.Floor == nil || row.Ratio == nil || *row.Floor <= 0:
		t.Errorf("%s has no floor", row.Scenario)
	case row.Records == nil || *row.Records < recordsOf[row.Scenario].inAll && row.Scenario != transferName:
		t.Errorf("%s: %v records an operation", row.Scenario, figure(row.Records, "%.2f"))
	case row.LeaderUS == nil || product.Done >= tellingOperations && (*row.LeaderUS <= 0 || product.Cost.FollowersUS <= 0 || product.Cost.LoadUS <= 0):
		t.Errorf("%s: the CPU was not measured: %+v", row.Scenario, product.Cost)
	case product.Compared < int(product.Done) && row.Scenario != "read":
		t.Errorf("%s: %d answers were compared of %d", row.Scenario, product.Compared, product.Done)
	case product.Compared < readable/16*16 && row.Scenario == "read":
		t.Errorf("read: %d transactions were compared", product.Compared)
	case floor.Done == 0:
		t.Errorf("%s: the floor did nothing", row.Scenario)
	}
}

// checkOneOperation looks at what single operations left, but for transfers, whose
// participants are not the benchmark's own.
func checkOneOperation(t *testing.T, row Row) {
	t.Helper()
	sc, err := findScenario(row.Scenario)
	if err != nil {
		return
	}
	checkRecords(t, row.Scenario, row.Footprints[sideProduct])
	checkFloorIsOne(t, sc, row.Footprints[sideProduct], row.Footprints[sideFloor])
	if row.Before == nil || *row.Before != row.Footprints[sideProduct].Before {
		t.Errorf("%s: %s records before the answer", row.Scenario, figure(row.Before, "%.0f"))
	}
}

// TestStreamedSubmits leave the same records as those by a call each.
func TestStreamedSubmits(t *testing.T) {
	t.Parallel()
	o := short(t, "decide")
	o.Stream = true
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	row := report.Rows[0]
	if row.Scenario != "decide-stream" {
		t.Errorf("it is shown as %s", row.Scenario)
	}
	checkRecords(t, "decide", row.Footprints[sideProduct])
	checkFloorIsOne(t, scenario{Name: row.Scenario, floorRecords: 2}, row.Footprints[sideProduct], row.Footprints[sideFloor])
}

// TestARunningClusterIsMeasured by its addresses alone.
func TestARunningClusterIsMeasured(t *testing.T) {
	t.Parallel()
	s := startProduct(t)
	o := short(t, "decide")
	o.Endpoints, o.Rate = s.cluster.Endpoints(), 200
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	row := report.Rows[0]
	if row.Floor != nil || row.Records == nil || *row.Records < 2 || row.PerSecond > 250 {
		t.Errorf("%s", row.line())
	}
}

func startProduct(t *testing.T) *system {
	t.Helper()
	o := short(t, "decide")
	o.LogStore = "wal"
	s, err := startSystem(t.Context(), o, "product", commandServe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestAWrongAnswerIsFound: what was told and is not so in the state is an error.
func TestAWrongAnswerIsFound(t *testing.T) {
	t.Parallel()
	s := startProduct(t)
	r := &runner{o: short(t, "submit")}
	sc, err := findScenario("submit")
	if err != nil {
		t.Fatal(err)
	}
	b, closeBed, err := r.bed(t.Context(), s, sc)
	if err != nil {
		t.Fatal(err)
	}
	defer closeBed()
	for range 3 {
		if err := sc.operate(t.Context(), b, 0); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.verify(t.Context()); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	honest := b.answers.told
	lie := honest[1]
	lie.decision = quoratev1.Decision_DECISION_ROLLBACK
	unseen := told{gid: s.t.freshGID(), decision: quoratev1.Decision_DECISION_COMMIT}
	for _, wrong := range []told{lie, unseen} {
		b.answers.told = append(honest[:len(honest):len(honest)], wrong)
		if _, err := b.verify(t.Context()); err == nil || !strings.Contains(err.Error(), wrong.gid) {
			t.Errorf("an answer of %v for %s: %v", wrong.decision, wrong.gid, err)
		}
	}
	unseen.unknown = true // nobody was told anything: it may have never arrived
	b.answers.told = []told{unseen}
	if _, err := b.verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAStalledLeaderShows: the leader's process stands still for 400 ms while calls are
// due by a timetable. All of them are made, every answer holds, and those that waited
// are counted with their wait, be it that the leader goes on or that another one takes over.
func TestAStalledLeaderShows(t *testing.T) {
	t.Parallel()
	s := startProduct(t)
	r := &runner{o: short(t, "submit")}
	r.o.Rate, r.o.Duration, r.o.WarmUp = 200, 1500*time.Millisecond, 0
	sc, err := findScenario("submit")
	if err != nil {
		t.Fatal(err)
	}
	b, closeBed, err := r.bed(t.Context(), s, sc)
	if err != nil {
		t.Fatal(err)
	}
	defer closeBed()
	leader, err := s.cluster.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const stall = 400 * time.Millisecond
	var calls atomic.Int64
	resumed := make(chan error, 1)
	one, err := r.counted(t.Context(), s, 64, func(ctx context.Context, caller int) error {
		if calls.Add(1) == 50 {
			if err := leader.Pause(); err != nil {
				return err
			}
			time.AfterFunc(stall, func() { resumed <- leader.Resume() })
		}
		return sc.operate(ctx, b, caller)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-resumed; err != nil {
		t.Fatal(err)
	}
	if one.Done != 300 {
		t.Errorf("%d calls were made of the 300 that were due", one.Done)
	}
	if one.P99 < stall*3/4 {
		t.Errorf("p99 is %v although nobody was answered for %v", one.P99, stall)
	}
	if n, err := b.verify(t.Context()); n != 300 || err != nil {
		t.Errorf("%d answers compared: %v", n, err)
	}
}

// TestTransferBetweenDatabases moves money between Postgres and MariaDB.
func TestTransferBetweenDatabases(t *testing.T) {
	t.Parallel()
	o := short(t, transferName)
	o.Callers = []int{4}
	o.Stores = [2]bankstore.Spec{{Kind: bankstore.Postgres, DSN: testdb.Postgres(t)}, {Kind: bankstore.MySQL, DSN: testdb.MySQL(t)}}
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkRow(t, report.Rows[0])
}

func TestOptionsAreChecked(t *testing.T) {
	for text, spoil := range map[string]func(*Options){
		"name a scenario":    func(o *Options) { o.Scenarios = nil },
		`named "decid"`:      func(o *Options) { o.Scenarios = []string{"decid"} },
		"--callers 0":        func(o *Options) { o.Callers = []int{1, 0} },
		"--runs 0":           func(o *Options) { o.Runs = 0 },
		"--duration 1ms":     func(o *Options) { o.Duration = time.Millisecond },
		"--log-store badger": func(o *Options) { o.LogStore = "badger" },
		"--nodes 4":          func(o *Options) { o.Nodes = 4 },
		"--peer zookeeper":   func(o *Options) { o.Peer = "zookeeper" },
		"propose runs on":    func(o *Options) { o.Scenarios, o.NoFloor = []string{"propose"}, true },
		"--rate -1":          func(o *Options) { o.Rate = -1 },
		"--warm-up -1s":      func(o *Options) { o.WarmUp = -time.Second },
		"--callers is empty": func(o *Options) { o.Callers = nil },
	} {
		o := NewOptions()
		o.Scenarios = []string{"decide"}
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestNoLeaderIsAnError, and no wait without end.
func TestNoLeaderIsAnError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if target, err := newTarget(ctx, []string{"127.0.0.1:1"}, insecure.NewCredentials()); err == nil {
		t.Error("a leader was found where nobody listens")
	} else {
		target.close()
	}
}

// TestEtcdBesideIt, where etcd is installed; where not, the error says what to do.
func TestEtcdBesideIt(t *testing.T) {
	t.Parallel()
	o := short(t, "submit")
	o.Peer, o.NoFloor = peerEtcd, true
	report, err := Run(t.Context(), o)
	if _, missing := exec.LookPath("etcd"); missing != nil {
		if err == nil || !strings.Contains(err.Error(), "apt-get install etcd-server") {
			t.Errorf("etcd is not installed: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if row := report.Rows[len(report.Rows)-1]; row.Scenario != sideEtcd || row.PerSecond <= 0 || row.Slices[sideEtcd][0].Compared == 0 {
		t.Errorf("%s", row.line())
	}
}
