package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/timebox"
)

// Proxy stands between database/sql and a driver's connector, and makes branches
// of the local transactions whose context carries a GID:
//
//	db := sql.OpenDB(participant.Postgres(connector, client, "orders-db"))
//	tx, err := db.BeginTx(ctx, nil) // ctx carries a GID: this is a branch
//	...
//	err = tx.Commit()               // prepared and voted; the decision finishes it
//
// It is also the [Manager] of its resource. It is made by [Postgres], [MySQL] and
// [HeldDB], and closed by the sql.DB on top of it.
type Proxy struct {
	connector driver.Connector
	resource  string
	cfg       proxyConfig
	dialect   dialect
	engine    engine
	client    proxyClient
	logger    *slog.Logger

	// manage is a small pool of plain connections to the same database: for phase
	// two, recovery, the fence and the probes.
	manage *sql.DB
	// managing is held for reading while a connection of manage is in use.
	managing sync.RWMutex

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	ready  chan struct{} // closed once attached
	pins   pins
	single atomic.Bool   // driver and server take one statement a request
	swept  atomic.Uint64 // the highest floor that this process has swept to
	// keepsNone is set once the server had no room for another prepared statement.
	keepsNone atomic.Bool

	scanned scanned
	// prepares and ends bound the steps that every branch takes.
	prepares, ends timebox.Contexts

	mu       sync.Mutex
	why      error // why it is not attached yet
	attached *Attachment
}

var (
	_ driver.Connector = (*Proxy)(nil)
	_ Manager          = (*Proxy)(nil)
	_ Sweeper          = (*Proxy)(nil)
	_ ExpiryKeeper     = (*Proxy)(nil)
)

// proxyClient is what a proxy needs of a [Client].
type proxyClient interface {
	// startBranch registers and enlists the next branch of the context's call path.
	startBranch(ctx context.Context, resource string, held bool) (proxyBranch, error)
	attach(ctx context.Context, m Manager) (*Attachment, error)
	// timeLeft is how long the transaction has, by the cluster's clock as far as heard.
	timeLeft(Info) time.Duration
	// young says that the transaction's evidence cannot have been swept yet.
	young(GID) bool
	ClusterID() string
	log() *slog.Logger
}

// proxyBranch is what a proxy needs of a [Branch].
type proxyBranch interface {
	Ref() BranchRef
	Prepared() Prepared
	CheckWait() error
	prepareBehind() (run func(prepare func() error))
	Vote(context.Context, Vote) (Verdict, error)
	Wait(context.Context) (Verdict, Outcome, error)
	Done(context.Context, Outcome, string) error
}

var _ proxyBranch = (*Branch)(nil)

// engine is how the local transaction of a branch begins, votes and ends. An xid
// is in the form that its statements want.
type engine interface {
	// pins says that a branch keeps its connection until the decision.
	pins() bool
	// xid names the branch in the database.
	xid(Prepared) (string, error)
	// probe refuses a server that cannot do it.
	probe(ctx context.Context, s rawSession, cfg *proxyConfig) error
	// open begins what can be begun before the branch is registered: a broken
	// connection shows here, and database/sql takes another.
	open(ctx context.Context, s rawSession, d dialect, o opening) (mark, error)
	// start does the rest.
	start(ctx context.Context, s rawSession, xid string) error
	// prepare makes the work durable and able to go either way. After an error it may
	// have happened.
	prepare(ctx context.Context, s rawSession, xid string) error
	// commit ends, in one phase, a transaction that wrote nothing.
	commit(ctx context.Context, s rawSession, xid string) error
	// undo ends a transaction that was not prepared.
	undo(ctx context.Context, s rawSession, xid string) error
	// finish ends a prepared one: on the session that prepared it where it pins.
	finish(ctx context.Context, s rawSession, xid string, v Verdict) error
	// list reads the prepared branches that are in the database now, by xid.
	list(ctx context.Context, s rawSession) (map[string]Prepared, error)
	// failedOver says why the database may have lost commits since it was first
	// attached, or "".
	failedOver(ctx context.Context, s rawSession) (why string, err error)
}

// manageConnectionsMax bounds the proxy's own connections.
const manageConnectionsMax = 16

// commandTimeout bounds one step of the proxy's own work in the database.
const commandTimeout = 10 * time.Second

func newProxy(c driver.Connector, client *Client, resource string, d Dialect, e engine, opts []ProxyOption) *Proxy {
	return startProxy(c, realClient{client}, resource, d, e, newProxyConfig(opts))
}

