package participant_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/oklog/ulid/v2"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// TestExpiredBranches: a prepared branch whose GID the cluster has forgotten is
// rolled back; but "where allow_unsafe is set or the server's timeline changed,
// EXPIRED means: keep it and alarm": the database may have brought it back.
func TestExpiredBranches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		opts     []participant.ProxyOption
		timeline bool // it changed
		kept     bool
	}{
		{name: "sound"},
		{name: "unsafe", opts: []participant.ProxyOption{participant.AllowUnsafe()}, kept: true},
		{name: "failed over", timeline: true, kept: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := participanttest.NewCluster(t, 1)
			cfg, err := pgx.ParseConfig(testdb.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			connector := stdlib.GetConnector(*cfg)
			plain := sql.OpenDB(connector)
			defer plain.Close()
			exec := func(query string) {
				t.Helper()
				if _, err := plain.ExecContext(t.Context(), query); err != nil {
					t.Fatalf("%s: %v", query, err)
				}
			}
			for _, q := range participant.EvidenceDDL(participant.DialectPostgres) {
				exec(q)
			}
			if c.timeline {
				exec("INSERT INTO " + participant.EvidenceTable + " (gid, branch, state, born) VALUES ('timeline', '', 'timeline', 77)")
			}
			// prepare leaves a branch as a process that died long ago does.
			prepare := func(born uint64) string {
				t.Helper()
				xid := fmt.Sprintf("quorate:%s:%s:30:1", cluster.ID(), ulid.MustNew(born, ulid.DefaultEntropy()))
				conn, err := plain.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				for _, q := range []string{"BEGIN", "SELECT txid_current()", "PREPARE TRANSACTION '" + xid + "'"} {
					if _, err := conn.ExecContext(t.Context(), q); err != nil {
						t.Fatal(err)
					}
				}
				return xid
			}
			listed := func(xid string) bool {
				t.Helper()
				var n int
				if err := plain.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1", xid).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n == 1
			}
			client := dial(t, cluster)
			expired := prepare(1)
			db := sql.OpenDB(participant.Postgres(connector, client, "orders-db", c.opts...))
			defer db.Close()
			// A younger one, unseen past its time, is ended by a tombstone in every case:
			// when it is gone, a scan has looked at the expired one too.
			cluster.Advance(3 * time.Minute)
			unseen := prepare(client.ClockMS())
			cluster.Advance(3 * time.Minute)
			testkit.Eventually(t, 10*time.Second, func() bool { return !listed(unseen) }, "the unseen branch is not recovered")
			if c.kept {
				if !listed(expired) {
					t.Fatal("a branch that its database may have brought back was rolled back")
				}
				exec("ROLLBACK PREPARED '" + expired + "'")
				return
			}
			testkit.Eventually(t, 10*time.Second, func() bool { return !listed(expired) }, "the expired branch is not recovered")
		})
	}
}
