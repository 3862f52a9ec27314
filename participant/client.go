package participant

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/wire"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Client talks to a cluster and follows its leader. It is safe for concurrent
// use; one a process is enough.
type Client struct {
	cfg    config
	holder string // this process' instance id: new at each start
	nodes  *nodes
	clock  clock
	live   *registry
	sess   *session
	// submits are those of one-shot transactions over a stream, where that is wanted.
	submits *Submits

	ctx    context.Context // ends when the client is closed
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine of the client

	mu       sync.Mutex
	closed   bool                   // no goroutine starts any more
	attached map[string]*Attachment // by resource
}

// Dial connects to the cluster that the seeds belong to: gRPC addresses of some
// of its nodes. It returns once a node has told the cluster's id and clock, or
// an error when the context ends (after 30 s if it has no deadline).
func Dial(ctx context.Context, seeds []string, opts ...Option) (*Client, error) {
	if len(seeds) == 0 {
		return nil, errors.New("participant: no seed addresses: name the gRPC address of at least one node, such as localhost:36790")
	}
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	holder, err := ulid.New(ulid.Now(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("participant: make an instance id: %w", err)
	}
	c := &Client{cfg: cfg, holder: holder.String(), live: newRegistry(), attached: make(map[string]*Attachment)}
	c.nodes = newNodes(seeds, c.dial)
	c.sess = newSession(c)
	if cfg.submitStream {
		c.submits = c.SubmitStream()
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.refreshClock(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("participant: dial %v: %w", seeds, err)
	}
	return c, nil
}

// Close says goodbye to the cluster and waits for the client's goroutines. Held
// branches are given up; prepared ones are left to recovery.
func (c *Client) Close() error {
	c.sess.goodbye()
	c.cancel()
	return c.finish()
}

// finish joins every goroutine and closes the connections.
func (c *Client) finish() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
	c.sess.reports.close()
	if c.submits != nil {
		c.submits.Close(c.ctx) // at once: it has ended
	}
	c.nodes.close()
	return nil
}

// ClusterID is the id of the cluster, a ULID.
func (c *Client) ClusterID() string { return c.clock.clusterID() }

// Holder is the instance id of this process, a ULID made at Dial.
func (c *Client) Holder() string { return c.holder }

// ClockMS is the newest cluster clock that was heard, in milliseconds.
func (c *Client) ClockMS() uint64 { ms, _ := c.clock.now(); return ms }

// FloorMS is the newest floor that was heard: evidence of GIDs born at or below
// it may be swept.
func (c *Client) FloorMS() uint64 { return c.clock.floor() }

// Transactions is the plain gRPC client of the transaction service on the node
// that is asked next, for what this package does not wrap.
func (c *Client) Transactions() (quoratev1.TransactionServiceClient, error) {
	_, conn, err := c.nodes.pick()
	if err != nil {
		return nil, err
	}
	return quoratev1.NewTransactionServiceClient(conn), nil
}

// Get reads a transaction by its GID or by `key:K`, linearizably.
func (c *Client) Get(ctx context.Context, transaction string) (*quoratev1.Transaction, error) {
	gid, _ := ParseGID(transaction)
	got, err := call(ctx, c, gid, func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.GetResponse, error) {
		return quoratev1.NewTransactionServiceClient(cc).Get(ctx, &quoratev1.GetRequest{Transaction: transaction})
	})
	return got.GetTransaction(), err
}

// List reads a page of transactions, linearizably.
func (c *Client) List(ctx context.Context, req *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
	return call(ctx, c, "", func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.ListResponse, error) {
		return quoratev1.NewTransactionServiceClient(cc).List(ctx, req)
	})
}

// dial makes the connection to one node. Reconnects must be quick: gRPC's own
// back-off starts at a second, which is longer than a failover.
func (c *Client) dial(address string) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.cfg.tls != nil {
		creds = credentials.NewTLS(c.cfg.tls)
	}
	opts := append(wire.DialOptions(),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 2, Jitter: 0.5, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
	)
	return grpc.NewClient(address, append(opts, c.cfg.dial...)...)
}

// refreshClock hears the clock anew. Listing one transaction is the cheapest
// read whose answer is linearizable, so that the clock is no stale node's.
func (c *Client) refreshClock(ctx context.Context) error {
	_, err := c.List(ctx, &quoratev1.ListRequest{PageSize: 1})
	return err
}

// mint makes a GID from the newest clock heard, a fresh one if it is too old.
func (c *Client) mint(ctx context.Context) (GID, error) {
	ms, age := c.clock.now()
	if age > c.cfg.staleAfter {
		ms = 0 // not to be relied on
	}
	for pause := (backoff{}); ms == 0; { // or founded just now: nothing can be born at zero
		if err := c.refreshClock(ctx); err != nil {
			return "", err
		}
		if ms, _ = c.clock.now(); ms != 0 {
			break
		}
		if err := sleep(ctx, pause.next()); err != nil {
			return "", &UnavailableError{Err: err}
		}
	}
	return newGID(ms)
}

func (c *Client) otherCluster(address string) error {
	return fmt.Errorf("%w: the node at %s is not of cluster %s; check the seed addresses", ErrOtherCluster, address, c.ClusterID())
}
