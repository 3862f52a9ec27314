package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/participant"
)

const (
	// bankStartTimeout bounds the time until a started bank serves.
	bankStartTimeout = 30 * time.Second
	// bankStopTimeout bounds its graceful end.
	bankStopTimeout = 10 * time.Second
	// bankCallTimeout bounds one call; it is longer than a failover.
	bankCallTimeout = 20 * time.Second
)

// GoneError means that the bank's process went away during a call: the work may
// be done or not, and the transaction must roll back.
type GoneError struct{ Err error }

func (e *GoneError) Error() string { return "the bank's process went away: " + e.Err.Error() }

// Unwrap returns the transport's error.
func (e *GoneError) Unwrap() error { return e.Err }

// bankProcess is one bank as the demo sees it: a process that may be killed and
// started again, and the HTTP service in it.
type bankProcess struct {
	r       *run
	side    Side
	address string
	config  BankConfig
	// branches is set instead of config where branches are called.
	branches *branchbank.ProcessConfig
	http     *http.Client

	mu       sync.Mutex
	process  *proc.Process
	stopping bool
}

func newBankProcess(r *run, side Side) (*bankProcess, error) {
	address, err := cluster.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	b := &bankProcess{
		r: r, side: side, address: address,
		// One connection a call that is in flight, kept for the next ones.
		http: &http.Client{Transport: participant.Transport(&http.Transport{MaxIdleConnsPerHost: r.o.Concurrency})},
	}
	b.config = BankConfig{
		Side: side, Listen: address, Seeds: r.cluster.Endpoints(), Store: r.o.Stores[side],
		Dir: r.dir, Opening: r.plan.Opening,
	}
	if r.o.Mode != TwoPhase {
		b.branches = &branchbank.ProcessConfig{Listen: address, Seeds: b.config.Seeds, Config: branchbank.Config{
			Resource: side.String(), Spec: b.config.Store, Prefix: b.config.tables(), Opener: r.o.Opener,
			Accounts: accountsPerBank, Empty: emptyAccounts, Opening: r.plan.Opening,
		}}
	}
	return b, nil
}

// start starts the process and waits until it serves.
func (b *bankProcess) start(ctx context.Context) error {
	args, env, err := b.arguments()
	if err != nil {
		return err
	}
	if b.side == BankB {
		env = append(env, armed(b.r.aims.Participant)...)
	}
	p, err := proc.Start(proc.Spec{Name: b.side.String(), Path: b.r.o.Binary, Args: args, Env: env, LogPath: b.logPath()})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.process = p
	b.mu.Unlock()
	go b.watch(p)
	ctx, cancel := context.WithTimeout(ctx, bankStartTimeout)
	defer cancel()
	for {
		if _, err = b.books(ctx); err == nil {
			return nil
		}
		if !p.Running() {
			return fmt.Errorf("start %s: it ended with exit code %d; see %s", b.side, p.ExitCode(), b.logPath())
		}
		if pause(ctx) != nil {
			return fmt.Errorf("start %s: it does not serve; see %s: %w", b.side, b.logPath(), err)
		}
	}
}

// arguments start the bank that the mode needs.
func (b *bankProcess) arguments() (args, env []string, err error) {
	if b.branches != nil {
		return b.branches.Arguments()
	}
	args, env = b.config.command()
	return args, env, nil
}

// url is where the bank serves.
func (b *bankProcess) url() string { return "http://" + b.address }

// watch tells the reaper about an end that nobody asked for.
func (b *bankProcess) watch(p *proc.Process) {
	<-p.Exited()
	b.mu.Lock()
	asked := b.stopping
	b.mu.Unlock()
	if !asked {
		b.r.reaper.bankExited(b, p.Err())
	}
}

func (b *bankProcess) current() *proc.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process
}

func (b *bankProcess) pid() int { return b.current().Pid() }

func (b *bankProcess) logPath() string { return filepath.Join(b.r.dir, b.side.String()+".log") }

func (b *bankProcess) kill() error { return b.current().Kill() }

// stop asks the process to end.
func (b *bankProcess) stop() error {
	b.mu.Lock()
	b.stopping = true
	p := b.process
	b.mu.Unlock()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), bankStopTimeout)
	defer cancel()
	return p.Stop(ctx)
}

// clean removes what the bank made outside the run's directory.
func (b *bankProcess) clean() {
	if b.config.Store.Kind == Embedded || b.config.Store.Kind == bankstore.SQLite {
		return
	}
	if b.branches != nil {
		_ = branchbank.Drop(*b.branches)
		return
	}
	if s, err := bankstore.OpenTables(b.config.store(), b.r.o.Opener); err == nil {
		s.Drop()
	}
}

// move has the bank change an account's balance, as a branch of the transaction
// that ctx carries. A bank that does not listen is called again until the call's
// time is over: nothing was sent to it. Any other error leaves it open what was
// done there.
func (b *bankProcess) move(ctx context.Context, t Transfer, delta int64) error {
	ctx, cancel := context.WithTimeout(ctx, bankCallTimeout)
	defer cancel()
	ctx, err := participant.Call(ctx) // the tries are one call
	if err != nil {
		return err
	}
	body, err := json.Marshal(moveRequest{Key: t.Key(), Account: t.Account, Delta: delta})
	if err != nil {
		return err
	}
	for {
		resp, err := b.post(ctx, body)
		if err == nil {
			return readMove(resp)
		}
		if !neverSent(err) || pause(ctx) != nil {
			return &GoneError{Err: err}
		}
	}
}

func (b *bankProcess) post(ctx context.Context, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.address+"/move", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	// A kept connection that died with the bank must not look like a call that
	// may have arrived: net/http repeats it by itself only where it is sure.
	return b.http.Do(req)
}

// neverSent says that no byte of the request can have arrived.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// readMove translates the bank's answer.
func readMove(resp *http.Response) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		return &GoneError{Err: err}
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusPaymentRequired:
		return ErrFunds
	}
	return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
}

// books reads all that the bank holds, over a fresh connection: of a database
// store, the database's own.
func (b *bankProcess) books(ctx context.Context) (Books, error) {
	if b.branches != nil {
		var books branchbank.Books
		if err := b.ask(ctx, &books); err != nil {
			return Books{}, err
		}
		read, err := branchbank.ReadBooks(ctx, b.branches.Config)
		return Books{Branches: &read}, err
	}
	var books Books
	err := b.ask(ctx, &books)
	if err != nil || b.config.Store.Kind == Embedded {
		return books, err
	}
	read, err := bankstore.ReadBooks(ctx, b.config.store(), b.r.o.Opener)
	return booksOf(read), err
}

// ask asks the bank's process for its books.
func (b *bankProcess) ask(ctx context.Context, books any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.address+"/books", nil)
	if err != nil {
		return err
	}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := fresh.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /books: %s", resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(books)
}
