package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// trailered is a stream whose messages and trailer the test gives.
type trailered struct {
	grpc.ClientStream
	messages int
	end      error
	md       metadata.MD
}

func (s *trailered) RecvMsg(any) error {
	if s.messages--; s.messages >= 0 {
		return nil
	}
	return s.end
}

func (s *trailered) Trailer() metadata.MD { return s.md }

// However a call is carried, and however it ends, its end is noted once: with what the
// callee has said, and without its word as one of which nothing is known.
func TestHowEachCarrierEndsACall(t *testing.T) {
	spoke := said(true, "1.1")
	md := trailerMetadata(spoke)
	broken := status.Error(codes.Unavailable, "the connection broke")
	trailerHTTP := http.Header{}
	spoke.each(func(name string, value ...string) { trailerHTTP.Set(name, value[0]) })
	stream := func(many bool, s *trailered, openErr error, reads int) func(context.Context) {
		return func(ctx context.Context) {
			st, err := StreamClientInterceptor()(ctx, &grpc.StreamDesc{ServerStreams: many}, nil, "/x/Y",
				func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
					if openErr != nil {
						return nil, openErr
					}
					return s, nil
				})
			if err != nil {
				return
			}
			for range reads {
				_ = st.RecvMsg(nil)
			}
		}
	}
	roundTrip := func(resp *http.Response, err error, use func(io.ReadCloser)) func(context.Context) {
		return func(ctx context.Context) {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://callee.example/", nil)
			got, err := Transport(roundTripper(func(*http.Request) (*http.Response, error) { return resp, err })).RoundTrip(r)
			if err == nil {
				use(got.Body)
			}
		}
	}
	body := func() io.ReadCloser { return io.NopCloser(strings.NewReader("done")) }
	read := func(b io.ReadCloser) { _, _ = io.Copy(io.Discard, b); _ = b.Close(); _ = b.Close() }
	unary := func(md metadata.MD, err error) func(context.Context) {
		return func(ctx context.Context) {
			_ = UnaryClientInterceptor()(ctx, "/x/Y", nil, nil, nil, func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
				for _, o := range opts {
					if t, ok := o.(grpc.TrailerCallOption); ok {
						*t.TrailerAddr = md
					}
				}
				return err
			})
		}
	}
	for name, x := range map[string]struct {
		call  func(context.Context)
		spoke bool
	}{
		"a call":                          {unary(md, nil), true},
		"a call refused":                  {unary(md, broken), true},
		"a call that broke":               {unary(nil, broken), false},
		"a callee that knows nothing":     {unary(nil, nil), false},
		"a stream read to its end":        {stream(true, &trailered{messages: 2, end: io.EOF, md: md}, nil, 4), true},
		"a stream of one answer":          {stream(false, &trailered{messages: 1, end: io.EOF, md: md}, nil, 1), true},
		"a stream of no answer":           {stream(false, &trailered{end: broken}, nil, 1), false},
		"a stream that broke":             {stream(true, &trailered{messages: 1, end: broken}, nil, 2), false},
		"a stream that was not opened":    {stream(true, nil, broken, 0), false},
		"a request":                       {roundTrip(&http.Response{Header: http.Header{}, Trailer: trailerHTTP, Body: body()}, nil, read), true},
		"a request without a body":        {roundTrip(&http.Response{Header: trailerHTTP, Body: http.NoBody}, nil, read), true},
		"a request that broke":            {roundTrip(nil, broken, nil), false},
		"a body that was closed too soon": {roundTrip(&http.Response{Header: http.Header{}, Trailer: trailerHTTP, Body: body()}, nil, func(b io.ReadCloser) { _ = b.Close() }), false},
	} {
		s := newScope(Info{GID: bornGID, Timeout: time.Minute, Entry: EntryNamed, OneShot: true})
		x.call(withScope(t.Context(), s))
		tr, want := s.trailer(), []string{"1"}
		if x.spoke {
			want = []string{"1.1"}
		}
		if s.open != 0 || tr.complete != x.spoke || s.lost == x.spoke || !slices.Equal(namesOf(s), want) {
			t.Errorf("%s: %d open, complete %t, lost %t, names %v", name, s.open, tr.complete, s.lost, namesOf(s))
		}
	}
}

