package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one planted bug: the bytes [from, to) of a file become with.
type mutant struct {
	file     string
	line     int
	kind     string
	text     string // what stood there
	from, to int
	with     string
}

// apply returns the mutated source.
func (m mutant) apply(source []byte) []byte {
	return slices.Concat(source[:m.from], []byte(m.with), source[m.to:])
}

// find lists every mutant of the package in dir, in order of place. Tests and
// generated files are left alone.
func find(dir, only string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || !strings.Contains(filepath.Base(path), only) {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, path, source, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if ast.IsGenerated(parsed) {
			continue
		}
		all = append(all, mutantsOf(files, parsed, path, source)...)
	}
	return all, nil
}

func mutantsOf(files *token.FileSet, parsed *ast.File, path string, source []byte) (all []mutant) {
	plant := func(kind string, n ast.Node, with func(text string) string) {
		from, to := files.Position(n.Pos()).Offset, files.Position(n.End()).Offset
		text := string(source[from:to])
		all = append(all, mutant{
			file: path, line: files.Position(n.Pos()).Line, kind: kind,
			text: text, from: from, to: to, with: with(text),
		})
	}
	negate := func(cond ast.Expr) {
		if cond != nil {
			plant("negated", cond, func(text string) string { return "!(" + text + ")" })
		}
	}
	drop := func(statement ast.Stmt) {
		if droppable(statement) {
			plant("dropped", statement, func(text string) string {
				return strings.Repeat("\n", strings.Count(text, "\n")) // lines stay where they are
			})
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			negate(n.Cond)
		case *ast.ForStmt:
			negate(n.Cond)
		case *ast.SwitchStmt:
			if n.Tag == nil {
				for _, clause := range n.Body.List {
					for _, cond := range clause.(*ast.CaseClause).List {
						negate(cond)
					}
				}
			}
		case *ast.BlockStmt:
			for _, statement := range n.List {
				drop(statement)
			}
		case *ast.CaseClause:
			for _, statement := range n.Body {
				drop(statement)
			}
		}
		return true
	})
	return all
}

// droppable says that a package may still build without a statement.
func droppable(statement ast.Stmt) bool {
	switch s := statement.(type) {
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.BranchStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt:
		return true
	case *ast.AssignStmt:
		return s.Tok != token.DEFINE
	case *ast.IfStmt, *ast.RangeStmt, *ast.ForStmt, *ast.ReturnStmt:
		return true
	}
	return false
}
