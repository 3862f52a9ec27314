package branchbank

import (
	"testing"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// TestInEachDatabase: an operation does the same in each, repeated too, one that moves
// nothing among them: MySQL counts rows that change, the others rows that are met.
func TestInEachDatabase(t *testing.T) {
	for kind, dsn := range map[bankstore.Kind]string{
		bankstore.SQLite: "", bankstore.Postgres: testdb.Postgres(t), bankstore.MySQL: testdb.MySQL(t),
	} {
		t.Run(string(kind), func(t *testing.T) {
			b := newTestBank(t, func(c *Config) {
				if dsn != "" {
					c.Spec = bankstore.Spec{Kind: kind, DSN: dsn}
				}
			})
			pay, none := Move{Key: "k", Account: 1, Delta: -30}, Move{Key: "k", Account: 1}
			for range 2 {
				b.want(200, PathAction, gidOne, "01", pay)
				b.want(200, PathAction, gidOne, "02", none)
				b.want(200, PathTry, gidTwo, "1", none)
				b.want(200, PathConfirm, gidTwo, "1", none)
				b.want(409, PathAction, gidTwo, "01", Move{Account: 0, Delta: -1})
			}
			books, effects := b.books()
			if books.Accounts[1] != (Account{Balance: 70}) || len(effects) != 4 {
				t.Errorf("%+v, effects %v", books.Accounts, effects)
			}
			if m := books.Mistakes("bank-a", b.config); len(m) > 0 {
				t.Error(m)
			}
		})
	}
}
