// Package bench measures a cluster of real processes beside its floor: the same calls
// over the same gRPC path, and the same bytes through the same Raft node, with no
// protocol (package floor). Slices of both alternate in one run on one machine, so that
// their ratio says what the protocol costs, whatever the machine is.
//
// It is one process, which makes the calls, takes part in the transactions, and reads
// from /proc and from the nodes' metrics what they cost. After each slice every answer
// is compared with the state.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/testdb"
)

// Run measures every scenario with every number of callers. With an error comes what
// was measured before it.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "quorate-bench-"); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(o.Dir)
			} else {
				err = fmt.Errorf("%w\nlogs and data are kept in %s", err, o.Dir)
			}
		}()
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	r := &runner{o: o}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	report = newReport(o)
	for _, name := range r.turns() {
		for _, callers := range o.Callers {
			rows, err := r.measure(ctx, name, callers)
			if err != nil {
				return report, fmt.Errorf("%s, %d callers: %w", name, callers, err)
			}
			report.Rows = append(report.Rows, rows...)
			for _, row := range rows {
				r.progress("%s", row.line())
			}
		}
	}
	return report, nil
}

// runner holds what runs while it measures.
type runner struct {
	o       Options
	product *system
	floor   *system      // nil: none
	peer    *etcd        // nil: none
	beside  map[int]bool // callers that others were measured with
	servers []*testdb.Server
	kinds   []string // of the servers
	// footprints by scenario and side.
	footprints map[string]map[string]Footprint
}

