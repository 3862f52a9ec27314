// Command isolation measures what hanging branches cost others: the time from a
// message's submit to its arrival at a healthy endpoint, in a cluster with ten sagas
// whose branch never answers, and in one without.
//
//	nice -n -5 go run ./internal/tools/isolation -pairs 200
//
// The two clusters, of three processes each, run side by side, and the messages of a
// pair are sent one right after the other, in an order drawn anew, so that both see
// the same machine. It is red when p50 or p99 with the sagas is more than -limit times
// that without, or when nothing hung.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/message"
	"github.com/quorate/quorate/participant/saga"
)

// arriveMax bounds one delivery.
const arriveMax = 30 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "isolation:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	pairs := flag.Int("pairs", 200, "messages to each cluster")
	warm := flag.Int("warm", 20, "pairs before those, not counted")
	hanging := flag.Int("sagas", 10, "sagas whose branch hangs")
	limit := flag.Float64("limit", 1.2, "the most that p50 and p99 may grow by")
	binary := flag.String("binary", "", "the quorate program; empty: build it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "quorate-isolation-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if *binary == "" {
		*binary = filepath.Join(dir, "quorate")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", *binary, "./cmd/quorate").CombinedOutput(); err != nil {
			return fmt.Errorf("build quorate: %w\n%s", err, out)
		}
	}
	e, err := listen()
	if err != nil {
		return err
	}
	defer e.close()
	var sides [2]*side
	for i, name := range []string{"alone", "beside"} {
		if sides[i], err = start(ctx, *binary, filepath.Join(dir, name), e); err != nil {
			return err
		}
		defer sides[i].close()
	}
	if err := sides[1].hang(ctx, *hanging); err != nil {
		return err
	}
	if err := measure(ctx, sides, *warm+*pairs, *hanging); err != nil {
		return err
	}
	return judge(sides, *warm, *hanging, *limit)
}

// measure sends the pairs.
func measure(ctx context.Context, sides [2]*side, pairs, hanging int) error {
	for range pairs {
		order := []int{0, 1}
		if rand.IntN(2) == 0 {
			slices.Reverse(order)
		}
		for _, i := range order {
			if err := sides[i].send(ctx); err != nil {
				return err
			}
		}
		if n := sides[0].endpoints.hanging.Load(); int(n) < hanging {
			sides[1].absent++ // between two attempts of a saga: counted, to be told
		}
	}
	return nil
}

// judge prints both spreads, and is the verdict.
func judge(sides [2]*side, warm, hanging int, limit float64) error {
	var p50, p99 [2]time.Duration
	fmt.Println("| hanging sagas | messages | p50 | p99 | max |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for i, s := range sides {
		times := slices.Sorted(slices.Values(s.times[warm:]))
		p50[i], p99[i] = percentile(times, 0.50), percentile(times, 0.99)
		fmt.Printf("| %d | %d | %v | %v | %v |\n", i*hanging, len(times), round(p50[i]), round(p99[i]), round(times[len(times)-1]))
	}
	r50, r99 := float64(p50[1])/float64(p50[0]), float64(p99[1])/float64(p99[0])
	fmt.Printf("ratio: p50 %.2f, p99 %.2f; limit %.2f; calls begun that hang: %d, fewer than %d at once after %d pairs\n",
		r50, r99, limit, sides[0].endpoints.calls.Load(), hanging, sides[1].absent)
	switch {
	case sides[0].endpoints.calls.Load() < int64(hanging):
		return errors.New("fewer calls hung than there are sagas: it proves nothing")
	case r50 > limit || r99 > limit:
		return fmt.Errorf("hanging sagas delay a healthy message by more than %.2f times", limit)
	}
	return nil
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// endpoints are a healthy one, which tells when a message arrived, and one that hangs.
type endpoints struct {
	server         *http.Server
	url            string
	hanging, calls atomic.Int64
	over           chan struct{}

	mu      sync.Mutex
	arrived map[string]chan time.Time
}

func listen() (*endpoints, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &endpoints{url: "http://" + l.Addr().String(), over: make(chan struct{}), arrived: map[string]chan time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthy", func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		e.mu.Lock()
		defer e.mu.Unlock()
		if c := e.arrived[r.Header.Get("Quorate-Gid")]; c != nil {
			select {
			case c <- at:
			default: // a repeat
			}
		}
	})
	mux.HandleFunc("/hangs", func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		e.hanging.Add(1)
		defer e.hanging.Add(-1)
		select {
		case <-r.Context().Done():
		case <-e.over:
		}
		panic(http.ErrAbortHandler)
	})
	e.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = e.server.Serve(l) }() // ends with close
	return e, nil
}

func (e *endpoints) close() {
	close(e.over)
	_ = e.server.Close()
}

func (e *endpoints) await(gid participant.GID) chan time.Time {
	c := make(chan time.Time, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrived[string(gid)] = c
	return c
}

// side is one cluster and what was measured in it.
type side struct {
	endpoints *endpoints
	cluster   *cluster.Cluster
	client    *participant.Client
	times     []time.Duration
	absent    int
}

func start(ctx context.Context, binary, dir string, e *endpoints) (*side, error) {
	c, err := cluster.Start(ctx, cluster.Config{
		Binary: binary, Nodes: 3, Dir: dir, Args: []string{"--endpoint-allow", "127.0.0.1"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	client, err := participant.Dial(ctx, c.Endpoints())
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return &side{endpoints: e, cluster: c, client: client}, nil
}

func (s *side) close() {
	_ = s.client.Close()
	_ = s.cluster.Stop()
}

// hang submits sagas whose branch never answers, and waits until all of them hang.
func (s *side) hang(ctx context.Context, n int) error {
	for k := range n {
		err := saga.New(s.client, saga.Key(fmt.Sprintf("hangs-%02d", k))).Step(s.endpoints.url+"/hangs", "", nil).Submit(ctx)
		if err != nil {
			return err
		}
	}
	until := time.Now().Add(arriveMax)
	for int(s.endpoints.hanging.Load()) < n {
		if time.Now().After(until) {
			return fmt.Errorf("%d of %d sagas hang", s.endpoints.hanging.Load(), n)
		}
		time.Sleep(10 * time.Millisecond) // a measuring program's poll
	}
	return nil
}

// send measures one message.
func (s *side) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, arriveMax)
	defer cancel()
	gid, err := s.client.NewGID(ctx)
	if err != nil {
		return err
	}
	arrived := s.endpoints.await(gid)
	began := time.Now()
	if err := message.New(s.client, "", message.GID(gid)).Add(s.endpoints.url+"/healthy", nil).Send(ctx); err != nil {
		return err
	}
	select {
	case at := <-arrived:
		s.times = append(s.times, at.Sub(began))
		return nil
	case <-ctx.Done():
		return fmt.Errorf("message %s did not arrive within %v", gid, arriveMax)
	}
}
