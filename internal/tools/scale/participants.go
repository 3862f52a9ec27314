package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/cluster"
)

const (
	// deliveriesEvery is the pace of transactions while the latency of deliveries is
	// measured: slow enough that nothing waits for another.
	deliveriesEvery = 20 * time.Millisecond
	// idleTime is how long an idle leader's CPU is watched.
	idleTime = 10 * time.Second
)

// measureParticipants attaches participants, each over a connection of its own, as
// processes have it, and sees what they cost the leader that they wait for.
func measureParticipants(ctx context.Context, o *options, out *results) error {
	for _, n := range o.participants {
		if err := participantsAttached(ctx, o, out, n); err != nil {
			return err
		}
	}
	return nil
}

// startCluster starts a cluster of processes in a scratch directory.
func startCluster(ctx context.Context, o *options, nodes int, env func(node string, start int) []string) (*cluster.Cluster, error) {
	binary, err := o.program(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := o.scratch()
	if err != nil {
		return nil, err
	}
	return cluster.Start(ctx, cluster.Config{
		Binary: binary, Nodes: nodes, Dir: dir, Profile: "default", Env: env,
		Args: []string{"--log-store", o.logStore, "--log-level", "warn"},
	})
}

func participantsAttached(ctx context.Context, o *options, out *results, n int) error {
	c, err := startCluster(ctx, o, 3, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop() }()
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return err
	}
	_, bare, err := processUse(leader.Pid())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	crowd := &crowd{address: leader.GRPC}
	defer crowd.wait.Wait()
	defer cancel()
	begun := time.Now()
	if err := crowd.attach(ctx, n); err != nil {
		return err
	}
	attached := time.Since(begun)
	before, _, err := processUse(leader.Pid())
	if err != nil {
		return err
	}
	select {
	case <-time.After(idleTime):
	case <-ctx.Done():
		return nil
	}
	after, resident, err := processUse(leader.Pid())
	if err != nil {
		return err
	}
	each, err := crowd.deliveries(ctx, o.duration)
	if err != nil {
		return errors.Join(crowd.err(), err) // nobody attaches again: what is its participant's waits for ever
	}
	out.add("participants", thousands(n)+" attached",
		figure{"attach_s", attached.Seconds()}, figure{"idle_cpu_percent", 100 * float64(after-before) / float64(idleTime)},
		figure{"idle_cpu_us_per_heartbeat", micros(after-before) / idleTime.Seconds() / float64(n)},
		figure{"kb_each", float64(int64(resident)-int64(bare)) / 1000 / float64(n)},
		figure{"finish_p50_ms", each.quantile(0.5)}, figure{"finish_p99_ms", each.quantile(0.99)}, figure{"finish_max_ms", each.max()})
	return crowd.err()
}

// crowd is many participants in one process; each guards a resource of its own.
type crowd struct {
	address string
	wait    sync.WaitGroup

	mu        sync.Mutex
	resources []string
	clock     uint64
	failed    error
}

func (c *crowd) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// attach attaches n of them, some at a time.
func (c *crowd) attach(ctx context.Context, n int) error {
	next := make(chan int)
	errs := make(chan error, 64)
	var wait sync.WaitGroup
	for range cap(errs) {
		wait.Go(func() {
			for i := range next {
				if err := c.attachOne(ctx, i); err != nil {
					errs <- fmt.Errorf("attach participant %d: %w", i, err)
					for range next { // the others end by themselves
					}
					return
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wait.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (c *crowd) attachOne(ctx context.Context, i int) error {
	conn, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(0))
	if err != nil {
		return err
	}
	stream, err := quoratev1.NewParticipantServiceClient(conn).Session(ctx)
	if err != nil {
		return err
	}
	resource := fmt.Sprintf("crowd-%d", i)
	err = stream.Send(&quoratev1.SessionRequest{Id: 1, Frame: &quoratev1.SessionRequest_Attach{Attach: &quoratev1.Attach{
		Holder: ulid.Make().String(), Resources: []string{resource}, Name: "scale", Window: 16,
	}}})
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.resources = append(c.resources, resource)
	c.clock = max(c.clock, first.GetAttached().GetHeader().GetClockMs())
	c.mu.Unlock()
	out := make(chan *quoratev1.SessionRequest, 16)
	c.wait.Go(func() {
		defer conn.Close()
		for {
			got, err := stream.Recv()
			if err != nil {
				c.ended(ctx, err)
				return
			}
			if d := got.GetDeliver(); d != nil {
				out <- &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{
					Gid: d.GetGid(), Branch: d.GetBranch(), Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Attempt: d.GetAttempt(),
				}}}
			}
		}
	})
	c.wait.Go(func() {
		// Heartbeats of processes that started at different times do not come together.
		beat := time.NewTimer(rand.N(first.GetAttached().GetHeartbeat().AsDuration()))
		defer beat.Stop()
		for {
			frame := &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}}
			select {
			case frame = <-out:
			case <-beat.C:
				beat.Reset(first.GetAttached().GetHeartbeat().AsDuration())
			case <-stream.Context().Done():
				return
			}
			if stream.Send(frame) != nil {
				return // Recv tells why
			}
		}
	})
	return nil
}

// ended notes a session that ended before it was to.
func (c *crowd) ended(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil && c.failed == nil {
		c.failed = fmt.Errorf("a session ended: %w", err)
	}
}

// deliveries decides transactions of two participants each, picked at random, and
// returns how long it took until both had acknowledged.
func (c *crowd) deliveries(ctx context.Context, d time.Duration) (latencies, error) {
	conn, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tick := time.NewTicker(deliveriesEvery)
	defer tick.Stop()
	var each latencies
	for begun := time.Now(); time.Since(begun) < d; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return each, nil
		}
		at := time.Now()
		err := submitTo(ctx, conn, []string{c.resources[rand.N(len(c.resources))], c.resources[rand.N(len(c.resources))]},
			quoratev1.Vote_VOTE_PREPARED, quoratev1.Wait_WAIT_FINISH)
		if err != nil {
			return each, err
		}
		each = append(each, time.Since(at))
	}
	return each, nil
}

// submitTo decides one transaction over gRPC; the node makes its GID.
func submitTo(ctx context.Context, conn *grpc.ClientConn, resources []string, vote quoratev1.Vote, wait quoratev1.Wait) error {
	req := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{}, Wait: wait}
	for i, r := range resources {
		spec := &quoratev1.BranchSpec{Id: branchIDs[i], Resource: r}
		req.Set = append(req.Set, spec)
		req.Votes = append(req.Votes, &quoratev1.Ballot{Branch: spec, Vote: vote})
	}
	got, err := quoratev1.NewTransactionServiceClient(conn).Submit(ctx, req)
	if err != nil {
		return err
	}
	if got.GetDecision() != quoratev1.Decision_DECISION_COMMIT {
		return fmt.Errorf("%s: %v, want a commit: %s", got.GetGid(), got.GetDecision(), got.GetDetail())
	}
	return nil
}
