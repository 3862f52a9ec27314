package participant

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/oklog/ulid/v2"
	"modernc.org/sqlite"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/internal/testkit"
)

// These tests run each rule of PROTOCOL.md, section 5, against a real database.
// The cluster is a scripted one: what it answers, and when, is the test's to say.

// clusterA is the scripted cluster's id; clusterB is somebody else's.
var clusterA, clusterB = ulid.MustNew(1, rand.Reader).String(), ulid.MustNew(2, rand.Reader).String()

// script is a cluster whose answers the test decides.
type script struct {
	mu sync.Mutex
	// verdict is the answer to a prepared vote; wait when zero.
	verdict Verdict
	// voteErr is the error of a prepared vote.
	voteErr error
	// beforeVote runs when a prepared vote arrives, before it is answered.
	beforeVote func(BranchRef)
	// startErr is the error of an enlisting.
	startErr error
	// left is the time that transactions have left.
	left time.Duration
	// youth says that no transaction's evidence can have been swept.
	youth bool

	branches map[BranchRef]*scriptBranch
}

func newScript() *script {
	return &script{left: time.Minute, branches: make(map[BranchRef]*scriptBranch)}
}

func (s *script) startBranch(ctx context.Context, resource string, held bool) (proxyBranch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.startErr != nil {
		return nil, s.startErr
	}
	sc := scopeOf(ctx)
	id, err := sc.child()
	if err != nil {
		return nil, err
	}
	b := &scriptBranch{script: s, prepared: Prepared{BranchRef: BranchRef{GID: sc.gid, ID: id}, Cluster: clusterA, Timeout: 30 * time.Second},
		scope: sc, held: held, ended: make(chan struct{})}
	s.branches[b.prepared.BranchRef] = b
	return b, nil
}

func (s *script) attach(context.Context, Manager) (*Attachment, error) { return nil, nil }
func (s *script) timeLeft(Info) time.Duration                          { s.mu.Lock(); defer s.mu.Unlock(); return s.left }
func (s *script) young(GID) bool                                       { s.mu.Lock(); defer s.mu.Unlock(); return s.youth }
func (s *script) ClusterID() string                                    { return clusterA }
func (s *script) log() *slog.Logger                                    { return slog.New(slog.DiscardHandler) }

