package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportDirections reads the repository.
func TestImportDirections(t *testing.T) {
	g, err := ReadGraph(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(g["fsm/logpb"]) == 0 {
		t.Fatal("no imports of fsm/logpb were read: the test looks at the wrong directory")
	}
	for _, breach := range g.Breaches(Rules) {
		t.Error(breach)
	}
}

// TestBreachesAreFound shows the checker what it must catch.
func TestBreachesAreFound(t *testing.T) {
	tests := []struct {
		name  string
		graph Graph
		want  string // empty: no breach
	}{
		{"a clock in fsm", Graph{"fsm": {"time"}}, "fsm imports time"},
		{"random in fsm", Graph{"fsm": {"math/rand/v2"}}, "fsm imports math/rand/v2"},
		{"logpb in fsm", Graph{"fsm": {Module + "/fsm/logpb"}, "fsm/logpb": {"time"}}, ""},
		{"another package of ours in fsm", Graph{"fsm": {Module + "/internal/testkit"}}, "fsm imports " + Module + "/internal/testkit"},
		{"raft in coordinator", Graph{"coordinator": {"github.com/hashicorp/raft"}}, "one goroutine under a seed"},
		{"raft in coordinator, two steps away",
			Graph{"coordinator": {Module + "/internal/x"}, "internal/x": {Module + "/internal/y"}, "internal/y": {"github.com/hashicorp/raft"}},
			"coordinator -> internal/x -> internal/y imports github.com/hashicorp/raft"},
		{"an import loop ends", Graph{"coordinator": {Module + "/x"}, "x": {Module + "/y"}, "y": {Module + "/x"}}, ""},
		{"generated api code in coordinator", Graph{"coordinator": {Module + "/api/v1"}}, "coordinator imports " + Module + "/api/v1"},
		{"coordinator in raftnode", Graph{"raftnode": {Module + "/coordinator"}}, "no opinion"},
		{"raftnode in api", Graph{"api": {Module + "/raftnode"}}, "30-line fake"},
		{"fsm in participant", Graph{"participant": {Module + "/fsm"}}, "light and stable"},
		{"generated api code in participant", Graph{"participant": {Module + "/api/v1"}}, ""},
		{"a driver in participant", Graph{"participant": {"github.com/jackc/pgx/v5"}}, "imports the driver"},
		{"a driver in the fence", Graph{"participant/fence": {"github.com/redis/go-redis/v9"}}, "imports the driver"},
		{"a driver in cmd", Graph{"cmd/quorate": {"github.com/go-sql-driver/mysql"}}, ""},
		{"a name that only begins alike", Graph{"coordinator": {Module + "/apiary", "github.com/hashicorp/raft-like"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(tt.graph.Breaches(Rules), "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Fatalf("breaches %q, want %q", got, tt.want)
			}
		})
	}
}

// TestReadGraphReadsWhatTheGoCommandBuilds: tests, testdata and other modules
// are left out.
func TestReadGraphReadsWhatTheGoCommandBuilds(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"a/a.go":             `package a; import "time"`,
		"a/a_test.go":        `package a; import "os"`,
		"a/a_tagged.go":      "//go:build sometag\n\npackage a; import \"os\"",
		"a/testdata/x.go":    `package x; import "net"`,
		"examples/go.mod":    `module example`,
		"examples/main.go":   `package main; import "net/http"`,
		".hidden/hidden.go":  `package hidden; import "net"`,
		"go.mod":             `module m`,
		"b/c/d.go":           `package d; import ("fmt"; "io")`,
		"b/c/notes_about.md": `import "x"`,
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g, err := ReadGraph(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(g) != 2 || strings.Join(g["a"], " ") != "time" || strings.Join(g["b/c"], " ") != "fmt io" {
		t.Fatalf("read %v", g)
	}
}
