package demo

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant"
)

func testOpener(kind StoreKind, dsn string) (driver.Connector, error) {
	switch kind {
	case Postgres:
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		return stdlib.GetConnector(*config), nil
	case MySQL:
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, err
		}
		return mysql.NewConnector(config)
	}
	return nil, fmt.Errorf("no driver for %q", kind)
}

// TestTablesOfADatabase keeps a bank's books in each kind of database, without
// the SDK's proxy, and shows that what is prepared is seen.
func TestTablesOfADatabase(t *testing.T) {
	const gid = "01JD9S7KQ0000000000000000A"
	prepare := map[StoreKind][]string{
		Postgres: {"BEGIN", "%s", "PREPARE TRANSACTION 'quorate:01JD9S7KQ0000000000000000C:" + gid + ":30:1'"},
		MySQL:    {"XA START '" + gid + "','x'", "%s", "XA END '" + gid + "','x'", "XA PREPARE '" + gid + "','x'"},
	}
	finish := map[StoreKind]string{
		Postgres: "COMMIT PREPARED 'quorate:01JD9S7KQ0000000000000000C:" + gid + ":30:1'",
		MySQL:    "XA COMMIT '" + gid + "','x'",
	}
	ddl := map[StoreKind]participant.Dialect{Postgres: participant.DialectPostgres, MySQL: participant.DialectMySQL}
	for kind, dsn := range map[StoreKind]string{Postgres: testdb.Postgres(t), MySQL: testdb.MySQL(t)} {
		t.Run(string(kind), func(t *testing.T) {
			ctx := t.Context()
			prefix := BankConfig{Dir: t.TempDir(), Side: BankA}.tables()
			books, err := openTables(StoreSpec{Kind: kind, DSN: dsn}, prefix, testOpener)
			if err != nil {
				t.Fatal(err)
			}
			defer books.drop()
			for range 2 { // the second time nothing is opened again
				if err := books.open(ctx, func(account int) int64 { return int64(account) }); err != nil {
					t.Fatal(err)
				}
				execAll(t, books, participant.EvidenceDDL(ddl[kind])...)
			}
			move := func(gid string, account int, delta int64) error {
				tx, err := books.db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				if err := books.move(ctx, tx, gid, account, delta); err != nil {
					return err
				}
				return tx.Commit()
			}
			if err := move("01JD9S7KQ0000000000000000B", 100, -60); err != nil {
				t.Fatal(err)
			}
			if err := move("01JD9S7KQ0000000000000000D", 100, -41); !errors.Is(err, ErrFunds) {
				t.Fatalf("41 were taken from 40: %v", err)
			}
			execAll(t, books, "INSERT INTO "+participant.EvidenceTable+" (gid, branch, state, born) VALUES ('01JD9S7KQ0000000000000000B', '1', 'done', 1), ('01JD9S7KQ0000000000000000D', '1.2', 'fenced', 1)")

			conn, err := books.db.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range prepare[kind] {
				if s == "%s" {
					s = "UPDATE " + prefix + "accounts SET balance = 0 WHERE id = 7"
				}
				if _, err := conn.ExecContext(ctx, s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			got, err := books.books(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Balances) != accountsPerBank || got.Balances[100] != 40 || got.Balances[7] != 7 {
				t.Errorf("balances %v", got.Balances)
			}
			if len(got.Ledger) != 1 || got.Ledger["01JD9S7KQ0000000000000000B"] != (Entry{Account: 100, Delta: -60}) {
				t.Errorf("ledger %v", got.Ledger)
			}
			if !got.Evidence["01JD9S7KQ0000000000000000B/1"] || got.Evidence["01JD9S7KQ0000000000000000D/1.2"] || len(got.Evidence) < 2 {
				t.Errorf("evidence %v", got.Evidence)
			}
			if !slices.Contains(got.Prepared, gid) {
				t.Errorf("prepared %v, want %s among them", got.Prepared, gid)
			}
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), finish[kind]); err != nil {
				t.Fatal(err)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err = books.books(ctx); err != nil || got.Balances[7] != 0 || slices.Contains(got.Prepared, gid) {
				t.Errorf("after the commit: balance %d, prepared %v, %v", got.Balances[7], got.Prepared, err)
			}
		})
	}
}

func execAll(t *testing.T, books *tables, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := books.db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
