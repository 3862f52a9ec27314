package links_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/internal/testkit"
)

// spaced is a cluster whose nodes have a network namespace each.
type spaced struct {
	t       *testing.T
	ns      *links.Namespaces
	clients map[string]quoratev1.ClusterServiceClient
	names   []string
}

func startSpaced(t *testing.T, names ...string) *spaced {
	t.Helper()
	ns, err := links.NewNamespaces(names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &spaced{t: t, ns: ns, names: names, clients: map[string]quoratev1.ClusterServiceClient{}}
	dir := t.TempDir()
	seeds := func(but string) string {
		var all []string
		for _, name := range links.Without(names, but) {
			all = append(all, ns.Address(name)+":36790")
		}
		return strings.Join(all, ",")
	}
	for i, name := range names {
		at := ns.Address(name)
		words := append(ns.Command(name), binary, "serve", "--name", name, "--data-dir", filepath.Join(dir, name), "--profile", "fast", "--insecure",
			"--listen-http", at+":36789", "--listen-grpc", at+":36790", "--listen-raft", at+":36792")
		if i == 0 {
			words = append(words, "--bootstrap", "--seeds", seeds(name))
		} else {
			words = append(words, "--join", seeds(name))
		}
		p, err := proc.Start(proc.Spec{Name: name, Path: words[0], Args: words[1:], DropEnv: "QUORATE_", LogPath: filepath.Join(dir, name+".log")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = p.Kill()
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(dir, name+".log"))
				t.Logf("%s:\n%s", name, log)
			}
		})
		conn, err := grpc.NewClient("passthrough:///"+at+":36790", grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		s.clients[name] = quoratev1.NewClusterServiceClient(conn)
	}
	return s
}

// heard returns who leads among the given, in the newest term, and whom it hears.
func (s *spaced) heard(among []string) (leader string, nodes []string) {
	var term uint64
	for _, name := range among {
		ctx, cancel := context.WithTimeout(s.t.Context(), 500*time.Millisecond)
		status, err := s.clients[name].Status(ctx, &quoratev1.StatusRequest{})
		cancel()
		if err != nil || status.GetRole() != quoratev1.Role_ROLE_LEADER || status.GetTerm() < term {
			continue
		}
		leader, term, nodes = name, status.GetTerm(), nil
		for _, n := range status.GetNodes() {
			if n.GetVoter() && (n.GetHealthy() || n.GetLeader()) {
				nodes = append(nodes, n.GetName())
			}
		}
		slices.Sort(nodes)
	}
	return leader, nodes
}

// wantLeader waits until one of these leads and hears exactly them.
func (s *spaced) wantLeader(among []string) string {
	s.t.Helper()
	var leader string
	testkit.EventuallyNoError(s.t, 30*time.Second, func() error {
		var nodes []string
		if leader, nodes = s.heard(among); !slices.Equal(nodes, among) {
			return fmt.Errorf("%q leads and hears %v, not %v", leader, nodes, among)
		}
		return nil
	})
	return leader
}

// The kernel loses the packets of a leader, both ways and then one way: the
// others elect, and all are one cluster again afterwards.
func TestPartitionsInNamespaces(t *testing.T) {
	if err := links.NamespacesPossible(); err != nil {
		t.Logf("not possible here: partitions in network namespaces: %v", err)
		return
	}
	all := []string{"n1", "n2", "n3"}
	s := startSpaced(t, all...)
	for _, shape := range []struct {
		name string
		ways func(leader string, others []string) []links.Way
	}{
		{"the leader alone", func(leader string, others []string) []links.Way { return links.Both([]string{leader}, others) }},
		{"one way, from the leader", func(leader string, others []string) []links.Way { return links.OneWay([]string{leader}, others) }},
		{"one way, to the leader", func(leader string, others []string) []links.Way { return links.OneWay(others, []string{leader}) }},
	} {
		t.Run(shape.name, func(t *testing.T) {
			s.t = t
			leader := s.wantLeader(all)
			others := links.Without(all, leader)
			before, err := s.ns.Lost()
			if err != nil {
				t.Fatal(err)
			}
			mend, err := s.ns.Cut(shape.ways(leader, others))
			if err != nil {
				t.Fatal(err)
			}
			next := s.wantLeader(others)
			lost, err := s.ns.Lost()
			if err != nil || lost == before {
				t.Errorf("no packet was lost: %v", err)
			}
			t.Logf("%s cut off, %s leads, %d packets lost", leader, next, lost-before)
			if err := mend(); err != nil {
				t.Fatal(err)
			}
		})
	}
	s.t = t
	s.wantLeader(all)
}
