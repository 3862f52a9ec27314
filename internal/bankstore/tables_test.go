package bankstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// TestTablesOfADatabase keeps a bank's books in each kind of database, without
// the SDK's proxy, and shows that what is prepared is seen.
func TestTablesOfADatabase(t *testing.T) {
	const gid = "01JD9S7KQ0000000000000000A"
	const xa = "'" + gid + "','01JD9S7KQ0000000000000000C.30.1'"
	prepare := map[bankstore.Kind][]string{
		bankstore.Postgres: {"BEGIN", "%s", "PREPARE TRANSACTION 'quorate:01JD9S7KQ0000000000000000C:" + gid + ":30:1'"},
		bankstore.MySQL:    {"XA START " + xa, "%s", "XA END " + xa, "XA PREPARE " + xa},
	}
	finish := map[bankstore.Kind]string{
		bankstore.Postgres: "COMMIT PREPARED 'quorate:01JD9S7KQ0000000000000000C:" + gid + ":30:1'",
		bankstore.MySQL:    "XA COMMIT " + xa,
	}
	ddl := map[bankstore.Kind]participant.Dialect{bankstore.Postgres: participant.DialectPostgres, bankstore.MySQL: participant.DialectMySQL}
	for kind, dsn := range map[bankstore.Kind]string{bankstore.Postgres: testdb.Postgres(t), bankstore.MySQL: testdb.MySQL(t)} {
		t.Run(string(kind), func(t *testing.T) {
			ctx := t.Context()
			c := bankstore.Config{
				Spec: bankstore.Spec{Kind: kind, DSN: dsn}, Prefix: "tables_", Accounts: 110,
				Opening: func(account int) int64 { return int64(account) },
			}
			books, err := bankstore.OpenTables(c, drivers.Open)
			if err != nil {
				t.Fatal(err)
			}
			defer books.Drop()
			for range 2 { // the second time nothing is opened again
				if err := books.Create(ctx); err != nil {
					t.Fatal(err)
				}
				execAll(t, books, participant.EvidenceDDL(ddl[kind])...)
			}
			move := func(gid string, account int, delta int64) error {
				tx, err := books.DB.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				if err := bankstore.MoveIn(books, ctx, tx, participant.BranchRef{GID: participant.GID(gid), ID: "1"}, []bankstore.Move{{Account: account, Delta: delta}}); err != nil {
					return err
				}
				return tx.Commit()
			}
			if err := move("01JD9S7KQ0000000000000000B", 100, -60); err != nil {
				t.Fatal(err)
			}
			if err := move("01JD9S7KQ0000000000000000D", 100, -41); !errors.Is(err, bankstore.ErrFunds) {
				t.Fatalf("41 were taken from 40: %v", err)
			}
			execAll(t, books, "INSERT INTO "+participant.EvidenceTable+" (gid, branch, state, born) VALUES ('01JD9S7KQ0000000000000000B', '1', 'done', 1), ('01JD9S7KQ0000000000000000D', '1.2', 'fenced', 1)")

			conn, err := books.DB.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range prepare[kind] {
				if s == "%s" {
					s = "UPDATE " + books.Accounts() + " SET balance = 0 WHERE id = 7"
				}
				if _, err := conn.ExecContext(ctx, s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			got, err := books.Books(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Balances) != c.Accounts || got.Balances[100] != 40 || got.Balances[7] != 7 {
				t.Errorf("balances %v", got.Balances)
			}
			if diff := cmp.Diff(map[string][]bankstore.Move{"01JD9S7KQ0000000000000000B/1": {{Account: 100, Delta: -60}}}, got.Ledger); diff != "" {
				t.Errorf("ledger (-want +got):\n%s", diff)
			}
			if !got.Evidence["01JD9S7KQ0000000000000000B/1"] || got.Evidence["01JD9S7KQ0000000000000000D/1.2"] || len(got.Evidence) < 2 {
				t.Errorf("evidence %v", got.Evidence)
			}
			if !lists(got, gid) {
				t.Errorf("prepared %v, want %s among them", got.Prepared, gid)
			}
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), finish[kind]); err != nil {
				t.Fatal(err)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err = books.Books(ctx); err != nil || got.Balances[7] != 0 || lists(got, gid) {
				t.Errorf("after the commit: balance %d, prepared %v, %v", got.Balances[7], got.Prepared, err)
			}
		})
	}
}

func execAll(t *testing.T, books *bankstore.Tables, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := books.DB.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func lists(b bankstore.Books, gid string) bool {
	return slices.ContainsFunc(b.Prepared, func(x bankstore.Xid) bool { return x.GID == gid && x.Branch == "1" })
}

func TestQueryNumbersParametersForPostgres(t *testing.T) {
	for kind, want := range map[bankstore.Kind]string{
		bankstore.Postgres: "UPDATE p_x SET a = $1 WHERE b = $2", bankstore.MySQL: "UPDATE p_x SET a = ? WHERE b = ?",
	} {
		c := bankstore.Config{Spec: bankstore.Spec{Kind: kind}, Prefix: "p_"}
		if got := bankstore.Query(c, "UPDATE %sx SET a = ? WHERE b = ?"); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

// TestForeignXidsAreNotOurs: what another tool prepared must not be taken for a branch.
func TestForeignXidsAreNotOurs(t *testing.T) {
	const cluster, gid = "01JD9S7KQ0000000000000000C", "01JD9S7KQ0000000000000000A"
	ours := bankstore.Xid{Cluster: cluster, GID: gid, Branch: "1.2"}
	if x := bankstore.ReadPostgresXid("quorate:" + cluster + ":" + gid + ":30:1.2"); x.Cluster != ours.Cluster || x.GID != ours.GID || x.Branch != ours.Branch {
		t.Errorf("%+v", x)
	}
	bqual := cluster + ".30.1.2"
	if x := bankstore.ReadXAXid(len(gid), len(bqual), gid+bqual); x.Cluster != ours.Cluster || x.GID != ours.GID || x.Branch != ours.Branch {
		t.Errorf("%+v", x)
	}
	for _, name := range []string{"", "backup-7", "quorate", "quorate:a:b", "Quorate:" + cluster + ":" + gid + ":30:1"} {
		if x := bankstore.ReadPostgresXid(name); x.Ours() || x.Name != name {
			t.Errorf("%q is %+v", name, x)
		}
	}
	for _, x := range []bankstore.Xid{
		bankstore.ReadXAXid(3, 1, "job7"), bankstore.ReadXAXid(len(gid), 1, gid+"x"), bankstore.ReadXAXid(9, 9, "short"),
	} {
		if x.Ours() || x.Name == "" {
			t.Errorf("%+v", x)
		}
	}
}
