package bank

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/participant"
)

// The recovery of these participants looks often: a run is short.
const (
	scanLongest = 3 * time.Second
	scanIdle    = time.Second
	// openWait is the pause between two tries to open a store: its database may be
	// down, or a predecessor may still have its file.
	openWait = 100 * time.Millisecond
)

// ServeParticipant is a participant's process: it runs until ctx ends.
func ServeParticipant(ctx context.Context, planPath, seatName string, start int, opener bankstore.Opener, log *slog.Logger) error {
	plan, err := ReadPlan(planPath)
	if err != nil {
		return err
	}
	resource, seat, err := plan.participant(seatName)
	if err != nil {
		return err
	}
	journal, err := OpenJournal(journalPath(plan.Dir, seatName, start))
	if err != nil {
		return err
	}
	defer journal.Close()
	leaveSpare(plan)
	s := &server{plan: plan, resource: resource, seat: seat, journal: journal, log: log}
	client, err := dial(ctx, plan, participant.WithName(seatName), participant.WithProcess(seat.Process),
		participant.WithLogger(log), participant.WithScanInterval(scanLongest, scanIdle), participant.WithWitness(s.witness))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := journal.Append(Line{At: now(), Holder: client.Holder(), Pid: os.Getpid()}); err != nil {
		return err
	}
	// The service answers while the store is being opened: unavailable, as anyone is
	// whose database is down.
	go s.open(ctx, client, opener)
	return serve(ctx, seat.Address, s.handler(), plan.stopMax())
}

// journalPath names the file of one start of a process.
func journalPath(dir, seat string, start int) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%03d.jsonl", seat, start))
}

// dial is participant.Dial, again and again: the cluster may be in the middle of
// an election, or behind a partition.
func dial(ctx context.Context, plan *Plan, opts ...participant.Option) (*participant.Client, error) {
	opts = append(opts, participant.WithDialOptions(grpc.WithContextDialer(detour.DialTCP)))
	for {
		client, err := participant.Dial(ctx, plan.Seeds, opts...)
		if err == nil || ctx.Err() != nil {
			return client, err
		}
		if sleep(ctx, openWait) != nil {
			return nil, err
		}
	}
}

// serve serves HTTP until ctx ends.
func serve(ctx context.Context, address string, handler http.Handler, stopMax time.Duration) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("bank: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopMax/2)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// open opens the store, as soon as it can be opened.
func (s *server) open(ctx context.Context, client *participant.Client, opener bankstore.Opener) {
	var last error
	for {
		store, err := bankstore.Open(ctx, s.resource.store(s.plan, s.seat), client, opener)
		if err == nil {
			s.store.Store(&store)
			s.log.Info("serves", "resource", s.resource.Name, "holder", client.Holder())
			<-ctx.Done()
			return
		}
		if ctx.Err() != nil {
			return
		}
		if last == nil || last.Error() != err.Error() { // a process that waits for a file says so once
			s.log.Warn("the store cannot be opened yet", "err", err)
		}
		last = err
		if sleep(ctx, openWait) != nil {
			return
		}
	}
}

// failpoints are the places where a participant may be killed.
var failpoints = map[participant.Step]string{
	participant.StepPrepared: failpoint.Prepared,
	participant.StepHeard:    failpoint.Heard,
	participant.StepEnded:    failpoint.Ended,
}

// witness writes each step down before the SDK goes on, and dies where it was told to.
func (s *server) witness(m participant.Moment) {
	s.write(Line{
		Step: m.Step, GID: string(m.Branch.GID), Branch: m.Branch.ID, Resource: m.Resource,
		Vote: m.Vote, Verdict: m.Verdict, Outcome: m.Outcome,
		Incarnation: m.Incarnation, Term: m.Term, Attempt: m.Attempt,
	})
	if name, ok := failpoints[m.Step]; ok {
		_ = failpoint.Hit(name, m.Resource)
	}
}

// write appends a line to the journal. Without it the process must not go on: what
// it did would not be seen.
func (s *server) write(l Line) {
	l.At = now()
	if err := s.journal.Append(l); err != nil {
		s.log.Error("the journal cannot be written", "err", err)
		os.Exit(1)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
