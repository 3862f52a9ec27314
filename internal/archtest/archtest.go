// Package archtest keeps the import directions between Quorate's packages. The
// table is rules; an ordinary test reads every file's imports and fails with
// the reason.
package archtest

import (
	"fmt"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Module is the import path of the repository's root.
const Module = "github.com/quorate/quorate"

// Rule says what one package of ours, and everything of ours that it imports,
// must never import.
type Rule struct {
	// Package is the package's path below the module, without its subpackages.
	Package string
	// Never holds import paths; "a/..." stands for a and all below it. A path
	// that begins with "./" is below the module.
	Never []string
	// But holds exceptions to Never, in the same form.
	But []string
	// Why is what would be lost.
	Why string
}

// Rules is the table of docs/ARCHITECTURE.md.
var Rules = []Rule{
	{
		Package: "fsm",
		Never: []string{
			"github.com/hashicorp/...", "google.golang.org/grpc/...", "go.etcd.io/bbolt/...",
			"time", "math/rand/...", "crypto/rand", "os/...", "net/...", "./...",
		},
		But: []string{"./fsm/logpb"},
		Why: "same bytes in, same state on every node, in the simulator and after a restart",
	},
	{
		Package: "coordinator",
		Never:   []string{"github.com/hashicorp/raft/...", "google.golang.org/grpc/...", "go.etcd.io/bbolt/...", "./api/..."},
		Why:     "the protocol's hard part runs in one goroutine under a seed",
	},
	{
		Package: "raftnode",
		Never:   []string{"google.golang.org/grpc/...", "./api/...", "./coordinator/...", "./participant/..."},
		Why:     "replication has no opinion about transactions",
	},
	{
		Package: "api",
		Never:   []string{"./raftnode/...", "github.com/hashicorp/raft/...", "go.etcd.io/bbolt/..."},
		Why:     "handlers test against a 30-line fake",
	},
	{
		Package: "api/dtm",
		Never:   []string{"./fsm/...", "./coordinator/...", "./participant/..."},
		Why:     "it is a client of our own services: what DTM's callers can do, native ones can",
	},
	{
		Package: "participant",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/..."},
		Why:     "users import it: light and stable",
	},
	{
		Package: "participant/fence",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/...", "./internal/..."},
		But:     []string{"./internal/callheader", "./internal/frames", "./internal/timebox", "./internal/wire"},
		Why:     "users import it: light and stable",
	},
	{
		Package: "participant/handlers",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/...", "./internal/..."},
		But:     []string{"./internal/callheader", "./internal/frames", "./internal/timebox", "./internal/wire"},
		Why:     "users import it: light and stable",
	},
	{
		Package: "participant/saga",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/...", "./internal/..."},
		But:     []string{"./internal/callheader", "./internal/frames", "./internal/timebox", "./internal/wire"},
		Why:     "users import it: light and stable",
	},
	{
		Package: "participant/tcc",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/...", "./internal/..."},
		But:     []string{"./internal/callheader", "./internal/frames", "./internal/timebox", "./internal/wire"},
		Why:     "users import it: light and stable",
	},
	{
		Package: "participant/message",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/...", "./internal/..."},
		But:     []string{"./internal/callheader", "./internal/frames", "./internal/timebox", "./internal/wire"},
		Why:     "users import it: light and stable",
	},
	{
		Package: "participant/workflow",
		Never:   []string{"./fsm/...", "./raftnode/...", "./coordinator/...", "github.com/hashicorp/raft/...", "./internal/..."},
		But:     []string{"./internal/callheader", "./internal/frames", "./internal/timebox", "./internal/wire"},
		Why:     "users import it: light and stable",
	},
	{
		Package: "chaos/disks",
		Never:   []string{"./..."},
		But:     []string{"./chaos/disks"},
		Why:     "it damages and reads files by their formats, not by the code that writes them",
	},
	{
		Package: "linearizability",
		Never: []string{
			"./fsm/...", "./raftnode/...", "./coordinator/...", "./participant/...", "./api/...",
			"github.com/hashicorp/raft/...", "google.golang.org/grpc/...",
		},
		Why: "the model states the contract independently: a bug that it shared with the state machine would be seen by neither",
	},
	{
		Package: "chaos/sim",
		Never: []string{
			"github.com/hashicorp/...", "google.golang.org/grpc/...", "go.etcd.io/bbolt/...", "os/exec",
			"./raftnode/...", "./api/...", "./participant/...",
		},
		Why: "one thread, one seed: a run is a function of its plan",
	},
}

// drivers may be linked by cmd, tests, examples and test support alone: users
// bring the driver that they already have.
var drivers = []string{
	"github.com/jackc/pgx/v5/...", "github.com/go-sql-driver/mysql/...", "modernc.org/sqlite/...", "github.com/redis/go-redis/v9/...",
}

// driversMayBeIn are the places below the module that may import a driver.
var driversMayBeIn = []string{"cmd/...", "internal/testdb/...", "internal/bankstore/drivers"}

// Graph holds the imports of each package of the module by its path below the
// module: test files left out.
type Graph map[string][]string

// ReadGraph reads the imports of every package below root, a directory that
// holds a go.mod. Other modules below it are left out, and so are files that a
// plain build leaves out.
func ReadGraph(root string) (Graph, error) {
	g := Graph{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDirectory(root, file)
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		if built, err := build.Default.MatchFile(filepath.Split(file)); err != nil || !built {
			return err
		}
		return g.addFile(root, file)
	})
	if err != nil {
		return nil, fmt.Errorf("read the imports below %s: %w", root, err)
	}
	return g, nil
}

