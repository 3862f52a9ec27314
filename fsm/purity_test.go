package fsm

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// allowedImports are those of a pure package: no clock, no randomness, no I/O
// of its own, no lock, and of Quorate nothing but the log's messages.
var allowedImports = map[string]bool{
	"bufio": true, "bytes": true, "crypto/sha256": true, "encoding/binary": true, "encoding/hex": true,
	"errors": true, "fmt": true, "hash/crc32": true, "io": true, "iter": true, "math": true, "math/bits": true,
	"slices": true, "sort": true, "strings": true, "unicode/utf8": true,
	"google.golang.org/protobuf/encoding/protowire": true, "google.golang.org/protobuf/proto": true,
	"github.com/quorate/quorate/fsm/logpb": true,
}

// mapRanges are the places that may walk a map, and why its order does not get out.
var mapRanges = map[string]string{}

// "The state machine is pure. Command and index in; state and result out. No
// clock, random, I/O, lock, goroutine, map-order."
func TestPurity(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d files: %v", len(paths), err)
	}
	files := token.NewFileSet()
	maps := map[string]bool{} // names of fields and variables that are maps
	var parsed []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		for _, i := range f.Imports {
			if name, _ := strconv.Unquote(i.Path.Value); !allowedImports[name] {
				t.Errorf("%s imports %s: fsm must stay pure", path, name)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok {
				if _, ok := field.Type.(*ast.MapType); ok {
					for _, name := range field.Names {
						maps[name.Name] = true
					}
				}
			}
			return true
		})
	}
	if !maps["live"] || !maps["keys"] || !maps["windows"] || !maps["place"] {
		t.Fatalf("the maps were not found: %v", maps)
	}
	for _, f := range parsed {
		path := files.Position(f.Pos()).Filename
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				t.Errorf("%s: goroutines and channels have no place here", files.Position(n.Pos()))
			case *ast.RangeStmt:
				if name := lastName(n.X); maps[name] && mapRanges[path] == "" {
					t.Errorf("%s: the order of map %s would get out", files.Position(n.Pos()), name)
				}
			}
			return true
		})
	}
}

// lastName is the name that an expression ends in: s.live is live.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