func (r *runner) progress(format string, args ...any) {
	if r.o.Progress != nil {
		fmt.Fprintf(r.o.Progress, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}
}

func (r *runner) start(ctx context.Context) (err error) {
	r.beside, r.footprints = map[int]bool{}, map[string]map[string]Footprint{}
	if err := r.startServers(ctx); err != nil {
		return err
	}
	if r.o.Peer == peerEtcd {
		r.progress("starting etcd, %d nodes", r.o.Nodes)
		if r.peer, err = startEtcd(ctx, filepath.Join(r.o.Dir, "etcd"), r.o.Nodes); err != nil {
			return err
		}
	}
	if len(r.o.Endpoints) > 0 {
		r.product, err = newSystem(ctx, r.o, "product", r.o.Endpoints)
		return err
	}
	r.progress("starting %d nodes, log store %s, profile %s", r.o.Nodes, r.o.LogStore, r.o.Profile)
	if r.product, err = startSystem(ctx, r.o, "product", commandServe); err != nil || r.o.NoFloor {
		return err
	}
	r.progress("starting %d nodes of the floor", r.o.Nodes)
	r.floor, err = startSystem(ctx, r.o, "floor", CommandFloor)
	return err
}

// startServers starts a private server for each database that no DSN names.
func (r *runner) startServers(ctx context.Context) error {
	if !slices.Contains(r.o.Scenarios, transferName) {
		return nil
	}
	for i, store := range r.o.Stores {
		if store.Kind == bankstore.Embedded || store.DSN != "" {
			continue
		}
		r.progress("starting a private %s", store.Kind)
		most := slices.Max(r.o.Callers)
		var server *testdb.Server
		var err error
		if store.Kind == bankstore.Postgres {
			server, err = testdb.StartPostgres(ctx, fmt.Sprintf("max_prepared_transactions=%d", 4*most+64), fmt.Sprintf("max_connections=%d", 4*most+64))
		} else {
			server, err = testdb.StartMariaDB(ctx, fmt.Sprintf("max_connections=%d", 4*most+64))
		}
		if err != nil {
			return err
		}
		r.servers, r.kinds = append(r.servers, server), append(r.kinds, string(store.Kind))
		r.o.Stores[i].DSN = server.DSN()
	}
	return nil
}

// serversCPU is what the private database servers have used, by the kind of store.
func (r *runner) serversCPU() (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for i, s := range r.servers {
		cpu, err := familyCPU(s.Pid())
		if err != nil {
			return nil, err
		}
		used[r.kinds[i]] += cpu
	}
	return used, nil
}

func (r *runner) stop() error {
	var errs []error
	for _, s := range []*system{r.product, r.floor} {
		if s != nil {
			errs = append(errs, s.stop())
		}
	}
	if r.peer != nil {
		errs = append(errs, r.peer.stop())
	}
	for _, s := range r.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// measure makes the slices of one scenario and number of callers.
func (r *runner) measure(ctx context.Context, name string, callers int) ([]Row, error) {
	sides, err := r.sides(name, callers)
	if err != nil {
		return nil, err
	}
	shown := name
	if sc, err := findScenario(name); err == nil && sc.submits && r.o.Stream {
		shown += "-stream"
	}
	took := make([][]Slice, len(sides))
	for run := range r.o.Runs {
		for i := range sides {
			// Whoever is first has a machine that was idle a moment ago: take turns.
			at := (i + run) % len(sides)
			one, err := sides[at].slice(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sides[at].name, err)
			}
			took[at] = append(took[at], one)
			r.progress("%-8s %4d callers  run %d/%d  %-7s %9.0f a second  p50 %s  p99 %s  (%d answers compared)",
				shown, callers, run+1, r.o.Runs, sides[at].name, one.PerSecond, ms(one.P50), ms(one.P99), one.Compared)
		}
	}
	rows := rowsOf(shown, callers, sides, took)
	if len(rows[0].Slices[sideProduct]) > 0 {
		if rows[0].Footprints, err = r.footprintsOf(ctx, name); err != nil {
			return nil, err
		}
		if f, ok := rows[0].Footprints[sideProduct]; ok {
			rows[0].Before = ptr(f.Before)
		}
	}
	return rows, nil
}

// footprintsOf looks at single operations of a scenario, once. There are none of what
// the bench does not call itself, and none where the cluster cannot be measured.
func (r *runner) footprintsOf(ctx context.Context, name string) (map[string]Footprint, error) {
	if seen, ok := r.footprints[name]; ok {
		return seen, nil
	}
	sc, err := findScenario(name)
	if err != nil {
		return nil, nil
	}
	seen := map[string]Footprint{}
	for side, s := range map[string]*system{sideProduct: r.product, sideFloor: r.floor} {
		if s == nil {
			continue
		}
		one, err := r.footprint(ctx, s, sc)
		switch {
		case errors.Is(err, errUnseen):
			continue
		case err != nil:
			return nil, fmt.Errorf("%s, one operation: %w", side, err)
		}
		seen[side] = one
	}
	r.footprints[name] = seen
	return seen, nil
}

// side is one of those that take turns.
type side struct {
	name  string
	slice func(ctx context.Context) (Slice, error)
}

// The names of the sides.
const (
	sideProduct = "product"
	sideFloor   = "floor"
	sideEtcd    = "etcd-put"
)

func (r *runner) sides(name string, callers int) ([]side, error) {
	var sides []side
	switch name {
	case proposeName:
	case transferName:
		sides = r.transferSides(callers)
	default:
		s, err := findScenario(name)
		if err != nil {
			return nil, err
		}
		sides = append(sides, side{sideProduct, func(ctx context.Context) (Slice, error) { return r.slice(ctx, r.product, s, callers) }})
		if r.floor != nil {
			sides = append(sides, side{sideFloor, func(ctx context.Context) (Slice, error) { return r.slice(ctx, r.floor, s, callers) }})
		}
	}
	return append(sides, r.others(callers)...), nil
}

// turns are the scenarios that have turns of their own. propose takes turns with the first.
func (r *runner) turns() []string {
	turns := slices.DeleteFunc(slices.Clone(r.o.Scenarios), func(name string) bool { return name == proposeName })
	if len(turns) == 0 {
		return []string{proposeName}
	}
	return turns
}

// others are those that take turns with the first scenario: they are the same beside every one.
func (r *runner) others(callers int) (sides []side) {
	if r.beside[callers] {
		return nil
	}
	r.beside[callers] = true
	if slices.Contains(r.o.Scenarios, proposeName) {
		sides = append(sides, side{proposeName, func(ctx context.Context) (Slice, error) { return r.proposeSlice(ctx, callers) }})
	}
	if r.peer != nil {
		sides = append(sides, side{sideEtcd, func(ctx context.Context) (Slice, error) { return r.peer.slice(ctx, r.o.WarmUp, r.loop(callers)) }})
	}
	return sides
}

func (r *runner) loop(callers int) loop {
	return loop{callers: callers, duration: r.o.Duration, rate: r.o.Rate}
}

// slice measures one side once.
func (r *runner) slice(ctx context.Context, s *system, sc scenario, callers int) (Slice, error) {
	if err := s.t.resize(ctx, callers); err != nil {
		return Slice{}, err
	}
	b, closeBed, err := r.bed(ctx, s, sc)
	if err != nil {
		return Slice{}, err
	}
	defer closeBed()
	rest := b.drain
	if !sc.leaves {
		rest = nil
	}
	one, err := r.counted(ctx, s, callers, func(ctx context.Context, caller int) error { return sc.operate(ctx, b, caller) }, rest)
	if err != nil {
		return one, err
	}
	if !b.product {
		return one, one.checkFloor(sc)
	}
	one.Compared, err = b.verify(ctx)
	return one, err
}

// counted warms up, then counts. rest, where it is not nil, waits until what was
// promised is done: the warm-up's work is over before anything is counted, and no
// operation counts as done that leaves work behind. s is nil where no cluster is
// under load.
func (r *runner) counted(ctx context.Context, s *system, callers int, op operation, rest func(context.Context) error) (Slice, error) {
	run := func(l loop) (measured, error) {
		m := l.run(ctx, op)
		switch {
		case ctx.Err() != nil:
			return m, context.Cause(ctx)
		case m.failed > 0:
			return m, fmt.Errorf("%d of %d calls failed, the first with: %w", m.failed, m.failed+m.done, m.firstErr)
		case rest != nil:
			err := rest(ctx)
			m.ended = time.Now()
			return m, err
		}
		return m, nil
	}
	warm := r.loop(callers)
	warm.duration = r.o.WarmUp
	if _, err := run(warm); err != nil {
		return Slice{}, fmt.Errorf("warm-up: %w", err)
	}
	before, err := s.read(ctx)
	if err != nil {
		return Slice{}, err
	}
	own, err := cpuTime(os.Getpid())
	if err != nil {
		return Slice{}, err
	}
	stores, err := r.serversCPU()
	if err != nil {
		return Slice{}, err
	}
	endProfiles, err := r.profile(s)
	if err != nil {
		return Slice{}, err
	}
	m, err := run(r.loop(callers))
	if err = errors.Join(err, endProfiles()); err != nil {
		return Slice{}, err
	}
	if m.done == 0 {
		return Slice{}, errors.New("no call was answered")
	}
	ownAfter, err := cpuTime(os.Getpid())
	if err != nil {
		return Slice{}, err
	}
	storesAfter, err := r.serversCPU()
	if err != nil {
		return Slice{}, err
	}
	after, err := s.read(ctx)
	one := newSlice(m, after.minus(before), ownAfter-own)
	if len(stores) > 0 {
		one.LoadUS = ptr(micro(ownAfter-own) / float64(m.done))
		one.StoresUS = map[string]float64{}
		for kind, used := range storesAfter {
			one.StoresUS[kind] = micro(used-stores[kind]) / float64(m.done)
		}
	}
	return one, err
}

// bed makes a cluster ready for a scenario: its branches have names of their own.
func (r *runner) bed(ctx context.Context, s *system, sc scenario) (*bed, func(), error) {
	run := strings.ToLower(rand.Text()[:10])
	b := &bed{t: s.t, product: s.product, stream: r.o.Stream, resources: [2]string{"bench-" + run + "-a", "bench-" + run + "-b"}, answers: &answers{}, gate: &gate{}}
	closeBed := func() {
		for _, p := range b.participants {
			if p != nil {
				p.close()
			}
		}
		if b.branches != nil {
			b.branches.close()
		}
	}
	ready := func() (err error) {
		if err := s.t.tune(ctx); err != nil {
			return err
		}
		for i := range b.participants {
			if sc.attaches {
				if b.participants[i], err = attach(ctx, s.t, b.resources[i], b.gate); err != nil {
					return err
				}
			}
		}
		if sc.called {
			if b.branches, err = serveBranches(b.gate, s.wire); err != nil {
				return err
			}
		}
		if sc.prepare != nil {
			return sc.prepare(ctx, b)
		}
		return nil
	}
	if err := ready(); err != nil {
		closeBed()
		return nil, nil, err
	}
	return b, closeBed, nil
}
