package bank

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/participant"
)

// Work is what a participant is asked to do in one call: the body of POST /work.
type Work struct {
	// Moves of one local transaction; none: Reads are read instead.
	Moves []bankstore.Move `json:"moves,omitempty"`
	Reads []int            `json:"reads,omitempty"`
	// WaitMS before the branch begins, HoldMS with its locks held.
	WaitMS int `json:"wait_ms,omitempty"`
	HoldMS int `json:"hold_ms,omitempty"`
	// Refuse makes the participant roll its branch back after the work.
	Refuse bool `json:"refuse,omitempty"`
	// Late: the caller does not wait for the answer.
	Late bool `json:"late,omitempty"`
	// Then is a call that the participant makes after its own branch, as a part of
	// the same transaction.
	Then *Call `json:"then,omitempty"`
}

// Call is work for one resource.
type Call struct {
	Resource string `json:"resource"`
	Work     Work   `json:"work"`
}

// errRefused is the participant's own no.
var errRefused = errors.New("the participant refuses")

// errClosed answers while the store is not open.
var errClosed = errors.New("the store is not open yet")

// server is a participant's service.
type server struct {
	plan     *Plan
	resource Resource
	seat     Seat
	journal  *Journal
	log      *slog.Logger
	store    atomic.Pointer[bankstore.Store] // nil until it is open
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /work", participant.Middleware(http.HandlerFunc(s.work)))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if s.store.Load() == nil {
			http.Error(w, errClosed.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

// work does a call's work: 200 when every branch of it has voted prepared or
// read-only, 402 for lack of funds, 409 for a refusal, 503 for anything else.
func (s *server) work(w http.ResponseWriter, r *http.Request) {
	var work Work
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&work); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx := r.Context()
	if work.Late { // the caller has gone its way: what happens now is the participant's own doing
		ctx = context.WithoutCancel(ctx)
	}
	switch err := s.do(ctx, work); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, bankstore.ErrFunds):
		http.Error(w, err.Error(), http.StatusPaymentRequired)
	case errors.Is(err, errRefused):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (s *server) do(ctx context.Context, work Work) error {
	info, ok := participant.FromContext(ctx)
	if !ok {
		return participant.ErrNoTransaction
	}
	store := s.store.Load()
	if store == nil {
		return errClosed
	}
	if err := sleep(ctx, time.Duration(work.WaitMS)*time.Millisecond); err != nil {
		return err
	}
	if err := s.branch(ctx, *store, info, work); err != nil {
		return err
	}
	if work.Then == nil {
		return nil
	}
	return newCaller(s.plan, rand.New(rand.NewPCG(rand.Uint64(), 0))).call(ctx, *work.Then)
}

// branch does the branch's own work. Why it failed is in the journal, too: who reads
// may meet a lock as well as who writes.
func (s *server) branch(ctx context.Context, store bankstore.Store, info participant.Info, work Work) error {
	// The branch is the first child of this call, so its name is known before.
	line := Line{GID: string(info.GID), Branch: info.Path + ".1", Resource: s.resource.Name}
	err := s.local(ctx, store, line, work)
	if err != nil {
		line.Failed = clip(err.Error())
		s.write(line)
	}
	return err
}

// local is the local transaction; work that writes is in the journal before it begins.
func (s *server) local(ctx context.Context, store bankstore.Store, line Line, work Work) error {
	if len(work.Moves) == 0 {
		_, err := store.Read(ctx, work.Reads)
		return err
	}
	line.Work, line.Late = work.Moves, work.Late
	s.write(line)
	return store.Work(ctx, work.Moves, func() error {
		if err := sleep(ctx, time.Duration(work.HoldMS)*time.Millisecond); err != nil {
			return err
		}
		if work.Refuse {
			return errRefused
		}
		return nil
	})
}

// caller calls participants, wherever one serves the resource.
type caller struct {
	plan *Plan
	http *http.Client
	rng  *rand.Rand // of one goroutine
}

func newCaller(plan *Plan, rng *rand.Rand) *caller {
	return &caller{plan: plan, rng: rng, http: &http.Client{Transport: participant.Transport(transport)}}
}

// transport is shared: connections are kept.
var transport = &http.Transport{MaxIdleConnsPerHost: 32, DialContext: detour.Dial}

// call is the next call of the context's transaction.
func (c *caller) call(ctx context.Context, to Call) error {
	ctx, err := participant.Call(ctx) // the tries are one call
	if err != nil {
		return err
	}
	return c.send(ctx, to)
}

// send has a process of the resource do the work. A process that does not listen,
// or has not opened its store, is passed over: nothing was done there. A process
// that goes away during the call may have done the work or not; now and then the
// same call is made again at another one, which must not do it twice.
func (c *caller) send(ctx context.Context, to Call) error {
	ctx, cancel := context.WithTimeout(ctx, c.plan.CallMax)
	defer cancel()
	resource, err := c.plan.resource(to.Resource)
	if err != nil {
		return err
	}
	body, err := json.Marshal(to.Work)
	if err != nil {
		return err
	}
	for {
		var last error
		for _, i := range c.rng.Perm(len(resource.Seats)) {
			if err := usable(ctx, resource.Seats[i].Address); err != nil {
				last = err
				continue
			}
			resp, err := c.post(ctx, resource.Seats[i].Address, body)
			switch {
			case err == nil && !notOpen(resp):
				return answer(resp)
			case err == nil:
				last = errClosed
			case !neverSent(err) && c.rng.IntN(4) > 0:
				return fmt.Errorf("%s went away: %w", resource.Seats[i].Name, err)
			default:
				last = err
			}
		}
		if errors.Is(last, errHung) || sleep(ctx, openWait) != nil {
			return fmt.Errorf("nobody serves %s: %w", to.Resource, last)
		}
	}
}

func (c *caller) post(ctx context.Context, address string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/work", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		switch {
		case neverSent(err):
			silent.Store(address, true)
		case ctx.Err() != nil:
			hung.Store(address, time.Now())
		}
		return nil, err
	}
	// To the end: the trailer says what became of the subtree.
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// silent are the addresses at which nobody listened when they were last tried,
// hung those at which a call got no answer, with the time.
var silent, hung sync.Map

// leaveSpare takes the seats for silent where a process comes only by a fault.
func leaveSpare(plan *Plan) {
	for _, r := range plan.Resources {
		for _, s := range r.Seats {
			if s.Spare {
				silent.Store(s.Address, true)
			}
		}
	}
}

// errHung says that a process was called a moment ago and did not answer.
var errHung = errors.New("it did not answer a moment ago")

// hungWait is how long a process that does not answer is left alone: callers that
// all wait for one paused process would leave the others without work.
const hungWait = time.Second

// usable looks whether somebody is there, where nobody was. A call that finds
// nobody counts as a call whose end is not known, after which a set cannot be
// named any more: it is better not made.
func usable(ctx context.Context, address string) error {
	if since, was := hung.Load(address); was && time.Since(since.(time.Time)) < hungWait {
		return errHung
	}
	if _, was := silent.Load(address); !was {
		return nil
	}
	conn, err := detour.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	silent.Delete(address)
	return conn.Close()
}

// neverSent says that no byte of the request can have arrived.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// notOpen says that the participant had no store to work on.
func notOpen(resp *http.Response) bool {
	if resp.StatusCode != http.StatusServiceUnavailable {
		return false
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return string(bytes.TrimSpace(text)) == errClosed.Error()
}

// answer is what a participant's answer means.
func answer(resp *http.Response) error {
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusPaymentRequired:
		return bankstore.ErrFunds
	case http.StatusConflict:
		return errRefused
	}
	return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
}
