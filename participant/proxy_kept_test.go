package participant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// keptResource is a MariaDB whose driver's requests are counted.
func keptResource(t *testing.T) (*resource, *Proxy, *tripping, *sql.DB) {
	t.Helper()
	r := newResource(t, "mysql")
	c := &tripping{Connector: open(t, "mysql", r.dsn, true)}
	p := kinds["mysql"].proxy(c, r.script)
	db := sql.OpenDB(p)
	t.Cleanup(func() { db.Close() })
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, p, c, db
}

// inBranch runs f in a branch, and rolls it back.
func inBranch(t *testing.T, db *sql.DB, f func(ctx context.Context, tx *sql.Tx)) {
	t.Helper()
	ctx, _ := global(t)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	f(ctx, tx)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

// prepares are the texts that were prepared among what was asked.
func prepares(asked []string) (out []string) {
	for _, q := range asked {
		if text, ok := strings.CutPrefix(q, "prepare "); ok {
			out = append(out, text)
		}
	}
	return out
}

// A statement with parameters is prepared once a connection, and means what it would mean
// if it were prepared now.
func TestStatementsAreKept(t *testing.T) {
	_, _, c, db := keptResource(t)
	const change, look = "UPDATE account SET amount = amount + ? WHERE id = ?", `SELECT "amount" FROM account WHERE id = ?`
	for i := range 3 {
		c.take()
		inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
			for account := 1; account <= 2; account++ {
				if res, err := tx.ExecContext(ctx, change, i+1, account); err != nil {
					t.Fatal(err)
				} else if n, _ := res.RowsAffected(); n != 1 {
					t.Fatalf("%d rows changed", n)
				}
				var got string
				if err := tx.QueryRowContext(ctx, look, account).Scan(&got); err != nil || got != "amount" {
					t.Fatal(got, err)
				}
			}
		})
		if got := prepares(c.take()); len(got) != map[int]int{0: 2}[i] {
			t.Errorf("branch %d prepared %q", i, got)
		}
	}
	inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
		if _, err := tx.ExecContext(ctx, "SET sql_mode = 'ANSI_QUOTES'"); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := tx.QueryRowContext(ctx, look, 1).Scan(&got); err != nil || got != "100" {
			t.Errorf("with ANSI_QUOTES a column's name is taken for a text: %q, %v", got, err)
		}
	})
}

// Tables may change under a statement that is kept.
func TestKeptStatementsSeeTheirTablesChange(t *testing.T) {
	r, _, _, db := keptResource(t)
	see := func(want string) {
		t.Helper()
		inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
			rows, err := tx.QueryContext(ctx, "SELECT * FROM account WHERE id = ?", 1)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			columns, err := rows.Columns()
			if got := fmt.Sprint(columns); err != nil || got != want {
				t.Errorf("columns are %s, want %s (%v)", got, want, err)
			}
		})
	}
	see("[id amount]")
	r.must("ALTER TABLE account ADD COLUMN note varchar(10)")
	see("[id amount note]")
	r.must("DROP TABLE account")
	r.must("CREATE TABLE account (id int PRIMARY KEY, other int NOT NULL)")
	see("[id other]")
}

// What a text names depends on the session's database.
func TestKeptStatementsFollowTheDatabase(t *testing.T) {
	r, _, _, db := keptResource(t)
	other := fmt.Sprintf("quorate_kept_%x", bornMS)
	r.must("CREATE DATABASE IF NOT EXISTS " + other)
	t.Cleanup(func() {
		if _, err := r.plain.Exec("DROP DATABASE " + other); err != nil {
			t.Error(err)
		}
	})
	r.must("CREATE TABLE " + other + ".account (id int PRIMARY KEY, amount int NOT NULL)")
	r.must("INSERT INTO " + other + ".account VALUES (1, 7)")
	inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
		for _, want := range []int{100, 7} {
			var got int
			if err := tx.QueryRowContext(ctx, "SELECT amount FROM account WHERE id = ?", 1).Scan(&got); err != nil || got != want {
				t.Errorf("amount is %d, want %d (%v)", got, want, err)
			}
			if _, err := tx.ExecContext(ctx, "USE "+other); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// However many texts a service has, a connection keeps keptMax of them: the last used.
func TestKeptStatementsAreBounded(t *testing.T) {
	_, _, c, db := keptResource(t)
	const used = "SELECT 0 FROM account WHERE id = ?"
	ask := func(ctx context.Context, tx *sql.Tx, text string) {
		t.Helper()
		var got int
		if err := tx.QueryRowContext(ctx, text, 1).Scan(&got); err != nil {
			t.Fatal(err)
		}
	}
	inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
		for i := range 3 * keptMax {
			ask(ctx, tx, fmt.Sprintf("SELECT %d FROM account WHERE id = ?", i+1))
			ask(ctx, tx, used)
		}
		var name string
		var prepared, closed int
		for status, n := range map[string]*int{"Com_stmt_prepare": &prepared, "Com_stmt_close": &closed} {
			if err := tx.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE '"+status+"'").Scan(&name, n); err != nil {
				t.Fatal(err)
			}
		}
		// SHOW may change the session for all that is known: it closes what is kept.
		if open := prepared - closed; prepared != 3*keptMax+1 || open > 0 {
			t.Errorf("%d statements were prepared and %d closed before the last question", prepared, closed)
		}
	})
	times := 0
	most := 0
	open := 0
	for _, q := range c.take() {
		switch {
		case q == "prepare "+used:
			times++
			open++
		case strings.HasPrefix(q, "prepare "):
			open++
		case q == "close":
			open--
		}
		most = max(most, open)
	}
	if times != 1 {
		t.Errorf("the statement that is used all the time was prepared %d times", times)
	}
	if most != keptMax+1 { // the new one is there before the oldest goes
		t.Errorf("%d statements were open at once, want %d", most, keptMax+1)
	}
}

