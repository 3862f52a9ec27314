package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

// processEnv makes the test's binary a node: it holds a processSettings.
const processEnv = "RAFTNODE_TEST_PROCESS"

// processSettings are those of a node that is a process of its own.
type processSettings struct {
	DataDir, Address, Control, LogStore string
	Profile                             Profile
}

// runProcess is the node's process. It is steered over HTTP and ends with its
// parent, which holds its standard input.
func runProcess(settings string) {
	var s processSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		panic(err)
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Address, cfg.LogStore, cfg.Profile = s.DataDir, s.Address, s.LogStore, s.Profile
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	machine := newRegisters()
	node, err := Open(cfg, machine)
	if err != nil {
		panic(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	answer := func(path string, f func(r *http.Request) (any, error)) {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			value, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			_ = json.NewEncoder(w).Encode(value)
		})
	}
	answer("/id", func(*http.Request) (any, error) { return node.Identity().NodeID, nil })
	answer("/bootstrap", func(r *http.Request) (any, error) { return nil, node.Bootstrap(r.Context()) })
	answer("/leads", func(*http.Request) (any, error) {
		l, ok := node.Leader()
		return ok && l.ID == node.Identity().NodeID, nil
	})
	answer("/add", func(r *http.Request) (any, error) {
		return nil, node.AddNonvoter(r.Context(), r.FormValue("id"), r.FormValue("address"), fsm.GID{})
	})
	answer("/promote", func(r *http.Request) (any, error) { return nil, node.Promote(r.Context(), r.FormValue("id")) })
	answer("/set", func(r *http.Request) (any, error) {
		p, err := node.Propose(r.Context(), set(r.FormValue("k"), r.FormValue("v")))
		return p.Index, err
	})
	answer("/all", func(r *http.Request) (values any, err error) {
		if _, err := node.ReadIndex(r.Context()); err != nil {
			return nil, err
		}
		node.View(func() { values, err = json.Marshal(machine.state.Values) })
		return string(values.([]byte)), err
	})
	panic(http.ListenAndServe(s.Control, nil))
}

// process is a node in a process of its own.
type process struct {
	t        testing.TB
	settings processSettings
	command  *exec.Cmd
	stdin    io.Closer
	id       string
	client   *http.Client
}

// processes founds a cluster of real processes.
func processes(t testing.TB, size int, profile Profile, store string) []*process {
	t.Helper()
	all := make([]*process, size)
	for i := range all {
		all[i] = &process{t: t, client: &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, settings: processSettings{
			DataDir: filepath.Join(t.TempDir(), "node"), LogStore: store, Profile: profile,
			Address: fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)),
			Control: fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)),
		}}
		all[i].start()
	}
	t.Cleanup(func() {
		for _, p := range all {
			p.kill()
			p.client.CloseIdleConnections()
		}
	})
	testkit.EventuallyNoError(t, within, func() error { return all[0].call("/bootstrap", nil, nil) })
	for _, p := range all[1:] {
		testkit.EventuallyNoError(t, within, func() error {
			return all[0].call("/add", url.Values{"id": {p.id}, "address": {p.settings.Address}}, nil)
		})
		testkit.EventuallyNoError(t, within, func() error { return all[0].call("/promote", url.Values{"id": {p.id}}, nil) })
	}
	return all
}

func (p *process) start() {
	p.t.Helper()
	settings, err := json.Marshal(p.settings)
	must(p.t, err)
	p.command = exec.Command(os.Args[0])
	p.command.Env = append(os.Environ(), processEnv+"="+string(settings))
	p.command.Stderr = &processLog{t: p.t}
	p.stdin, err = p.command.StdinPipe()
	must(p.t, err)
	must(p.t, p.command.Start())
	testkit.EventuallyNoError(p.t, within, func() error { return p.call("/id", nil, &p.id) })
}

// kill is kill -9.
func (p *process) kill() {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
	p.stdin.Close()
	p.command = nil
}

func (p *process) call(path string, form url.Values, answer any) error {
	resp, err := p.client.PostForm("http://"+p.settings.Control+path, form)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}

func (p *process) leads() (leads bool) {
	return p.command != nil && p.call("/leads", nil, &leads) == nil && leads
}