// set changes the script.
func (s *script) set(f func(*script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// branch is the scripted branch of that name.
func (s *script) branch(t *testing.T, ref BranchRef) *scriptBranch {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.branches[ref]
	if b == nil {
		t.Fatalf("branch %s was never started", ref)
	}
	return b
}

// wantVote checks the branch's vote.
func (s *script) wantVote(t *testing.T, ref BranchRef, kind VoteKind, maybePrepared bool) {
	t.Helper()
	b := s.branch(t, ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.vote.Kind != kind || b.vote.MaybePrepared != maybePrepared {
		t.Fatalf("branch %s voted %v (maybe prepared: %v, %q), want %v (%v)", ref, b.vote.Kind, b.vote.MaybePrepared, b.vote.Detail, kind, maybePrepared)
	}
}

// scriptBranch is one branch of a scripted cluster.
type scriptBranch struct {
	script   *script
	prepared Prepared
	scope    *scope
	held     bool
	vote     Vote
	done     Outcome
	// ended is closed by end.
	ended   chan struct{}
	verdict Verdict
	outcome Outcome
}

func (b *scriptBranch) Ref() BranchRef     { return b.prepared.BranchRef }
func (b *scriptBranch) Prepared() Prepared { return b.prepared }

// detail is what the branch's vote said for people.
func (b *scriptBranch) detail() string {
	b.script.mu.Lock()
	defer b.script.mu.Unlock()
	return b.vote.Detail
}

func (b *scriptBranch) prepareBehind() func(func() error) { return b.scope.behind.begin() }

func (b *scriptBranch) CheckWait() error {
	if b.scope.isWaited() {
		return ErrWaitsForItself
	}
	return nil
}

func (b *scriptBranch) Vote(_ context.Context, v Vote) (Verdict, error) {
	b.script.mu.Lock()
	if b.vote.Kind != VoteNone {
		b.script.mu.Unlock()
		return VerdictNone, ErrVoted
	}
	b.vote = v
	verdict, err, hook := b.script.verdict, b.script.voteErr, b.script.beforeVote
	b.script.mu.Unlock()
	if v.Kind != VotePrepared {
		return VerdictRollback, nil
	}
	if hook != nil {
		hook(b.Ref())
	}
	if verdict == VerdictNone {
		verdict = VerdictWait
	}
	return verdict, err
}

func (b *scriptBranch) Wait(ctx context.Context) (Verdict, Outcome, error) {
	select {
	case <-b.ended:
		return b.verdict, b.outcome, nil
	case <-ctx.Done():
		return VerdictNone, OutcomeNone, ctx.Err()
	}
}

func (b *scriptBranch) Done(_ context.Context, o Outcome, _ string) error {
	b.script.mu.Lock()
	defer b.script.mu.Unlock()
	b.done = o
	return nil
}

// reported is what the branch said by its own word.
func (b *scriptBranch) reported() Outcome {
	b.script.mu.Lock()
	defer b.script.mu.Unlock()
	return b.done
}

// resource is one real database with proxies on it.
type resource struct {
	t      *testing.T
	kind   string
	open   func(t *testing.T) driver.Connector
	dsn    string
	script *script
	proxy  *Proxy
	db     *sql.DB // on the proxy
	plain  *sql.DB // the database as others see it
}

// bornMS is the clock that the tests' GIDs are born at, by default.
const bornMS = 1_700_000_000_000

// kinds of databases, by the name of their tests.
var kinds = map[string]struct {
	dsn   func(t *testing.T) string
	open  func(t *testing.T, dsn string) driver.Connector
	proxy func(driver.Connector, *script, ...ProxyOption) *Proxy
}{
	"postgres": {postgresDSN, openPostgres, func(c driver.Connector, s *script, o ...ProxyOption) *Proxy {
		return startProxy(c, s, "orders-db", DialectPostgres, postgresEngine{}, newProxyConfig(o))
	}},
	"mysql": {mysqlDSN, openMySQL, func(c driver.Connector, s *script, o ...ProxyOption) *Proxy {
		return startProxy(c, s, "orders-db", DialectMySQL, xaEngine{}, newProxyConfig(o))
	}},
	"sqlite": {sqliteDSN, openSQLite, func(c driver.Connector, s *script, o ...ProxyOption) *Proxy {
		return startProxy(c, s, "orders-db", DialectSQLite, heldEngine{}, newProxyConfig(o))
	}},
	"held-postgres": {postgresDSN, openPostgres, func(c driver.Connector, s *script, o ...ProxyOption) *Proxy {
		return startProxy(c, s, "orders-db", DialectPostgres, heldEngine{}, newProxyConfig(o))
	}},
	"held-mysql": {mysqlDSN, openMySQL, func(c driver.Connector, s *script, o ...ProxyOption) *Proxy {
		return startProxy(c, s, "orders-db", DialectMySQL, heldEngine{}, newProxyConfig(o))
	}},
}

func postgresDSN(t *testing.T) string { return testdb.Postgres(t) }
func mysqlDSN(t *testing.T) string    { return testdb.MySQL(t) }

func sqliteDSN(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "bank.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

func openPostgres(t *testing.T, dsn string) driver.Connector {
	t.Helper()
	d := stdlib.GetDefaultDriver().(driver.DriverContext)
	c, err := d.OpenConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openMySQL(t *testing.T, dsn string) driver.Connector {
	t.Helper()
	c, err := mysql.MySQLDriver{}.OpenConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sqliteConnector opens a file anew for each connection.
type sqliteConnector struct {
	dsn string
	drv *sqlite.Driver
}

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) { return c.drv.Open(c.dsn) }
func (c sqliteConnector) Driver() driver.Driver                        { return c.drv }

func openSQLite(_ *testing.T, dsn string) driver.Connector {
	return sqliteConnector{dsn: dsn, drv: &sqlite.Driver{}}
}

// newResource makes an empty database with a table of two accounts.
func newResource(t *testing.T, kind string, opts ...ProxyOption) *resource {
	t.Helper()
	r := openResource(t, kind, kinds[kind].dsn(t), opts...)
	r.must("CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)")
	r.must("INSERT INTO account VALUES (1, 100), (2, 100)")
	return r
}

// openResource puts a proxy on a database that is there.
func openResource(t *testing.T, kind, dsn string, opts ...ProxyOption) *resource {
	t.Helper()
	k := kinds[kind]
	r := &resource{t: t, kind: kind, dsn: dsn, script: newScript()}
	r.open = func(t *testing.T) driver.Connector { return k.open(t, dsn) }
	r.plain = sql.OpenDB(k.open(t, dsn))
	r.proxy = k.proxy(k.open(t, dsn), r.script, opts...)
	r.db = sql.OpenDB(r.proxy)
	t.Cleanup(func() {
		r.db.Close()
		r.clear()
		r.plain.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.proxy.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

// again is another process of the same resource: another proxy, nothing shared.
func (r *resource) again(opts ...ProxyOption) *resource {
	r.t.Helper()
	return openResource(r.t, r.kind, r.dsn, opts...)
}

// clear ends what a test left prepared in the shared server.
func (r *resource) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		found, err := r.listed(ctx)
		if err != nil || len(found) == 0 {
			return
		}
		for xid := range found {
			if err := r.managed(ctx, func(s rawSession) error { return r.proxy.engine.finish(ctx, s, xid, VerdictRollback) }); err != nil {
				if ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// managed runs f on a plain connection, on another one if a crash has broken it.
func (r *resource) managed(ctx context.Context, f func(rawSession) error) (err error) {
	for range 10 {
		if err = r.managedOnce(ctx, f); faultOf(err) != faultLost || errors.Is(err, ErrBusy) {
			break
		}
	}
	return err
}

func (r *resource) managedOnce(ctx context.Context, f func(rawSession) error) error {
	c, err := r.plain.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Raw(func(raw any) error { return f(rawSession{raw: raw.(driver.Conn)}) })
}

// listed is what the database has prepared now.
//
// MySQL lists those of the whole server: tests at the same time have theirs there.
func (r *resource) listed(ctx context.Context) (found map[string]Prepared, err error) {
	err = r.managed(ctx, func(s rawSession) (err error) { found, err = r.proxy.engine.list(ctx, s); return err })
	maps.DeleteFunc(found, func(_ string, p Prepared) bool { return !r.own(p) })
	return found, err
}

// own says that this test made the branch.
func (r *resource) own(p Prepared) bool {
	by, _ := madeBy.Load(p.GID)
	name, _ := by.(string)
	return name != "" && (strings.HasPrefix(name, r.t.Name()) || strings.HasPrefix(r.t.Name(), name))
}

// recovered is what the proxy's recovery finds of this test's.
func (r *resource) recovered() []Prepared {
	r.t.Helper()
	found, err := r.proxy.Recover(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(p Prepared) bool { return !r.own(p) })
}

// madeBy are the names of the tests that made GIDs.
var madeBy sync.Map

// must runs SQL beside the proxy.
func (r *resource) must(query string, args ...any) {
	r.t.Helper()
	if _, err := r.plain.ExecContext(r.t.Context(), query, args...); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

// amount is an account's balance as others see it.
func (r *resource) amount(id int) (n int64) {
	r.t.Helper()
	err := r.managed(r.t.Context(), func(s rawSession) error {
		row, err := s.row(r.t.Context(), fmt.Sprintf("SELECT amount FROM account WHERE id = %d", id))
		if err == nil {
			n, err = number(row[0])
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// wantAmount checks an account's balance.
func (r *resource) wantAmount(id, want int) {
	r.t.Helper()
	if got := r.amount(id); got != int64(want) {
		r.t.Fatalf("account %d holds %d, want %d", id, got, want)
	}
}

// wantEvidence checks the state of a branch's evidence row; "" is none.
func (r *resource) wantEvidence(ref BranchRef, want string) {
	r.t.Helper()
	var got, cluster string
	var born uint64
	err := r.plain.QueryRowContext(r.t.Context(), fmt.Sprintf("SELECT state, born, cluster FROM %s WHERE gid = '%s' AND branch = '%s'", EvidenceTable, ref.GID, ref.ID)).Scan(&got, &born, &cluster)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		r.t.Fatal(err)
	}
	if got != want {
		r.t.Fatalf("evidence of %s is %q, want %q", ref, got, want)
	}
	// What a sweep goes by, whoever wrote the row.
	if got != "" && isULID(string(ref.GID)) && (born != ref.GID.BornMS() || cluster != clusterA) {
		r.t.Fatalf("evidence of %s is %s's, born %d", ref, cluster, born)
	}
}

// wantListed checks how many branches are prepared.
func (r *resource) wantListed(want int) {
	r.t.Helper()
	found, err := r.listed(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	maps.DeleteFunc(found, func(_ string, p Prepared) bool { return p.Cluster != clusterA })
	if len(found) != want {
		r.t.Fatalf("%d branches are prepared, want %d: %v", len(found), want, found)
	}
}

// global makes a context with a GID of its own.
func global(t *testing.T) (context.Context, GID) {
	t.Helper()
	return globalBorn(t, bornMS)
}

func globalBorn(t *testing.T, ms uint64) (context.Context, GID) {
	t.Helper()
	gid, err := newGID(ms)
	if err != nil {
		t.Fatal(err)
	}
	madeBy.Store(gid, t.Name())
	ctx, err := Join(t.Context(), Info{GID: gid, Cluster: clusterA, Timeout: 30 * time.Second, Entry: EntryExplicit})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, gid
}

// begin opens a branch and moves money in it.
func (r *resource) begin(ctx context.Context, account, change int) *sql.Tx {
	r.t.Helper()
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE account SET amount = amount + %d WHERE id = %d", change, account)); err != nil {
		r.t.Fatal(err)
	}
	return tx
}

// prepare leaves branch 1 of a new transaction prepared, with account 1 changed.
func (r *resource) prepare(change int) BranchRef {
	r.t.Helper()
	ctx, gid := global(r.t)
	if err := r.begin(ctx, 1, change).Commit(); err != nil {
		r.t.Fatal(err)
	}
	ref := BranchRef{GID: gid, ID: "1"}
	r.script.wantVote(r.t, ref, VotePrepared, false)
	return ref
}

// finish ends a branch, asking again while it is busy.
func (r *resource) finish(ref BranchRef, v Verdict) Outcome {
	r.t.Helper()
	var got Outcome
	testkit.Eventually(r.t, 15*time.Second, func() bool {
		var err error
		if v == VerdictCommit {
			got, err = r.proxy.Commit(r.t.Context(), ref)
		} else {
			got, err = r.proxy.Rollback(r.t.Context(), ref)
		}
		if err != nil && !errors.Is(err, ErrBusy) && faultOf(err) != faultLost {
			r.t.Fatalf("%v %s: %v", v, ref, err)
		}
		return err == nil
	}, "branch %s cannot be ended", ref)
	return got
}

// wantOutcome ends a branch and checks what it did.
func (r *resource) wantOutcome(ref BranchRef, v Verdict, want Outcome) {
	r.t.Helper()
	if got := r.finish(ref, v); got != want {
		r.t.Fatalf("told to %v, branch %s is %v, want %v", v, ref, got, want)
	}
	if b := r.proxy.pins.get(ref); b != nil && b.knownXid() != "" {
		r.t.Fatalf("branch %s has ended, and is kept in mind", ref)
	}
}

// each runs a test against several kinds of databases.
func each(t *testing.T, f func(t *testing.T, kind string), only ...string) {
	t.Parallel() // they wait for locks, most of their time
	for _, kind := range only {
		t.Run(kind, func(t *testing.T) { t.Parallel(); f(t, kind) })
	}
}

var (
	prepared = []string{"postgres", "mysql"}
	heldOnly = []string{"sqlite", "held-postgres", "held-mysql"}
	every    = []string{"postgres", "mysql", "sqlite", "held-postgres", "held-mysql"}
)
