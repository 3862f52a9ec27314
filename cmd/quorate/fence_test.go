package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
)

// TestFenceInit creates the table in each database, twice, under a name that wants
// quoting.
func TestFenceInit(t *testing.T) {
	for kind, dsn := range map[fence.Database]string{
		fence.Postgres: testdb.Postgres(t), fence.MySQL: testdb.MySQL(t),
		fence.SQLite: "file:" + filepath.Join(t.TempDir(), "shop.db"),
	} {
		t.Run(string(kind), func(t *testing.T) {
			const table = `Fence "of"'s`
			file := filepath.Join(t.TempDir(), "dsn")
			if err := os.WriteFile(file, []byte(dsn+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{
				{"fence", "init", "--dsn", dsn, "--table", table},
				{"fence", "init", "--dsn-file", file, "--table", table},
			} {
				root := newRootCommand()
				var out, warned bytes.Buffer
				root.SetOut(&out)
				root.SetErr(&warned)
				root.SetArgs(args)
				if err := root.ExecuteContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				if want := "table " + table + " is ready (" + string(kind) + ")\n"; out.String() != want {
					t.Fatalf("said %q, want %q", out.String(), want)
				}
				if warned.Len() > 0 {
					t.Fatalf("warned: %s", warned.String())
				}
			}
			connector, err := drivers.Open(bankstore.Kind(kind), dsn)
			if err != nil {
				t.Fatal(err)
			}
			db := sql.OpenDB(connector)
			defer db.Close()
			f, err := fence.New(kind, fence.Table(table))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Check(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFenceInitPrints the SQL of the files under participant/fence/sql.
func TestFenceInitPrints(t *testing.T) {
	for kind, quote := range map[string]string{"postgres": `"`, "mysql": "`", "sqlite": `"`} {
		root := newRootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{"fence", "init", "--print", "--database", kind})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if want := "CREATE TABLE IF NOT EXISTS " + quote + "quorate_fence" + quote + " ("; !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: printed %q, want it to begin with %q", kind, out.String(), want)
		}
	}
}
