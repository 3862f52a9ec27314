package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cluster is `quorate dev`, which starts nodes again that were killed.
type cluster struct {
	cmd  *exec.Cmd
	dir  string
	http string // of the first node

	mu   sync.Mutex
	pids map[string]int
}

// node is one of its nodes, by the addresses that clients use.
type node struct{ id, name, http, grpc string }

var (
	httpLine  = regexp.MustCompile(`^  HTTP\s+http://(\S+)`)
	pidsLine  = regexp.MustCompile(`^  Pids\s+(.*)`)
	pidEntry  = regexp.MustCompile(`(n\d+) (\d+)`)
	againLine = regexp.MustCompile(`(n\d+) runs again, as pid (\d+)`)
)

func startCluster(ctx context.Context, quorate string, verbose bool) (*cluster, error) {
	dir, err := os.MkdirTemp("", "quorate-dtm-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, pids: make(map[string]int)}
	c.cmd = exec.Command(quorate, "dev", "--nodes", "3", "--data-dir", dir, "--port", strconv.Itoa(port))
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to pass on
	r, w := io.Pipe()
	c.cmd.Stdout, c.cmd.Stderr = w, w
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	up := make(chan struct{})
	go c.listen(r, up, verbose)
	go func() {
		_ = c.cmd.Wait()
		w.Close()
	}()
	select {
	case <-up:
		return c, nil
	case <-ctx.Done():
	case <-time.After(time.Minute):
	}
	c.stop()
	return nil, errors.New("the cluster did not come up; -v shows why")
}

// listen follows what dev says, to know the nodes' pids.
func (c *cluster) listen(r io.Reader, up chan<- struct{}, verbose bool) {
	for s := bufio.NewScanner(r); s.Scan(); {
		line := s.Text()
		if verbose {
			fmt.Fprintln(os.Stderr, "dev:", line)
		}
		c.mu.Lock()
		if m := httpLine.FindStringSubmatch(line); m != nil {
			c.http = m[1]
		}
		for _, m := range againLine.FindAllStringSubmatch(line, -1) {
			c.pids[m[1]], _ = strconv.Atoi(m[2])
		}
		if m := pidsLine.FindStringSubmatch(line); m != nil {
			for _, m := range pidEntry.FindAllStringSubmatch(m[1], -1) {
				c.pids[m[1]], _ = strconv.Atoi(m[2])
			}
		}
		c.mu.Unlock()
		if strings.HasPrefix(line, "  Stop") {
			close(up)
		}
	}
}

// settled waits until three nodes agree on who leads, and returns the leader
// and one that does not lead.
func (c *cluster) settled(ctx context.Context) (leader, follower node, err error) {
	for ctx.Err() == nil {
		leader, follower, err = c.look(ctx)
		if err == nil {
			return leader, follower, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return leader, follower, err
}

// status is what a node says of the cluster.
type status struct {
	Header struct {
		NodeID string `json:"node_id"`
	} `json:"header"`
	LeaderID string `json:"leader_id"`
	Term     string `json:"term"`
	Nodes    []struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		HTTP string `json:"http_address"`
		GRPC string `json:"grpc_address"`
	} `json:"nodes"`
}

func (c *cluster) look(ctx context.Context) (leader, follower node, err error) {
	first, err := c.status(ctx, c.http)
	if err != nil {
		return leader, follower, err
	}
	for _, n := range first.Nodes {
		s, err := c.status(ctx, n.HTTP)
		if err != nil {
			return leader, follower, err
		}
		if s.LeaderID == "" || s.LeaderID != first.LeaderID || s.Term != first.Term {
			return leader, follower, errors.New("the nodes do not agree on who leads")
		}
		if n.ID == s.LeaderID {
			leader = node{n.ID, n.Name, n.HTTP, n.GRPC}
		} else {
			follower = node{n.ID, n.Name, n.HTTP, n.GRPC}
		}
	}
	if leader.id == "" || follower.id == "" {
		return leader, follower, fmt.Errorf("%d nodes, and no leader with a follower among them", len(first.Nodes))
	}
	return leader, follower, nil
}

func (c *cluster) status(ctx context.Context, address string) (s status, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/cluster", nil)
	if err != nil {
		return s, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s: %s", req.URL, answer.Status)
	}
	return s, json.NewDecoder(answer.Body).Decode(&s)
}

// kill is SIGKILL.
func (c *cluster) kill(n node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return syscall.Kill(c.pids[n.name], syscall.SIGKILL)
}

func (c *cluster) stop() {
	_ = c.cmd.Process.Signal(os.Interrupt)
	for range 100 {
		if c.cmd.Process.Signal(syscall.Signal(0)) != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = c.cmd.Process.Kill()
	_ = os.RemoveAll(c.dir)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