// skipDirectory answers fs.SkipDir for what the go command ignores as well.
func skipDirectory(root, dir string) error {
	if dir == root {
		return nil
	}
	name := filepath.Base(dir)
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (g Graph) addFile(root, file string) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(root, filepath.Dir(file))
	if err != nil {
		return err
	}
	pkg := filepath.ToSlash(rel)
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		g[pkg] = append(g[pkg], imported)
	}
	return nil
}

// Breaches returns a sentence for each import that the rules forbid, sorted. A
// package breaks a rule through the packages of ours that it imports, too.
func (g Graph) Breaches(rules []Rule) []string {
	found := map[string]bool{}
	for _, rule := range rules {
		for chain, imported := range g.reach(rule.Package) {
			for _, target := range imported {
				if matchesAny(target, rule.Never) && !matchesAny(target, rule.But) {
					found[fmt.Sprintf("%s imports %s: %s never does, because: %s", chain, target, rule.Package, rule.Why)] = true
				}
			}
		}
	}
	for pkg, imported := range g {
		for _, target := range imported {
			if matchesAny(target, drivers) && !matchesAny(path.Join(Module, pkg), below(driversMayBeIn)) {
				found[fmt.Sprintf("%s imports the driver %s: only cmd, tests and examples may, because users bring their own", pkg, target)] = true
			}
		}
	}
	out := make([]string, 0, len(found))
	for breach := range found {
		out = append(out, breach)
	}
	sort.Strings(out)
	return out
}

// reach returns the imports of pkg and of each package of ours below it in the
// import graph, keyed by the chain that leads there ("a -> b -> c"). Generated
// packages, named in leaves, end a chain: what they import, their users get.
func (g Graph) reach(pkg string) map[string][]string {
	out := map[string][]string{}
	seen := map[string]bool{}
	var walk func(pkg, chain string)
	walk = func(pkg, chain string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		out[chain] = g[pkg]
		for _, imported := range g[pkg] {
			if next, ours := strings.CutPrefix(imported, Module+"/"); ours && !leaves[next] {
				walk(next, chain+" -> "+next)
			}
		}
	}
	walk(pkg, pkg)
	return out
}

// leaves are generated packages: fsm/logpb needs the protobuf runtime, which
// imports the clock-free half of os and net for its own purposes.
var leaves = map[string]bool{"fsm/logpb": true}

func matchesAny(imported string, patterns []string) bool {
	for _, p := range patterns {
		if strings.HasPrefix(p, "./") {
			p = path.Join(Module, p)
		}
		prefix, deep := strings.CutSuffix(p, "/...")
		if imported == prefix || deep && strings.HasPrefix(imported, prefix+"/") {
			return true
		}
	}
	return false
}

func below(patterns []string) []string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		out[i] = "./" + p
	}
	return out
}