// processLog shows what a process has to say when its test fails.
type processLog struct {
	t  testing.TB
	mu sync.Mutex
}

func (l *processLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if testing.Verbose() {
		l.t.Logf("%s", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// leading waits for the process that leads.
func leading(t testing.TB, all []*process) (leader *process) {
	t.Helper()
	testkit.Eventually(t, within, func() bool {
		i := slices.IndexFunc(all, (*process).leads)
		if i >= 0 {
			leader = all[i]
		}
		return i >= 0
	}, "a leader")
	return leader
}

// "kill -9 of all nodes at once, then restart: nothing acknowledged is lost."
func TestKill9OfAllNodes(t *testing.T) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			all := processes(t, 3, Fast(), store)
			var mu sync.Mutex
			acknowledged := map[string]bool{}
			for round := range 2 {
				stop := make(chan struct{})
				var writers sync.WaitGroup
				before := len(acknowledged)
				for w := range 4 {
					writers.Add(1)
					go func() {
						defer writers.Done()
						for k := 0; ; k++ {
							select {
							case <-stop:
								return
							default:
							}
							register := fmt.Sprintf("r%d.%d.%d", round, w, k)
							for _, p := range all {
								if p.call("/set", url.Values{"k": {register}, "v": {"1"}}, nil) == nil {
									mu.Lock()
									acknowledged[register] = true
									mu.Unlock()
									break
								}
							}
						}
					}()
				}
				testkit.Eventually(t, within, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > before+50 })
				for _, p := range all {
					must(t, p.command.Process.Kill())
				}
				close(stop)
				writers.Wait()
				for _, p := range all {
					p.kill()
					p.start()
				}
				leader := leading(t, all)
				var text string
				testkit.EventuallyNoError(t, within, func() error { return leading(t, all).call("/all", nil, &text) })
				_ = leader
				var values map[string]string
				must(t, json.Unmarshal([]byte(text), &values))
				for register := range acknowledged {
					if values[register] != "1" {
						t.Fatalf("%s was acknowledged and is lost", register)
					}
				}
			}
			t.Logf("%d acknowledged writes survived", len(acknowledged))
		})
	}
}

// failovers kills the leader again and again under a light load, and returns how
// long each time no command was acknowledged.
func failovers(t testing.TB, all []*process, kills int, pause time.Duration) []time.Duration {
	t.Helper()
	var gaps []time.Duration
	n := 0
	write := func() {
		testkit.EventuallyNoError(t, within, func() error {
			err := errors.New("nobody runs")
			for _, p := range all {
				if p.command == nil {
					continue
				}
				n++
				if err = p.call("/set", url.Values{"k": {"x"}, "v": {fmt.Sprint(n)}}, nil); err == nil {
					return nil
				}
			}
			return err
		})
	}
	for range kills {
		for end := time.Now().Add(pause); time.Now().Before(end); {
			write()
		}
		leader := leading(t, all)
		killed := time.Now()
		leader.kill()
		write()
		gaps = append(gaps, time.Since(killed))
		leader.start()
	}
	slices.Sort(gaps)
	return gaps
}

// A leader's kill -9 interrupts service for about a second with the fast
// profile. The bound here is for a busy machine; BenchmarkFailover measures.
func TestFailover(t *testing.T) {
	all := processes(t, 3, Fast(), LogStoreBolt)
	gaps := failovers(t, all, 3, 300*time.Millisecond)
	t.Logf("without service: %v", gaps)
	if gaps[len(gaps)-1] > 5*time.Second {
		t.Errorf("without service for %v", gaps[len(gaps)-1])
	}
}

func BenchmarkFailover(b *testing.B) {
	for _, profile := range []Profile{Fast(), Default()} {
		b.Run(profile.Name, func(b *testing.B) {
			all := processes(b, 3, profile, LogStoreBolt)
			gaps := failovers(b, all, max(b.N, 2), time.Second)
			b.Logf("without service: %v", gaps)
			b.ReportMetric(gaps[len(gaps)/2].Seconds(), "p50-s")
			b.ReportMetric(gaps[len(gaps)*99/100].Seconds(), "p99-s")
			b.ReportMetric(gaps[len(gaps)-1].Seconds(), "max-s")
		})
	}
}