// A lock is waited for no longer than the transaction has left, by the clock as heard and
// by what has passed since.
func TestTheTimeThatIsLeft(t *testing.T) {
	_, gid := globalBorn(t, bornMS)
	for heard, want := range map[uint64]time.Duration{bornMS - 5000: 30 * time.Second, bornMS: 30 * time.Second, bornMS + 12_000: 18 * time.Second, bornMS + 60_000: -30 * time.Second} {
		for _, ago := range []time.Duration{0, 10 * time.Second} {
			c := realClient{&Client{}}
			if err := c.clock.hear(&quoratev1.ResponseHeader{ClockMs: heard}); err != nil {
				t.Fatal(err)
			}
			c.clock.at = time.Now().Add(-ago)
			got := c.timeLeft(Info{GID: gid, Timeout: 30 * time.Second})
			if over := want - ago - got; over < 0 || over > 5*time.Second {
				t.Errorf("the clock is %d ms after the begin, heard %v ago: %v are left, want %v", int64(heard)-bornMS, ago, got, want-ago)
			}
		}
	}
}

// failingConn answers every query with an error.
type failingConn struct {
	driver.Conn
	err error
}

func (c failingConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return nil, c.err
}

func (c failingConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return nil, c.err
}

// "As a hazard only where no row could be read", and for good: any other error of the
// fence is no outcome, and the branch is asked for again.
func TestAnErrorOfTheFenceIsNoOutcome(t *testing.T) {
	for name, err := range map[string]error{
		"lost": driver.ErrBadConn, "broken": io.ErrUnexpectedEOF, "too late": context.DeadlineExceeded,
		"denied": &pgconn.PgError{Code: "42501"}, "cancelled": &pgconn.PgError{Code: "57014"}, "read-only": &pgconn.PgError{Code: "25006"},
		"full": &pgconn.PgError{Code: "53100"}, "locked": &pgconn.PgError{Code: "55P03"}, "no column": &pgconn.PgError{Code: "42703"},
		"MySQL's": &mysql.MySQLError{Number: 1290}, "gone": &pgconn.PgError{Code: "42P01"},
	} {
		p := &Proxy{dialect: DialectPostgres.make(clusterA), engine: postgresEngine{}, client: newScript(), logger: slog.New(slog.DiscardHandler)}
		for _, v := range []Verdict{VerdictCommit, VerdictRollback} {
			outcome, got := p.finishFound(t.Context(), rawSession{raw: failingConn{err: err}}, BranchRef{GID(clusterA), "1"}, "", v)
			if name == "gone" {
				if outcome != OutcomeHazard || got != nil {
					t.Errorf("%s: %v, %v", name, outcome, got)
				}
			} else if outcome != OutcomeNone || !errors.Is(got, err) {
				t.Errorf("%s, told to %v: %v, %v", name, v, outcome, got)
			}
		}
	}
}

// TestEveryFault: what each code that the proxy knows means, by the databases' manuals.
func TestEveryFault(t *testing.T) {
	for f, codes := range map[fault]struct {
		states  []string
		numbers []uint16
	}{
		faultLockTimeout: {[]string{"55P03"}, []uint16{1205}},
		faultDeadlock:    {[]string{"40P01"}, []uint16{1213, 1614}},
		faultDuplicate:   {[]string{"23505"}, []uint16{1062}},
		faultNotFound:    {[]string{"42704"}, []uint16{1397}},
		faultInUse:       {[]string{"55000", "42710"}, []uint16{1440}},
		faultNoTable:     {[]string{"42P01"}, []uint16{1146}},
		faultLost:        {[]string{"57P01", "57P02"}, []uint16{1053, 1927}},
		faultServer:      {[]string{"22012", "25P02", "25006", "40001", "53200", "57014"}, []uint16{1064, 1399, 1402, 1317}},
	} {
		for _, s := range codes.states {
			if got := faultOf(&pgconn.PgError{Code: s}); got != f {
				t.Errorf("Postgres' %s is fault %d, want %d", s, got, f)
			}
		}
		for _, n := range codes.numbers {
			if got := faultOf(&mysql.MySQLError{Number: n}); got != f {
				t.Errorf("MySQL's %d is fault %d, want %d", n, got, f)
			}
		}
	}
}

// pooled is a connection that its driver may have given up.
type pooled struct {
	driver.Conn
	name    string
	invalid bool
	reset   error
	closed  int
}

func (c *pooled) IsValid() bool                      { return !c.invalid }
func (c *pooled) ResetSession(context.Context) error { return c.reset }
func (c *pooled) Close() error                       { c.closed++; return nil }

