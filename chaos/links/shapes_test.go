package links_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
)

// binary is the program under test, built once.
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
	dir, err := os.MkdirTemp("", "quorate-links-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "quorate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// linked is a cluster with a proxy on every link.
type linked struct {
	t       *testing.T
	net     *links.Network
	cluster *cluster.Cluster
	names   []string
}

func startLinked(t *testing.T, nodes int, more ...func(*cluster.Config)) *linked {
	t.Helper()
	dir := t.TempDir()
	net, err := links.New(filepath.Join(dir, "links"), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(net.Close)
	cfg := cluster.Config{
		Binary: binary, Nodes: nodes, Dir: filepath.Join(dir, "nodes"), Prepare: net.Nodes,
		Env: func(node string, _ int) []string {
			env, err := net.Dials(node)
			if err != nil {
				t.Error(err)
			}
			return env
		},
	}
	for _, f := range more {
		f(&cfg)
	}
	c, err := cluster.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	l := &linked{t: t, net: net, cluster: c}
	for _, n := range c.Nodes() {
		l.names = append(l.names, n.Name)
	}
	return l
}

func (l *linked) status(name string) *quoratev1.StatusResponse {
	l.t.Helper()
	n, _ := l.cluster.Node(name)
	status, err := n.Status(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return status
}

func (l *linked) leader() string {
	l.t.Helper()
	n, err := l.cluster.WaitLeader(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return n.Name
}

// whole waits until nothing of a partition is left.
func (l *linked) whole() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	if err := l.cluster.WaitWhole(ctx); err != nil {
		l.t.Fatal(err)
	}
}

// wantSuccessor waits until one of the given nodes leads, and the old leader
// does not any more.
func (l *linked) wantSuccessor(old string, among []string) string {
	l.t.Helper()
	var next string
	testkit.Eventually(l.t, 15*time.Second, func() bool {
		n, ok := l.cluster.Leader(l.t.Context())
		if !ok || !slices.Contains(among, n.Name) {
			return false
		}
		next = n.Name
		return l.status(old).GetRole() != quoratev1.Role_ROLE_LEADER
	}, "one of %v to lead instead of %s", among, old)
	return next
}

// wantHeard waits until the leader hears exactly these nodes.
func (l *linked) wantHeard(leader string, want ...string) {
	l.t.Helper()
	slices.Sort(want)
	var got []string
	testkit.EventuallyNoError(l.t, 10*time.Second, func() error {
		got = nil
		for _, n := range l.status(leader).GetNodes() {
			if n.GetHealthy() && n.GetName() != leader {
				got = append(got, n.GetName())
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%s hears %v, not %v", leader, got, want)
		}
		return nil
	})
}

// decides has the cluster decide a transaction, through nodes that are named.
func (l *linked) decides(through ...string) {
	l.t.Helper()
	var seeds []string
	for _, name := range through {
		n, _ := l.cluster.Node(name)
		seeds = append(seeds, n.GRPC)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 15*time.Second)
	defer cancel()
	client, err := participant.Dial(ctx, seeds)
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	if err := client.Run(ctx, func(context.Context) error { return nil }); err != nil {
		l.t.Fatalf("no decision through %v: %v", through, err)
	}
}

// partition cuts ways until the test ends at the latest.
func (l *linked) partition(ways []links.Way) *links.Partition {
	p := l.net.Partition(ways)
	l.t.Cleanup(func() { p.Heal(true) })
	return p
}

func (l *linked) heal(p *links.Partition, forget bool) {
	l.t.Helper()
	evidence, err := p.Evidence()
	if err != nil {
		l.t.Errorf("%s: %v", p, err)
	}
	l.t.Logf("%s: %s", p, evidence)
	p.Heal(forget)
	l.whole()
	l.decides(l.names...)
}

// Each of the five partitions, of a cluster of five, is what it says.
func TestPartitionShapes(t *testing.T) {
	l := startLinked(t, 5)

	t.Run("the leader alone", func(t *testing.T) {
		l.t = t
		leader := l.leader()
		others := links.Without(l.names, leader)
		term := l.status(leader).GetTerm()
		p := l.partition(links.Both([]string{leader}, others))
		next := l.wantSuccessor(leader, others)
		l.wantHeard(next, links.Without(others, next)...)
		l.decides(others...)
		if now := l.status(leader).GetTerm(); now != term {
			t.Errorf("%s went from term %d to %d while it heard nobody", leader, term, now)
		}
		l.heal(p, false)
	})

	t.Run("majority and minority", func(t *testing.T) {
		l.t = t
		leader := l.leader()
		others := links.Without(l.names, leader)
		minority, majority := []string{leader, others[0]}, others[1:]
		p := l.partition(links.Both(minority, majority))
		next := l.wantSuccessor(leader, majority)
		l.wantHeard(next, links.Without(majority, next)...)
		l.decides(majority...)
		if role := l.status(others[0]).GetRole(); role == quoratev1.Role_ROLE_LEADER {
			t.Errorf("%s leads a minority", others[0])
		}
		l.heal(p, true)
	})

	// The leader is not heard; what the others say would arrive, on connections
	// that are open: new ones want both ways.
	t.Run("one way, from the leader", func(t *testing.T) {
		l.t = t
		leader := l.leader()
		others := links.Without(l.names, leader)
		var back links.Counts
		for _, other := range others {
			back = back.Plus(l.net.Counts(other, leader))
		}
		p := l.partition(links.OneWay([]string{leader}, others))
		next := l.wantSuccessor(leader, others)
		l.wantHeard(next, links.Without(others, next)...)
		var now links.Counts
		for _, other := range others {
			now = now.Plus(l.net.Counts(other, leader))
		}
		if held := now.Minus(back).Held; held != 0 {
			t.Errorf("%d reads to %s were held, on the way that is free", held, leader)
		}
		l.heal(p, false)
	})

	// What the others say is lost: the leader steps down though it is heard.
	t.Run("one way, to the leader", func(t *testing.T) {
		l.t = t
		leader := l.leader()
		others := links.Without(l.names, leader)
		p := l.partition(links.OneWay(others, []string{leader}))
		next := l.wantSuccessor(leader, others)
		l.wantHeard(next, links.Without(others, next)...)
		l.decides(others...)
		l.heal(p, false)
	})

	// A bridge, one of the leader's half, and the leader are a majority: it leads on.
	t.Run("bridge", func(t *testing.T) {
		l.t = t
		leader := l.leader()
		others := links.Without(l.names, leader)
		bridge, near, far := others[0], others[1], others[2:]
		term := l.status(leader).GetTerm()
		ordered := append([]string{leader, near, bridge}, far...)
		p := l.partition(links.Bridge(ordered, bridge))
		l.wantHeard(leader, bridge, near)
		l.decides(leader, bridge, near)
		if now := l.status(leader); now.GetTerm() != term || now.GetRole() != quoratev1.Role_ROLE_LEADER {
			t.Errorf("%s, which has a majority through the bridge, went from term %d to %d", leader, term, now.GetTerm())
		}
		l.heal(p, false)
	})

	t.Run("flapping", func(t *testing.T) {
		l.t = t
		one := links.Without(l.names, l.leader())[0]
		p := l.partition(links.Both([]string{one}, links.Without(l.names, one)))
		for turn := range 6 {
			held := p.Counts()
			if turn%2 == 0 {
				testkit.Eventually(t, 5*time.Second, func() bool { return p.Counts().Held > held.Held }, "something to be held in turn %d", turn)
			} else {
				testkit.Eventually(t, 5*time.Second, func() bool { return p.Counts().Bytes > held.Bytes }, "something to pass in turn %d", turn)
			}
			p.Flap()
		}
		l.decides(l.names...)
		l.heal(p, false)
	})
}

// A leader that is killed is found dead through the links as it is without them:
// followers need not wait for their timeout.
func TestDeathIsNoticedThroughLinks(t *testing.T) {
	l := startLinked(t, 3)
	name := l.leader()
	leader, _ := l.cluster.Node(name)
	if err := leader.Kill(); err != nil {
		t.Fatal(err)
	}
	others := links.Without(l.names, name)
	testkit.Eventually(t, 10*time.Second, func() bool {
		n, ok := l.cluster.Leader(t.Context())
		return ok && n.Name != name
	}, "a successor")
	found := 0
	for _, other := range others {
		n, _ := l.cluster.Node(other)
		log, err := os.ReadFile(n.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		found += strings.Count(string(log), "the leader's process is gone: starting an election")
	}
	if found == 0 {
		t.Error("nobody found the leader dead: its links do not refuse as a dead process does")
	}
	if err := leader.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.whole()
}
