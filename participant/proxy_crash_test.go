package participant

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testdb"
)

// startServer starts a server of the kind's own, to be killed or configured.
func startServer(t *testing.T, kind string, settings ...string) *testdb.Server {
	t.Helper()
	start := testdb.StartPostgres
	if strings.HasSuffix(kind, "mysql") {
		start = testdb.StartMariaDB
	}
	s, err := start(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// powerCut kills the server and starts it again.
func powerCut(t *testing.T, s *testdb.Server) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestServerKilledBetweenPrepareAndVote: kill -9 of the database when PREPARE is
// answered and the vote is not sent. The branch is there again, its locks and its
// fence too, and it goes either way; the pool finds its way back by itself.
func TestServerKilledBetweenPrepareAndVote(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		server := startServer(t, kind)
		r := openResource(t, kind, server.DSN())
		r.must("CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)")
		r.must("INSERT INTO account VALUES (1, 100), (2, 100)")
		r.script.set(func(s *script) { s.beforeVote = func(BranchRef) { powerCut(t, server) } })
		commit := r.prepare(-10)
		r.script.set(func(s *script) { s.beforeVote = nil })
		r.wantListed(1)
		r.wantAmount(1, 100)

		// Its row is locked, and its evidence cannot be fenced.
		if err := r.managed(t.Context(), func(s rawSession) error {
			_, err := settle(t.Context(), r.proxy.dialect, s, commit)
			return err
		}); !errors.Is(err, ErrBusy) {
			t.Fatalf("fence of a prepared branch after the crash = %v, want ErrBusy", err)
		}
		// A second branch on connections that the crash has broken.
		ctx, gid := global(t)
		if err := r.begin(ctx, 2, -10).Commit(); err != nil {
			t.Fatal(err)
		}
		rollback := BranchRef{gid, "1"}
		powerCut(t, server)
		r.wantListed(2)

		r.wantOutcome(commit, VerdictCommit, OutcomeCommitted)
		r.wantOutcome(rollback, VerdictRollback, OutcomeRolledBack)
		r.wantAmount(1, 90)
		r.wantAmount(2, 100)
		r.wantListed(0)

		// The commit's answer was heard: a crash right after must not take it back.
		powerCut(t, server)
		r.wantOutcome(commit, VerdictCommit, OutcomeCommitted)
		r.wantAmount(1, 90)
	}, prepared...)
}

// TestPreparedSlotsExhausted: the error of PREPARE says what to raise, the branch
// may have prepared as far as anyone knows, and nothing stays behind.
func TestPreparedSlotsExhausted(t *testing.T) {
	t.Parallel()
	server := startServer(t, "postgres", "max_prepared_transactions=1")
	r := openResource(t, "postgres", server.DSN())
	r.must("CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)")
	r.must("INSERT INTO account VALUES (1, 100), (2, 100)")
	first := r.prepare(-10)
	ctx, gid := global(t)
	err := r.begin(ctx, 2, -10).Commit()
	if err == nil || !strings.Contains(err.Error(), "raise max_prepared_transactions") {
		t.Fatalf("Commit = %v, want advice on max_prepared_transactions", err)
	}
	second := BranchRef{gid, "1"}
	r.script.wantVote(t, second, VoteRefused, true)
	r.wantOutcome(second, VerdictRollback, OutcomeRolledBack)
	r.wantOutcome(first, VerdictCommit, OutcomeCommitted)
	r.wantAmount(1, 90)
	r.wantAmount(2, 100)
}

// TestProbes: settings that break the protocol are refused when the resource
// attaches, with what to do; those that only lose work in a crash can be accepted.
func TestProbes(t *testing.T) {
	for name, c := range map[string]struct {
		kind     string
		settings []string
		want     []string
		accepted bool // with AllowUnsafe
	}{
		"postgres cannot prepare":         {"postgres", []string{"max_prepared_transactions=0"}, []string{"max_prepared_transactions = 200", "restart"}, false},
		"postgres fsync off":              {"postgres", []string{"fsync=off"}, []string{"fsync is off", "AllowUnsafe"}, true},
		"postgres asynchronous":           {"postgres", []string{"synchronous_commit=off"}, []string{"synchronous_commit is off"}, true},
		"mariadb flushes once a second":   {"mysql", []string{"innodb-flush-log-at-trx-commit=2"}, []string{"innodb_flush_log_at_trx_commit is 2", "AllowUnsafe"}, true},
		"mariadb has too few connections": {"mysql", []string{"max-connections=20"}, []string{"64 connections", "20 in all", "max_connections", "PinnedMax"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, c.kind, c.settings...)
			k := kinds[c.kind]
			p := k.proxy(k.open(t, server.DSN()), newScript())
			defer p.Close()
			err := p.usableSoon(t)
			var refused *unfitError
			if !errors.As(err, &refused) {
				t.Fatalf("Ready = %v, want a refusal", err)
			}
			for _, want := range append(c.want, "orders-db") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal does not say %q: %v", want, err)
				}
			}
			// BeginTx says the same, without waiting.
			conn, err := p.Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			gctx, _ := global(t)
			if _, err := conn.(*proxyConn).BeginTx(gctx, txOptionsNone); !errors.As(err, &refused) {
				t.Errorf("BeginTx = %v, want the refusal", err)
			}

			q := k.proxy(k.open(t, server.DSN()), newScript(), AllowUnsafe())
			defer q.Close()
			if err := q.usableSoon(t); (err == nil) != c.accepted {
				t.Fatalf("with AllowUnsafe: %v, want accepted: %v", err, c.accepted)
			}
		})
	}
}

// TestAttachesLater: a database that is down when the process starts is taken up
// once it is there; until then BeginTx says what it waits for.
func TestAttachesLater(t *testing.T) {
	t.Parallel()
	server := startServer(t, "postgres")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	k := kinds["postgres"]
	p := k.proxy(k.open(t, server.DSN()), newScript())
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Ready(ctx); err == nil || !strings.Contains(err.Error(), `"orders-db"`) {
		t.Fatalf("Ready without a database = %v", err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}
