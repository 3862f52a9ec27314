package bank

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/freeport"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/participant"
)

// Options say what a bank is made of. NewOptions has the defaults.
type Options struct {
	// Binary is the quorate program; empty: the running one.
	Binary string
	// Dir is a directory of the bank's own.
	Dir string
	// Seeds are gRPC addresses of the cluster's nodes.
	Seeds []string
	// Seed of the initiators' choices.
	Seed uint64
	// Databases to keep resources in, besides the two embedded ones that there
	// always are.
	Databases []Database
	// Seats is how many processes serve a resource.
	Seats int
	// Initiators is how many processes begin transactions, with Workers each, and
	// Rate transactions a second in all; 0: as many as they can.
	Initiators, Workers int
	Rate                float64
	// Accounts of each resource.
	Accounts int
	// Timeout of a usual transaction: long against a failover, short against a run;
	// and CallMax, which bounds one call to a participant: short against the timeout,
	// so that a paused participant does not use it up.
	Timeout, CallMax time.Duration
	// Opener makes the databases' connectors.
	Opener bankstore.Opener
	// Network, when set, has a link from each process to each other one, to the
	// nodes and to the databases; its processes are called as their seats are.
	Network *links.Network
	// Log receives what is done with the processes.
	Log *slog.Logger
}

// NewOptions returns the defaults.
func NewOptions() Options {
	return Options{
		Seats: 2, Initiators: 2, Workers: 12, Accounts: 64, Rate: 120, Timeout: 10 * time.Second, CallMax: 3 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// opening is what each account opens with.
const opening = 1000

// Bank is the processes together.
type Bank struct {
	o         Options
	plan      *Plan
	taken     freeport.Set // the participants' addresses
	processes []*Process   // participants, then initiators
	http      *http.Client
	tally     tally

	mu        sync.Mutex
	deaths    []Death
	surprises []string
	acts      []Act
	foreign   map[string][]string
}

// Start creates the stores, starts every process and returns when all serve.
func Start(ctx context.Context, o Options) (*Bank, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	o.Dir = dir
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("bank: find this program: %w", err)
		}
	}
	b := &Bank{o: o, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, foreign: map[string][]string{}}
	if b.plan, err = b.makePlan(); err != nil {
		return nil, err
	}
	if err := b.plan.write(); err != nil {
		return nil, err
	}
	if err := b.listens(); err != nil {
		return nil, err
	}
	if err := b.createTables(ctx); err != nil {
		return nil, err
	}
	if err := b.startAll(ctx); err != nil {
		return nil, errors.Join(err, b.Stop())
	}
	return b, nil
}

// makePlan gives each process a seat at an address of its own.
func (b *Bank) makePlan() (*Plan, error) {
	o := b.o
	p := &Plan{
		Dir: o.Dir, Seeds: o.Seeds, Seed: o.Seed, Workers: o.Workers, Rate: o.Rate / float64(max(1, o.Initiators)),
		Timeout: o.Timeout, CallMax: o.CallMax,
	}
	for _, name := range []string{"bank-a", "bank-b"} {
		p.Resources = append(p.Resources, Resource{Name: name, Kind: bankstore.Embedded})
	}
	for _, d := range o.Databases {
		p.Resources = append(p.Resources, Resource{Name: d.Name, Kind: d.Kind, DSN: d.DSN})
	}
	for i := range p.Resources {
		r := &p.Resources[i]
		r.Accounts, r.Opening = o.Accounts, opening
		for k := range o.Seats + 1 {
			address, err := b.taken.Address("127.0.0.1")
			if err != nil {
				return nil, err
			}
			s := Seat{Name: fmt.Sprintf("%s-%d", r.Name, k+1), Address: address}
			s.Process = s.Name
			if k == o.Seats {
				// Where a fault puts a second process under the name of a first one.
				s.Name, s.Process, s.Spare = r.Name+"-spare", r.Seats[0].Name, true
			}
			if d := i - 2; d >= 0 && o.Databases[d].SeatDSN != nil {
				s.DSN = o.Databases[d].SeatDSN(s.Name)
			}
			r.Seats = append(r.Seats, s)
		}
	}
	for i := range o.Initiators {
		p.Initiators = append(p.Initiators, Seat{Name: fmt.Sprintf("initiator-%d", i+1)})
	}
	return p, nil
}