// A server that has no room for prepared statements, or has lost one, is asked as if none
// were kept.
func TestKeptStatementsThatTheServerRefuses(t *testing.T) {
	for name, number := range map[string]uint16{"no room": mysqlTooManyPrepared, "prepare again": mysqlPrepareAgain, "unknown": mysqlUnknownStatement} {
		t.Run(name, func(t *testing.T) {
			r, p, c, db := keptResource(t)
			refusal := &mysql.MySQLError{Number: number, SQLState: [5]byte{'H', 'Y', '0', '0', '0'}, Message: name}
			const change = "UPDATE account SET amount = amount + ? WHERE id = ?"
			for i := range 3 {
				if i == 1 {
					c.refuse(refusal)
				}
				ctx, gid := global(t)
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				text := change
				if number == mysqlTooManyPrepared && i == 1 {
					text += " AND id > 0" // a new one
				}
				if _, err := tx.ExecContext(ctx, text, 1, 1); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				ref := BranchRef{gid, "1"}
				r.script.wantVote(t, ref, VotePrepared, false)
				if outcome, err := p.Commit(t.Context(), ref); err != nil || outcome != OutcomeCommitted {
					t.Fatal(outcome, err)
				}
				if left := c.refused(); left != nil {
					t.Fatal("the server was not asked what it was to refuse")
				}
			}
			r.wantAmount(1, 103)
			want := map[uint16]int{mysqlTooManyPrepared: 4, mysqlPrepareAgain: 3, mysqlUnknownStatement: 3}[number]
			if got := prepares(c.take()); len(got) != want {
				t.Errorf("it was prepared %d times, want %d: %q", len(got), want, got)
			}
		})
	}
}

// Once the server has no room for another statement, the connections that have kept some
// give theirs back: else one that is new could run none as long as they run what they know.
func TestKeptStatementsAreGivenBackWhereThereIsNoRoom(t *testing.T) {
	_, p, c, db := keptResource(t)
	const change = "UPDATE account SET amount = amount + ? WHERE id = ?"
	run := func(ctx context.Context, tx *sql.Tx, account int) {
		t.Helper()
		if _, err := tx.ExecContext(ctx, change, 1, account); err != nil {
			t.Fatal(err)
		}
	}
	inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
		run(ctx, tx, 1)
		inBranch(t, db, func(ctx context.Context, other *sql.Tx) {
			c.refuse(&mysql.MySQLError{Number: mysqlTooManyPrepared, Message: "no room"})
			run(ctx, other, 2)
		})
		if left := c.refused(); left != nil || !p.keepsNone.Load() {
			t.Fatal("the server was not asked for more than it has room for")
		}
		c.take()
		run(ctx, tx, 1)
		if asked := c.take(); len(asked) == 0 || asked[0] != "close" || asked[len(asked)-1] != "close" {
			t.Errorf("with what was kept the server was asked %q, want all of it closed", asked)
		}
	})
}

// A statement with the wrong number of parameters is refused in database/sql's words.
func TestKeptStatementsCountTheirParameters(t *testing.T) {
	_, _, _, db := keptResource(t)
	inBranch(t, db, func(ctx context.Context, tx *sql.Tx) {
		for range 2 {
			_, err := tx.ExecContext(ctx, "UPDATE account SET amount = ? WHERE id = ?", 1)
			if err == nil || !strings.Contains(err.Error(), "expected 2 arguments, got 1") {
				t.Error(err)
			}
		}
	})
}

var _ driver.Stmt = (*trippingStmt)(nil)
