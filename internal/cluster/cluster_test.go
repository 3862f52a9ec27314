package cluster

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/freeport"
)

func TestDefaultPortsStepByTen(t *testing.T) {
	if got, want := DefaultPorts(PortHTTP, 3), (Ports{HTTP: 36809, GRPC: 36810, Raft: 36812}); got != want {
		t.Errorf("node 3: %+v, want %+v", got, want)
	}
	if got, want := DefaultPorts(40000, 2), (Ports{HTTP: 40010, GRPC: 40011, Raft: 40013}); got != want {
		t.Errorf("node 2 from 40000: %+v, want %+v", got, want)
	}
}

func TestFreePortsAreTakenWhereOneOfTheDefaultsIsNot(t *testing.T) {
	base := freeBase(t, 3)
	set := new(freeport.Set)
	t.Cleanup(set.Release)
	ports, err := choosePorts(set, "127.0.0.1", base, 3)
	if err != nil || ports[2] != DefaultPorts(base, 3) {
		t.Fatalf("ports %+v, %v: the wanted ones are free", ports, err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1].Raft)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	others, err := choosePorts(set, "127.0.0.1", base, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for _, p := range others {
		for _, port := range p.all() {
			if seen[port] || port == ports[1].Raft || port >= 32768 { // where Linux's outgoing connections begin
				t.Errorf("port %d of %+v", port, others)
			}
			seen[port] = true
		}
	}
}

// freeBase finds a base whose ports are all free.
func freeBase(t *testing.T, n int) int {
	t.Helper()
	for base := 20000; base < 30000; base += 100 {
		ports := make([]Ports, n)
		for k := range ports {
			ports[k] = DefaultPorts(base, k+1)
		}
		if takenPort("127.0.0.1", ports) == 0 {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

func TestPortsAreRemembered(t *testing.T) {
	cfg := Config{Nodes: 3, Dir: t.TempDir(), Host: "127.0.0.1"}
	set := new(freeport.Set)
	t.Cleanup(set.Release)
	first, err := rememberedPorts(set, cfg)
	if err != nil {
		t.Fatal(err)
	}
	second, err := rememberedPorts(set, cfg)
	if err != nil || second[0] != first[0] || second[2] != first[2] {
		t.Errorf("%+v, %v: want the same as %+v", second, err, first)
	}

	cfg.Nodes = 5
	if _, err := rememberedPorts(set, cfg); err == nil || !strings.Contains(err.Error(), "--nodes 3") {
		t.Errorf("other number of nodes: %v", err)
	}

	cfg.Nodes = 3
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first[1].GRPC)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := rememberedPorts(set, cfg); err == nil || !strings.Contains(err.Error(), strconv.Itoa(first[1].GRPC)) {
		t.Errorf("a port that is taken: %v", err)
	}

	if err := os.WriteFile(filepath.Join(cfg.Dir, "cluster.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rememberedPorts(set, cfg); err == nil || !strings.Contains(err.Error(), "cluster.json") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestStartRefusesWhatMakesNoCluster(t *testing.T) {
	for _, cfg := range []Config{{Nodes: 2, Dir: t.TempDir()}, {Nodes: 3}} {
		if _, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// A node that cannot start ends the wait at once, with its last words.
func TestStartTellsTheLastWordsOfANodeThatEnds(t *testing.T) {
	script := filepath.Join(t.TempDir(), "quorate")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho first words\necho the disk is on fire >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	_, err := Start(t.Context(), Config{Binary: script, Nodes: 1, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(started); took > StartTimeout/2 {
		t.Errorf("it took %v to notice", took)
	}
}

func TestStartGivesUpWithItsContextAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "quorate")
	pid := filepath.Join(dir, "pid")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho $$ > "+pid+"\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, Config{Binary: script, Nodes: 1, Dir: filepath.Join(dir, "data")}); err == nil {
		t.Fatal("no error")
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(text))); err == nil {
		t.Errorf("process %s is left behind", text)
	}
}
