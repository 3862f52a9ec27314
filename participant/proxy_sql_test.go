package participant

import (
	"strings"
	"testing"
)

// TestTransactionControlInText: what is control, and what only looks like it, in
// both dialects.
func TestTransactionControlInText(t *testing.T) {
	for _, c := range []struct{ text, postgres, mysql string }{
		{"", "", ""},
		{"SELECT 1", "", ""},
		{"commit", "COMMIT", "COMMIT"},
		{"  \n\tCommit ;", "COMMIT", "COMMIT"},
		{"BEGIN", "BEGIN", "BEGIN"},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN", "BEGIN"},
		{"START TRANSACTION READ ONLY", "START TRANSACTION", "START TRANSACTION"},
		{"START SLAVE", "", ""},
		{"END", "END", "END"},
		{"ABORT", "ABORT", "ABORT"},
		{"ROLLBACK", "ROLLBACK", "ROLLBACK"},
		{"ROLLBACK AND CHAIN", "ROLLBACK", "ROLLBACK"},
		{"ROLLBACK PREPARED 'x'", "ROLLBACK", "ROLLBACK"},
		{"COMMIT PREPARED 'x'", "COMMIT", "COMMIT"},
		{"ROLLBACK TO a", "", ""},
		{"ROLLBACK TO SAVEPOINT a", "", ""},
		{"ROLLBACK WORK TO SAVEPOINT a", "", ""},
		{"ROLLBACK TRANSACTION TO a", "", ""},
		{"ROLLBACK WORK", "ROLLBACK", "ROLLBACK"},
		{"SAVEPOINT a", "", ""},
		{"RELEASE SAVEPOINT a", "", ""},
		{"PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION", "PREPARE TRANSACTION"},
		{"PREPARE transaction AS SELECT 1", "", ""},
		{"PREPARE commit_it FROM 'COMMIT'", "", ""}, // the server refuses it under XA
		{"XA START 'a'", "XA START", "XA START"},
		{"xa commit 'a'", "XA COMMIT", "XA COMMIT"},
		{"XA RECOVER", "", ""},
		{"SET autocommit=0", "", "SET AUTOCOMMIT"},
		{"SET @@session.autocommit = 0", "", "SET AUTOCOMMIT"},
		{"SET @a = 1, autocommit = 1", "", "SET AUTOCOMMIT"},
		{"SET lock_timeout = 1", "", ""},
		// Comments.
		{"-- COMMIT\nSELECT 1", "", ""},
		{"-- x\nCOMMIT", "COMMIT", "COMMIT"},
		{"/* COMMIT */ SELECT 1", "", ""},
		{"/**/COMMIT", "COMMIT", "COMMIT"},
		{"/* a /* b */ COMMIT", "", "COMMIT"}, // Postgres nests them
		{"/* a /* b */ c */ COMMIT", "COMMIT", ""},
		{"# x\nCOMMIT", "", "COMMIT"},
		{"/*!COMMIT*/", "", "COMMIT"}, // MySQL runs it
		{"/*!50000 COMMIT */", "", "COMMIT"},
		{"/*M!100100 COMMIT */", "", "COMMIT"},
		{"SELECT 1 /*!; COMMIT */", "", "COMMIT"},
		{"SELECT 5--1; COMMIT", "", "COMMIT"}, // a sum in MySQL, a comment in Postgres
		{"-- ", "", ""},
		{"--", "", ""},
		// Quotes.
		{"SELECT 'COMMIT'", "", ""},
		{"SELECT '; COMMIT'", "", ""},
		{"SELECT ';'; COMMIT", "COMMIT", "COMMIT"},
		{"SELECT 'it''s'; COMMIT", "COMMIT", "COMMIT"},
		{`SELECT 'a\'; COMMIT; --'`, "COMMIT", ""},
		{`SELECT E'a\'; COMMIT; --'`, "", ""},
		{`SELECT e'a\\'; COMMIT`, "COMMIT", "COMMIT"},
		{`SELECT "a;COMMIT"`, "", ""},
		{`SELECT "a""b"; COMMIT`, "COMMIT", "COMMIT"},
		{"SELECT `a;`; COMMIT", "COMMIT", "COMMIT"},
		{"SELECT `COMMIT`", "", ""},
		{"SELECT 'never closed; COMMIT", "", ""}, // the server refuses it
		// Dollar quoting.
		{"SELECT $$; COMMIT; $$", "", "COMMIT"},
		{"SELECT $a$; COMMIT; $b$; $a$", "", "COMMIT"},
		{"SELECT $a$x$a$; COMMIT", "COMMIT", "COMMIT"},
		{"SELECT $1; COMMIT", "COMMIT", "COMMIT"},
		{"SELECT $1, $2; COMMIT", "COMMIT", "COMMIT"},
		{"SELECT a$1$; COMMIT", "COMMIT", "COMMIT"},
		{"DO $$ BEGIN PERFORM 1; END $$", "", "END"},
		// Words inside.
		{"UPDATE t SET commit = 1", "", ""},
		{"INSERT INTO t VALUES (1); ; ;ROLLBACK", "ROLLBACK", "ROLLBACK"},
		{"COMMITTED", "", ""},
		{"CALL commit()", "", ""},
	} {
		if got := scanStatements(c.text, false).control; got != c.postgres {
			t.Errorf("Postgres: %q is %q, want %q", c.text, got, c.postgres)
		}
		if got := scanStatements(c.text, true).control; got != c.mysql {
			t.Errorf("MySQL: %q is %q, want %q", c.text, got, c.mysql)
		}
	}
}

func TestSchemaStatements(t *testing.T) {
	for text, want := range map[string]bool{
		"CREATE TABLE t (n int)": true, "select 1; drop table t": true, "SELECT 'CREATE'": false, "INSERT INTO t VALUES (1)": false,
	} {
		if got := scanStatements(text, false).schema; got != want {
			t.Errorf("%q changes the schema: %v, want %v", text, got, want)
		}
	}
}

// FuzzScanStatements: the scanner ends, and control that follows a whole statement is
// always seen.
func FuzzScanStatements(f *testing.F) {
	for _, s := range []string{"SELECT 1", "/* x", "'", "$a$", "E'\\", "--", "/*!", "a$1$", "\x00\xff"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, mysql bool) {
		scanStatements(text, mysql)
		if strings.ContainsAny(text, "'\"`$\\-#/*") {
			return // it may swallow what follows, as it does for the server
		}
		if got := scanStatements(text+"\n;COMMIT", mysql).control; got == "" {
			t.Fatalf("COMMIT after %q was not seen", text)
		}
	})
}