func startProxy(c driver.Connector, client proxyClient, resource string, d Dialect, e engine, cfg proxyConfig) *Proxy {
	p := &Proxy{
		connector: c, resource: resource, cfg: cfg, dialect: d.make(client.ClusterID()), engine: e, client: client,
		logger: client.log().With("resource", resource),
		manage: sql.OpenDB(plainConnector{c}),
		ready:  make(chan struct{}), pins: newPins(cfg.pinnedMax),
	}
	p.manage.SetMaxOpenConns(manageConnectionsMax)
	p.manage.SetMaxIdleConns(manageConnectionsMax)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.work.Go(p.attachLoop)
	if _, held := e.(heldEngine); held {
		p.work.Go(p.watchHeld)
	}
	return p
}

// plainConnector hides Close: the proxy closes the connector, not its own pool.
type plainConnector struct{ driver.Connector }

// realClient fits a Client to the proxy.
type realClient struct{ *Client }

func (c realClient) startBranch(ctx context.Context, resource string, held bool) (proxyBranch, error) {
	var opts []BranchOption
	if held {
		opts = append(opts, Held())
	}
	b, err := c.StartBranch(ctx, resource, opts...)
	if err != nil {
		return nil, err // a nil *Branch in an interface is not nil
	}
	return b, nil
}

func (c realClient) attach(ctx context.Context, m Manager) (*Attachment, error) {
	return c.Attach(ctx, m)
}

func (c realClient) log() *slog.Logger { return c.cfg.logger }

func (c realClient) timeLeft(i Info) time.Duration {
	passed, _ := c.clock.since(i.GID)
	return i.Timeout - passed
}

// Evidence is swept below the cluster's horizon. That stays behind its clock by the
// retention: the longest timeout, [ClockStaleMax] and a minute for recovery at the least.
// A GID younger than youngMax, by a clock heard less than heardFresh ago, is above it.
const (
	youngMax   = ClockStaleMax
	heardFresh = 10 * time.Second
)

func (c realClient) young(gid GID) bool {
	passed, heard := c.clock.since(gid)
	return passed < youngMax && heard < heardFresh
}

// unswept says that a branch of the transaction need not look at the evidence floor.
func (p *Proxy) unswept(gid GID) bool {
	return gid.BornMS() > p.swept.Load() && p.client.young(gid)
}

// Resource names what is guarded.
func (p *Proxy) Resource() string { return p.resource }

// Ready waits until the proxy is attached to the cluster. When ctx ends first,
// the error says what stands in the way.
func (p *Proxy) Ready(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	default:
	}
	select {
	case <-p.ready:
		return nil
	case <-p.ctx.Done():
		return fmt.Errorf("resource %q: %w", p.resource, ErrClosed)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), p.reason())
	}
}

// usable returns nil when branches can begin. It waits for the attachment while
// none was tried in vain, no longer: what a probe refuses is for a person to mend.
func (p *Proxy) usable(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	default:
	}
	var unfit *unfitError
	if why := p.reason(); errors.As(why, &unfit) {
		return why
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return p.Ready(ctx)
}

func (p *Proxy) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == nil {
		return fmt.Errorf("resource %q is not attached to the cluster yet", p.resource)
	}
	return p.why
}

// Connect opens a connection, or reuses one that a branch has given back.
func (p *Proxy) Connect(ctx context.Context) (driver.Conn, error) {
	if raw, state := p.pins.reuse(ctx); raw != nil {
		return &proxyConn{p: p, raw: raw, state: state}, nil
	}
	raw, err := p.connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &proxyConn{p: p, raw: raw, state: p.newState()}, nil
}

// Driver is the driver of the connector.
func (p *Proxy) Driver() driver.Driver { return p.connector.Driver() }

// Close detaches the resource and closes the proxy's connections; sql.DB.Close
// calls it. Prepared branches stay prepared, held ones roll back.
func (p *Proxy) Close() error {
	p.cancel()
	p.work.Wait()
	p.mu.Lock()
	attached := p.attached
	p.attached = nil
	p.mu.Unlock()
	if attached != nil {
		attached.Detach()
	}
	p.pins.close()
	err := p.manage.Close()
	if c, ok := p.connector.(interface{ Close() error }); ok {
		// A sweep may be at work still: the connector must not close its connection
		// under it.
		p.managing.Lock()
		defer p.managing.Unlock()
		err = errors.Join(err, c.Close())
	}
	return err
}

// managed runs f on one of the proxy's own connections.
func (p *Proxy) managed(ctx context.Context, f func(rawSession) error) error {
	p.managing.RLock()
	defer p.managing.RUnlock()
	c, err := p.manage.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to %q: %w", p.resource, err)
	}
	defer c.Close()
	return c.Raw(func(raw any) error {
		conn, ok := raw.(driver.Conn)
		if !ok {
			return fmt.Errorf("participant: %T is no driver.Conn", raw)
		}
		return f(rawSession{raw: conn})
	})
}