// Connections that branches gave back serve again while they work, each with what is known
// of its own session; others are closed, once, and so are those beyond the bound.
func TestConnectionsThatCameBack(t *testing.T) {
	p := newPins(4)
	conns := []*pooled{{name: "a"}, {name: "b", invalid: true}, {name: "c"}, {name: "d", reset: driver.ErrBadConn}, {name: "beyond"}}
	states := map[string]*sessionState{}
	for _, c := range conns {
		states[c.name] = &sessionState{}
		p.give(c, states[c.name])
	}
	if n := conns[4].closed; n != 1 || len(p.free) != 4 {
		t.Errorf("beyond the bound: %d kept, closed %d times", len(p.free), n)
	}
	for _, want := range []string{"c", "a", ""} {
		raw, state := p.reuse(t.Context())
		if want == "" {
			if raw != nil {
				t.Errorf("%s serves again", raw.(*pooled).name)
			}
			break
		}
		if c, ok := raw.(*pooled); !ok || c.name != want || state != states[want] {
			t.Errorf("%+v serves again, want %s", raw, want)
		}
	}
	for i, want := range []int{0, 1, 0, 1, 1} {
		if conns[i].closed != want {
			t.Errorf("%s was closed %d times, want %d", conns[i].name, conns[i].closed, want)
		}
	}
	p.give(conns[0], states["a"])
	p.close()
	p.give(conns[2], states["c"])
	if conns[0].closed != 1 || conns[2].closed != 1 {
		t.Error("a connection outlives the proxy")
	}
}

// answeringEngine ends branches with the error that the test wants, and lists what it wants.
type answeringEngine struct {
	engine
	err    error
	listed map[string]Prepared
}

func (e answeringEngine) finish(context.Context, rawSession, string, Verdict) error { return e.err }
func (e answeringEngine) list(context.Context, rawSession) (map[string]Prepared, error) {
	return e.listed, nil
}

// What a database says to the end of a branch: only success is one. Whoever is busy is
// asked again; "not found" is believed where the xid is not listed, and the fence is asked
// then; nothing else says anything, to a rollback as little as to a commit.
func TestWhatADatabaseSaysToTheEnd(t *testing.T) {
	ref := BranchRef{GID(clusterA), "1"}
	listed := map[string]Prepared{"x": {BranchRef: ref, Cluster: clusterA}}
	fence := errors.New("the fence was asked")
	for name, x := range map[string]struct {
		err          error
		listed       map[string]Prepared
		done, busy   bool
		fenceIsAsked bool
	}{
		"nothing":              {done: true},
		"in use":               {err: &pgconn.PgError{Code: "55000"}, busy: true},
		"a taken name":         {err: &mysql.MySQLError{Number: 1440}, busy: true},
		"locked":               {err: &mysql.MySQLError{Number: 1205}, busy: true},
		"a deadlock":           {err: &pgconn.PgError{Code: "40P01"}, busy: true},
		"not found, yet there": {err: &mysql.MySQLError{Number: 1397}, listed: listed, busy: true},
		"not found":            {err: &mysql.MySQLError{Number: 1397}, fenceIsAsked: true},
		"not found, another's": {err: &pgconn.PgError{Code: "42704"}, listed: map[string]Prepared{"x": {BranchRef: ref, Cluster: clusterB}}, fenceIsAsked: true},
		"denied":               {err: &pgconn.PgError{Code: "42501"}},
		"nothing, broken":      {err: driver.ErrBadConn},
		"shutting down":        {err: &pgconn.PgError{Code: "57P01"}},
	} {
		for v, want := range map[Verdict]Outcome{VerdictCommit: OutcomeCommitted, VerdictRollback: OutcomeRolledBack} {
			p := &Proxy{dialect: DialectPostgres.make(clusterA), engine: answeringEngine{err: x.err, listed: x.listed}, client: newScript(), logger: slog.New(slog.DiscardHandler)}
			got, err := p.finishFound(t.Context(), rawSession{raw: failingConn{err: fence}}, ref, "x", v)
			switch {
			case x.done && (got != want || err != nil),
				!x.done && (got != OutcomeNone || err == nil),
				x.busy != errors.Is(err, ErrBusy), x.fenceIsAsked != errors.Is(err, fence):
				t.Errorf("%s, told to %v: %v, %v", name, v, got, err)
			}
		}
	}
	// A commit cannot come before the vote: it changes nothing of a branch at work, and a
	// rollback stops it.
	p := &Proxy{engine: postgresEngine{}}
	b := &branchTx{p: p, ref: ref}
	if done, o, err := b.finish(t.Context(), VerdictCommit); !done || o != OutcomeNone || !errors.Is(err, ErrBusy) || b.doomed.Load() {
		t.Errorf("a commit of a branch at work: %t, %v, %v, doomed %t", done, o, err, b.doomed.Load())
	}
	if done, o, err := b.finish(t.Context(), VerdictRollback); done || o != OutcomeNone || err != nil || !b.doomed.Load() {
		t.Errorf("a rollback of a branch at work: %t, %v, %v, doomed %t", done, o, err, b.doomed.Load())
	}
}