// port is where a participant serves, in the network of links.
const port = "work"

// listens makes the participants known to the network.
func (b *Bank) listens() error {
	if b.o.Network == nil {
		return nil
	}
	for _, r := range b.plan.Resources {
		for _, s := range r.Seats {
			if err := b.o.Network.Listens(s.Name, map[string]string{port: s.Address}); err != nil {
				return err
			}
		}
	}
	return nil
}

// createTables opens the accounts of the databases: one does it, before several
// processes come.
func (b *Bank) createTables(ctx context.Context) error {
	for _, r := range b.plan.Resources {
		if r.Kind == bankstore.Embedded {
			continue
		}
		t, err := bankstore.OpenTables(r.store(b.plan, Seat{}), b.o.Opener)
		if err != nil {
			return err
		}
		err = t.Create(ctx)
		_ = t.Close()
		if err != nil {
			return fmt.Errorf("bank: %s: %w", r.Name, err)
		}
	}
	return nil
}

func (b *Bank) startAll(ctx context.Context) error {
	for _, r := range b.plan.Resources {
		for _, s := range r.Seats {
			b.processes = append(b.processes, &Process{bank: b, seat: s, command: ParticipantCommand, resource: r.Name})
		}
	}
	for _, p := range b.processes {
		if p.seat.Spare {
			continue
		}
		if err := p.Start(); err != nil {
			return err
		}
	}
	for _, p := range b.processes {
		if p.seat.Spare {
			continue
		}
		if err := p.waitReady(ctx); err != nil {
			return err
		}
	}
	for _, s := range b.plan.Initiators {
		p := &Process{bank: b, seat: s, command: InitiatorCommand}
		b.processes = append(b.processes, p)
		if err := p.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Participants are the seats of participants, without the spare ones.
func (b *Bank) Participants() []*Process {
	return b.filter(func(p *Process) bool { return p.resource != "" && !p.seat.Spare })
}

// Initiators are the seats of initiators.
func (b *Bank) Initiators() []*Process {
	return b.filter(func(p *Process) bool { return p.resource == "" })
}

// Of are the seats that serve a resource, the spare one last.
func (b *Bank) Of(resource string) []*Process {
	return b.filter(func(p *Process) bool { return p.resource == resource })
}

func (b *Bank) filter(keep func(*Process) bool) []*Process {
	var out []*Process
	for _, p := range b.processes {
		if keep(p) {
			out = append(out, p)
		}
	}
	return out
}

// Resources are the banks' stores.
func (b *Bank) Resources() []Resource { return slices.Clone(b.plan.Resources) }

// died notes the end of a process.
func (b *Bank) died(d Death, surprise bool) {
	b.o.Log.Info("a process of the bank ended", "seat", d.Seat, "start", d.Start, "pid", d.Pid, "how", d.How)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaths = append(b.deaths, d)
	if surprise {
		path := filepath.Join(b.plan.Dir, d.Seat+".log")
		b.surprises = append(b.surprises, fmt.Sprintf("%s ended though nothing was aimed at it: %s; the end of %s:\n%s", d.Seat, d.How, path, proc.LastLines(path, 5)))
	}
}

// Surprises are processes that ended unasked.
func (b *Bank) Surprises() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.surprises)
}

// StopInitiators ends the load: what was begun is finished.
func (b *Bank) StopInitiators() error {
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range b.Initiators() {
		wg.Go(func() {
			err := p.stop()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Stop ends every process.
func (b *Bank) Stop() error {
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range b.processes {
		wg.Go(func() {
			err := p.stop()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	b.taken.Release()
	return errors.Join(errs...)
}

// listPageSize is how many transactions one answer holds.
const listPageSize = 500

// list reads every transaction that the cluster has, linearizably.
func list(ctx context.Context, client *participant.Client, finished bool) ([]*quoratev1.Transaction, error) {
	var all []*quoratev1.Transaction
	token := ""
	for {
		page, err := client.List(ctx, &quoratev1.ListRequest{
			PageSize: listPageSize, PageToken: token, Filter: &quoratev1.Filter{IncludeFinished: finished},
		})
		if err != nil {
			return nil, fmt.Errorf("bank: read the cluster's transactions: %w", err)
		}
		all = append(all, page.GetTransactions()...)
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}
