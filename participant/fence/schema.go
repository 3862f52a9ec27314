package fence

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/quorate/quorate/participant"
)

//go:embed sql/*.sql
var schemas embed.FS

var (
	sqlComment = regexp.MustCompile(`(?m)^--.*\n`)
	sqlName    = regexp.MustCompile(`\bquorate_fence(_born)?\b`)
)

// SQL is what creates the table, one statement an element; all may be run again.
func (f *Fence) SQL() []string {
	text, err := schemas.ReadFile("sql/" + string(f.db) + ".sql")
	if err != nil {
		panic(err) // the files are a part of the program
	}
	var statements []string
	for statement := range strings.SplitSeq(sqlComment.ReplaceAllString(string(text), ""), ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		statements = append(statements, sqlName.ReplaceAllStringFunc(statement, func(name string) string {
			if name == TableDefault {
				return f.table
			}
			return f.sql.index(f.table)
		}))
	}
	return statements
}

// Init creates the table where it is missing.
func (f *Fence) Init(ctx context.Context, db DB) error {
	if err := f.Check(ctx, db); err == nil || !errors.Is(err, ErrNoTable) {
		return err
	}
	ctx = participant.Outside(ctx)
	var err error
	for range initTriesMax {
		if err = f.create(ctx, db); err == nil {
			return f.Check(ctx, db)
		}
		// Another process may have been creating it at the same moment.
	}
	return fmt.Errorf("fence: create table %s: %w; grant CREATE, or run the SQL of `quorate fence init --print` by hand", f.table, err)
}

// initTriesMax is how often Init runs its statements: Postgres refuses the loser of two
// that create a table at the same moment, even IF NOT EXISTS.
const initTriesMax = 4

func (f *Fence) create(ctx context.Context, db DB) error {
	for _, statement := range f.SQL() {
		err := f.within(ctx, db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, statement)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Check reads the table: [ErrNoTable] where it is missing or not whole.
func (f *Fence) Check(ctx context.Context, db DB) error {
	ctx = participant.Outside(ctx)
	return f.within(ctx, db, func(tx *sql.Tx) error {
		_, err := f.sql.floor(ctx, tx, f.table, "", false)
		if err != nil {
			return fmt.Errorf("fence: %w", f.judge(ctx, ctx, err))
		}
		return nil
	})
}
